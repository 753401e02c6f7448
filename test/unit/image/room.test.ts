// How much room the disk of an image is said to take, against what its conversion really takes.

import { statSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import {
  convertImage,
  exactRoomOfRaw,
  roomOfImage,
  type RunTool,
} from '../../../shared/image/index.js';
import { createVhdx } from '../../../shared/vhdx/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { needTool } from '../../support/need.js';
import { qemuConvert } from '../../support/qemu.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { WorkFolder } from '../../support/work-folder.js';

const MIB = 1024 * 1024;
const HEAD = 8 * MIB;
const { signal } = new AbortController();

/** A disk of 100 MiB with data in three of its four blocks. */
function content(): Buffer {
  const bytes = Buffer.alloc(100 * MIB);
  const random = new SeededRandom(1);
  for (const [at, sizeBytes] of [
    [10 * MIB + 100, 2 * MIB],
    [40 * MIB, 1],
    [99 * MIB, MIB],
  ] as const) {
    random.bytes(sizeBytes).copy(bytes, at);
    bytes[at] = 1;
  }
  return bytes;
}

/** 33 cells that begin within one, the one of a byte, and 16. */
const DATA = 50 * 65536;

describe('room for the disk of an image', function () {
  this.timeout(60_000);
  let work: WorkFolder;
  before(() => {
    work = new WorkFolder('room');
  });
  after(() => {
    work.dispose();
  });

  it('is that of its cells where holes are free, else that of its blocks', async () => {
    const fs = new MemoryFileSystem();
    const seams = { fs, random: new SeededRandom(2) };
    fs.put('/a.raw', content());
    const exact = await exactRoomOfRaw('/a.raw', { ...seams, signal, areHolesFree: true });
    expect(exact).to.deep.equal({
      diskBytes: HEAD + DATA,
      fullBytes: HEAD + 100 * MIB,
      copyBytes: 0,
    });
    const blocks = await exactRoomOfRaw('/a.raw', { ...seams, signal, areHolesFree: false });
    const filled = { fullBytes: HEAD + 128 * MIB, copyBytes: 0 };
    expect(blocks).to.deep.equal({ diskBytes: HEAD + 3 * 32 * MIB, ...filled });
    await convertImage('/a.raw', '/a.vhdx', { to: 'vhdx' }, seams);
    const { diskBytes } = await roomOfImage('/a.vhdx', 'vhdx', { ...seams, areHolesFree: false });
    expect(diskBytes).to.equal(HEAD + 3 * 32 * MIB);
    expect(fs.storedBytes('/a.vhdx')).to.be.within(DATA, HEAD + DATA);
    await createVhdx('/empty.vhdx', { type: 'dynamic', sizeBytes: 100 * MIB }, seams);
    expect((await roomOfImage('/empty.vhdx', 'vhdx', seams)).diskBytes).to.equal(HEAD);
  });

  it('is what a packed image has unpacked, with a raw copy of the same data or of the whole disk', async function () {
    needTool(this, 'qemu-img');
    const seams = { fs: nodeFileSystem, random: new SeededRandom(2) };
    const raw = work.file('a.raw');
    writeFileSync(raw, content());
    for (const [format, options] of [
      ['vmdk', 'subformat=streamOptimized'],
      ['vmdk', 'subformat=twoGbMaxExtentSparse'],
      ['qcow2', 'compat=1.1'],
      ['qcow2', 'compat=0.10,cluster_size=4k'],
      ['vhd', 'subformat=fixed,force_size=on'],
    ] as const) {
      const file = work.file(`a.${format}`);
      const driver = format === 'vhd' ? 'vpc' : format;
      await qemuConvert({ file: raw, format: 'raw' }, { file, format: driver, options });
      const free = await roomOfImage(file, format, { ...seams, areHolesFree: true });
      expect(free.diskBytes, options).to.be.within(HEAD + DATA, HEAD + DATA + 3 * 65536);
      expect(free.copyBytes).to.equal(free.diskBytes - HEAD);
      const dear = await roomOfImage(file, format, { ...seams, areHolesFree: false });
      expect(dear.copyBytes).to.equal(100 * MIB);
      const target = work.file('a.vhdx');
      await convertImage(file, target, { to: 'vhdx', isReplacing: true }, seams);
      expect(statSync(target).blocks * 512).to.be.at.most(free.diskBytes);
    }
  });

  it('is asked of qemu-img, whose answer must be possible', async () => {
    const fs = new MemoryFileSystem();
    const header = Buffer.alloc(512);
    header.write('QFI\xfb', 'latin1');
    header.writeUInt32BE(2, 4);
    fs.put('/a.qcow2', header);
    const sizes = '{"virtual-size":65536}';
    for (const measured of [
      'no JSON',
      'null',
      '{}',
      '{"required":1}',
      '{"required":-1,"fully-allocated":99999999}',
      '{"required":"x","fully-allocated":2}',
      '{"required":300000,"fully-allocated":1}',
    ]) {
      const run: RunTool = (_program, [verb]) =>
        Promise.resolve({ exitCode: 0, stdout: verb === 'info' ? sizes : measured, stderr: '' });
      let code = '';
      await roomOfImage('/a.qcow2', 'qcow2', { fs, random: new SeededRandom(1), run }).catch(
        (error: unknown) => {
          code = error instanceof DrError ? error.code : String(error);
        },
      );
      expect(code, measured).to.equal('E_TOOL_FAILED');
    }
  });
});
