// VHDX files that Windows made (named in the samples' MANIFEST.md with their hashes): read by us as
// by everybody else, and taken through our writers without losing a bit.

import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { convertImage, openImage } from '../../shared/image/index.js';
import {
  checkVhdx,
  createVhdx,
  describeVhdx,
  mergeVhdx,
  openVhdx,
  readVhdxStream,
} from '../../shared/vhdx/index.js';
import { needTool, sampleFile } from '../support/need.js';
import { QEMU, qemuCheck } from '../support/qemu.js';
import { SEVENZIP, sevenzipHash } from '../support/sevenzip.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const environment = { fs: nodeFileSystem, random: systemRandom };

const SAMPLES = [
  {
    name: 'win2012-dynamic-1G',
    fileHash: 'a4fb24fa51fb4852d5a6bdc2b390a91b0a4e19b47696edc5a00c816067257402',
    diskHash: 'd3d112d8dab7fd360609f7d5a7b769904b7a2a7d7b6b8c535f65a23293c05478',
    facts: {
      type: 'dynamic',
      sizeBytes: 1024 * MIB,
      blockSizeBytes: 32 * MIB,
      logicalSectorBytes: 512,
      creator: 'Microsoft Windows 6.2.9200.16384',
    },
    blocks: { total: 32, fullyPresent: 3, zero: 29 },
  },
  {
    name: 'win10-fixed-10M',
    fileHash: 'f2d743755f1872335fb1554116feecda67825719080ebb875b97dfacf7c1f590',
    diskHash: 'bc0be4623b15aa84216fb31ba24e3b621ec7f1c72d198c990ac0eced222d9f62',
    facts: {
      type: 'fixed',
      sizeBytes: 10 * MIB,
      blockSizeBytes: 2 * MIB,
      logicalSectorBytes: 512,
      creator: 'Microsoft Windows 10.0.18363.0',
    },
    blocks: { total: 5, fullyPresent: 5, zero: 0 },
  },
] as const;

async function diskHash(file: string): Promise<string> {
  const disk = await openImage(nodeFileSystem, file, { random: systemRandom });
  const hash = createHash('sha256');
  const piece = Buffer.alloc(4 * MIB);
  for (let at = 0; at < disk.sizeBytes; at += piece.length) {
    const view = piece.subarray(0, Math.min(piece.length, disk.sizeBytes - at));
    await disk.read(at, view);
    hash.update(view);
  }
  await disk.close();
  return hash.digest('hex');
}

async function fileHash(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}

for (const sample of SAMPLES) {
  describe(`the sample ${sample.name} of Windows`, function () {
    this.timeout(120_000);
    let work: WorkFolder;
    let file: string;

    before(async function () {
      work = new WorkFolder('samples');
      const packed = sampleFile(this, `vhdx/${sample.name}.vhdx.gz`);
      file = work.file('sample.vhdx');
      await writeFile(file, gunzipSync(await readFile(packed)));
      expect(await fileHash(file)).to.equal(sample.fileHash);
    });
    after(() => {
      work.dispose();
    });

    it('says what Windows wrote, has no violation, and stays as it is when read', async () => {
      const description = await describeVhdx(file, environment);
      expect(description).to.include(sample.facts);
      expect(description.blocks).to.include(sample.blocks);
      expect((await checkVhdx(file, environment)).violations).to.deep.equal([]);
      expect(await diskHash(file)).to.equal(sample.diskHash);
      expect(await fileHash(file)).to.equal(sample.fileHash);
    });

    it('comes through a pipe', async function () {
      const { log } = await describeVhdx(file, environment);
      const bytes = await readFile(file);
      async function* source(): AsyncGenerator<Buffer> {
        for (let at = 0; at < bytes.length; at += 100_000) {
          await Promise.resolve();
          yield bytes.subarray(at, at + 100_000);
        }
      }
      if (log.state === 'dirty') {
        const error: unknown = await readVhdxStream(source(), 'a pipe').catch((e: unknown) => e);
        expect(error).to.include({ code: 'E_VHDX_UNSUPPORTED' });
        return;
      }
      const reader = await readVhdxStream(source(), 'a pipe');
      const out = Buffer.alloc(reader.disk.sizeBytes);
      for await (const { offset, data } of reader.ranges) data.copy(out, offset);
      expect(createHash('sha256').update(out).digest('hex')).to.equal(sample.diskHash);
    });

    it('keeps its bytes through raw, dynamic and fixed, as qemu and 7zz see them', async function () {
      needTool(this, ...QEMU, SEVENZIP);
      const raw = work.file('sample.raw');
      await convertImage(file, raw, { to: 'raw' }, environment);
      expect(await fileHash(raw)).to.equal(sample.diskHash);
      for (const type of ['dynamic', 'fixed'] as const) {
        const made = work.file(`made-${type}.vhdx`);
        await convertImage(raw, made, { to: 'vhdx', type }, environment);
        await qemuCheck(made);
        expect(await sevenzipHash(made)).to.equal(sample.diskHash);
      }
    });

    it('is written in place, over a child, and merged, and 7zz agrees at every step', async function () {
      needTool(this, SEVENZIP);
      const base = work.file('base.vhdx');
      const child = work.file('child.vhdx');
      await writeFile(base, await readFile(file));
      const writable = await openVhdx(base, { ...environment, isWritable: true });
      await writable.write(5 * MIB - 3, Buffer.from('written in place'));
      await writable.flush();
      await writable.close();
      expect((await checkVhdx(base, environment)).violations).to.deep.equal([]);
      expect(await sevenzipHash(base)).to.equal(await diskHash(base));
      await createVhdx(child, { type: 'differencing', parentPath: base }, environment);
      const top = await openVhdx(child, { ...environment, isWritable: true });
      await top.write(7 * MIB, Buffer.alloc(100_000, 0x5a));
      await top.zero(0, 2 * MIB);
      await top.flush();
      await top.close();
      const expected = await diskHash(child);
      expect(await sevenzipHash(child)).to.equal(expected);
      await mergeVhdx(child, environment);
      expect(await diskHash(child)).to.equal(expected);
      expect(await sevenzipHash(child)).to.equal(expected);
    });
  });
}
