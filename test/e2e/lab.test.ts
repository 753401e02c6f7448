// `hvdr lab` as a user runs it: real processes, real files, several at once, one of them killed.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { statSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { createVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { mainProgram } from '../support/checkout.js';
import { runHvdr, runHvdrJson, type CliRun } from '../support/cli.js';
import {
  changesOf,
  expectCovered,
  frozenViews,
  LAB_REQUEST,
  viewsOf,
} from '../support/lab-model.js';
import { needTool } from '../support/need.js';
import { QEMU, qemuCheck, qemuCompare } from '../support/qemu.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('e2e: hvdr lab', function () {
  this.timeout(300_000);
  let work: WorkFolder;
  beforeEach(() => {
    work = new WorkFolder('lab-e2e');
  });
  afterEach(() => {
    work.dispose();
  });

  async function hvdr(...args: readonly string[]): Promise<CliRun> {
    const run = await runHvdr(args, { folder: work.path });
    expect(run.code, `hvdr ${args.join(' ')}\n${run.stderr}`).to.equal(0);
    return run;
  }

  async function refused(code: string, exitCode: number, ...args: readonly string[]) {
    const run = await runHvdr(args, { folder: work.path });
    expect(run.stderr, `hvdr ${args.join(' ')}`).to.match(new RegExp(`^${code}: .*; .*; .`, 'm'));
    expect(run.code, args.join(' ')).to.equal(exitCode);
  }

  async function labWith(...options: readonly string[]): Promise<void> {
    await hvdr('lab', 'init', 'site');
    await hvdr('lab', 'create-vm', 'site', 'vm', ...options);
  }

  const readDisk = async (disk = 0, ...options: readonly string[]): Promise<Buffer> =>
    (await hvdr('lab', 'read', 'site', 'vm', '--disk', `${disk}`, ...options)).stdout;

  it('imports raw and VHDX files as they are, odd sizes and 4096-byte sectors too', async () => {
    const raw = new SeededRandom(1).bytes(3 * MIB + 512 * 7);
    raw.fill(0, MIB, 2 * MIB);
    writeFileSync(work.file('system.raw'), raw);
    const vhdx = work.file('data.vhdx');
    const sizeBytes = 5 * MIB + 4096;
    await createVhdx(vhdx, { type: 'dynamic', sizeBytes, logicalSectorBytes: 4096 }, seams);
    const disk = await openVhdx(vhdx, { ...seams, isWritable: true });
    const data = new SeededRandom(2).bytes(300_000);
    await disk.write(MIB, data);
    await disk.close();
    await labWith('--import', 'system.raw', 'data.vhdx', '--disk', '1M', '--switch', 'lan,dmz');
    expect(hashOf(await readDisk(0))).to.equal(hashOf(raw));
    const expected = Buffer.alloc(sizeBytes);
    data.copy(expected, MIB);
    expect(hashOf(await readDisk(1))).to.equal(hashOf(expected));
    const { document } = await runHvdrJson(['lab', 'show', 'site', 'vm'], { folder: work.path });
    const shown = document as {
      disks: { sizeBytes: number; logicalSectorBytes: number }[];
      adapters: { switchName: string }[];
    };
    expect(shown.disks.map((one) => [one.sizeBytes, one.logicalSectorBytes])).to.deep.equal([
      [raw.length, 512],
      [sizeBytes, 4096],
      [MIB, 512],
    ]);
    expect(shown.adapters.map(({ switchName }) => switchName)).to.deep.equal(['lan', 'dmz']);
  });

  it('writes what it is told, in all three forms, and reads parts of it', async () => {
    await labWith('--disk', '8M');
    const bytes = new SeededRandom(3).bytes(2 * MIB + 77);
    writeFileSync(work.file('page.bin'), bytes);
    await hvdr('lab', 'write', 'site', 'vm', '--disk', '0', '--offset', '1M', '--file', 'page.bin');
    await hvdr('lab', 'write', 'site', 'vm', '--zero', '1100K,10K');
    const model = Buffer.alloc(8 * MIB);
    bytes.copy(model, MIB);
    model.fill(0, 1100 * KIB, 1110 * KIB);
    expect(hashOf(await readDisk())).to.equal(hashOf(model));
    const part = await readDisk(0, '--offset', '1099K', '--length', '3K');
    expect(part.equals(model.subarray(1099 * KIB, 1102 * KIB))).to.equal(true);
    await hvdr('lab', 'checkpoint', 'site', 'vm', 'add', 'now');
    await hvdr('lab', 'write', 'site', 'vm', '--random', '20', '--block', '4K', '--seed', 'x');
    expect(hashOf(await readDisk(0, '--checkpoint', 'now'))).to.equal(hashOf(model));
    expect(hashOf(await readDisk())).not.to.equal(hashOf(model));
    await hvdr('lab', 'checkpoint', 'site', 'vm', 'apply', 'now');
    expect(hashOf(await readDisk())).to.equal(hashOf(model));
  });

  it('gives the same random writes for the same seed, and others for another', async () => {
    await labWith('--disk', '16M');
    const hashes: string[] = [];
    for (const [name, seed] of [
      ['a', '7'],
      ['b', '7'],
      ['c', '8'],
    ] as const) {
      await hvdr('lab', 'create-vm', 'site', name, '--disk', '16M');
      await hvdr('lab', 'write', 'site', name, '--random', '300', '--block', '64K', '--seed', seed);
      hashes.push(hashOf((await hvdr('lab', 'read', 'site', name)).stdout));
    }
    expect(hashes[0]).to.equal(hashes[1]);
    expect(hashes[0]).not.to.equal(hashes[2]);
  });

  it('agrees with qemu-img about the disk file', async function () {
    needTool(this, ...QEMU);
    await labWith('--disk', '20M');
    await hvdr('lab', 'write', 'site', 'vm', '--random', '50', '--seed', '5');
    await hvdr('lab', 'write', 'site', 'vm', '--zero', '0,3M');
    writeFileSync(work.file('view.raw'), await readDisk());
    const lab = await Lab.open(work.file('site'), seams);
    const { id } = await lab.findVm('vm');
    const file = (await lab.describeVm(id)).disks[0]?.path ?? '';
    await qemuCheck(file);
    await qemuCompare(work.file('view.raw'), file);
  });

  it('several processes write and checkpoint one VM at once, and nothing is lost', async () => {
    await labWith('--disk', '24M', '8M');
    const lab = await Lab.open(work.file('site'), seams);
    const { id: vmId } = await lab.findVm('vm');
    const first = await lab.createCheckpoint(vmId, LAB_REQUEST);
    const before = await frozenViews(lab, vmId, first.id);
    const point = await lab.convertToReferencePoint(vmId, first.id);
    const parts = [1, 2].map((seed) => new SeededRandom(seed).bytes(6 * MIB));
    for (const [index, bytes] of parts.entries()) {
      writeFileSync(work.file(`part-${index}`), bytes);
    }
    const writers = [
      ...parts.map((_, index) =>
        hvdr('lab', 'write', 'site', 'vm', '--offset', `${index * 12}M`, '--file', `part-${index}`),
      ),
      hvdr('lab', 'write', 'site', 'vm', '--disk', '1', '--random', '200', '--block', '8K'),
    ];
    for (let cycle = 0; cycle < 4; cycle++) {
      const { id } = await lab.createCheckpoint(vmId, LAB_REQUEST);
      const [one, two] = [await frozenViews(lab, vmId, id), await frozenViews(lab, vmId, id)];
      expect(one.map(hashOf)).to.deep.equal(two.map(hashOf));
      await lab.removeCheckpoint(vmId, id);
    }
    await Promise.all(writers);
    const views = await viewsOf(lab, vmId);
    for (const [index, bytes] of parts.entries()) {
      expect(
        views[0]
          ?.subarray(index * 12 * MIB)
          .subarray(0, bytes.length)
          .equals(bytes),
      ).to.equal(true);
    }
    const last = await lab.createCheckpoint(vmId, LAB_REQUEST);
    for (const [index, { diskId, trackingId }] of point.disks.entries()) {
      const ranges = await changesOf(lab, vmId, last.id, diskId, trackingId);
      const [old, now] = [before[index], views[index]];
      if (old !== undefined && now !== undefined) expectCovered(old, now, ranges, `disk ${index}`);
    }
    await lab.close();
  });

  it('a guest that is killed while it writes leaves a whole disk and no unmarked change', async () => {
    await labWith('--disk', '64M');
    // every block is there, so a write shows at once and not with the next flush only
    await hvdr('lab', 'write', 'site', 'vm', '--random', '1500', '--seed', 'before');
    const lab = await Lab.open(work.file('site'), seams);
    const { id: vmId } = await lab.findVm('vm');
    let before = await viewsOf(lab, vmId);
    for (let round = 0; round < 4; round++) {
      const first = await lab.createCheckpoint(vmId, LAB_REQUEST);
      const point = await lab.convertToReferencePoint(vmId, first.id);
      await lab.waitForMerge(vmId, 60_000);
      const leaf = (await lab.describeVm(vmId)).disks[0]?.path ?? '';
      const { mtimeMs } = statSync(leaf);
      const args = ['lab', 'write', 'site', 'vm', '--random', '90000', '--seed', `${round}`];
      const writer = spawn(process.execPath, [mainProgram, ...args], {
        cwd: work.path,
        stdio: 'ignore',
      });
      const ended = new Promise((resolve) => writer.on('close', resolve));
      // the leaf changes when the first bytes arrive
      while (statSync(leaf).mtimeMs === mtimeMs) await systemClock.sleep(5);
      await systemClock.sleep(40 + round * 60);
      writer.kill('SIGKILL');
      await ended;
      const views = await viewsOf(lab, vmId);
      const last = await lab.createCheckpoint(vmId, LAB_REQUEST);
      const [disk] = point.disks;
      const [old, now] = [before[0], views[0]];
      if (disk === undefined || old === undefined || now === undefined) throw new Error('no disk');
      const ranges = await changesOf(lab, vmId, last.id, disk.diskId, disk.trackingId);
      expectCovered(old, now, ranges, `round ${round}`);
      if (round === 3) expect(old.equals(now), 'the writer got to write').to.equal(false);
      await lab.removeCheckpoint(vmId, last.id);
      await lab.removeReferencePoint(vmId, point.id);
      before = views;
    }
    await lab.close();
  });

  it('dies at a call by a scripted fault, once', async () => {
    await labWith('--disk', '1M');
    await hvdr('lab', 'fault', 'site', 'vm', 'set', 'die-after', 'startVm');
    const killed = await runHvdr(['lab', 'start', 'site', 'vm'], { folder: work.path });
    expect(killed.signal).to.equal('SIGKILL');
    expect((await hvdr('lab', 'list', 'site')).stdout.toString()).to.match(/^vm +running/);
    expect((await hvdr('lab', 'fault', 'site')).stdout.toString()).to.contain('no fault is set');
    await hvdr('lab', 'stop', 'site', 'vm');
  });

  it('removes a VM only when that is confirmed, and only what the plan said', async () => {
    await labWith('--disk', '1M');
    await refused('E_USAGE', 2, 'lab', 'remove', 'site', 'vm');
    const options = { folder: work.path };
    const { document } = await runHvdrJson(['lab', 'remove', 'site', 'vm', '--plan'], options);
    const { hash } = document as { hash: string };
    expect((await hvdr('lab', 'list', 'site')).stdout.toString()).to.contain('vm');
    await hvdr('lab', 'checkpoint', 'site', 'vm', 'add', 'new');
    await refused('E_STATE', 10, 'lab', 'remove', 'site', 'vm', '--confirm', hash);
    await hvdr('lab', 'start', 'site', 'vm');
    await refused('E_HYPERVISOR', 16, 'lab', 'remove', 'site', 'vm', '--yes');
    await hvdr('lab', 'stop', 'site', 'vm');
    await hvdr('lab', 'remove', 'site', 'vm', '--yes');
    expect((await hvdr('lab', 'list', 'site')).stdout.toString()).to.contain('no VM');
  });

  it('adds, resizes and removes disks and switches', async () => {
    await labWith('--disk', '1M', '--ip', '192.0.2.10/24,192.0.2.1', '--switch', 'lan');
    await hvdr('lab', 'disk', 'site', 'vm', 'add', '2M', '--logical-sector', '4096');
    await hvdr('lab', 'disk', 'site', 'vm', 'resize', '1', '3M');
    const { document } = await runHvdrJson(['lab', 'disk', 'site', 'vm', 'remove', '0'], {
      folder: work.path,
    });
    expect(
      (document as { disks: { sizeBytes: number }[] }).disks.map((one) => one.sizeBytes),
    ).to.deep.equal([3 * MIB]);
    await refused('E_HYPERVISOR', 16, 'lab', 'switch', 'site', 'remove', 'lan');
    await hvdr('lab', 'switch', 'site', 'add', 'bubble', '--private');
    const listed = (await hvdr('lab', 'switch', 'site', 'list')).stdout.toString();
    expect(listed).to.equal('lan\nbubble (private)\n');
  });

  it('says what is wrong with a command line, and what is right', async () => {
    await labWith('--disk', '1M');
    writeFileSync(work.file('two'), Buffer.alloc(2 * MIB));
    const cases: readonly (readonly [string, number, ...string[]])[] = [
      ['E_NOT_FOUND', 16, 'list', 'nowhere'],
      ['E_NOT_FOUND', 16, 'show', 'site', 'other'],
      ['E_EXISTS', 33, 'init', 'site'],
      ['E_EXISTS', 33, 'create-vm', 'site', 'vm'],
      ['E_NOT_FOUND', 16, 'create-vm', 'site', 'b', '--import', 'gone.raw'],
      ['E_USAGE', 2, 'create-vm', 'site', 'b', '--disk', '1000'],
      ['E_USAGE', 2, 'create-vm', 'site', 'b', '--ip', '192.0.2.10'],
      ['E_USAGE', 2, 'create-vm', 'site', 'b', '--generation', '3'],
      ['E_USAGE', 2, 'write', 'site', 'vm'],
      ['E_USAGE', 2, 'write', 'site', 'vm', '--zero', '0,1', '--random', '1'],
      ['E_USAGE', 2, 'write', 'site', 'vm', '--file', 'two'],
      ['E_PARAMETER', 2, 'write', 'site', 'vm', '--file', 'two', '--offset', '0'],
      ['E_PARAMETER', 2, 'write', 'site', 'vm', '--disk', '4', '--zero', '0,1'],
      ['E_PARAMETER', 2, 'read', 'site', 'vm', '--offset', '2M'],
      ['E_PARAMETER', 2, 'fault', 'site', 'set', 'rain'],
      ['E_USAGE', 2, 'fault', 'site', 'vm', 'sit', 'disk-full'],
      ['E_USAGE', 2, 'checkpoint', 'site', 'vm', 'undo'],
      ['E_NOT_FOUND', 16, 'checkpoint', 'site', 'vm', 'apply', 'none'],
    ];
    for (const [code, exitCode, ...args] of cases) await refused(code, exitCode, 'lab', ...args);
    for (const command of ['write', 'read', 'create-vm', 'fault', 'remove']) {
      const help = (await hvdr('lab', command, '--help')).stdout.toString();
      expect(help, command).to.match(/Examples?:\n {2}hvdr lab /);
    }
  });
});
