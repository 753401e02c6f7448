// Room that a conversion asks for before it writes, on a volume that is really small.

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { runHvdr } from '../support/cli.js';
import { needTool, skipBecause } from '../support/need.js';
import { qemuCompare, qemuConvert } from '../support/qemu.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const VOLUME_MIB = 32;

describe('room for a conversion', function () {
  this.timeout(120_000);
  let work: WorkFolder;
  let volume = '';

  beforeEach(function () {
    needTool(this, 'qemu-img');
    work = new WorkFolder('convert-space');
    volume = work.file('volume');
    mkdirSync(volume);
    const size = `size=${VOLUME_MIB}m`;
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', volume]);
    if (mounted.status !== 0) skipBecause(this, 'a small tmpfs cannot be mounted (needs root)');
  });
  afterEach(() => {
    spawnSync('umount', [volume]);
    work.dispose();
  });

  function describeVm(images: readonly string[]): void {
    const lines = images.map((image, index) => `scsi${index}: local:${image}`);
    writeFileSync(work.file('100.conf'), ['name: web', ...lines].join('\n'));
  }

  async function convert(...images: string[]): Promise<{ code: number | null; stderr: string }> {
    describeVm(images);
    const where = ['--restore-path', join(volume, 'vms')];
    return runHvdr(['convert', '100.conf', '--files-only', ...where], { folder: work.path });
  }

  async function expectNoRoom(...images: string[]): Promise<void> {
    const { code, stderr } = await convert(...images);
    expect(code, stderr).to.equal(32);
    expect(stderr).to.match(/^E_CAPACITY: .*bytes free, web needs about \d+; no disk was made/);
    expect(readdirSync(volume)).to.deep.equal([]);
  }

  /** Nothing of it is zero, and it packs well. */
  function makeRaw(name: string, sizeMib: number, from: 'text' | 'random' = 'text'): string {
    const file = work.file(name);
    const sizeBytes = sizeMib * MIB;
    const bytes = from === 'text' ? Buffer.alloc(sizeBytes, 'text ') : randomBytes(sizeBytes);
    writeFileSync(file, bytes);
    return file;
  }

  it('counts what is packed in an image as it is unpacked, and nothing is written without it', async () => {
    const raw = { file: makeRaw('guest.raw', 20), format: 'raw' };
    const vmdk = work.file('packed.vmdk');
    await qemuConvert(raw, { file: vmdk, format: 'vmdk', options: 'subformat=streamOptimized' });
    await expectNoRoom('packed.vmdk');
    const packing = ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw.file];
    expect(spawnSync('qemu-img', [...packing, work.file('packed.qcow2')]).status).to.equal(0);
    await expectNoRoom('packed.qcow2');
  });

  it('counts the disks that are made, and of the raw copies one at a time', async () => {
    const raw = { file: makeRaw('guest.raw', 5), format: 'raw' };
    const images = ['one.qcow2', 'two.qcow2', 'three.qcow2'];
    for (const name of images) {
      await qemuConvert(raw, { file: work.file(name), format: 'qcow2' });
    }
    await expectNoRoom(...images);
    const { code, stderr } = await convert('one.qcow2', 'two.qcow2');
    expect(code, stderr).to.equal(0);
    for (const disk of [0, 1]) {
      await qemuCompare(raw.file, join(volume, 'vms', 'web', `web-${disk}.vhdx`));
    }
  });

  it('counts what a raw image has allocated, and reads it before zeros keep it out', async () => {
    makeRaw('full.raw', 30, 'random');
    await expectNoRoom('full.raw');
    const sparse = makeRaw('sparse.raw', 4, 'random');
    truncateSync(sparse, 400 * MIB);
    const zeros = Buffer.alloc(100 * MIB);
    randomBytes(4 * MIB).copy(zeros, 50 * MIB);
    writeFileSync(work.file('thick.raw'), zeros);
    const { code, stderr } = await convert('sparse.raw', 'thick.raw');
    expect(code, stderr).to.equal(0);
    for (const [index, name] of ['sparse.raw', 'thick.raw'].entries()) {
      await qemuCompare(work.file(name), join(volume, 'vms', 'web', `web-${index}.vhdx`));
    }
  });

  it('counts what deltas add once, however often they change one place', async () => {
    const bytes = Buffer.alloc(64 * MIB);
    randomBytes(2 * MIB).copy(bytes);
    writeFileSync(work.file('disk.raw'), bytes);
    const old = work.file('old.raw');
    const next = work.file('new.raw');
    const changed = async (seq: number, sizeBytes: number): Promise<void> => {
      writeFileSync(old, bytes);
      randomBytes(sizeBytes).copy(bytes, 8 * MIB);
      writeFileSync(next, bytes);
      const args = ['pcbt', 'diff', old, next, '--out', work.file(`disk.raw.${seq}.cbt`)];
      expect((await runHvdr(args)).code).to.equal(0);
    };
    for (const seq of [1, 2, 3, 4, 5]) await changed(seq, 6 * MIB);
    const { code, stderr } = await convert('disk.raw');
    expect(code, stderr).to.equal(0);
    await qemuCompare(next, join(volume, 'vms', 'web', 'web-0.vhdx'));
    spawnSync('rm', ['-r', join(volume, 'vms')]);
    await changed(6, 28 * MIB);
    await expectNoRoom('disk.raw');
  });

  it('is what a killed run left there as well, which goes first', async () => {
    makeRaw('disk.raw', 10, 'random');
    const folder = join(volume, 'vms', 'web');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, '.hvdr-converting'), '');
    writeFileSync(join(folder, '.web-0.vhdx.tmp'), randomBytes(24 * MIB));
    const { code, stderr } = await convert('disk.raw');
    expect(code, stderr).to.equal(0);
    expect(readdirSync(folder)).to.deep.equal(['web-0.vhdx']);
  });
});
