// Reclaiming while other things go on: cycles that need the same disks, folders that come back, a
// journal without room. Real receiver, files in memory.

import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import type { VmDesk } from '../../../dr-receiver/ingest/vm-desk.js';
import { FakeClock } from '../../support/fake-clock.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { type CyclePlan, expectPoint, openSite, type Site, SourceVm } from './source-double.js';

const DAY = 24 * 60 * 60 * 1000;
const LIMITS = { share: 0, minBytes: 0, rowLayers: 8 };
const MORE = { maxRestorePoints: 1 };

async function reclaimAll({ receiver }: Site): Promise<void> {
  while (await receiver.maintenance.maintain());
}

async function deskOf(site: Site): Promise<VmDesk> {
  const [desk] = await site.receiver.allDesks();
  if (desk === undefined) throw new Error('there is a VM');
  return desk;
}

describe('reclaiming beside other work', () => {
  const clock = new FakeClock();

  it('ends while a stream waits for the disk and the source comes again', async () => {
    const files = new MemoryFileSystem();
    let held: Promise<void> | undefined;
    let reach = (): void => undefined;
    const isReached = new Promise<void>((resolve) => (reach = resolve));
    const fs = new HookedFileSystem(files, async (call, run) => {
      const isBase = call.path.includes('/disks/') && call.path.endsWith('base.vhdx');
      if (held !== undefined && call.kind === 'flush' && isBase) {
        reach();
        await held;
      }
      return run();
    });
    const site = await openSite(fs, { clock, reclaim: LIMITS });
    const vm = new SourceVm(1, [10 * CELL_BYTES, 10 * CELL_BYTES]);
    for (const disk of [0, 1]) {
      for (let cell = 0; cell < 10; cell++) vm.write(disk, cell, 100 * disk + cell + 1);
    }
    const one = vm.plan(1, undefined, [undefined, undefined], MORE);
    await vm.replicate(site, one);
    vm.write(1, 3, 999);
    const two = vm.plan(2, one.pointId, [[], [3]], MORE);
    await vm.replicate(site, two);
    await clock.advance(8 * DAY);
    const away = vm.disks.pop();
    if (away === undefined) throw new Error('there are two disks');
    const three = vm.plan(3, two.pointId, [[]], MORE);
    await vm.replicate(site, three);
    vm.disks.push(away);
    // the disk is back, and its cells are taken from the segment that is being folded
    const four = vm.plan(4, three.pointId, [[], undefined], MORE);
    const { outcome } = await vm.open(site, four);
    if (outcome?.$case !== 'accepted') throw new Error('the cycle was refused');
    let letGo = (): void => undefined;
    held = new Promise((resolve) => (letGo = resolve));
    const folding = reclaimAll(site);
    await isReached;
    const reuse = new Set(Array.from({ length: 10 }, (_, cell) => `1:${cell}`));
    const pushing = vm
      .push(site, vm.messages(four, outcome.value.positions, { reuse }))
      .catch(() => undefined);
    await clock.advance(31_000);
    const again = vm.open(site, four);
    held = undefined;
    letGo();
    await folding;
    await pushing;
    expect((await again).outcome?.$case).to.equal('accepted');
    await site.receiver.close();
  });

  it('takes no point for damaged when a commit has tidied up before it', async () => {
    const files = new MemoryFileSystem();
    let isDue = false;
    let isTidied = false;
    const fs = new HookedFileSystem(files, async (call, run) => {
      const result = await run();
      if (!isDue || call.kind !== 'remove' || !call.path.endsWith('.delta')) return result;
      isDue = false;
      isTidied = true;
      const folder = dirname(call.path);
      for (const name of await files.list(folder)) await files.remove(join(folder, name));
      await files.removeFolder(folder);
      return result;
    });
    const site = await openSite(fs, { clock, reclaim: LIMITS });
    const vm = new SourceVm(1, [10 * CELL_BYTES]);
    for (let cell = 0; cell < 10; cell++) vm.write(0, cell, cell + 1);
    const one = vm.plan(1, undefined, [undefined], MORE);
    await vm.replicate(site, one);
    await clock.advance(8 * DAY);
    vm.write(0, 3, 999);
    const two = vm.plan(2, one.pointId, [[3]], MORE);
    await vm.replicate(site, two);
    await clock.advance(8 * DAY);
    isDue = true;
    await reclaimAll(site);
    expect(isTidied).to.equal(true);
    const desk = await deskOf(site);
    expect(desk.vm.protection.listed.map(({ damage }) => damage)).to.deep.equal([undefined]);
    await expectPoint(site, vm, two);
    await site.receiver.close();
  });

  it('looks again before it removes what lay in a folder that a cycle began in meanwhile', async () => {
    const files = new MemoryFileSystem();
    const site = await openSite(files, { clock, reclaim: LIMITS });
    const vm = new SourceVm(1, [40 * CELL_BYTES]);
    for (let cell = 0; cell < 40; cell++) vm.write(0, cell, cell + 1);
    const seed = vm.plan(1, undefined, [undefined]);
    await vm.replicate(site, seed);
    vm.write(0, 9, 778);
    const second = vm.plan(2, seed.pointId, [[9]]);
    const { vm: store } = await deskOf(site);
    const { layout, leases, protection } = store;
    // what a removal leaves that a crash cut off
    await files.makeFolder(layout.cycle(second.cycleId));
    files.put(layout.removing(second.cycleId), Buffer.alloc(0));
    const [disk] = vm.disks;
    if (disk === undefined) throw new Error('there is a disk');
    const place = layout.files({ diskId: disk.diskId, generation: 0 }, second.cycleId, 'delta');
    for (const path of [place.data, place.manifest]) files.put(path, Buffer.alloc(100));
    const reader = await leases.read(protection.segments.all);
    await site.receiver.maintenance.maintain();
    const { outcome } = await vm.open(site, second);
    if (outcome?.$case !== 'accepted') throw new Error('the cycle was refused');
    await vm.push(site, vm.messages(second, outcome.value.positions));
    reader.release();
    await clock.advance(60_000);
    await reclaimAll(site);
    await vm.commit(site, second);
    await expectPoint(site, vm, second);
    await site.receiver.close();
  });

  it('leaves nothing of a merge whose record finds no room', async () => {
    const files = new MemoryFileSystem();
    let isFull = false;
    const fs = new HookedFileSystem(files, (call, run) => {
      if (!isFull || call.kind !== 'write' || !call.path.endsWith('/journal')) return run();
      return Promise.reject(new DrError('E_CAPACITY', 'no room'));
    });
    const site = await openSite(fs, { clock, reclaim: LIMITS });
    const vm = new SourceVm(1, [40 * CELL_BYTES]);
    for (let cell = 0; cell < 20; cell++) vm.write(0, cell, cell + 1);
    let parent: CyclePlan | undefined;
    for (let n = 1; n <= 6; n++) {
      if (n > 1) for (const cell of [1, n + 10]) vm.write(0, cell, 100 * n + cell);
      const cells = n === 1 ? undefined : [1, n + 10];
      parent = vm.plan(n, parent?.pointId, [cells], { maxRestorePoints: 2 });
      await vm.replicate(site, parent);
    }
    const deltas = (): string[] => files.paths.filter((path) => path.endsWith('.delta'));
    const before = deltas();
    isFull = true;
    for (let attempt = 0; attempt < 4; attempt++) {
      await reclaimAll(site);
      await clock.advance(2 * 60 * 60 * 1000);
    }
    expect(deltas()).to.deep.equal(before);
    expect((await deskOf(site)).vm.claimedCycleIds.size).to.equal(0);
    isFull = false;
    await clock.advance(2 * 60 * 60 * 1000);
    await reclaimAll(site);
    expect(deltas().length).to.be.below(before.length);
    if (parent !== undefined) await expectPoint(site, vm, parent);
    await site.receiver.close();
  });
});
