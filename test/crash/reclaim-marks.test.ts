// Power loss while space is reclaimed: whatever is left of it says of itself that it may go, so that
// nothing stays behind for ever, and a cycle that no record names and that says nothing is left alone.

import { expect } from 'chai';
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
const NOTHING = { share: 0, minBytes: 0, rowLayers: 2 };

async function withSite<T>(fs: FileSystem, work: (site: Site) => Promise<T>): Promise<T> {
  const site = await openSite(fs, { reclaim: NOTHING });
  try {
    return await work(site);
  } finally {
    await site.receiver.close().catch(() => undefined);
  }
}

async function compact(site: Site, vm: SourceVm): Promise<void> {
  for await (const { step } of site.control().compact({ vm: vm.name })) {
    if (step?.$case === 'done') expect(step.value.waiting).to.deep.equal([]);
  }
}

describe('marks of reclaiming and power loss', function () {
  this.timeout(SLOW ? 1_800_000 : 300_000);

  it('leave nothing behind, and touch nothing that nobody knows', async () => {
    const vm = new SourceVm(1, [9 * CELL_BYTES, 3 * CELL_BYTES]);
    for (const cell of [0, 1, 4, 8]) vm.write(0, cell, cell + 1);
    vm.write(1, 1, 50);
    const volume = new MemoryFileSystem();
    const plans: CyclePlan[] = [];
    await withSite(volume, async (site) => {
      for (let n = 1; n <= 7; n++) {
        // the second disk begins anew in the middle, so that there is a base to give up
        const cells = n === 1 ? [undefined, undefined] : [[n, 8], n === 5 ? undefined : [1]];
        if (n > 1) vm.write(0, n, 500 + n);
        vm.write(1, 1, 600 + n);
        const plan = vm.plan(n, plans.at(-1)?.pointId, cells, { maxRestorePoints: 1 });
        plans.push(plan);
        await vm.replicate(site, plan);
        // guard points go with their days, and pins when they are taken away
        await site.clock.advance(8 * 24 * 60 * 60 * 1000);
      }
      const { points } = await site.control().listPoints({ vm: vm.name });
      for (const { pointId, isPinned } of points) {
        if (isPinned) {
          const point = pointId
            .toString('hex')
            .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
          await site.control().pinPoint({ vm: vm.name, point, isPinned: false });
        }
      }
      // forgets all of them but one
      const plan = vm.plan(8, plans.at(-1)?.pointId, [[], []], { maxRestorePoints: 2 });
      plans.push(plan);
      await vm.replicate(site, plan);
      expect((await site.control().listPoints({ vm: vm.name })).points).to.have.length(2);
    });
    const unknown = `/store/vms/${vm.vmId}/cycles/00000000-0000-4000-9000-00000000abcd`;
    await volume.makeFolder(unknown);
    volume.put(`${unknown}/${vm.disks[0]?.diskId}.0.delta`, Buffer.from('of a newer journal'));
    const last = plans.at(-1);
    if (last === undefined) throw new Error('a plan');
    const stateCount = await crashEverywhere({
      volume,
      seedCount: SLOW ? 4 : 1,
      operationsMax: SLOW ? undefined : 25,
      run: (fs) => withSite(fs, (site) => compact(site, vm)),
      check: (found) =>
        withSite(found, async (site) => {
          await expectPoint(site, vm, last);
          await compact(site, vm);
          await expectPoint(site, vm, last);
          const store = site.receiver.desks[0]?.vm;
          expect(store?.unknownCycleIds).to.have.length(1);
          const named = new Set<string>();
          for (const segment of store?.protection.segments.all ?? []) {
            for (const { cycleId, transfer } of segment.layers) {
              const files = store?.layout.files(segment, cycleId, transfer);
              named.add(files?.data ?? '').add(files?.manifest ?? '');
            }
          }
          const left = found.paths.filter(
            (path) => /\/(cycles|disks)\//.test(path) && !path.startsWith(unknown),
          );
          expect(left.sort()).to.deep.equal([...named].sort());
          expect(found.paths.filter((path) => path.startsWith(unknown))).to.have.length(1);
        }),
    });
    expect(stateCount).to.be.above(20);
  });
});
