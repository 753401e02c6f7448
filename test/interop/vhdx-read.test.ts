// Files that others made, read and rewritten by us: VHDX by qemu-img in all its variants, qcow2,
// VMDK and VHD through qemu-img.

import { createHash } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { convertImage, detectImageFormat, openImage } from '../../shared/image/index.js';
import { checkVhdx, describeVhdx, openVhdx, readVhdxStream } from '../../shared/vhdx/index.js';
import { needTool } from '../support/need.js';
import {
  QEMU,
  qemuCheck,
  qemuCompare,
  qemuConvert,
  qemuCreate,
  qemuWrite,
} from '../support/qemu.js';
import { expectTool } from '../support/run-tool.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const environment = { fs: nodeFileSystem, random: systemRandom };

async function sha256(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}

async function failure(action: () => Promise<unknown>): Promise<DrError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
  throw new Error('did not fail');
}

describe('VHDX files of qemu read by us', function () {
  this.timeout(300_000);
  let work: WorkFolder;
  let raw: string;

  before(async function () {
    work = new WorkFolder('interop-read');
    needTool(this, ...QEMU);
    raw = work.file('source.raw');
    const content = Buffer.alloc(70 * MIB + 1024);
    const random = new SeededRandom(21);
    for (const [offset, length] of [
      [0, MIB],
      [9 * MIB + 5, 3 * MIB],
      [64 * MIB, 6 * MIB],
    ] as const) {
      random.bytes(length).copy(content, offset);
    }
    await writeFile(raw, content);
  });
  after(() => {
    work.dispose();
  });

  for (const options of [
    'subformat=dynamic',
    'subformat=dynamic,block_size=1M',
    'subformat=dynamic,block_size=256M,log_size=16M',
    'subformat=dynamic,block_size=2M,block_state_zero=off',
    'subformat=fixed',
    'subformat=fixed,block_size=4M',
  ]) {
    it(`gives the same bytes back: ${options}`, async () => {
      const vhdx = work.file('theirs.vhdx');
      const back = work.file('back.raw');
      await qemuConvert({ file: raw, format: 'raw' }, { file: vhdx, format: 'vhdx', options });
      const { violations, warnings } = await checkVhdx(vhdx, environment);
      expect(violations).to.deep.equal([]);
      expect(warnings).to.deep.equal([]);
      await convertImage(vhdx, back, { to: 'raw', isReplacing: true }, environment);
      expect(await sha256(back)).to.equal(await sha256(raw));
    });
  }

  it('takes a file of qemu from a pipe', async () => {
    const vhdx = work.file('piped.vhdx');
    await qemuConvert({ file: raw, format: 'raw' }, { file: vhdx, format: 'vhdx' });
    const bytes = await readFile(vhdx);
    async function* source(): AsyncGenerator<Buffer> {
      for (let at = 0; at < bytes.length; at += 65_536) {
        await Promise.resolve();
        yield bytes.subarray(at, at + 65_536);
      }
    }
    const reader = await readVhdxStream(source(), 'a pipe');
    const out = Buffer.alloc(reader.disk.sizeBytes);
    for await (const { offset, data } of reader.ranges) data.copy(out, offset);
    expect(out.equals(await readFile(raw))).to.equal(true);
  });

  it('writes into a file of qemu in place, and qemu goes on with it', async () => {
    const vhdx = work.file('shared.vhdx');
    const same = work.file('shared.raw');
    for (const file of [vhdx, same]) {
      const format = file.endsWith('raw') ? 'raw' : 'vhdx';
      await qemuCreate(file, format, 100 * MIB, format === 'vhdx' ? 'block_size=1M' : '');
      await qemuWrite(file, format, ['write -P 0xab 20M 4k', 'write -P 0x12 99M 1M']);
    }
    const data = new SeededRandom(5).bytes(3 * MIB);
    for (const file of [vhdx, same]) {
      const disk = await openImage(nodeFileSystem, file, { random: systemRandom, writable: true });
      await disk.write(19 * MIB + 7, data);
      await disk.zero(99 * MIB, MIB);
      await disk.flush();
      await disk.close();
    }
    await qemuCheck(vhdx);
    await qemuCompare(same, vhdx);
    for (const file of [vhdx, same]) {
      const format = file.endsWith('raw') ? 'raw' : 'vhdx';
      await qemuWrite(file, format, ['write -P 0x77 50M 2M']);
    }
    await qemuCheck(vhdx);
    await qemuCompare(same, vhdx);
    const disk = await openVhdx(vhdx, environment);
    const piece = Buffer.alloc(4);
    await disk.read(51 * MIB, piece);
    expect(piece.equals(Buffer.alloc(4, 0x77))).to.equal(true);
    await disk.close();
  });

  for (const [format, name, options] of [
    ['qcow2', 'qcow2', 'compat=1.1'],
    ['qcow2', 'qcow2', 'compat=0.10'],
    ['vmdk', 'vmdk', 'subformat=monolithicSparse'],
    ['vmdk', 'vmdk', 'subformat=monolithicFlat'],
    ['vmdk', 'vmdk', 'subformat=twoGbMaxExtentSparse'],
    ['vmdk', 'vmdk', 'subformat=streamOptimized'],
    ['vpc', 'vhd', 'subformat=dynamic,force_size=on'],
    ['vpc', 'vhd', 'subformat=fixed,force_size=on'],
  ] as const) {
    it(`converts ${name} (${options}) with the help of qemu-img`, async () => {
      const foreign = work.file(`foreign-${options.replace(/\W/g, '-')}.${name}`);
      const vhdx = work.file('foreign.vhdx');
      const back = work.file('foreign.raw');
      await qemuConvert({ file: raw, format: 'raw' }, { file: foreign, format, options });
      expect(await detectImageFormat(nodeFileSystem, foreign)).to.equal(name);
      const result = await convertImage(
        foreign,
        vhdx,
        { to: 'vhdx', isReplacing: true },
        environment,
      );
      expect(result.sourceFormat).to.equal(name);
      await qemuCheck(vhdx);
      await qemuCompare(raw, vhdx);
      await convertImage(foreign, back, { to: 'raw', isReplacing: true }, environment);
      expect(await sha256(back)).to.equal(await sha256(raw));
      const left = await nodeFileSystem.list(work.path);
      expect(left.filter((file) => file.endsWith('.unfinished'))).to.deep.equal([]);
    });
  }

  it('refuses a qcow2 with a backing file and one with its data elsewhere, made by qemu', async () => {
    const backed = work.file('backed.qcow2');
    await expectTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', raw, '-F', 'raw', backed]);
    const apart = work.file('apart.qcow2');
    await qemuCreate(apart, 'qcow2', 10 * MIB, `data_file=${work.file('apart.data')}`);
    const vmdk = work.file('snapshot.vmdk');
    const base = work.file('snapshot-base.vmdk');
    await qemuCreate(base, 'vmdk', 10 * MIB);
    await expectTool('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', base, '-F', 'vmdk', vmdk]);
    for (const file of [backed, apart, vmdk]) {
      const error = await failure(() =>
        convertImage(file, work.file('never.raw'), { to: 'raw' }, environment),
      );
      expect(error.code, file).to.equal('E_IMAGE_REFERENCE');
    }
    expect(await nodeFileSystem.status(work.file('never.raw'))).to.equal(undefined);
  });

  it('keeps holes: a raw copy of a sparse disk takes no more space than its data', async () => {
    const vhdx = work.file('sparse.vhdx');
    const back = work.file('sparse.raw');
    await qemuCreate(vhdx, 'vhdx', 5000 * MIB);
    await qemuWrite(vhdx, 'vhdx', ['write -P 1 3000M 1M']);
    await convertImage(vhdx, back, { to: 'raw' }, environment);
    const status = await stat(back);
    expect(status.size).to.equal(5000 * MIB);
    expect(status.blocks * 512).to.be.lessThan(3 * MIB);
    expect((await describeVhdx(vhdx, environment)).creator).to.match(/^QEMU/);
  });
});
