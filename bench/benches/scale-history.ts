// Whether a store with a long history and many VMs is as quick as a small one: the same work on both.

import { join } from 'node:path';
import { type Bench, type Contender, GIB, type Goal } from '../bench.js';
import { type HistoryExtent, HistoryStore } from '../history-store.js';

const LARGE: HistoryExtent = { protections: 1000, pointsEach: 10 };
const SMALL: HistoryExtent = { protections: 10, pointsEach: 1 };
const CYCLES = 50;
const TIMES_MAX = 1.5;
const WORKS = ['open', 'status', 'points', 'cycles'] as const;
type Work = (typeof WORKS)[number];

const MEANINGS: Readonly<Record<Work, string>> = {
  open: 'a receiver opens the store',
  status: 'hvdr status --store',
  points: 'hvdr points VM --store',
  cycles: `${CYCLES} cycles of one VM, planned, committed, pruned`,
};

function nameOf(work: Work, { protections, pointsEach }: HistoryExtent): string {
  return `${MEANINGS[work]}: ${protections * pointsEach} points of ${protections} VMs`;
}

export const scaleHistory: Bench = {
  name: 'scale-history',
  question:
    'A store with 10,000 points of 1,000 VMs against one with 10 points of 10: opened, listed, planned and pruned.',
  spaceBytes: 4 * GIB,
  programs: [],
  async prepare({ folder, product, clock }) {
    const stores = [LARGE, SMALL].map(
      (extent) => new HistoryStore(join(folder, `store-${extent.protections}`), extent, clock),
    );
    for (const store of stores) await store.make();
    const contenderOf = (work: Work, store: HistoryStore): Contender => {
      const base = { name: nameOf(work, store.extent), role: 'ours', payloadBytes: 0 } as const;
      switch (work) {
        case 'open':
          return { ...base, commands: () => [{ act: work, run: () => store.openSeconds() }] };
        case 'cycles':
          return {
            ...base,
            commands: () => [{ act: work, run: () => store.cycleSeconds(CYCLES) }],
          };
        case 'status':
          return { ...base, commands: () => [product.hvdr('status', '--store', store.folder)] };
        case 'points':
          return {
            ...base,
            commands: () => [product.hvdr('points', store.vmName, '--store', store.folder)],
          };
      }
    };
    return {
      settings: { 'bytes of a point': 512 },
      contenders: WORKS.flatMap((work) => stores.map((store) => contenderOf(work, store))),
      goals: WORKS.map((work): Goal => ({
        text: `${MEANINGS[work]}, the large store against the small one`,
        unit: 'x',
        bound: 'at most',
        value: TIMES_MAX,
        figure: (medianOf) =>
          medianOf(nameOf(work, LARGE)).wallSeconds / medianOf(nameOf(work, SMALL)).wallSeconds,
      })),
    };
  },
};
