// Our files judged by others: qemu-img for structure and content of fixed and dynamic disks, 7zz and
// libvhdi for chains and 4096-byte sectors. Random content, sizes that are no multiple of a block,
// all block sizes, both sides of the 4 GiB chunk border.

import { createHash } from 'node:crypto';
import { writeFile, truncate, open as openFile } from 'node:fs/promises';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { convertImage, streamImage, openImage } from '../../shared/image/index.js';
import {
  checkVhdx,
  childOf,
  createVhdx,
  mergeVhdx,
  openVhdx,
  SealedVhdxWriter,
} from '../../shared/vhdx/index.js';
import { needPythonModule, needTool } from '../support/need.js';
import { PYVHDI, pyvhdiHash } from '../support/pyvhdi.js';
import { QEMU, qemuCheck, qemuCompare } from '../support/qemu.js';
import { SeededRandom } from '../support/seeded-random.js';
import { SEVENZIP, sevenzipHash, sevenzipList } from '../support/sevenzip.js';
import { WorkFolder } from '../support/work-folder.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const environment = { fs: nodeFileSystem, random: systemRandom };

/** A sparse raw file with data at the given places. */
async function makeRaw(
  file: string,
  sizeBytes: number,
  places: readonly (readonly [offset: number, lengthBytes: number])[],
  seed: number,
): Promise<void> {
  const random = new SeededRandom(seed);
  await writeFile(file, '');
  await truncate(file, sizeBytes);
  const handle = await openFile(file, 'r+');
  for (const [offset, lengthBytes] of places) {
    await handle.write(random.bytes(lengthBytes), 0, lengthBytes, offset);
  }
  await handle.close();
}

/** SHA-256 of the disk as our own engine reads it. */
async function ownHash(file: string): Promise<string> {
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

async function expectSound(file: string): Promise<void> {
  expect((await checkVhdx(file, environment)).violations).to.deep.equal([]);
}

describe('our VHDX judged by qemu-img', function () {
  this.timeout(300_000);
  let work: WorkFolder;

  before(function () {
    work = new WorkFolder('interop-qemu');
    needTool(this, ...QEMU);
  });
  after(() => {
    work.dispose();
  });

  for (const type of ['dynamic', 'fixed'] as const) {
    for (const blockMib of [1, 2, 8, 32, 128, 256]) {
      it(`agrees with a converted ${type} disk in blocks of ${blockMib} MiB, of an odd size`, async () => {
        const sizeBytes = 300 * MIB + 7 * 512;
        const places = [
          [0, 5000],
          [MIB - 1, 2],
          [77 * MIB + 3, 3 * MIB],
          [256 * MIB - 10, 20],
          [sizeBytes - 600, 600],
        ] as const;
        const raw = work.file('odd.raw');
        const vhdx = work.file(`${type}-${blockMib}.vhdx`);
        await makeRaw(raw, sizeBytes, places, blockMib);
        await convertImage(
          raw,
          vhdx,
          { to: 'vhdx', type, blockSizeBytes: blockMib * MIB },
          environment,
        );
        await qemuCheck(vhdx);
        await qemuCompare(raw, vhdx);
        await expectSound(vhdx);
        await nodeFileSystem.remove(vhdx);
      });
    }
  }

  it('agrees beyond the 4 GiB chunk border, in blocks of 1 MiB', async () => {
    const raw = work.file('border.raw');
    const vhdx = work.file('border.vhdx');
    const border = 4 * GIB;
    const places = [
      [border - MIB - 3, 3 * MIB],
      [border + 40 * MIB - 5, 10],
      [border + 64 * MIB - 4096, 4096],
    ] as const;
    await makeRaw(raw, border + 64 * MIB, places, 4);
    await convertImage(raw, vhdx, { to: 'vhdx', blockSizeBytes: MIB }, environment);
    await qemuCheck(vhdx);
    await qemuCompare(raw, vhdx);
  });

  it('agrees with a disk written in place through the log, in many scattered pieces', async () => {
    const raw = work.file('place.raw');
    const vhdx = work.file('place.vhdx');
    const sizeBytes = 4 * GIB + 99 * MIB;
    await makeRaw(raw, sizeBytes, [], 0);
    await createVhdx(vhdx, { type: 'dynamic', sizeBytes, blockSizeBytes: 2 * MIB }, environment);
    const random = new SeededRandom(11);
    const disk = await openVhdx(vhdx, { ...environment, isWritable: true });
    const handle = await openFile(raw, 'r+');
    for (let i = 0; i < 120; i++) {
      const data = random.bytes(1 + random.int(200 * KIB));
      const offset = random.int(sizeBytes - data.length);
      await disk.write(offset, data);
      await handle.write(data, 0, data.length, offset);
      if (i % 10 === 9) {
        const start = random.int(sizeBytes - 5 * MIB);
        await disk.zero(start, 5 * MIB);
        await handle.write(Buffer.alloc(5 * MIB), 0, 5 * MIB, start);
      }
    }
    await handle.close();
    await disk.flush();
    await disk.close();
    await qemuCheck(vhdx);
    await qemuCompare(raw, vhdx);
    await expectSound(vhdx);
  });

  it('agrees with a file that was streamed without seeking', async () => {
    const raw = work.file('stream.raw');
    const vhdx = work.file('stream.vhdx');
    await makeRaw(
      raw,
      4 * GIB + 77 * MIB + 512,
      [
        [0, 10],
        [4 * GIB - 9, 3 * MIB],
        [4 * GIB + 77 * MIB, 512],
      ],
      5,
    );
    const disk = await openImage(nodeFileSystem, raw, { random: systemRandom });
    const stream = await streamImage(disk, { to: 'vhdx', blockSizeBytes: MIB }, environment);
    const handle = await openFile(vhdx, 'wx');
    let lengthBytes = 0;
    for await (const chunk of stream.chunks) {
      await handle.write(chunk);
      lengthBytes += chunk.length;
    }
    await handle.close();
    await disk.close();
    expect(lengthBytes).to.equal(stream.lengthBytes);
    await qemuCheck(vhdx);
    await qemuCompare(raw, vhdx);
  });
});

describe('our VHDX judged by 7zz and libvhdi', function () {
  this.timeout(300_000);
  let work: WorkFolder;

  before(function () {
    work = new WorkFolder('interop-chain');
    needTool(this, SEVENZIP);
    needPythonModule(this, PYVHDI);
  });
  after(() => {
    work.dispose();
  });

  for (const type of ['dynamic', 'fixed'] as const) {
    it(`agree about a ${type} disk with sectors of 4096 bytes`, async () => {
      const file = work.file(`sectors-${type}.vhdx`);
      const writer = await SealedVhdxWriter.create({
        ...environment,
        path: file,
        type,
        // 7zz 26.02 refuses sizes with an odd number of 4096-byte sectors, which are legal.
        sizeBytes: 41 * MIB + 8192,
        blockSizeBytes: 8 * MIB,
        logicalSectorBytes: 4096,
      });
      const random = new SeededRandom(6);
      await writer.write(100, random.bytes(5000));
      await writer.write(33 * MIB - 1, random.bytes(3 * MIB));
      await writer.finish();
      const expected = await ownHash(file);
      expect(await sevenzipHash(file)).to.equal(expected);
      expect(await pyvhdiHash(file)).to.equal(expected);
    });
  }

  for (const logicalSectorBytes of [512, 4096] as const) {
    it(`agree about a chain of three over the chunk border, sectors of ${logicalSectorBytes}`, async () => {
      const names = ['base', 'middle', 'top'].map((name) =>
        work.file(`${name}-${logicalSectorBytes}.vhdx`),
      );
      const [base = '', middle = '', top = ''] = names;
      const sizeBytes = 4 * GIB + 6 * MIB;
      const random = new SeededRandom(logicalSectorBytes);
      const writer = await SealedVhdxWriter.create({
        ...environment,
        path: base,
        type: 'dynamic',
        sizeBytes,
        blockSizeBytes: 32 * MIB,
        logicalSectorBytes,
      });
      await writer.write(0, random.bytes(2 * MIB));
      await writer.write(4 * GIB - 2 * MIB, random.bytes(6 * MIB));
      await writer.finish();
      // sealed over the base: partly and wholly covered blocks on both sides of the border
      const parent = await openVhdx(base, environment);
      const sealed = await SealedVhdxWriter.create({
        ...environment,
        ...childOf(parent, middle, MIB),
        path: middle,
      });
      await parent.close();
      await sealed.write(64 * KIB, random.bytes(64 * KIB));
      await sealed.write(4 * GIB - 64 * KIB, random.bytes(128 * KIB));
      await sealed.write(4 * GIB + MIB, random.bytes(2 * MIB));
      await sealed.finish();
      // written in place, through the log
      await createVhdx(top, { type: 'differencing', parentPath: middle }, environment);
      const disk = await openVhdx(top, { ...environment, isWritable: true });
      for (const place of [0, 96 * KIB, 3 * GIB, 4 * GIB - 4096, 4 * GIB + 3 * MIB]) {
        await disk.write(place, random.bytes(8192));
      }
      await disk.flush();
      await disk.close();
      for (const file of names) await expectSound(file);
      const expected = await ownHash(top);
      expect(await sevenzipHash(top)).to.equal(expected);
      expect(await pyvhdiHash(top, middle, base)).to.equal(expected);
      const list = await sevenzipList(top);
      expect(list).to.contain('base-');
      // merging changes files, not bytes
      await mergeVhdx(top, environment);
      expect(await ownHash(top)).to.equal(expected);
      expect(await sevenzipHash(top)).to.equal(expected);
      expect(await pyvhdiHash(top, base)).to.equal(expected);
    });
  }

  it('agree that zeroed blocks of a sealed child hide the parent (7zz; libvhdi is wrong there)', async () => {
    const base = work.file('zero-base.vhdx');
    const top = work.file('zero-top.vhdx');
    const sizeBytes = 20 * MIB;
    const random = new SeededRandom(3);
    const writer = await SealedVhdxWriter.create({
      ...environment,
      path: base,
      type: 'fixed',
      sizeBytes,
      blockSizeBytes: 2 * MIB,
    });
    const content = random.bytes(sizeBytes);
    await writer.write(0, content);
    await writer.finish();
    const parent = await openVhdx(base, environment);
    const child = await SealedVhdxWriter.create({
      ...environment,
      ...childOf(parent, top),
      path: top,
    });
    await parent.close();
    await child.zero(MIB, 6 * MIB);
    await child.write(9 * MIB, random.bytes(512));
    await child.zero(9 * MIB + 4096, 4096);
    await child.finish();
    const expected = await ownHash(top);
    expect(await sevenzipHash(top)).to.equal(expected);
    await expectSound(top);
  });
});
