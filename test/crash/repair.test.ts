// Power loss while bad cells are mended, and while the receiver collects its garbage: a cell is bad and
// known as such, or good; a point that is not marked reads back; what is not ours stays.

import { expect } from 'chai';
import { guidToWire } from '../../shared/bytes/index.js';
import type { RepairRequest } from '../../shared/channel/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import {
  type CyclePlan,
  expectPoint,
  openSite,
  type Site,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';

async function withSite<T>(fs: FileSystem, work: (site: Site) => Promise<T>): Promise<T> {
  const site = await openSite(fs);
  try {
    return await work(site);
  } finally {
    await site.receiver.close().catch(() => undefined);
  }
}

function turn(files: MemoryFileSystem, plan: CyclePlan, cell: number, ending: string): void {
  const wanted = plan.images[0]?.subarray(cell * CELL_BYTES, cell * CELL_BYTES + 256);
  for (const path of files.paths.filter((each) => each.endsWith(ending))) {
    const bytes = files.content(path) ?? Buffer.alloc(0);
    const place = bytes.indexOf(wanted ?? '');
    if (place < 0) continue;
    bytes.writeUInt8(bytes.readUInt8(place + 1000) ^ 1, place + 1000);
    files.put(path, bytes);
    return;
  }
  throw new Error(`no ${ending} has cell ${cell}`);
}

async function damagedPoints(site: Site, vm: SourceVm, isRepair: boolean): Promise<number> {
  let count = -1;
  for await (const { step } of site.control().verify({ vm: vm.name, point: 'all', isRepair })) {
    if (step?.$case === 'done') count = step.value.damagedPointIds.length;
  }
  return count;
}

async function* cells(
  vm: SourceVm,
  sent: readonly (readonly [CyclePlan, number])[],
): AsyncGenerator<RepairRequest> {
  for (const [plan, cell] of sent) {
    await Promise.resolve();
    yield {
      vmId: guidToWire(vm.vmId),
      diskId: guidToWire(vm.disks[0]?.diskId ?? vm.vmId),
      generation: 0,
      cell: BigInt(cell),
      data: plan.images[0]?.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES) ?? Buffer.alloc(0),
    };
  }
}

describe('repair and power loss', function () {
  this.timeout(SLOW ? 1_800_000 : 240_000);
  const seedCount = SLOW ? 6 : 1;
  const operationsMax = SLOW ? undefined : 16;

  async function made(): Promise<{
    volume: MemoryFileSystem;
    vm: SourceVm;
    plans: readonly [CyclePlan, CyclePlan];
  }> {
    const vm = new SourceVm(1, [9 * CELL_BYTES]);
    for (const cell of [0, 1, 4, 8]) vm.write(0, cell, cell + 1);
    const volume = new MemoryFileSystem();
    const first = vm.plan(1, undefined, [undefined]);
    vm.write(0, 5, 500);
    const second = vm.plan(2, first.pointId, [[5]]);
    await withSite(volume, async (site) => {
      await vm.replicate(site, first);
      await vm.replicate(site, second);
    });
    return { volume, vm, plans: [first, second] };
  }

  it('cells that a source sends again', async () => {
    const { volume, vm, plans } = await made();
    const [first, second] = plans;
    turn(volume, first, 4, 'base.vhdx');
    turn(volume, second, 5, '.delta');
    await withSite(volume, async (site) => {
      expect(await damagedPoints(site, vm, false)).to.equal(2);
    });
    const sent = [
      [first, 4],
      [second, 5],
    ] as const;
    const stateCount = await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: (fs) =>
        withSite(fs, async (site) => {
          const { repairedCount } = await site.replication().repair(cells(vm, sent));
          expect(repairedCount).to.equal(2);
          expect(await damagedPoints(site, vm, false)).to.equal(0);
        }),
      check: (found, { hasFinished }) =>
        withSite(found, async (site) => {
          const { points } = await site.control().listPoints({ vm: vm.name });
          if (hasFinished) expect(points.filter((point) => point.isDamaged)).to.deep.equal([]);
          for (const [index, plan] of plans.entries()) {
            // what is not marked is exact
            if (points[index]?.isDamaged === false) await expectPoint(site, vm, plan);
          }
          await site.replication().repair(cells(vm, sent));
          expect(await damagedPoints(site, vm, true)).to.equal(0);
          for (const plan of plans) await expectPoint(site, vm, plan);
        }),
    });
    expect(stateCount).to.be.above(20);
  });

  it('cells that another layer still has', async () => {
    const { volume, vm, plans } = await made();
    const [first, second] = plans;
    const third = vm.plan(3, second.pointId, [[4]]);
    await withSite(volume, (site) => vm.replicate(site, third));
    turn(volume, first, 4, 'base.vhdx');
    await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: (fs) =>
        withSite(fs, async (site) => {
          expect(await damagedPoints(site, vm, true)).to.equal(0);
        }),
      check: (found) =>
        withSite(found, async (site) => {
          expect(await damagedPoints(site, vm, true)).to.equal(0);
          for (const plan of [first, second, third]) await expectPoint(site, vm, plan);
        }),
    });
  });

  it('garbage: what is going goes, a cycle that nobody knows and every point stay', async () => {
    const { volume, vm, plans } = await made();
    const [, second] = plans;
    vm.write(0, 6, 600);
    const third = vm.plan(3, second.pointId, [[6]]);
    await withSite(volume, async (site) => {
      await vm.open(site, third);
      await vm.push(site, vm.messages(third, []));
    });
    const cycles = `/store/vms/${vm.vmId}/cycles`;
    const unknown = `${cycles}/00000000-0000-4000-9000-00000000abcd`;
    await volume.makeFolder(unknown);
    volume.put(`${unknown}/disk.delta`, Buffer.from('of a newer journal'));
    const collect = (site: Site) =>
      site.control().collectGarbage({ isPlan: false, olderThanMs: 0n });
    await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: (fs) =>
        withSite(fs, async (site) => {
          const { items } = await collect(site);
          expect(items.map(({ kind, isRemoved }) => [kind, isRemoved])).to.deep.equal([
            ['unknown-cycle', false],
            ['unfinished-cycle', true],
          ]);
        }),
      check: (found) =>
        withSite(found, async (site) => {
          for (const plan of plans) await expectPoint(site, vm, plan);
          const { items } = await collect(site);
          const kinds = items.map(({ kind }) => kind);
          expect(kinds.filter((kind) => kind === 'unknown-cycle')).to.have.length(1);
          expect(found.paths.filter((path) => path.includes(third.cycleId))).to.deep.equal([]);
          expect(found.content(`${unknown}/disk.delta`)?.toString()).to.equal('of a newer journal');
        }),
    });
  });
});
