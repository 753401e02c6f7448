// A point that comes by the other road, as a user brings it: deltas of a Bacula restore become the very
// point that the direct road would have brought, and the source goes on from it.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import type { CliRun } from '../support/cli.js';
import { hashFile, Site } from '../support/site.js';

const VM = 'SQL01';
const POINTS = [1, 2, 3].map((n) => `2000000${n}-0000-4000-8000-000000000000`);

interface Identity {
  readonly vmId: string;
  readonly disks: readonly { readonly id: string }[];
}

describe('hvdr import', function () {
  this.timeout(240_000);
  let site: Site;
  let vm: Identity;
  let head = '';

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-import-')));
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '24M', '--disk', '8M');
    for (const disk of [0, 1]) await write(disk, 60, disk + 1);
    const run = await site.hvdr('seed', '--vm', VM, '--host', 'lab:lab', '--json');
    vm = JSON.parse(run.stdout.toString()) as Identity;
    await site.startReceiver();
    ({ point: head } = await site.push(VM));
    await moment(0);
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  const at = (name: string): string => join(site.folder, name);

  async function write(disk: number, count: number, seed: number): Promise<void> {
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', String(disk), '--random', String(count)],
      ...['--block', '64K', '--seed', String(seed)],
    );
  }

  /** Keeps what the guest sees now as N-DISK.raw. */
  async function moment(n: number): Promise<void> {
    for (const disk of [0, 1]) {
      const { stdout } = await site.hvdr('lab', 'read', 'lab', VM, '--disk', String(disk));
      writeFileSync(at(`${n}-${disk}.raw`), stdout);
    }
  }

  /** The delta of a disk from moment n - 1 to n, as the other road carries it. */
  async function delta(n: number, disk: number, ...more: string[]): Promise<string[]> {
    const name = `${n}-${disk}`;
    const parent = n === 1 ? head : (POINTS[n - 2] ?? '');
    await site.hvdr(
      ...['pcbt', 'diff', `${n - 1}-${disk}.raw`, `${n}-${disk}.raw`, '--force'],
      ...['--out', `${name}.cbt`, '--manifest', `${name}.manifest`, '--vm-id', vm.vmId],
      ...['--disk-id', vm.disks[disk]?.id ?? '', '--generation', '0'],
      ...['--point', POINTS[n - 1] ?? '', '--parent-point', parent, ...more],
    );
    return ['--disk', String(disk), '--delta', `${name}.cbt`, '--manifest', `${name}.manifest`];
  }

  const tryImport = (args: readonly string[]): Promise<CliRun> =>
    site.try('import', VM, ...args, ...site.operator());

  async function goodImport(args: readonly string[]): Promise<{ committed: boolean }> {
    const run = await site.hvdr('import', VM, ...args, ...site.operator(), '--json');
    return JSON.parse(run.stdout.toString()) as { committed: boolean };
  }

  function expectRefused(run: CliRun, exitCode: number, code: string): void {
    expect(run.stderr).to.match(new RegExp(`^${code}: `, 'm'));
    expect(run.code, run.stderr).to.equal(exitCode);
  }

  const momentHashes = (n: number): Promise<string[]> =>
    Promise.all([0, 1].map((disk) => hashFile(at(`${n}-${disk}.raw`))));

  it('makes points of deltas that follow each other, and the source goes on from them', async () => {
    for (const n of [1, 2]) {
      await write(0, 6, 10 * n);
      await site.hvdr('lab', 'write', 'lab', VM, '--disk', '1', '--zero', `${n}M,${2 * n}M`);
      await moment(n);
    }
    const second = [await delta(2, 0), await delta(2, 1)];
    const early = await tryImport(second[0] ?? []);
    expectRefused(early, 15, 'E_DELTA_PARENT');
    expect(early.stderr)
      .to.contain(POINTS[0] ?? '-')
      .and.to.contain(head);
    expect((await goodImport(await delta(1, 1))).committed).to.equal(false);
    expect(await site.points(VM)).to.deep.equal([head]);
    expect((await goodImport(await delta(1, 0))).committed).to.equal(true);
    // again, which changes nothing
    expect((await goodImport(await delta(1, 0))).committed).to.equal(true);
    for (const args of second) await goodImport(args);
    expect(await site.points(VM)).to.deep.equal([head, POINTS[0], POINTS[1]]);
    for (const n of [1, 2]) {
      const hashes = await site.pointHashes(VM, POINTS[n - 1] ?? '', 2);
      expect(hashes).to.deep.equal(await momentHashes(n));
    }
    await write(0, 3, 77);
    const pushed = await site.push(VM);
    expect(pushed.kind, 'the source knows nothing of these points').to.equal('resync');
    expect(pushed.bytesSent).to.be.at.most(3 * CELL_BYTES + 16 * 1024);
    expect(await site.pointHashes(VM, pushed.point, 2)).to.deep.equal(
      await site.guestHashes(VM, 2),
    );
    expect((await site.push(VM)).kind).to.equal('nothing');
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  });

  it('works on the store itself, and gives way to a push that comes between two disks', async () => {
    await write(0, 4, 20);
    await write(1, 4, 21);
    await moment(1);
    const disks = [await delta(1, 0), await delta(1, 1)];
    await goodImport(disks[0] ?? []);
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('delta');
    const late = await tryImport(disks[1] ?? []);
    expectRefused(late, 15, 'E_DELTA_PARENT');
    expect(late.stderr).to.contain('older point');
    head = pushed.point;
    await moment(0);
    await write(0, 2, 30);
    await moment(1);
    await site.stopReceiver();
    for (const disk of [0, 1]) {
      await site.hvdr('import', VM, ...(await delta(1, disk)), '--store', 'store');
    }
    await site.startReceiver();
    expect(await site.pointHashes(VM, POINTS[0] ?? '', 2)).to.deep.equal(await momentHashes(1));
  });

  it('refuses what does not fit, naming the field, and what is damaged', async () => {
    await write(0, 4, 20);
    await moment(1);
    const wrong: readonly (readonly [string[], number, string])[] = [
      [['--generation', '3'], 33, 'E_DISK_MISMATCH'],
      [['--epoch', '4'], 24, 'E_STALE_EPOCH'],
      [['--vm-id', POINTS[2] ?? ''], 33, 'E_DISK_MISMATCH'],
      [['--disk-id', POINTS[2] ?? ''], 33, 'E_DISK_MISMATCH'],
      [['--parent-point', POINTS[2] ?? ''], 15, 'E_DELTA_PARENT'],
    ];
    for (const [more, exitCode, code] of wrong) {
      expectRefused(await tryImport(await delta(1, 0, ...more)), exitCode, code);
    }
    const good = await delta(1, 0);
    const bytes = readFileSync(at('1-0.cbt'));
    const manifest = readFileSync(at('1-0.manifest'));
    const changes: readonly (readonly [string, Buffer, Buffer, string])[] = [
      ['a byte of a cell', flipped(bytes, 100), manifest, 'E_DELTA_HASH'],
      ['cut', bytes.subarray(0, bytes.length - 1), manifest, 'E_PCBT_TRUNCATED'],
      ['a byte more', Buffer.concat([bytes, Buffer.alloc(1)]), manifest, 'E_PCBT_TRAILING'],
      ['a hash', bytes, flipped(manifest, 140), 'E_DELTA_MANIFEST'],
      ['the header', bytes, flipped(manifest, 20), 'E_DELTA_MANIFEST'],
      ['no manifest', bytes, bytes, 'E_DELTA_MANIFEST'],
    ];
    for (const [what, delta_, manifest_, code] of changes) {
      writeFileSync(at('1-0.cbt'), delta_);
      writeFileSync(at('1-0.manifest'), manifest_);
      const run = await tryImport(good);
      expect(run.stderr, what).to.match(new RegExp(`^${code}: `, 'm'));
      expect(run.code, what).to.equal(15);
    }
    const asSource = await site.try(
      ...['import', VM, ...good, '--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
      ...['--psk-file', 'keys/source.psk'],
    );
    writeFileSync(at('1-0.cbt'), bytes);
    writeFileSync(at('1-0.manifest'), manifest);
    expectRefused(
      await site.try(
        ...['import', VM, ...good, '--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
        ...['--psk-file', 'keys/source.psk'],
      ),
      41,
      'E_AUTH',
    );
    expect(asSource.code).to.equal(15);
    expect(await site.points(VM)).to.deep.equal([head]);
  });

  it('goes on after SIGKILL of either side, and never lists half a point', async () => {
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', '0', '--random', '300', '--block', '64K'],
      ...['--seed', '40'],
    );
    await moment(1);
    const disks = [await delta(1, 0), await delta(1, 1)];
    await goodImport(disks[1] ?? []);
    const first = site.start('import', VM, ...(disks[0] ?? []), ...site.operator());
    await systemClock.sleep(700);
    first.child.kill('SIGKILL');
    await first.done;
    const second = site.start('import', VM, ...(disks[0] ?? []), ...site.operator());
    await systemClock.sleep(700);
    await site.stopReceiver('SIGKILL');
    await second.done;
    await site.startReceiver();
    await goodImport(disks[0] ?? []);
    expect(await site.points(VM)).to.deep.equal([head, POINTS[0]]);
    expect(await site.pointHashes(VM, POINTS[0] ?? '', 2)).to.deep.equal(await momentHashes(1));
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  });
});

function flipped(bytes: Buffer, position: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(position) ^ 1, position);
  return copy;
}
