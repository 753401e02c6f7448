// Power loss at every durable step of the store: while a seed, a delta, a resumed cycle, a prune, a pin
// and the mark of a verification are under way, and once more while the store is opened afterwards.
// After each: what was acknowledged is there, every listed point reads back exact, nothing half is seen.

import { expect } from 'chai';
import { guidToWire } from '../../shared/bytes/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { CrashFileSystem } from '../support/crash-file.js';
import { crashEverywhere, runUntilCrash } from '../support/crash-everywhere.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  type CyclePlan,
  expectPoint,
  openSite,
  OPERATOR,
  pointIds,
  type Site,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';

/** What the source was told, which is what must be there. */
interface Told {
  /** Per disk: cells acknowledged as durable, for the cycle under way. */
  readonly durable: Map<number, number>;
  committed: CyclePlan[];
}

function makeVm(): SourceVm {
  const vm = new SourceVm(1, [11 * CELL_BYTES, 2 * CELL_BYTES + 512]);
  for (const cell of [0, 1, 3, 4, 10]) vm.write(0, cell, cell + 1);
  for (const cell of [0, 2]) vm.write(1, cell, cell + 50);
  return vm;
}

async function withSite(fs: FileSystem, work: (site: Site) => Promise<void>): Promise<void> {
  const site = await openSite(fs);
  try {
    await work(site);
  } finally {
    await site.receiver.close().catch(() => undefined);
  }
}

/** Runs a cycle and notes what is promised on the way. */
async function cycle(site: Site, vm: SourceVm, plan: CyclePlan, told: Told): Promise<void> {
  told.durable.clear();
  const { outcome } = await vm.open(site, plan);
  if (outcome?.$case === 'accepted') {
    for (const [index, { nextCell }] of outcome.value.positions.entries()) {
      told.durable.set(index, Number(nextCell));
    }
    const messages = vm.messages(plan, outcome.value.positions, { batchCells: 2 });
    await vm.push(site, messages, ({ diskIndex, durableCell }) => {
      told.durable.set(diskIndex, Number(durableCell));
    });
  }
  await vm.commit(site, plan);
  told.committed.push(plan);
  told.durable.clear();
}

/** Every listed point is one of `plans` and reads back; all of `promised` are listed. */
async function expectStore(
  found: MemoryFileSystem,
  vm: SourceVm,
  plans: readonly CyclePlan[],
  promised: readonly CyclePlan[],
): Promise<void> {
  await withSite(found, async (site) => {
    if (site.receiver.desks.length === 0) {
      expect(promised.length).to.equal(0);
      return;
    }
    const listed = await pointIds(site, vm.name);
    for (const plan of promised) expect(listed).to.include(plan.pointId);
    expect(listed).to.deep.equal(plans.slice(0, listed.length).map((plan) => plan.pointId));
    for (const plan of plans.slice(0, listed.length)) await expectPoint(site, vm, plan);
  });
}

/** The cycle goes on from no earlier than what was promised, and its point is exact. */
async function expectGoesOn(
  found: MemoryFileSystem,
  vm: SourceVm,
  plan: CyclePlan,
  durable: ReadonlyMap<number, number>,
): Promise<void> {
  await withSite(found, async (site) => {
    const { outcome } = await vm.open(site, plan);
    if (outcome?.$case === 'accepted') {
      for (const [index, cell] of durable) {
        const position = outcome.value.positions[index];
        expect(Number(position?.nextCell), `disk ${index}`).to.be.at.least(cell);
      }
      await vm.push(site, vm.messages(plan, outcome.value.positions, { batchCells: 2 }));
      await vm.commit(site, plan);
    } else {
      expect(outcome?.$case).to.equal('committed');
    }
    await expectPoint(site, vm, plan);
  });
}

/** Opens the store with the power going once more, and gives what is found then. */
async function crashOnOpen(
  found: MemoryFileSystem,
  vm: SourceVm,
  plan: CyclePlan,
  seed: number,
): Promise<MemoryFileSystem> {
  const random = new SeededRandom(seed);
  const again = new CrashFileSystem({ volume: found, crashAt: 1 + random.int(12) });
  await runUntilCrash(again, (fs) =>
    withSite(fs, async (site) => {
      const { outcome } = await vm.open(site, plan);
      if (outcome?.$case !== 'accepted') return;
      await vm.push(site, vm.messages(plan, outcome.value.positions, { batchCells: 2 }));
    }),
  ).catch((error: unknown) => {
    // an error of the crash in the clothes of the service
    if (!again.hasCrashed) throw error;
  });
  again.crashNow();
  return again.survivors(seed, random.pick(['none', 'all', 'random']));
}

describe('store and power loss', function () {
  this.timeout(SLOW ? 1_800_000 : 120_000);
  const seedCount = SLOW ? 6 : 1;
  const operationsMax = SLOW ? undefined : 12;

  it('a seed: from nothing to its point, and again while it goes on', async () => {
    const vm = makeVm();
    const plan = vm.plan(1, undefined, [undefined, undefined]);
    const told: Told = { durable: new Map(), committed: [] };
    const count = await crashEverywhere({
      volume: new MemoryFileSystem(),
      seedCount,
      operationsMax,
      run: async (fs) => {
        told.committed = [];
        told.durable.clear();
        await withSite(fs, (site) => cycle(site, vm, plan, told));
      },
      check: async (found, place) => {
        const promised = [...told.committed];
        const durable = new Map(told.durable);
        await expectStore(found.clone(), vm, [plan], promised);
        const twice = await crashOnOpen(found.clone(), vm, plan, place.seed);
        await expectGoesOn(twice, vm, plan, durable);
        await expectGoesOn(found, vm, plan, durable);
      },
    });
    expect(count).to.be.greaterThan(60);
  });

  it('a delta on a seed, with a new base of a disk that grew beside it', async () => {
    const vm = makeVm();
    const seed = vm.plan(1, undefined, [undefined, undefined]);
    const volume = new MemoryFileSystem();
    await withSite(volume, (site) => cycle(site, vm, seed, { durable: new Map(), committed: [] }));
    vm.write(0, 3, 0);
    vm.write(0, 7, 300);
    const grown = vm.disks[1];
    if (grown === undefined) throw new Error('the VM has two disks');
    grown.generation = 1;
    grown.bytes = Buffer.concat([grown.bytes, Buffer.alloc(CELL_BYTES)]);
    vm.write(1, 3, 301);
    const delta = vm.plan(2, seed.pointId, [[3, 7], undefined]);
    const told: Told = { durable: new Map(), committed: [] };
    await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: async (fs) => {
        told.committed = [];
        told.durable.clear();
        await withSite(fs, (site) => cycle(site, vm, delta, told));
      },
      check: async (found, place) => {
        const promised = [seed, ...told.committed];
        const durable = new Map(told.durable);
        await expectStore(found.clone(), vm, [seed, delta], promised);
        const twice = await crashOnOpen(found.clone(), vm, delta, place.seed);
        await expectGoesOn(twice, vm, delta, durable);
        await expectGoesOn(found, vm, delta, durable);
      },
    });
  });

  it('a cycle that goes on where an earlier process was killed', async () => {
    const vm = makeVm();
    const plan = vm.plan(1, undefined, [undefined, undefined]);
    const volume = new MemoryFileSystem();
    await withSite(volume, async (site) => {
      await vm.open(site, plan);
      const all = [...vm.messages(plan, [], { batchCells: 2 })];
      const cut = (function* (): Generator<Buffer> {
        yield* all.slice(0, 4);
        throw new Error('the source died');
      })();
      await vm.push(site, cut).catch(() => undefined);
    });
    const told: Told = { durable: new Map(), committed: [] };
    await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: async (fs) => {
        told.committed = [];
        told.durable.clear();
        await withSite(fs, (site) => cycle(site, vm, plan, told));
      },
      check: async (found) => {
        const durable = new Map(told.durable);
        await expectStore(found.clone(), vm, [plan], [...told.committed]);
        await expectGoesOn(found, vm, plan, durable);
      },
    });
  });

  it('cells of an unfinished cycle used again, and that cycle removed', async () => {
    const vm = makeVm();
    const first = vm.plan(1, undefined, [undefined, undefined]);
    const volume = new MemoryFileSystem();
    await withSite(volume, async (site) => {
      await vm.open(site, first);
      await vm.push(site, vm.messages(first, [], { batchCells: 2 }));
    });
    vm.write(0, 1, 400);
    const second = vm.plan(2, undefined, [undefined, undefined]);
    const reuse = new Set(['0:0', '0:3', '0:10', '1:0', '1:2']);
    let isCommitted = false;
    await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: async (fs) => {
        isCommitted = false;
        await withSite(fs, async (site) => {
          await vm.open(site, second);
          await vm.push(site, vm.messages(second, [], { batchCells: 2, reuse }));
          await vm.commit(site, second);
          isCommitted = true;
        });
      },
      check: async (found) => {
        const isPromised = isCommitted;
        await expectStore(found.clone(), vm, [second], isPromised ? [second] : []);
        // whatever is left of the unfinished one helps or does not, and is never in the way
        await withSite(found, async (site) => {
          const desk = site.receiver.desks[0];
          const parent = desk?.vm.protection.head?.pointId;
          const kinds = parent === undefined ? [undefined, undefined] : [[1], []];
          const third = vm.plan(3, parent, kinds);
          await vm.replicate(site, third);
          await expectPoint(site, vm, third);
          const unfinished = found.paths.filter((path) => path.includes(first.cycleId));
          expect(unfinished).to.deep.equal([]);
        });
      },
    });
  });

  it('a pin, the mark of a verification, and a commit that forgets a point', async () => {
    const vm = makeVm();
    const volume = new MemoryFileSystem();
    const plans: CyclePlan[] = [];
    await withSite(volume, async (site) => {
      for (let n = 1; n <= 3; n++) {
        const cells = n === 1 ? [undefined, undefined] : [[n], []];
        if (n > 1) vm.write(0, n, 500 + n);
        const plan = vm.plan(n, plans.at(-1)?.pointId, cells, { maxRestorePoints: 1 });
        plans.push(plan);
        await vm.replicate(site, plan);
      }
    });
    const [seed, second, third] = plans;
    if (seed === undefined || second === undefined || third === undefined) throw new Error('three');
    vm.write(0, 5, 600);
    const fourth = vm.plan(4, third.pointId, [[5], []], { maxRestorePoints: 1 });
    const done: string[] = [];
    await crashEverywhere({
      volume,
      seedCount,
      operationsMax,
      run: async (fs) => {
        done.length = 0;
        await withSite(fs, async (site) => {
          const control = site.control(OPERATOR);
          await control.pinPoint({ vm: vm.name, point: third.pointId, isPinned: true });
          done.push('pin');
          for await (const { step } of control.verify({
            vm: vm.name,
            point: 'latest',
            isRepair: false,
          })) {
            if (step?.$case === 'done') expect(step.value.damagedPointIds.length).to.equal(0);
          }
          done.push('verify');
          await vm.replicate(site, fourth);
          done.push('commit');
        });
      },
      check: async (found) => {
        const finished = [...done];
        await withSite(found, async (site) => {
          const { points } = await site.control().listPoints({ vm: vm.name });
          const listed = points.map((point) => point.pointId.toString('hex'));
          const has = (plan: CyclePlan): boolean =>
            listed.includes(guidToWire(plan.pointId).toString('hex'));
          // the first of its day and the one that was pinned stay; the second was forgotten before
          expect(has(seed) && has(third)).to.equal(true);
          expect(has(second)).to.equal(false);
          const kept = points.find((point) => point.pointId.equals(guidToWire(third.pointId)));
          if (finished.includes('pin')) expect(kept?.isPinned).to.equal(true);
          if (finished.includes('verify')) expect(Number(kept?.verifiedAtMs)).to.be.greaterThan(0);
          if (finished.includes('commit')) expect(has(fourth)).to.equal(true);
          for (const plan of [seed, third]) await expectPoint(site, vm, plan);
          if (has(fourth)) await expectPoint(site, vm, fourth);
        });
      },
    });
  });
});
