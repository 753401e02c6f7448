// Seeds that travel: a sealed medium, and the restore of a backup.

import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { SeededRandom } from '../support/seeded-random.js';
import type { CliRun } from '../support/cli.js';
import { expectRefused, type Identity, SEED_VM, SeedSite, until } from '../support/seed-site.js';

const MIB = 1024 * 1024;

describe('hvdr seed: media and backups', function () {
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

  describe('from a medium', () => {
    const toMedium = (...more: string[]): string[] => [
      ...[
        'seed',
        ...site.source(),
        '--to',
        'media:medium',
        '--psk-file',
        'keys/source.psk',
        ...more,
      ],
    ];
    const mediumFile = (): string =>
      site.at(
        'medium',
        readdirSync(site.at('medium')).find((name) => name.endsWith('.hvdrseed')) ?? '',
      );

    it('brings a VM that the DR site does not know, sealed on the way', async () => {
      const words = Buffer.from('the guest keeps this sentence for itself. '.repeat(100));
      const vm = await site.makeVm();
      writeFileSync(site.at('words'), words);
      await site.hvdr(
        ...['lab', 'write', 'lab', SEED_VM, '--disk', '1', '--offset', '65536', '--file', 'words'],
      );
      await site.hvdr(...toMedium());
      const bytes = readFileSync(mediumFile());
      for (const text of ['the guest keeps', SEED_VM, vm.vmId]) {
        expect(bytes.includes(text), text).to.equal(false);
      }
      expectRefused(await site.try(...toMedium()), 33, 'E_EXISTS');
      await site.hvdr(...toMedium('--force'));
      cpSync(site.at('medium'), site.at('seeds', 'medium'), { recursive: true });
      await site.write(0, 4, 70);
      await site.startReceiver('--seed-dir', 'seeds');
      const seeded = await site.hvdr(
        ...['seed', '--from', 'media:medium', ...site.operator(), '--json'],
      );
      expect(JSON.parse(seeded.stdout.toString())).to.include({
        vm: SEED_VM,
        vmId: vm.vmId,
        owner: 'primary',
      });
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.within(4 * CELL_BYTES, 4 * CELL_BYTES + 64 * 1024);
      await site.expectGuest(pushed.point, 2);
    });

    it('is refused damaged, cut, reordered, unfinished or under a foreign key', async () => {
      await site.makeVm();
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
      writeFileSync(site.at('medium', '.x.hvdrseed.0011aabb.unfinished'), whole);
      expectRefused(await import_(), 16, 'E_NOT_FOUND');
      // after all that, the whole one works, and goes on from what the broken ones had staged
      writeFileSync(site.at('medium', 'x.hvdrseed'), whole);
      expect((await import_()).code).to.equal(0);
      await site.startReceiver();
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.below(32 * 1024);
      await site.expectGuest(pushed.point, 2);
    });

    it('admits no VM that its key may not protect', async () => {
      await site.makeVm();
      await site.hvdr(
        ...['psk', 'generate', '--out', 'keys/web.psk', '--principal', 'web-only'],
        ...['--vms', 'WEB*'],
      );
      await site.hvdr(
        ...['seed', ...site.source(), '--to', 'media:medium', '--psk-file', 'keys/web.psk'],
      );
      cpSync(site.at('medium'), site.at('seeds', 'medium'), { recursive: true });
      await site.startReceiver('--seed-dir', 'seeds');
      const seed = ['seed', '--from', 'media:medium', ...site.operator()];
      const refused = await site.try(...seed);
      expectRefused(refused, 10, 'E_NOT_PROTECTED');
      await site.hvdr(...seed, '--principal', 'primary');
      await site.expectGuest((await site.push(SEED_VM)).point, 2);
    });

    it('is not there when writing it was killed, and the next run takes the rest away', async () => {
      await site.hvdr('lab', 'create-vm', 'lab', SEED_VM, '--disk', '256M');
      writeFileSync(site.at('fill'), new SeededRandom(9).bytes(200 * MIB));
      await site.hvdr(
        ...['lab', 'write', 'lab', SEED_VM, '--disk', '0', '--offset', '0', '--file', 'fill'],
      );
      const running = site.start(...toMedium());
      await until(() => existsSync(site.at('medium')) && folderBytes(site.at('medium')) > 8 * MIB);
      running.child.kill('SIGKILL');
      await running.done;
      expect(
        readdirSync(site.at('medium')).filter((name) => name.endsWith('.hvdrseed')),
      ).to.have.length(0);
      await site.hvdr(...toMedium());
      expect(readdirSync(site.at('medium'))).to.have.length(1);
      await site.startReceiver();
      const { bytesSent } = await site.push(SEED_VM);
      expect(bytesSent, 'a medium changes nothing for the source').to.be.above(200 * MIB);
    });
  });

  describe('from the restore of a backup', () => {
    const POINTS = [1, 2, 3].map((n) => `1000000${n}-0000-4000-8000-000000000000`);

    /** The folder that a restore writes: a Full and two incrementals of disk 0, a Full of disk 1. */
    async function restored(vm: Identity): Promise<void> {
      const folder = site.at('restored', '@hyperv', SEED_VM);
      mkdirSync(join(folder, 'disks'), { recursive: true });
      mkdirSync(join(folder, '.meta'));
      const names = vm.disks.map(({ id }) => `${SEED_VM}_${id}.vhdx`);
      for (const [index, { file }] of vm.disks.entries()) {
        await site.hvdr('vhdx', 'convert', file, join(folder, 'disks', names[index] ?? ''));
      }
      let before = await readDisk(0);
      for (const [round, number] of ['9', '10'].entries()) {
        await site.write(0, 10, 300 + round);
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
      const name = site.at(`moment-${n}.raw`);
      writeFileSync(name, (await site.hvdr('lab', 'read', 'lab', SEED_VM, '--disk', '0')).stdout);
      return name;
    }

    it('takes the Full with its deltas in order', async () => {
      const vm = await site.makeVm();
      await restored(vm);
      await site.write(1, 6, 80);
      await site.startReceiver();
      await site.stopReceiver();
      const seed = ['seed', '--vm', SEED_VM, '--principal', 'primary', '--store', 'store'];
      const job = await site.try(...seed, '--from', 'bacula:4711');
      expectRefused(job, 16, 'E_SEED_BACKUP');
      expect(job.stderr).to.contain('Restore the job to a folder');
      await site.hvdr(...seed, '--from', 'bacula:restored');
      await site.startReceiver();
      const pushed = await site.push(SEED_VM);
      expect(pushed.bytesSent).to.be.within(6 * CELL_BYTES, 6 * CELL_BYTES + 64 * 1024);
      await site.expectGuest(pushed.point, 2);
    });

    it('is refused with a gap, without a manifest, with a damaged delta, or empty', async () => {
      const vm = await site.makeVm();
      await restored(vm);
      await site.startReceiver();
      await site.stopReceiver();
      const seed = (...more: string[]): Promise<CliRun> =>
        site.try(
          ...['seed', '--vm', SEED_VM, '--principal', 'primary', '--store', 'store', ...more],
        );
      const name = `${SEED_VM}_${vm.disks[0]?.id ?? ''}.vhdx`;
      const disks = site.at('restored', '@hyperv', SEED_VM, 'disks');
      const meta = site.at('restored', '@hyperv', SEED_VM, '.meta');
      const moved = async (file: string, code: string, exitCode: number): Promise<void> => {
        cpSync(file, site.at('aside'));
        rmSync(file);
        expectRefused(await seed('--from', 'bacula:restored'), exitCode, code);
        cpSync(site.at('aside'), file);
      };
      await moved(join(meta, `${name}.9.manifest`), 'E_SEED_BACKUP', 16);
      const delta = join(disks, `${name}.10.cbt`);
      const whole = readFileSync(delta);
      writeFileSync(delta, whole.subarray(0, whole.length - 10));
      expectRefused(await seed('--from', 'bacula:restored'), 15, 'E_PCBT_TRUNCATED');
      writeFileSync(delta, whole);
      const third = [...POINTS, '10000009-0000-4000-8000-000000000000'];
      await site.hvdr(
        ...['pcbt', 'diff', site.at('moment-1.raw'), site.at('moment-2.raw'), '--force'],
        ...['--out', delta, '--manifest', join(meta, `${name}.10.manifest`)],
        ...['--vm-id', vm.vmId, '--disk-id', vm.disks[0]?.id ?? '', '--generation', '0'],
        ...['--parent-point', third[3] ?? '', '--point', third[2] ?? ''],
      );
      expectRefused(await seed('--from', 'bacula:restored'), 15, 'E_DELTA_PARENT');
      mkdirSync(site.at('empty'));
      expectRefused(await seed('--from', 'bacula:empty'), 16, 'E_SEED_BACKUP');
      expectRefused(await seed('--from', 'bacula:not-there'), 16, 'E_SEED_BACKUP');
    });
  });
});

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
