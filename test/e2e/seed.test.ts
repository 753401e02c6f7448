// Seeds as a user brings them: every road to a first copy, then the first push, whose bytes are counted
// and whose point is compared with the guest.

import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import type { CliRun } from '../support/cli.js';
import { SeededRandom } from '../support/seeded-random.js';
import { Site } from '../support/site.js';

const VM = 'SQL01';
const MIB = 1024 * 1024;

interface Identity {
  readonly vmId: string;
  readonly disks: readonly { readonly id: string; readonly file: string }[];
}

describe('hvdr seed', function () {
  this.timeout(240_000);
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-seed-')));
    await site.prepare();
    mkdirSync(join(site.folder, 'seeds'));
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  const at = (...names: string[]): string => join(site.folder, ...names);
  const source = (): string[] => ['--vm', VM, '--host', 'lab:lab', '--state-dir', 'state'];

  async function write(disk: number, count: number, seed: number): Promise<void> {
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', String(disk), '--random', String(count)],
      ...['--block', '64K', '--seed', String(seed)],
    );
  }

  /** A VM with two disks that hold data, and what it is called. */
  async function makeVm(): Promise<Identity> {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '32M', '--disk', '8M');
    await write(0, 200, 1);
    await write(1, 60, 2);
    return identity();
  }

  async function identity(): Promise<Identity> {
    const run = await site.hvdr('seed', '--vm', VM, '--host', 'lab:lab', '--json');
    return JSON.parse(run.stdout.toString()) as Identity;
  }

  /** Copies the disk files as they are now to the DR site. */
  function copyDisks({ disks }: Identity): void {
    for (const [index, { file }] of disks.entries()) cpSync(file, at('seeds', `${index}.vhdx`));
  }

  async function expectGuest(point: string, diskCount: number): Promise<void> {
    const guest = await site.guestHashes(VM, diskCount);
    expect(await site.pointHashes(VM, point, diskCount)).to.deep.equal(guest);
  }

  function expectRefused(run: CliRun, exitCode: number, code: string): void {
    expect(run.stderr).to.match(new RegExp(`^${code}: `, 'm'));
    expect(run.code, run.stderr).to.equal(exitCode);
  }

  /** Folders of bases in the store: each cycle that brought one has its own. */
  function baseFolders(): number {
    const disks = join(at('store', 'vms'), readdirSync(at('store', 'vms'))[0] ?? '', 'disks');
    if (!existsSync(disks)) return 0;
    return readdirSync(disks).reduce((sum, disk) => sum + readdirSync(join(disks, disk)).length, 0);
  }

  describe('from disk files at the DR site', () => {
    const files = ['--from', 'vhdx:0.vhdx', '--from', 'vhdx:1.vhdx'];

    it('makes the first cycle send the cells that differ, and no others', async () => {
      const vm = await makeVm();
      copyDisks(vm);
      await write(0, 5, 90);
      await write(1, 3, 91);
      await site.startReceiver('--seed-dir', 'seeds');
      const seeded = await site.hvdr(
        ...['seed', '--vm', VM, ...files, '--vm-id', vm.vmId, ...site.operator(), '--json'],
      );
      expect(JSON.parse(seeded.stdout.toString())).to.include({ owner: 'primary', vmId: vm.vmId });
      expect(await site.points(VM), 'a seed is no point').to.have.length(0);
      const pushed = await site.push(VM);
      expect(pushed.kind).to.equal('seed');
      // eight cells, and 40 bytes for the name of each of the others
      expect(pushed.bytesSent).to.be.within(8 * CELL_BYTES, 8 * CELL_BYTES + 64 * 1024);
      await expectGuest(pushed.point, 2);
      await write(0, 2, 92);
      const next = await site.push(VM);
      expect(next.kind).to.equal('delta');
      await expectGuest(next.point, 2);
      expect(baseFolders(), 'the seed is gone').to.equal(2);
      await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
    });

    it('takes a raw file on the store itself, told which disk it is', async () => {
      const vm = await makeVm();
      for (const disk of [0, 1]) {
        const { stdout } = await site.hvdr('lab', 'read', 'lab', VM, '--disk', String(disk));
        writeFileSync(at(`${disk}.raw`), stdout);
      }
      await site.startReceiver();
      await site.stopReceiver();
      const ids = vm.disks.flatMap(({ id }) => ['--disk-id', id]);
      const raw = ['--from', 'raw:0.raw', '--from', 'raw:1.raw', '--vm-id', vm.vmId];
      const nobody = await site.try('seed', '--vm', VM, ...raw, ...ids, '--store', 'store');
      expectRefused(nobody, 2, 'E_USAGE');
      expect(nobody.stderr).to.contain('--principal');
      const nameless = await site.try(
        ...['seed', '--vm', VM, ...raw, '--principal', 'primary', '--store', 'store'],
      );
      expectRefused(nameless, 2, 'E_USAGE');
      expect(nameless.stderr).to.contain('--disk-id');
      await site.hvdr(
        ...['seed', '--vm', VM, ...raw, ...ids, '--principal', 'primary', '--store', 'store'],
      );
      await site.startReceiver();
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.below(32 * 1024);
      await expectGuest(pushed.point, 2);
    });

    it('is never believed: a file of another content costs bytes, and nothing else', async () => {
      const vm = await makeVm();
      const noise = new SeededRandom(5).bytes(32 * MIB);
      writeFileSync(at('seeds', 'noise.raw'), noise);
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(
        ...['seed', '--vm', VM, '--vm-id', vm.vmId, '--from', 'raw:noise.raw'],
        ...['--disk-id', vm.disks[0]?.id ?? '', ...site.operator()],
      );
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.above(200 * CELL_BYTES);
      await expectGuest(pushed.point, 2);
    });

    it('of no disk of the VM is of no use, and the push says so', async () => {
      const vm = await makeVm();
      writeFileSync(at('seeds', 'noise.raw'), new SeededRandom(5).bytes(MIB));
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(
        ...['seed', '--vm', VM, '--vm-id', vm.vmId, '--from', 'raw:noise.raw'],
        ...['--disk-id', vm.vmId, ...site.operator()],
      );
      const pushed = await site.tryPush(VM);
      expect(pushed.stdout.toString()).to.contain('is of no disk of this VM');
      await expectGuest(pushed.vms[0]?.point ?? '', 2);
    });

    it('belongs to one principal; another one sees no VM', async () => {
      const vm = await makeVm();
      copyDisks(vm);
      await site.hvdr('psk', 'generate', '--out', 'keys/other.psk', '--principal', 'other');
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--vm', VM, '--vm-id', vm.vmId, ...files, ...site.operator()];
      const open = await site.try(...seed);
      expectRefused(open, 2, 'E_USAGE');
      await site.hvdr(...seed, '--principal', 'other');
      const refused = await site.tryPush(VM);
      expect(refused.vms[0]?.error?.code).to.equal('E_NOT_PROTECTED');
      const owned = await site.try(...seed, '--principal', 'primary');
      expectRefused(owned, 2, 'E_USAGE');
      expect(owned.stderr).to.contain('belongs to other');
    });

    it('is read below the seed folder of the receiver only', async () => {
      const vm = await makeVm();
      copyDisks(vm);
      writeFileSync(at('secret.raw'), Buffer.alloc(MIB, 1));
      symlinkSync(at('secret.raw'), at('seeds', 'link.raw'));
      symlinkSync(at('lab'), at('seeds', 'out'));
      // a differencing disk in the folder whose parent is a link that leaves it
      await site.hvdr('vhdx', 'create', 'seeds/parent.vhdx', '--size', '8M');
      await site.hvdr('vhdx', 'create', 'seeds/child.vhdx', '--parent', 'seeds/parent.vhdx');
      cpSync(at('seeds', 'parent.vhdx'), at('parent.vhdx'));
      rmSync(at('seeds', 'parent.vhdx'));
      symlinkSync(at('parent.vhdx'), at('seeds', 'parent.vhdx'));
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = (...more: string[]): Promise<CliRun> =>
        site.try(
          ...['seed', '--vm', VM, '--vm-id', vm.vmId, ...more],
          ...['--disk-id', vm.disks[0]?.id ?? '', ...site.operator()],
        );
      const outside = [
        'raw:../secret.raw',
        `raw:${at('secret.raw')}`,
        'raw:link.raw',
        'raw:out/lab.json',
        'raw:a/../../secret.raw',
        'vhdx:child.vhdx',
      ];
      for (const from of outside) {
        const run = await seed('--from', from);
        expect(run.stderr, from).to.match(/^E_SEED_PATH: /m);
        expect(run.code, from).to.equal(2);
      }
      expectRefused(await seed('--from', 'raw:nothing.raw'), 16, 'E_NOT_FOUND');
      expectRefused(await seed('--from', 'vhdx:link.raw'), 2, 'E_SEED_PATH');
      // what lies in it may be named either way
      const inside = await seed('--from', `vhdx:${at('seeds', '0.vhdx')}`);
      expect(inside.code, inside.stderr).to.equal(0);
    });

    it('is an act of an operator, on a receiver that was told a folder', async () => {
      const vm = await makeVm();
      copyDisks(vm);
      await site.startReceiver();
      const seed = ['seed', '--vm', VM, '--vm-id', vm.vmId, ...files];
      expectRefused(await site.try(...seed, ...site.operator()), 2, 'E_SEED_PATH');
      await site.stopReceiver();
      await site.startReceiver('--seed-dir', 'seeds');
      const run = await site.try(
        ...[...seed, '--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
        ...['--psk-file', 'keys/source.psk'],
      );
      expectRefused(run, 41, 'E_AUTH');
    });

    it('goes on after SIGKILL, and what was staged is used even when nobody goes on', async () => {
      await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '256M');
      writeFileSync(at('fill'), new SeededRandom(9).bytes(200 * MIB));
      await site.hvdr(
        ...['lab', 'write', 'lab', VM, '--disk', '0', '--offset', '0', '--file', 'fill'],
      );
      const vm = await identity();
      copyDisks(vm);
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--vm', VM, '--vm-id', vm.vmId, '--from', 'vhdx:0.vhdx'];
      const running = site.start(...seed, ...site.operator());
      await untilStaged(vm.vmId, 16 * MIB);
      await site.stopReceiver('SIGKILL');
      expect((await running.done).code).to.equal(21);
      const staged = stagedBytes(vm.vmId);
      expect(staged).to.be.within(16 * MIB, 190 * MIB);
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(...seed, ...site.operator());
      expect(stagedBytes(vm.vmId)).to.be.above(190 * MIB);
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.below(MIB);
      await expectGuest(pushed.point, 1);
    });

    it('goes on from the seed and from a first push that broke off over it', async () => {
      await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '64M');
      await write(0, 500, 1);
      const vm = await identity();
      copyDisks(vm);
      // 16 MiB that the seed does not have
      writeFileSync(at('fill'), new SeededRandom(9).bytes(16 * MIB));
      await site.hvdr(
        ...['lab', 'write', 'lab', VM, '--disk', '0', '--offset', '0', '--file', 'fill'],
      );
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(
        ...['seed', '--vm', VM, '--vm-id', vm.vmId, '--from', 'vhdx:0.vhdx', ...site.operator()],
      );
      const first = site.startPush(VM, '--bandwidth', '6M');
      await untilCycle(vm.vmId, 8 * MIB);
      first.child.kill('SIGKILL');
      await first.done;
      const pushed = await site.push(VM);
      expect(pushed.bytesSent, 'what had come is not sent again').to.be.below(9 * MIB);
      await expectGuest(pushed.point, 1);
      expect(baseFolders()).to.equal(1);
    });

    it('is staged anew with --restart, removed with --discard, and refused where points are', async () => {
      const vm = await makeVm();
      copyDisks(vm);
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--vm', VM, '--vm-id', vm.vmId, ...files, ...site.operator()];
      expectRefused(
        await site.try('seed', '--vm', VM, '--discard', ...site.operator()),
        16,
        'E_NOT_FOUND',
      );
      await site.hvdr(...seed);
      await write(0, 30, 50);
      copyDisks(vm);
      await site.hvdr(...seed);
      await site.hvdr(...seed, '--restart');
      expect(baseFolders(), 'there is one seed').to.equal(2);
      await site.hvdr('seed', '--vm', VM, '--discard', ...site.operator());
      expect(baseFolders()).to.equal(0);
      await site.hvdr(...seed);
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.below(32 * 1024);
      expectRefused(await site.try(...seed), 33, 'E_EXISTS');
      await expectGuest(pushed.point, 2);
    });

    it('takes nothing of the quota of its owner', async () => {
      const vm = await makeVm();
      copyDisks(vm);
      await site.startReceiver('--seed-dir', 'seeds', '--quota', '20M');
      await site.hvdr(...['seed', '--vm', VM, '--vm-id', vm.vmId, ...files, ...site.operator()]);
      const pushed = await site.push(VM);
      await expectGuest(pushed.point, 2);
    });
  });

  describe('over the network', () => {
    it('is the first cycle, and refused for a VM that has points', async () => {
      await makeVm();
      await site.startReceiver();
      const network = [
        ...['seed', ...source(), '--from', 'network', '--dr-host', '127.0.0.1'],
        ...['--dr-port', String(site.port), '--psk-file', 'keys/source.psk'],
      ];
      const run = await site.try(...network, '--json');
      expect(run.code, run.stderr).to.equal(0);
      const last = run.stdout.toString().trimEnd().split('\n').at(-1) ?? '';
      const { vms } = JSON.parse(last) as { vms: { kind: string; point: string }[] };
      expect(vms[0]?.kind).to.equal('seed');
      await expectGuest(vms[0]?.point ?? '', 2);
      expectRefused(await site.try(...network), 33, 'E_EXISTS');
      expect(await site.points(VM)).to.have.length(1);
    });
  });

  describe('from a medium', () => {
    const toMedium = (...more: string[]): string[] => [
      ...['seed', ...source(), '--to', 'media:medium', '--psk-file', 'keys/source.psk', ...more],
    ];
    const mediumFile = (): string =>
      at('medium', readdirSync(at('medium')).find((name) => name.endsWith('.hvdrseed')) ?? '');

    it('brings a VM that the DR site does not know, sealed on the way', async () => {
      const words = Buffer.from('the guest keeps this sentence for itself. '.repeat(100));
      const vm = await makeVm();
      writeFileSync(at('words'), words);
      await site.hvdr(
        ...['lab', 'write', 'lab', VM, '--disk', '1', '--offset', '65536', '--file', 'words'],
      );
      await site.hvdr(...toMedium());
      const bytes = readFileSync(mediumFile());
      for (const text of ['the guest keeps', VM, vm.vmId]) {
        expect(bytes.includes(text), text).to.equal(false);
      }
      expectRefused(await site.try(...toMedium()), 33, 'E_EXISTS');
      await site.hvdr(...toMedium('--force'));
      cpSync(at('medium'), at('seeds', 'medium'), { recursive: true });
      await write(0, 4, 70);
      await site.startReceiver('--seed-dir', 'seeds');
      const seeded = await site.hvdr(
        ...['seed', '--from', 'media:medium', ...site.operator(), '--json'],
      );
      expect(JSON.parse(seeded.stdout.toString())).to.include({
        vm: VM,
        vmId: vm.vmId,
        owner: 'primary',
      });
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.within(4 * CELL_BYTES, 4 * CELL_BYTES + 64 * 1024);
      await expectGuest(pushed.point, 2);
    });

    it('is refused damaged, cut, reordered, unfinished or under a foreign key', async () => {
      await makeVm();
      await site.hvdr(...toMedium());
      await site.hvdr('psk', 'generate', '--out', 'foreign.psk', '--principal', 'primary');
      await site.startReceiver();
      await site.stopReceiver();
      const whole = readFileSync(mediumFile());
      const import_ = (key = 'keys/source.psk'): Promise<CliRun> =>
        site.try('seed', '--from', 'media:medium', '--psk-file', key, '--store', 'store');
      const records = recordsOf(whole);
      expect(records.length).to.be.above(5);
      const [a, b] = [records[2], records[3]];
      if (a === undefined || b === undefined) throw new Error('a medium has records');
      const cases: Readonly<Record<string, Buffer>> = {
        'a bit of a record': flipped(whole, a.start + 100),
        'a bit of a length': flipped(whole, a.start),
        'a bit of the salt': flipped(whole, 20),
        'a byte of the magic': flipped(whole, 0),
        'two records changed places': Buffer.concat([
          whole.subarray(0, a.start),
          whole.subarray(b.start, b.end),
          whole.subarray(a.start, a.end),
          whole.subarray(b.end),
        ]),
        'a record is missing': Buffer.concat([whole.subarray(0, a.start), whole.subarray(a.end)]),
        'the last record is missing': whole.subarray(0, records.at(-1)?.start),
        'cut inside a record': whole.subarray(0, b.start + 1000),
        'cut inside the header': whole.subarray(0, 64),
        'bytes behind the end': Buffer.concat([whole, Buffer.alloc(1)]),
        'nothing at all': Buffer.alloc(0),
      };
      for (const [what, bytes] of Object.entries(cases)) {
        writeFileSync(mediumFile(), bytes);
        const run = await import_();
        expect(run.stderr, what).to.match(/^E_SEED_MEDIUM: /m);
        expect(run.code, what).to.equal(15);
      }
      writeFileSync(mediumFile(), whole);
      const foreign = await import_('foreign.psk');
      expectRefused(foreign, 15, 'E_SEED_MEDIUM');
      expect(foreign.stderr).to.contain('is not here');
      rmSync(mediumFile());
      writeFileSync(at('medium', '.x.hvdrseed.0011aabb.unfinished'), whole);
      expectRefused(await import_(), 16, 'E_NOT_FOUND');
      // after all that, the whole one works, and goes on from what the broken ones had staged
      writeFileSync(at('medium', 'x.hvdrseed'), whole);
      expect((await import_()).code).to.equal(0);
      await site.startReceiver();
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.below(32 * 1024);
      await expectGuest(pushed.point, 2);
    });

    it('admits no VM that its key may not protect', async () => {
      await makeVm();
      await site.hvdr(
        ...['psk', 'generate', '--out', 'keys/web.psk', '--principal', 'web-only'],
        ...['--vms', 'WEB*'],
      );
      await site.hvdr(
        ...['seed', ...source(), '--to', 'media:medium', '--psk-file', 'keys/web.psk'],
      );
      cpSync(at('medium'), at('seeds', 'medium'), { recursive: true });
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--from', 'media:medium', ...site.operator()];
      const refused = await site.try(...seed);
      expectRefused(refused, 10, 'E_NOT_PROTECTED');
      await site.hvdr(...seed, '--principal', 'primary');
      await expectGuest((await site.push(VM)).point, 2);
    });

    it('is not there when writing it was killed, and the next run takes the rest away', async () => {
      await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '256M');
      writeFileSync(at('fill'), new SeededRandom(9).bytes(200 * MIB));
      await site.hvdr(
        ...['lab', 'write', 'lab', VM, '--disk', '0', '--offset', '0', '--file', 'fill'],
      );
      const running = site.start(...toMedium());
      await until(() => existsSync(at('medium')) && folderBytes(at('medium')) > 8 * MIB);
      running.child.kill('SIGKILL');
      await running.done;
      expect(readdirSync(at('medium')).filter((name) => name.endsWith('.hvdrseed'))).to.have.length(
        0,
      );
      await site.hvdr(...toMedium());
      expect(readdirSync(at('medium'))).to.have.length(1);
      await site.startReceiver();
      const { bytesSent } = await site.push(VM);
      expect(bytesSent, 'a medium changes nothing for the source').to.be.above(200 * MIB);
    });
  });

  describe('from the restore of a backup', () => {
    const POINTS = [1, 2, 3].map((n) => `1000000${n}-0000-4000-8000-000000000000`);

    /** The folder that a restore writes: a Full and two incrementals of disk 0, a Full of disk 1. */
    async function restored(vm: Identity): Promise<void> {
      const folder = at('restored', '@hyperv', VM);
      mkdirSync(join(folder, 'disks'), { recursive: true });
      mkdirSync(join(folder, '.meta'));
      const names = vm.disks.map(({ id }) => `${VM}_${id}.vhdx`);
      for (const [index, { file }] of vm.disks.entries()) {
        await site.hvdr('vhdx', 'convert', file, join(folder, 'disks', names[index] ?? ''));
      }
      let before = await readDisk(0);
      for (const [round, number] of ['9', '10'].entries()) {
        await write(0, 10, 300 + round);
        const after = await readDisk(round + 1);
        await site.hvdr(
          ...['pcbt', 'diff', before, after],
          ...['--out', join(folder, 'disks', `${names[0] ?? ''}.${number}.cbt`)],
          ...['--manifest', join(folder, '.meta', `${names[0] ?? ''}.${number}.manifest`)],
          ...['--vm-id', vm.vmId, '--disk-id', vm.disks[0]?.id ?? '', '--generation', '0'],
          ...['--parent-point', POINTS[round] ?? '', '--point', POINTS[round + 1] ?? ''],
        );
        before = after;
      }
    }

    async function readDisk(n: number): Promise<string> {
      const name = at(`moment-${n}.raw`);
      writeFileSync(name, (await site.hvdr('lab', 'read', 'lab', VM, '--disk', '0')).stdout);
      return name;
    }

    it('takes the Full with its deltas in order', async () => {
      const vm = await makeVm();
      await restored(vm);
      await write(1, 6, 80);
      await site.startReceiver();
      await site.stopReceiver();
      const seed = ['seed', '--vm', VM, '--principal', 'primary', '--store', 'store'];
      const job = await site.try(...seed, '--from', 'bacula:4711');
      expectRefused(job, 16, 'E_SEED_BACKUP');
      expect(job.stderr).to.contain('Restore the job to a folder');
      await site.hvdr(...seed, '--from', 'bacula:restored');
      await site.startReceiver();
      const pushed = await site.push(VM);
      expect(pushed.bytesSent).to.be.within(6 * CELL_BYTES, 6 * CELL_BYTES + 64 * 1024);
      await expectGuest(pushed.point, 2);
    });

    it('is refused with a gap, without a manifest, with a damaged delta, or empty', async () => {
      const vm = await makeVm();
      await restored(vm);
      await site.startReceiver();
      await site.stopReceiver();
      const seed = (...more: string[]): Promise<CliRun> =>
        site.try(...['seed', '--vm', VM, '--principal', 'primary', '--store', 'store', ...more]);
      const name = `${VM}_${vm.disks[0]?.id ?? ''}.vhdx`;
      const disks = at('restored', '@hyperv', VM, 'disks');
      const meta = at('restored', '@hyperv', VM, '.meta');
      const moved = async (file: string, code: string, exitCode: number): Promise<void> => {
        cpSync(file, at('aside'));
        rmSync(file);
        expectRefused(await seed('--from', 'bacula:restored'), exitCode, code);
        cpSync(at('aside'), file);
      };
      await moved(join(meta, `${name}.9.manifest`), 'E_SEED_BACKUP', 16);
      const delta = join(disks, `${name}.10.cbt`);
      const whole = readFileSync(delta);
      writeFileSync(delta, whole.subarray(0, whole.length - 10));
      expectRefused(await seed('--from', 'bacula:restored'), 15, 'E_PCBT_TRUNCATED');
      writeFileSync(delta, whole);
      const third = [...POINTS, '10000009-0000-4000-8000-000000000000'];
      await site.hvdr(
        ...['pcbt', 'diff', at('moment-1.raw'), at('moment-2.raw'), '--force'],
        ...['--out', delta, '--manifest', join(meta, `${name}.10.manifest`)],
        ...['--vm-id', vm.vmId, '--disk-id', vm.disks[0]?.id ?? '', '--generation', '0'],
        ...['--parent-point', third[3] ?? '', '--point', third[2] ?? ''],
      );
      expectRefused(await seed('--from', 'bacula:restored'), 15, 'E_DELTA_PARENT');
      mkdirSync(at('empty'));
      expectRefused(await seed('--from', 'bacula:empty'), 16, 'E_SEED_BACKUP');
      expectRefused(await seed('--from', 'bacula:not-there'), 16, 'E_SEED_BACKUP');
    });
  });

  const progressFiles = (vmId: string): string[] => {
    const cycles = at('store', 'vms', vmId, 'cycles');
    if (!existsSync(cycles)) return [];
    return readdirSync(cycles).map((id) => join(cycles, id, 'progress'));
  };

  /** Bytes of cells that the last record of each progress file tells, by cycle. */
  function toldBytes(vmId: string): number[] {
    return progressFiles(vmId).flatMap((file) => {
      if (!existsSync(file)) return [];
      const bytes = readFileSync(file);
      const at = bytes.lastIndexOf('PROG');
      return at < 64 ? [] : [Number(bytes.readBigUInt64LE(at + 24))];
    });
  }

  const stagedBytes = (vmId: string): number => Math.max(0, ...toldBytes(vmId));

  const untilStaged = (vmId: string, bytes: number): Promise<void> =>
    until(() => stagedBytes(vmId) >= bytes);

  /** Until a cycle beside the seed, which is the larger one, has come so far. */
  const untilCycle = (vmId: string, bytes: number): Promise<void> =>
    until(() => {
      const told = toldBytes(vmId);
      return told.length > 1 && Math.min(...told) >= bytes;
    });
});

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await systemClock.sleep(2);
}

function folderBytes(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

function flipped(bytes: Buffer, position: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(position) ^ 1, position);
  return copy;
}

/** Where the records of a medium lie. */
function recordsOf(bytes: Buffer): { start: number; end: number }[] {
  const records: { start: number; end: number }[] = [];
  for (let start = 128; start < bytes.length;) {
    const end = start + 8 + bytes.readUInt32LE(start) + 16;
    records.push({ start, end });
    start = end;
  }
  return records;
}
