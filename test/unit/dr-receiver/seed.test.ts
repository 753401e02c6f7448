// Seeds in process: what a crash, a full volume and an unsound file leave of them.

import { expect } from 'chai';
import { guidToWire } from '../../../shared/bytes/index.js';
import { CELL_BYTES, hashCell } from '../../../shared/delta/index.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { crashEverywhere } from '../../support/crash-everywhere.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { seedRaw, stagedCells } from './import-double.js';
import {
  caller,
  type CyclePlan,
  expectPoint,
  id,
  openSite,
  type Site,
  SourceVm,
} from './source-double.js';

const SLOW = process.env['SLOW'] === '1';
const PATHS = ['/seeds/0.raw', '/seeds/1.raw'];
const DATA = [0, 1, 3, 4, 10];

function makeVm(): SourceVm {
  const vm = new SourceVm(1, [11 * CELL_BYTES, 2 * CELL_BYTES + 512], 'SQL01');
  for (const cell of DATA) vm.write(0, cell, cell + 1);
  for (const cell of [0, 2]) vm.write(1, cell, cell + 50);
  return vm;
}

function putDisks(volume: MemoryFileSystem, vm: SourceVm): void {
  for (const [index, path] of PATHS.entries()) volume.put(path, vm.bytes(index));
}

const open = (fs: FileSystem): Promise<Site> =>
  openSite(fs, { seedAccess: { folder: undefined, keys: undefined } });

/** All cells that are staged as they are are named, the others sent; the point is the source's. */
async function pushOver(site: Site, vm: SourceVm): Promise<number> {
  const plan = vm.plan(1, undefined, [undefined, undefined], { epoch: 0n });
  const reuse = new Set<string>();
  for (const disk of [0, 1]) {
    for (const [cell, hash] of await stagedCells(site, vm, disk)) {
      const bytes = vm.bytes(disk).subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
      if (hashCell(bytes).toString('hex') === hash) reuse.add(`${disk}:${cell}`);
    }
  }
  await vm.open(site, plan);
  await vm.push(site, vm.messages(plan, [], { reuse }));
  await vm.commit(site, plan);
  await expectPoint(site, vm, plan);
  return reuse.size;
}

describe('a staged seed', () => {
  const vm = makeVm();

  it('is told to its owner only, as an unfinished cycle', async () => {
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const site = await open(volume);
    const done = await seedRaw(site, vm, PATHS);
    expect(done.owner).to.equal('site-a');
    expect(Number(done.stagedBytes)).to.equal(6 * CELL_BYTES + 512);
    expect([...(await stagedCells(site, vm, 0)).keys()]).to.deep.equal(DATA);
    const foreign = { ...site, replication: () => site.replication(caller('site-b')) };
    expect((await stagedCells(foreign, vm, 0)).size).to.equal(0);
    await pushOver(site, vm);
    await site.receiver.close();
  });

  it('is taken from as far as it came when the volume was full, and goes on with room', async () => {
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const faults = new FaultFileSystem(volume);
    const site = await open(faults);
    faults.inject({ kind: 'write', path: /base\.vhdx$/, code: 'E_CAPACITY', times: Infinity });
    expect((await refusal(() => seedRaw(site, vm, PATHS))).code).to.equal('E_CAPACITY');
    faults.mend();
    const again = await refusal(() => seedRaw(site, vm, PATHS)).catch(() => undefined);
    expect(again).to.equal(undefined);
    await pushOver(site, vm);
    await site.receiver.close();
  });

  it('makes no VM of a source that may not be named twice, and needs to know the owner', async () => {
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const site = await open(volume);
    const nobody = await refusal(() => seedRaw(site, vm, PATHS, { principal: '' }));
    expect(nobody.code).to.equal('E_USAGE');
    expect(site.receiver.desks).to.have.length(0);
    const closed = await openSite(new MemoryFileSystem());
    expect((await refusal(() => seedRaw(closed, vm, PATHS))).code).to.equal('E_SEED_PATH');
    await closed.receiver.close();
    await site.receiver.close();
  });

  it('is no cycle that a source could commit or take over, though it knows the id', async () => {
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const site = await open(volume);
    await seedRaw(site, vm, PATHS);
    const { vmId } = vm.openRequest(vm.plan(3, undefined, [undefined, undefined]));
    const { unfinished } = await site.replication().describe({ vmId, vmName: vm.name });
    const cycleId = unfinished?.cycleId ?? Buffer.alloc(16);
    const roots = [hashCell(Buffer.alloc(1)), hashCell(Buffer.alloc(2))];
    const commit = await refusal(() => site.replication().commit({ vmId, cycleId, roots }));
    expect(commit.code).to.equal('E_STATE');
    const taken = { ...vm.plan(4, undefined, [undefined, undefined], { epoch: 0n }) };
    const request = { ...vm.openRequest(taken), cycleId };
    expect((await refusal(() => site.replication().open(request))).code).to.equal('E_STATE');
    // it is as it was
    expect([...(await stagedCells(site, vm, 0)).keys()]).to.deep.equal(DATA);
    await pushOver(site, vm);
    await site.receiver.close();
  });

  it('of a disk that has another size by now is not told as if it were of this one', async () => {
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const site = await open(volume);
    await seedRaw(site, vm, PATHS);
    const smaller = new SourceVm(1, [5 * CELL_BYTES, 2 * CELL_BYTES + 512], 'SQL01');
    smaller.write(0, 1, 2);
    const broken = smaller.plan(3, undefined, [undefined, undefined], { epoch: 0n });
    // it broke off before anything of it was there
    await smaller.open(site, broken);
    await site.receiver.close();
    const again = await open(volume);
    expect([...(await stagedCells(again, smaller, 0)).keys()]).to.deep.equal([]);
    expect([...(await stagedCells(again, smaller, 1)).keys()]).to.deep.equal([0, 2]);
    await again.receiver.close();
  });

  it('stands behind what a cycle of the source brought before it broke off', async () => {
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const site = await open(volume);
    await seedRaw(site, vm, PATHS);
    vm.write(0, 3, 300);
    const first = vm.plan(2, undefined, [undefined, undefined], { epoch: 0n });
    await vm.open(site, first);
    await vm.push(site, [...vm.messages(first, [], { batchCells: 1 })].slice(0, 5));
    await site.replication().abandon({
      vmId: vm.openRequest(first).vmId,
      cycleId: vm.openRequest(first).cycleId,
    });
    expect([...(await stagedCells(site, vm, 0)).keys()]).to.deep.equal(DATA);
    // all seven: cell 3 from the cycle, the others from either
    expect(await pushOver(site, vm)).to.equal(7);
    await site.receiver.close();
  });

  it('survives a power cut at every step: it goes on, or nothing of it counts', async function () {
    this.timeout(SLOW ? 600_000 : 120_000);
    const volume = new MemoryFileSystem();
    putDisks(volume, vm);
    const run = async (fs: FileSystem): Promise<void> => {
      const site = await open(fs);
      try {
        await seedRaw(site, vm, PATHS);
      } finally {
        await site.receiver.close().catch(() => undefined);
      }
    };
    const stateCount = await crashEverywhere({
      volume,
      run,
      seedCount: SLOW ? 4 : 1,
      operationsMax: SLOW ? undefined : 30,
      check: async (found, { hasFinished }) => {
        const site = await open(found);
        const isKnown = site.receiver.desks.length > 0;
        if (hasFinished) expect([...(await stagedCells(site, vm, 0)).keys()]).to.deep.equal(DATA);
        // the source may come at once, or the operator goes on
        if (isKnown) await pushOver(site, vm);
        else await run(found).catch(() => undefined);
        await site.receiver.close();
      },
    });
    expect(stateCount).to.be.above(30);
  });
});

describe('a disk that comes back', () => {
  const BASE = { epoch: 1n } as const;

  /** A VM that had a second disk, has it no more, and gets it again. */
  async function away(site: Site): Promise<{ vm: SourceVm; back: CyclePlan; last: CyclePlan }> {
    const vm = makeVm();
    const [kept, moving] = vm.disks;
    if (kept === undefined || moving === undefined) throw new Error('the VM has two disks');
    const first = vm.plan(1, undefined, [undefined, undefined], BASE);
    await vm.replicate(site, first);
    vm.disks.pop();
    const last = vm.plan(2, first.pointId, [[]], BASE);
    await vm.replicate(site, last);
    vm.disks.push({ ...moving, generation: 1 });
    const back = vm.plan(3, last.pointId, [[], undefined], BASE);
    return { vm, back, last };
  }

  async function earlierHashes(site: Site, vm: SourceVm): Promise<number> {
    const source = site.replication();
    const vmId = guidToWire(vm.vmId);
    const { earlierDisks } = await source.describe({ vmId, vmName: vm.name });
    let count = 0;
    for (const { geometry, pointId } of earlierDisks) {
      const of = { $case: 'pointId', value: pointId } as const;
      const diskId = geometry?.diskId ?? Buffer.alloc(0);
      const asked = { vmId, diskId, generation: geometry?.generation ?? 0, of };
      for await (const { records } of source.hashes(asked)) count += records.length / 40;
    }
    return count;
  }

  it('is told with the point that still has it, whose cells may be named', async () => {
    const site = await openSite(new MemoryFileSystem());
    const { vm, back } = await away(site);
    expect(await earlierHashes(site, vm)).to.equal(2);
    await vm.open(site, back);
    await vm.push(site, vm.messages(back, [], { reuse: new Set(['1:0', '1:2']) }));
    await vm.commit(site, back);
    await expectPoint(site, vm, back);
    expect(await earlierHashes(site, vm), 'the newest point has it').to.equal(0);
    await site.receiver.close();
  });

  it('is sent whole when the older point is damaged, after one cycle at most', async () => {
    for (const file of [/base\.vhdx$/, /base\.manifest$/]) {
      const faults = new FaultFileSystem(new MemoryFileSystem());
      const site = await openSite(faults);
      const { vm, back } = await away(site);
      const moved = site.receiver.desks[0]?.vm.layout.folder ?? '';
      const path = new RegExp(`${moved}/disks/${vm.disks[1]?.diskId ?? ''}\\.0/.*${file.source}`);
      for (let position = 0; position < 64 * 1024 * 1024; position += 16 * 1024) {
        if (file.source.includes('manifest') && position > 0) break;
        faults.flipBit({ path, position: position + 30, bit: 2 });
      }
      const told = await earlierHashes(site, vm);
      if (told > 0) {
        await vm.open(site, back);
        const named = vm.messages(back, [], { reuse: new Set(['1:0', '1:2']) });
        expect((await refusal(() => vm.push(site, named))).code).to.equal('E_DELTA_HASH');
      }
      expect(await earlierHashes(site, vm), file.source).to.equal(0);
      const again = { ...back, cycleId: id(99) };
      await vm.replicate(site, again);
      await expectPoint(site, vm, again);
      await site.receiver.close();
    }
  });
});
