// Seeds from disk files and over the network, as a user brings them: then the first push, whose bytes are
// counted and whose point is compared with the guest. seed-media.test.ts has media and backups.

import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { SeededRandom } from '../support/seeded-random.js';
import type { CliRun } from '../support/cli.js';
import { expectRefused, SEED_VM, SeedSite } from '../support/seed-site.js';

const MIB = 1024 * 1024;

describe('hvdr seed', function () {
  this.timeout(240_000);
  let site: SeedSite;

  beforeEach(async () => {
    site = new SeedSite(mkdtempSync(join(tmpdir(), 'hvdr-seed-')));
    await site.prepare();
    mkdirSync(join(site.folder, 'seeds'));
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  /** Folders of bases in the store: each cycle that brought one has its own. */
  function baseFolders(): number {
    const disks = join(
      site.at('store', 'vms'),
      readdirSync(site.at('store', 'vms'))[0] ?? '',
      'disks',
    );
    if (!existsSync(disks)) return 0;
    return readdirSync(disks).reduce((sum, disk) => sum + readdirSync(join(disks, disk)).length, 0);
  }

  describe('from disk files at the DR site', () => {
    const files = ['--from', 'vhdx:0.vhdx', '--from', 'vhdx:1.vhdx'];

    it('makes the first cycle send the cells that differ, and no others', async () => {
      const vm = await site.makeVm();
      site.copyDisks(vm);
      await site.write(0, 5, 90);
      await site.write(1, 3, 91);
      await site.startReceiver('--seed-dir', 'seeds');
      const seeded = await site.hvdr(
        ...['seed', '--vm', SEED_VM, ...files, '--vm-id', vm.vmId, ...site.operator(), '--json'],
      );
      expect(JSON.parse(seeded.stdout.toString())).to.include({ owner: 'primary', vmId: vm.vmId });
      expect(await site.points(SEED_VM), 'a seed is no point').to.have.length(0);
      const pushed = await site.push(SEED_VM);
      expect(pushed.kind).to.equal('seed');
      // eight cells, and 40 bytes for the name of each of the others
      expect(pushed.bytesSent).to.be.within(8 * CELL_BYTES, 8 * CELL_BYTES + 64 * 1024);
      await site.expectGuest(pushed.point, 2);
      await site.write(0, 2, 92);
      const next = await site.push(SEED_VM);
      expect(next.kind).to.equal('delta');
      await site.expectGuest(next.point, 2);
      expect(baseFolders(), 'the seed is gone').to.equal(2);
      await site.hvdr('verify', SEED_VM, '--point', 'all', ...site.operator());
    });

    it('takes a raw file on the store itself, told which disk it is', async () => {
      const vm = await site.makeVm();
      for (const disk of [0, 1]) {
        const { stdout } = await site.hvdr('lab', 'read', 'lab', SEED_VM, '--disk', String(disk));
        writeFileSync(site.at(`${disk}.raw`), stdout);
      }
      await site.startReceiver();
      await site.stopReceiver();
      const ids = vm.disks.flatMap(({ id }) => ['--disk-id', id]);
      const raw = ['--from', 'raw:0.raw', '--from', 'raw:1.raw', '--vm-id', vm.vmId];
      const nobody = await site.try('seed', '--vm', SEED_VM, ...raw, ...ids, '--store', 'store');
      expectRefused(nobody, 2, 'E_USAGE');
      expect(nobody.stderr).to.contain('--principal');
      const nameless = await site.try(
        ...['seed', '--vm', SEED_VM, ...raw, '--principal', 'primary', '--store', 'store'],
      );
      expectRefused(nameless, 2, 'E_USAGE');
      expect(nameless.stderr).to.contain('--disk-id');
      await site.hvdr(
        ...['seed', '--vm', SEED_VM, ...raw, ...ids, '--principal', 'primary', '--store', 'store'],
      );
      await site.startReceiver();
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.below(32 * 1024);
      await site.expectGuest(pushed.point, 2);
    });

    it('is never believed: a file of another content costs bytes, and nothing else', async () => {
      const vm = await site.makeVm();
      const noise = new SeededRandom(5).bytes(32 * MIB);
      writeFileSync(site.at('seeds', 'noise.raw'), noise);
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(
        ...['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, '--from', 'raw:noise.raw'],
        ...['--disk-id', vm.disks[0]?.id ?? '', ...site.operator()],
      );
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.above(200 * CELL_BYTES);
      await site.expectGuest(pushed.point, 2);
    });

    it('of no disk of the VM is of no use, and the push says so', async () => {
      const vm = await site.makeVm();
      writeFileSync(site.at('seeds', 'noise.raw'), new SeededRandom(5).bytes(MIB));
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(
        ...['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, '--from', 'raw:noise.raw'],
        ...['--disk-id', vm.vmId, ...site.operator()],
      );
      const pushed = await site.tryPush(SEED_VM);
      expect(pushed.stdout.toString()).to.contain('is of no disk of this VM');
      await site.expectGuest(pushed.vms[0]?.point ?? '', 2);
    });

    it('belongs to one principal; another one sees no VM', async () => {
      const vm = await site.makeVm();
      site.copyDisks(vm);
      await site.hvdr('psk', 'generate', '--out', 'keys/other.psk', '--principal', 'other');
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, ...files, ...site.operator()];
      const open = await site.try(...seed);
      expectRefused(open, 2, 'E_USAGE');
      await site.hvdr(...seed, '--principal', 'other');
      const refused = await site.tryPush(SEED_VM);
      expect(refused.vms[0]?.error?.code).to.equal('E_NOT_PROTECTED');
      const owned = await site.try(...seed, '--principal', 'primary');
      expectRefused(owned, 2, 'E_USAGE');
      expect(owned.stderr).to.contain('belongs to other');
    });

    it('is read below the seed folder of the receiver only', async () => {
      const vm = await site.makeVm();
      site.copyDisks(vm);
      writeFileSync(site.at('secret.raw'), Buffer.alloc(MIB, 1));
      symlinkSync(site.at('secret.raw'), site.at('seeds', 'link.raw'));
      symlinkSync(site.at('lab'), site.at('seeds', 'out'));
      // a differencing disk in the folder whose parent is a link that leaves it
      await site.hvdr('vhdx', 'create', 'seeds/parent.vhdx', '--size', '8M');
      await site.hvdr('vhdx', 'create', 'seeds/child.vhdx', '--parent', 'seeds/parent.vhdx');
      cpSync(site.at('seeds', 'parent.vhdx'), site.at('parent.vhdx'));
      rmSync(site.at('seeds', 'parent.vhdx'));
      symlinkSync(site.at('parent.vhdx'), site.at('seeds', 'parent.vhdx'));
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = (...more: string[]): Promise<CliRun> =>
        site.try(
          ...['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, ...more],
          ...['--disk-id', vm.disks[0]?.id ?? '', ...site.operator()],
        );
      const outside = [
        'raw:../secret.raw',
        `raw:${site.at('secret.raw')}`,
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
      const inside = await seed('--from', `vhdx:${site.at('seeds', '0.vhdx')}`);
      expect(inside.code, inside.stderr).to.equal(0);
    });

    it('is an act of an operator, on a receiver that was told a folder', async () => {
      const vm = await site.makeVm();
      site.copyDisks(vm);
      await site.startReceiver();
      const seed = ['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, ...files];
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
      await site.hvdr('lab', 'create-vm', 'lab', SEED_VM, '--disk', '256M');
      writeFileSync(site.at('fill'), new SeededRandom(9).bytes(200 * MIB));
      await site.hvdr(
        ...['lab', 'write', 'lab', SEED_VM, '--disk', '0', '--offset', '0', '--file', 'fill'],
      );
      const vm = await site.identity();
      site.copyDisks(vm);
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, '--from', 'vhdx:0.vhdx'];
      const running = site.start(...seed, ...site.operator());
      await site.untilStaged(vm.vmId, 16 * MIB);
      await site.stopReceiver('SIGKILL');
      expect((await running.done).code).to.equal(21);
      const staged = site.stagedBytes(vm.vmId);
      expect(staged).to.be.within(16 * MIB, 190 * MIB);
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(...seed, ...site.operator());
      expect(site.stagedBytes(vm.vmId)).to.be.above(190 * MIB);
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.below(MIB);
      await site.expectGuest(pushed.point, 1);
    });

    it('goes on from the seed and from a first push that broke off over it', async () => {
      await site.hvdr('lab', 'create-vm', 'lab', SEED_VM, '--disk', '64M');
      await site.write(0, 500, 1);
      const vm = await site.identity();
      site.copyDisks(vm);
      // 16 MiB that the seed does not have
      writeFileSync(site.at('fill'), new SeededRandom(9).bytes(16 * MIB));
      await site.hvdr(
        ...['lab', 'write', 'lab', SEED_VM, '--disk', '0', '--offset', '0', '--file', 'fill'],
      );
      await site.startReceiver('--seed-dir', 'seeds');
      await site.hvdr(
        ...[
          'seed',
          '--vm',
          SEED_VM,
          '--vm-id',
          vm.vmId,
          '--from',
          'vhdx:0.vhdx',
          ...site.operator(),
        ],
      );
      const first = site.startPush(SEED_VM, '--bandwidth', '6M');
      await site.untilCycle(vm.vmId, 8 * MIB);
      first.child.kill('SIGKILL');
      await first.done;
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent, 'what had come is not sent again').to.be.below(9 * MIB);
      await site.expectGuest(pushed.point, 1);
      expect(baseFolders()).to.equal(1);
    });

    it('is staged anew with --restart, removed with --discard, and refused where points are', async () => {
      const vm = await site.makeVm();
      site.copyDisks(vm);
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, ...files, ...site.operator()];
      expectRefused(
        await site.try('seed', '--vm', SEED_VM, '--discard', ...site.operator()),
        16,
        'E_NOT_FOUND',
      );
      await site.hvdr(...seed);
      await site.write(0, 30, 50);
      site.copyDisks(vm);
      await site.hvdr(...seed);
      await site.hvdr(...seed, '--restart');
      expect(baseFolders(), 'there is one seed').to.equal(2);
      await site.hvdr('seed', '--vm', SEED_VM, '--discard', ...site.operator());
      expect(baseFolders()).to.equal(0);
      await site.hvdr(...seed);
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.below(32 * 1024);
      expectRefused(await site.try(...seed), 33, 'E_EXISTS');
      await site.expectGuest(pushed.point, 2);
    });

    it('takes nothing of the quota of its owner', async () => {
      const vm = await site.makeVm();
      site.copyDisks(vm);
      await site.startReceiver('--seed-dir', 'seeds', '--quota', '20M');
      await site.hvdr(
        ...['seed', '--vm', SEED_VM, '--vm-id', vm.vmId, ...files, ...site.operator()],
      );
      const pushed = await site.push(SEED_VM);
      await site.expectGuest(pushed.point, 2);
    });
  });

  describe('over the network', () => {
    it('is the first cycle, and refused for a VM that has points', async () => {
      await site.makeVm();
      await site.startReceiver();
      const network = [
        ...['seed', ...site.source(), '--from', 'network', '--dr-host', '127.0.0.1'],
        ...['--dr-port', String(site.port), '--psk-file', 'keys/source.psk'],
      ];
      const run = await site.try(...network, '--json');
      expect(run.code, run.stderr).to.equal(0);
      const last = run.stdout.toString().trimEnd().split('\n').at(-1) ?? '';
      const { vms } = JSON.parse(last) as { vms: { kind: string; point: string }[] };
      expect(vms[0]?.kind).to.equal('seed');
      await site.expectGuest(vms[0]?.point ?? '', 2);
      expectRefused(await site.try(...network), 33, 'E_EXISTS');
      expect(await site.points(SEED_VM)).to.have.length(1);
    });
  });
});
