// What a receiver does with the space of forgotten points: with damage, with readers, with cycles that
// come in meanwhile, with a clock that jumped.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import type { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { FakeClock } from '../../support/fake-clock.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem, posixName } from '../../support/memory-file.js';
import {
  type CyclePlan,
  expectPoint,
  OPERATOR,
  openSite,
  pointIds,
  readPoint,
  type Site,
  SourceVm,
} from './source-double.js';

const DAY_MS = 24 * 60 * 60 * 1000;
const LIMITS = { share: 0, minBytes: 0, rowLayers: 8 };

interface Given {
  readonly files: MemoryFileSystem;
  readonly clock: FakeClock;
  readonly vm: SourceVm;
  readonly plans: CyclePlan[];
  site: Site;
}

/** A seed and five deltas of one day; each changes cell 1 and one of its own. */
async function given(maxRestorePoints = 2): Promise<Given> {
  const files = new MemoryFileSystem();
  const clock = new FakeClock();
  const vm = new SourceVm(1, [40 * CELL_BYTES]);
  for (let cell = 0; cell < 20; cell++) vm.write(0, cell, cell + 1);
  const site = await openSite(files, { clock, reclaim: LIMITS });
  const plans: CyclePlan[] = [];
  for (let n = 1; n <= 6; n++) {
    if (n > 1) for (const cell of [1, n + 10]) vm.write(0, cell, 100 * n + cell);
    const cells = n === 1 ? undefined : [1, n + 10];
    const plan = vm.plan(n, plans.at(-1)?.pointId, [cells], { maxRestorePoints });
    plans.push(plan);
    await vm.replicate(site, plan);
  }
  return { files, clock, vm, plans, site };
}

async function store({ site }: Given): Promise<VmStore> {
  const [desk] = await site.receiver.allDesks();
  if (desk === undefined) throw new Error('there is a VM');
  return desk.vm;
}

async function reclaimAll({ receiver }: Site): Promise<void> {
  while (await receiver.maintenance.maintain()) {
    // until nothing is left to do
  }
}

async function expectPoints({ site, vm, plans }: Given): Promise<number> {
  const listed = await pointIds(site, vm.name);
  for (const plan of plans) if (listed.includes(plan.pointId)) await expectPoint(site, vm, plan);
  return listed.length;
}

function layerCounts(vm: VmStore): number[] {
  return vm.protection.segments.all.map(({ layers }) => layers.length);
}

describe('reclaiming', () => {
  it('merges while the first point of the day is kept, and folds when its days are over', async () => {
    const each = await given();
    const vm = await store(each);
    expect(layerCounts(vm)).to.deep.equal([6]);
    await reclaimAll(each.site);
    expect(layerCounts(vm)).to.deep.equal([3]);
    expect(await expectPoints(each)).to.equal(3);
    await each.clock.advance(8 * DAY_MS);
    await reclaimAll(each.site);
    expect(layerCounts(vm)).to.deep.equal([2]);
    expect(await expectPoints(each)).to.equal(2);
    expect(vm.protection.storedBytes).to.equal(20 * CELL_BYTES + 2 * CELL_BYTES);
  });

  it('forgets nothing for its age while the clock is not trusted', async () => {
    const each = await given();
    each.clock.setWall(each.clock.now() + 30 * DAY_MS);
    await reclaimAll(each.site);
    expect(await expectPoints(each)).to.equal(3);
  });

  it('neither merges nor folds what is damaged: the points are marked, and status tells why', async () => {
    const each = await given();
    const vm = await store(each);
    const [, ...deltas] = vm.protection.segments.all[0]?.layers ?? [];
    const part = deltas[2];
    if (part === undefined) throw new Error('there are five deltas');
    const { data } = vm.layout.files(
      { diskId: each.vm.disks[0]?.diskId ?? part.pointId, generation: 0 },
      part.cycleId,
      'delta',
    );
    const bytes = each.files.content(data) ?? Buffer.alloc(0);
    // its second cell, which no later delta hides
    bytes.writeUInt8(bytes.readUInt8(CELL_BYTES + 7) ^ 1, CELL_BYTES + 7);
    each.files.put(data, bytes);
    await reclaimAll(each.site);
    expect(layerCounts(vm)).to.deep.equal([6]);
    const [status] = (await each.site.control().status({ vm: '' })).protections;
    expect(status?.reasons.join()).to.match(/do not read back/);
    expect(status?.reclaimWaiting.join()).to.match(/damaged/);
    const { points } = await each.site.control().listPoints({ vm: each.vm.name });
    expect(points.map(({ isDamaged }) => isDamaged)).to.deep.equal([false, true, true]);
    const known = [...vm.scrub.damage].map(([key, { cells }]) => [
      posixName(data).endsWith(key),
      cells,
    ]);
    expect(known).to.deep.equal([[true, [14]]]);
    await expectPoint(each.site, each.vm, each.plans[0] ?? each.vm.plan(1, undefined, []));
    // later, too
    await each.clock.advance(DAY_MS);
    await reclaimAll(each.site);
    expect(layerCounts(vm)).to.deep.equal([6]);
  });

  it('marks no point in which a newer delta hides the damage', async () => {
    const each = await given(3);
    const vm = await store(each);
    const [, ...deltas] = vm.protection.segments.all[0]?.layers ?? [];
    const last = deltas[2];
    if (last === undefined) throw new Error('there are five deltas');
    const { data } = vm.layout.files(
      { diskId: each.vm.disks[0]?.diskId ?? last.pointId, generation: 0 },
      last.cycleId,
      'delta',
    );
    const bytes = each.files.content(data) ?? Buffer.alloc(0);
    // cell 1 of the third delta, which leads to a listed point; each later one has that cell, too
    bytes.writeUInt8(bytes.readUInt8(7) ^ 1, 7);
    each.files.put(data, bytes);
    await reclaimAll(each.site);
    const { points } = await each.site.control().listPoints({ vm: each.vm.name });
    expect(points.map(({ isDamaged }) => isDamaged)).to.deep.equal([false, true, false, false]);
  });

  it('removes no file that a reader may still open, and lets it read to its end', async () => {
    const each = await given();
    const { site, vm } = each;
    const plan = each.plans[4];
    if (plan === undefined) throw new Error('there are six points');
    const reading = site
      .control(OPERATOR)
      .readDisk({ vm: vm.name, point: plan.pointId, diskIndex: 0 });
    const iterator = reading[Symbol.asyncIterator]();
    await iterator.next();
    const before = each.files.paths.filter((path) => path.endsWith('.delta'));
    await reclaimAll(site);
    const during = each.files.paths.filter((path) => path.endsWith('.delta'));
    for (const path of before) expect(during).to.include(path);
    expect(during.length).to.be.greaterThan(before.length);
    while ((await iterator.next()).done !== true) {
      // to its end
    }
    await each.clock.advance(60_000);
    await reclaimAll(site);
    expect(each.files.paths.filter((path) => path.endsWith('.delta'))).to.have.length(2);
    expect(await expectPoints(each)).to.equal(3);
  });

  it('a fold that has to wait for a reader gives up after a while, and is done when it has gone', async () => {
    const each = await given(1);
    const { site, vm, clock } = each;
    await clock.advance(8 * DAY_MS);
    const plan = each.plans[5];
    if (plan === undefined) throw new Error('there are six points');
    const reading = site
      .control(OPERATOR)
      .readDisk({ vm: vm.name, point: plan.pointId, diskIndex: 0 });
    const iterator = reading[Symbol.asyncIterator]();
    await iterator.next();
    const working = reclaimAll(site);
    await clock.advance(10_000);
    await working;
    const [status] = (await site.control().status({ vm: '' })).protections;
    expect(status?.reclaimWaiting.join()).to.match(/fold waits for 1 reader/);
    expect(layerCounts(await store(each))).to.deep.equal([6]);
    await iterator.return?.(undefined);
    await clock.advance(60_000);
    await reclaimAll(site);
    expect(layerCounts(await store(each))).to.deep.equal([1]);
    expect(await expectPoints(each)).to.equal(1);
  });

  it('cycles come in while it works, and its new folder is nobody else’s leftover', async () => {
    const each = await given();
    await each.site.receiver.close();
    const { vm, plans } = each;
    let isDone = false;
    const opened: { site?: Site } = {};
    // a whole cycle, clean-up included, when the merged delta has been written and not been named
    const hooked = new HookedFileSystem(each.files, async (call, run) => {
      const result = await run();
      const isMerged = call.kind === 'flushFolder' && posixName(call.path).endsWith('/cycles');
      const { site } = opened;
      if (isMerged && !isDone && site !== undefined) {
        isDone = true;
        vm.write(0, 30, 777);
        const plan = vm.plan(9, plans.at(-1)?.pointId, [[30]], { maxRestorePoints: 2 });
        await vm.replicate(site, plan);
        plans.push(plan);
        const { vmId } = vm;
        await site.receiver.desks
          .find((desk) => desk.vm.vmId === vmId)
          ?.vm.change(() => Promise.resolve());
      }
      return result;
    });
    const site = await openSite(hooked, { clock: each.clock, reclaim: LIMITS });
    opened.site = site;
    each.site = site;
    await reclaimAll(site);
    expect(isDone).to.equal(true);
    expect(await expectPoints(each)).to.equal(3);
    expect(layerCounts(await store(each))).to.deep.equal([3]);
  });

  it('a VM whose source streams is left alone, and another is not', async () => {
    const each = await given();
    const { site, vm } = each;
    const plan = vm.plan(7, each.plans.at(-1)?.pointId, [[1]], { maxRestorePoints: 2 });
    await vm.open(site, plan);
    let send: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      send = resolve;
    });
    const messages = async function* (): AsyncGenerator<Buffer> {
      for (const message of vm.messages(plan, [])) {
        yield message;
        await held;
      }
    };
    const pushing = (async (): Promise<void> => {
      const acknowledged = site.replication().push(messages())[Symbol.asyncIterator]();
      while ((await acknowledged.next()).done !== true) {
        // until it ends
      }
    })();
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    const before = layerCounts(await store(each));
    await reclaimAll(site);
    expect(layerCounts(await store(each))).to.deep.equal(before);
    send();
    await pushing;
    await vm.commit(site, plan);
    each.plans.push(plan);
    await reclaimAll(site);
    expect(layerCounts(await store(each))).to.deep.equal([3]);
    expect((await readPoint(site, vm.name, 'latest', 0)).equals(vm.bytes(0))).to.equal(true);
  });
});
