// What happens to the disks and the name of a VM over the years: every restore point must still be
// what the guest had, and nothing travels that the DR site has already.

import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Site } from '../support/site.js';

const VM = 'SQL01';
const CELL = 64 * 1024;

interface Moment {
  readonly point: string;
  readonly hashes: readonly string[];
}

/** What `hvdr lab show --json` tells of a VM, as far as it is used here. */
interface ShownVm {
  readonly id: string;
  readonly files: readonly string[];
  readonly disks: readonly { readonly diskId: string }[];
}

describe('disks and names', () => {
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-disks-')));
    await site.prepare();
    await site.startReceiver();
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  function scatter(vm: string, disk: number, cells: number, seed: number): Promise<unknown> {
    return site.hvdr(
      ...['lab', 'write', 'lab', vm, '--disk', String(disk)],
      ...['--random', String(cells), '--block', '64K', '--seed', String(seed)],
    );
  }

  async function show(vm: string): Promise<ShownVm> {
    const run = await site.hvdr('lab', 'show', 'lab', vm, '--json');
    // the contract of `hvdr lab show --json`
    return JSON.parse(run.stdout.toString()) as ShownVm;
  }

  async function expectPoints(vm: string, moments: readonly Moment[]): Promise<void> {
    expect(await site.points(vm)).to.deep.equal(moments.map(({ point }) => point));
    for (const { point, hashes } of moments) {
      expect(await site.pointHashes(vm, point, hashes.length), point).to.deep.equal(hashes);
    }
  }

  it('knows a renamed VM for the same one, and goes on with a delta', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '8M');
    await scatter(VM, 0, 40, 1);
    const first = { hashes: await site.guestHashes(VM, 1), point: (await site.push(VM)).point };
    await site.hvdr('lab', 'rename', 'lab', VM, 'SQL01-old');
    await scatter('SQL01-old', 0, 3, 2);
    const hashes = await site.guestHashes('SQL01-old', 1);
    const pushed = await site.push('SQL01-old');
    expect(pushed.kind).to.equal('delta');
    expect(pushed.bytesSent).to.be.below(4 * CELL);
    await expectPoints('SQL01-old', [first, { point: pushed.point, hashes }]);
    const gone = await site.try('points', VM, ...site.operator());
    expect(gone.stderr).to.match(/^E_NOT_PROTECTED: /);
  });

  it('tells two VMs of one name apart by their ids', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '4M');
    await site.hvdr('lab', 'create-vm', 'lab', 'OTHER', '--disk', '4M');
    const ids = [(await show(VM)).id, (await show('OTHER')).id];
    await site.hvdr('lab', 'rename', 'lab', 'OTHER', VM);
    const moments = new Map<string, Moment[]>(ids.map((id) => [id, []]));
    for (const round of [1, 2]) {
      for (const [index, id] of ids.entries()) await scatter(id, 0, 9, 10 * round + index);
      const run = await site.tryPush(VM);
      expect(run.code, run.stderr).to.equal(0);
      expect(run.vms.map(({ kind }) => kind)).to.deep.equal(
        round === 1 ? ['seed', 'seed'] : ['delta', 'delta'],
      );
      for (const id of ids) {
        const point = (await site.points(id)).at(-1) ?? '';
        moments.get(id)?.push({ point, hashes: await site.guestHashes(id, 1) });
      }
    }
    for (const [id, expected] of moments) await expectPoints(id, expected);
    const ambiguous = await site.try('points', VM, ...site.operator());
    expect(ambiguous.code).to.equal(2);
    for (const id of ids) expect(ambiguous.stderr).to.contain(id);
    const inLab = await site.try('lab', 'show', 'lab', VM);
    expect(inLab.stderr).to.match(/^E_USAGE: 2 VMs are named SQL01/);
  });

  it('compares a disk whose file was replaced by an older copy of itself', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '16M');
    await scatter(VM, 0, 120, 1);
    const [file = ''] = (await show(VM)).files;
    const moments = [{ hashes: await site.guestHashes(VM, 1), point: (await site.push(VM)).point }];
    copyFileSync(file, join(site.folder, 'older.vhdx'));
    await scatter(VM, 0, 5, 2);
    moments.push({ hashes: await site.guestHashes(VM, 1), point: (await site.push(VM)).point });
    // an administrator restores the file of the disk, and nobody tells the hypervisor
    const [now = ''] = (await show(VM)).files;
    copyFileSync(join(site.folder, 'older.vhdx'), now);
    const hashes = await site.guestHashes(VM, 1);
    expect(hashes).to.deep.equal(moments[0]?.hashes);
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('resync');
    expect(pushed.bytesSent).to.be.below(8 * CELL);
    moments.push({ point: pushed.point, hashes });
    await expectPoints(VM, moments);
  });

  it('takes a disk that returns after it was away, also when the ledger was lost meanwhile', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '4M');
    await site.hvdr('vhdx', 'create', 'data.vhdx', '--size', '16M');
    const attach = ['lab', 'disk', 'lab', VM, 'attach', 'data.vhdx'];
    await site.hvdr(...attach);
    const { diskId } = (await show(VM)).disks[1] ?? {};
    await scatter(VM, 1, 60, 1);
    const moments: Moment[] = [];
    const cycle = async (diskCount: number): Promise<void> => {
      const hashes = await site.guestHashes(VM, diskCount);
      moments.push({ hashes, point: (await site.push(VM)).point });
    };
    await cycle(2);
    await site.hvdr('lab', 'disk', 'lab', VM, 'remove', '1');
    await cycle(1);
    await site.hvdr(...attach);
    expect((await show(VM)).disks[1]?.diskId).to.equal(diskId);
    await scatter(VM, 1, 4, 2);
    await cycle(2);
    await site.hvdr('lab', 'disk', 'lab', VM, 'remove', '1');
    await cycle(1);
    rmSync(join(site.folder, 'state'), { recursive: true });
    await site.hvdr(...attach);
    await scatter(VM, 1, 4, 3);
    await cycle(2);
    await scatter(VM, 1, 4, 4);
    await cycle(2);
    await expectPoints(VM, moments);
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  });
});
