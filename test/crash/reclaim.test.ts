// Power loss, a device that fails and a volume that is full, at every durable step of reclaiming: a
// merge, a fold, a base that is given up, their removals, and once more while the work is gone on with.
// After each every listed point has its bytes, nothing that the journal does not name stays in the end,
// and the work comes to its end when its cause is gone.

import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { CrashFileSystem } from '../support/crash-file.js';
import { crashEverywhere, runUntilCrash } from '../support/crash-everywhere.js';
import { FakeClock } from '../support/fake-clock.js';
import { FaultFileSystem } from '../support/fault-file.js';
import type { CallKind } from '../support/hooked-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  type CyclePlan,
  expectPoint,
  openSite,
  pointIds,
  type Site,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';
const DAY_MS = 24 * 60 * 60 * 1000;
const START_MS = Date.UTC(2026, 0, 1);
const LIMITS = { share: 0, minBytes: 0, rowLayers: 3 };
const KINDS: readonly CallKind[] = [
  'open',
  'create',
  'read',
  'write',
  'truncate',
  'flush',
  'reserve',
  'rename',
  'remove',
  'removeFolder',
  'flushFolder',
  'list',
];

interface Given {
  readonly vm: SourceVm;
  readonly volume: MemoryFileSystem;
  readonly plans: readonly CyclePlan[];
}

/**
 * Seven points of one day of two disks; the second disk came whole again with the fourth. Ten days
 * later only the last two are kept, and one in the middle that is pinned when `isPinned`.
 */
async function given(isPinned: boolean): Promise<Given> {
  const vm = new SourceVm(1, [40 * CELL_BYTES, 6 * CELL_BYTES + 512]);
  for (const cell of [0, 1, 3, 4, 9]) vm.write(0, cell, cell + 1);
  for (const cell of [0, 2, 6]) vm.write(1, cell, cell + 50);
  const volume = new MemoryFileSystem();
  const site = await openSite(volume, { clock: new FakeClock(START_MS) });
  const plans: CyclePlan[] = [];
  for (let n = 1; n <= 7; n++) {
    const cells =
      n === 1 ? [undefined, undefined] : [[1, n, n + 10], n === 4 ? undefined : [n - 1]];
    if (n > 1) {
      vm.write(0, 1, 100 + n);
      vm.write(0, n, n % 3 === 0 ? 0 : 200 + n);
      vm.write(0, n + 10, 300 + n);
      vm.write(1, n - 1, 400 + n);
    }
    const plan = vm.plan(n, plans.at(-1)?.pointId, cells, { maxRestorePoints: 2 });
    plans.push(plan);
    await vm.replicate(site, plan);
  }
  // a change of a quarter of a disk pins the point before it
  for (const point of await pointIds(site, vm.name)) {
    const isKept = isPinned && point === plans[2]?.pointId;
    await site.control().pinPoint({ vm: vm.name, point, isPinned: isKept });
  }
  await site.receiver.close();
  return { vm, volume, plans };
}

/** A receiver, ten days later. */
function later(fs: FileSystem, clock = new FakeClock(START_MS + 10 * DAY_MS)): Promise<Site> {
  return openSite(fs, { clock, reclaim: LIMITS });
}

async function reclaimAll({ receiver }: Site): Promise<void> {
  while (await receiver.maintenance.maintain()) {
    // until nothing is left to do
  }
}

async function expectPoints(site: Site, { vm, plans }: Given): Promise<string[]> {
  const listed = await pointIds(site, vm.name);
  for (const point of listed) {
    const plan = plans.find(({ pointId }) => pointId === point);
    if (plan === undefined) throw new Error(`a point ${point} that was never made`);
    await expectPoint(site, vm, plan);
  }
  return listed;
}

/** Work goes on and comes to its end: nothing can be reclaimed any more, and nothing lies about. */
async function expectEnds(found: MemoryFileSystem, each: Given, count: number): Promise<void> {
  const site = await later(found);
  await expectPoints(site, each);
  await reclaimAll(site);
  expect(await expectPoints(site, each)).to.have.length(count);
  const [desk] = await site.receiver.allDesks();
  if (desk === undefined) throw new Error('there is a VM');
  const { vm } = desk;
  expect(site.receiver.maintenance.statusOf(vm)).to.deep.equal({
    ...{ reclaimableBytes: 0, running: '', waiting: [], failure: undefined },
  });
  const named: string[] = [];
  for (const segment of vm.protection.segments.all) {
    expect(segment.layers.length).to.be.at.most(count);
    for (const { cycleId, transfer } of segment.layers) {
      const { data, manifest } = vm.layout.files(segment, cycleId, transfer);
      named.push(data, manifest);
    }
  }
  const files = found.paths.filter((path) => /\/(cycles|disks)\//.test(path));
  expect(files.sort()).to.deep.equal(named.sort());
  // a verification reads the base and all layers against their manifests
  for await (const { step } of site
    .control()
    .verify({ vm: each.vm.name, point: 'all', isRepair: false })) {
    if (step?.$case === 'finding') throw new Error(step.value.message);
  }
  await site.receiver.close();
}

describe('reclaiming and power loss', function () {
  this.timeout(SLOW ? 3_600_000 : 480_000);

  for (const [isPinned, count] of [
    [false, 2],
    [true, 3],
  ] as const) {
    it(`at every step, with ${count} points to keep, and again while it goes on`, async () => {
      const each = await given(isPinned);
      const states = await crashEverywhere({
        volume: each.volume,
        seedCount: SLOW ? 4 : 1,
        operationsMax: SLOW ? undefined : 12,
        run: async (fs) => {
          const site = await later(fs);
          try {
            await reclaimAll(site);
          } finally {
            await site.receiver.close().catch(() => undefined);
          }
        },
        check: async (found, place) => {
          const again = new CrashFileSystem({
            volume: found,
            crashAt: 1 + new SeededRandom(place.seed).int(60),
          });
          await runUntilCrash(again, async (fs) => {
            const site = await later(fs);
            try {
              await reclaimAll(site);
            } finally {
              await site.receiver.close().catch(() => undefined);
            }
          });
          again.crashNow();
          await expectEnds(again.survivors(place.seed, 'random'), each, count);
          await expectEnds(found, each, count);
        },
      });
      expect(states).to.be.greaterThan(60);
    });
  }
});

/** One process that reclaims while calls fail; returns whether it could be opened. */
async function attempt(fs: FaultFileSystem, each: Given): Promise<void> {
  let site: Site;
  const clock = new FakeClock(START_MS + 10 * DAY_MS);
  try {
    site = await later(fs, clock);
  } catch (error) {
    if (error instanceof DrError) return;
    throw error;
  }
  const opened = (await site.receiver.allDesks().catch(() => []))[0]?.vm;
  if (opened === undefined || opened.halt !== undefined) {
    // the journal could not be opened, which concerns nothing of this
    await site.receiver.close().catch(() => undefined);
    return;
  }
  await reclaimAll(site);
  fs.mend();
  await expectPoints(site, each);
  // the pause after a failure is over
  await clock.advance(60 * 60 * 1000);
  await reclaimAll(site);
  await expectPoints(site, each);
  const isHalted = site.receiver.desks.some(({ vm }) => vm.halt !== undefined);
  if (!isHalted) {
    expect(site.receiver.maintenance.statusOf(opened).failure).to.equal(undefined);
  }
  await site.receiver.close().catch((error: unknown) => {
    if (!(error instanceof DrError)) throw error;
  });
}

describe('reclaiming and a failing device', function () {
  this.timeout(SLOW ? 3_600_000 : 480_000);

  for (const kind of KINDS) {
    it(`keeps every point when any one ${kind} fails, and goes on afterwards`, async () => {
      const each = await given(true);
      const rehearsal = new FaultFileSystem(each.volume.clone());
      await attempt(rehearsal, each);
      const count = rehearsal.callCount(kind);
      expect(count).to.be.greaterThan(0);
      const step = SLOW ? 1 : Math.max(1, Math.floor(count / 10));
      for (let nth = 1; nth <= count; nth += step) {
        const volume = each.volume.clone();
        const faulty = new FaultFileSystem(volume);
        faulty.inject({ kind, nth });
        await attempt(faulty, each);
        await expectEnds(volume, each, 3);
      }
    });
  }

  it('keeps every point when the volume is full from any write on, and goes on afterwards', async () => {
    const each = await given(true);
    const rehearsal = new FaultFileSystem(each.volume.clone());
    await attempt(rehearsal, each);
    const step = SLOW ? 1 : 4;
    for (let nth = 1; nth <= rehearsal.callCount('write'); nth += step) {
      const volume = each.volume.clone();
      const faulty = new FaultFileSystem(volume);
      const full = { code: 'E_CAPACITY', times: Infinity, nth } as const;
      faulty.inject({ ...full, kind: 'write', partialBytes: 100 });
      await attempt(faulty, each);
      await expectEnds(volume, each, 3);
    }
  });

  it('takes no flush that failed for one that was done, whatever the power does then', async () => {
    const each = await given(true);
    const rehearsal = new CrashFileSystem({ volume: each.volume });
    await reclaimAll(await later(rehearsal));
    const step = SLOW ? 1 : 4;
    for (let nth = 1; nth <= rehearsal.flushCount; nth += step) {
      const crash = new CrashFileSystem({ volume: each.volume, loseAtFlush: nth });
      const clock = new FakeClock(START_MS + 10 * DAY_MS);
      const site = await later(crash, clock).catch((error: unknown) => {
        if (!(error instanceof DrError)) throw error;
      });
      if (site !== undefined) {
        await reclaimAll(site);
        await clock.advance(60 * 60 * 1000);
        await reclaimAll(site);
      }
      for (const style of ['none', 'all', 'random'] as const) {
        await expectEnds(crash.survivors(nth, style), each, 3);
      }
    }
  });
});
