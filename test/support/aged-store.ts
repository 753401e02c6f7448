// A store whose points were made days ago, so that a receiver that starts on it today forgets most of
// them for their age and has something to reclaim. Made in this process with a clock that is behind.

import { CELL_BYTES } from '../../shared/delta/index.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import { connectDirectly, replicationService } from '../../shared/channel/index.js';
import { Receiver, replicationHandlers } from '../../dr-receiver/index.js';
import { type CyclePlan, OPERATOR, SOURCE, SourceVm } from '../unit/dr-receiver/source-double.js';
import { controlHandlers } from '../../dr-receiver/index.js';
import { controlService } from '../../shared/channel/index.js';
import { FakeClock } from './fake-clock.js';
import { SeededRandom } from './seeded-random.js';

export interface AgedStore {
  readonly vm: SourceVm;
  /** All that were made, the oldest first. */
  readonly plans: readonly CyclePlan[];
}

export interface AgedStoreOptions {
  readonly folder: string;
  readonly diskBytes: number;
  readonly cycleCount: number;
  /** Cells that each cycle changes, out of a range of `hotCells`. */
  readonly cellsPerCycle: number;
  readonly hotCells: number;
  readonly maxRestorePoints: number;
  /** Made in one day that ended so long before. */
  readonly daysAgo: number;
  readonly nowMs: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;

export async function makeAgedStore(options: AgedStoreOptions): Promise<AgedStore> {
  const { folder, diskBytes, cycleCount, cellsPerCycle, hotCells, maxRestorePoints } = options;
  const startMs = Math.floor((options.nowMs - options.daysAgo * DAY_MS) / DAY_MS) * DAY_MS;
  const clock = new FakeClock(startMs);
  const receiver = await Receiver.open({
    ...{ fs: nodeFileSystem, clock, random: new SeededRandom(77), log: silentLog },
    storeFolder: folder,
  });
  const site = {
    replication: (as = SOURCE) =>
      connectDirectly(replicationService, replicationHandlers(receiver), as),
    control: (as = OPERATOR) => connectDirectly(controlService, controlHandlers(receiver), as),
  };
  const vm = new SourceVm(1, [diskBytes], 'SQL01');
  const cells = Math.floor(diskBytes / CELL_BYTES);
  for (let cell = 0; cell < cells; cell++) vm.write(0, cell, cell % 8 === 7 ? 0 : cell + 1);
  const random = new SeededRandom(5);
  const plans: CyclePlan[] = [];
  for (let n = 1; n <= cycleCount; n++) {
    const changed = new Set<number>();
    while (n > 1 && changed.size < cellsPerCycle) changed.add(random.int(hotCells));
    for (const cell of changed) vm.write(0, cell, random.chance(0.1) ? 0 : n * 100_000 + cell);
    const sorted = [...changed].sort((a, b) => a - b);
    const kind = n === 1 ? undefined : sorted;
    const plan = vm.plan(n, plans.at(-1)?.pointId, [kind], { maxRestorePoints });
    plans.push(plan);
    await vm.replicate(site, plan);
    await clock.advance(60_000);
  }
  await receiver.close();
  return { vm, plans };
}
