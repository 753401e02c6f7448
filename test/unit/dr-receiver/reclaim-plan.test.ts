import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import {
  type Candidate,
  nextOf,
  type PlanInput,
  planReclaim,
  RECLAIM_LIMITS,
} from '../../../dr-receiver/reclaim/plan.js';
import type { Segment, StoredLayer } from '../../../dr-receiver/store/segments.js';
import { id } from './source-double.js';

const MIB = 1024 * 1024;

function layer(n: number, bytes: number): StoredLayer {
  const cells = bytes / CELL_BYTES;
  return {
    ...{ pointId: id(n), cycleId: id(1000 + n), transfer: n === 0 ? 'base' : 'delta', root: 'ab' },
    ...{ cellCount: cells, dataCellCount: cells, dataBytes: bytes },
  };
}

/** A base and deltas of so many MiB, which lead to the points 0, 1, 2, … */
function segment(...sizes: number[]): Segment {
  return {
    ...{ diskId: id(1), generation: 0, sizeBytes: 1024 * MIB, baseCycleId: id(1000) },
    ...{ logicalSectorBytes: 512, physicalSectorBytes: 4096, folding: undefined },
    layers: sizes.map((size, n) => layer(n, size * MIB)),
  };
}

function input(of: Segment, listed: readonly number[], more: Partial<PlanInput> = {}): PlanInput {
  const ids = new Set(listed.map(id));
  return {
    segments: [of],
    storedBytes: of.layers.reduce((sum, { dataBytes }) => sum + dataBytes, 0),
    isListed: (pointId) => ids.has(pointId),
    isDamaged: () => false,
    isBaseHeld: () => false,
    mergeGain: () => undefined,
    ...more,
  };
}

function told({ action, gainBytes, because }: Candidate): string {
  const what =
    action.kind === 'compact'
      ? `compact ${action.parts.map(({ pointId }) => Number.parseInt(pointId.slice(-4), 16)).join(' ')}`
      : action.kind === 'fold'
        ? `fold ${Number.parseInt(action.pointId.slice(-4), 16)}`
        : 'drop';
  return `${what}: ${gainBytes / MIB} (${because})`;
}

describe('plan of reclaiming', () => {
  it('folds up to the oldest listed point, and merges what lies between two of them', () => {
    const of = segment(100, 5, 5, 5, 5, 5, 5);
    const { candidates } = planReclaim(input(of, [2, 3, 6]));
    expect(candidates.map(told).sort()).to.deep.equal([
      'compact 4 5 6: 10 (gain)',
      'fold 2: 10 (gain)',
    ]);
  });

  it('has nothing to do when every point is listed', () => {
    const plan = planReclaim(input(segment(100, 5, 5), [0, 1, 2]));
    expect(plan).to.deep.equal({
      ...{ candidates: [], held: [], reclaimableBytes: 0, neededBytes: 110 * MIB },
    });
  });

  it('gives up a segment on which no listed point stands, unless its base is held', () => {
    const of = segment(100, 5);
    expect(planReclaim(input(of, [])).candidates.map(told)).to.deep.equal(['drop: 105 (now)']);
    const held = planReclaim(input(of, [], { isBaseHeld: () => true }));
    expect(held.candidates).to.deep.equal([]);
    expect(held.held.map(({ because }) => because)).to.deep.equal(['lease']);
  });

  it('merges in place of folding while the base is held', () => {
    const plan = planReclaim(input(segment(100, 5, 5, 5), [3], { isBaseHeld: () => true }));
    expect(plan.candidates.map(told)).to.deep.equal(['compact 1 2 3: 10 (gain)']);
    expect(plan.held.map(({ because }) => because)).to.deep.equal(['lease']);
  });

  it('goes on with a fold that was begun, and hides the point it leads to in no merge', () => {
    const begun = { pointId: id(2), root: 'cd', cellCount: 0, dataCellCount: 0, dataBytes: 0 };
    const of = { ...segment(100, 5, 5, 5, 5), folding: begun };
    const { candidates } = planReclaim(input(of, [4]));
    expect(candidates.map(told).sort()).to.deep.equal([
      'compact 3 4: 5 (gain)',
      'fold 2: 10 (now)',
    ]);
    const next = nextOf(planReclaim(input(of, [4])));
    expect(next && told(next)).to.equal('fold 2: 10 (now)');
  });

  it('leaves a disk of which a listed point is damaged as it is', () => {
    const isDamaged = (pointId: string): boolean => pointId === id(4);
    const plan = planReclaim(input(segment(100, 5, 5, 5, 5), [2, 4], { isDamaged }));
    expect(plan.candidates).to.deep.equal([]);
    expect(plan.held.map(({ because }) => because)).to.deep.equal(['damage']);
    // a forgotten one damages nobody
    const forgotten = planReclaim(input(segment(100, 5, 5, 5, 5), [2, 3], { isDamaged }));
    expect(forgotten.candidates.map(told)).to.deep.equal(['fold 2: 10 (gain)']);
  });

  it('begins when more than a twentieth of what has to stay comes back, or when it is asked', () => {
    const small = planReclaim(input(segment(100, 2, 2), [2]));
    expect(nextOf(small)).to.equal(undefined);
    expect(nextOf(small, { ...RECLAIM_LIMITS, share: 0, minBytes: 0 })).not.to.equal(undefined);
    const enough = nextOf(planReclaim(input(segment(100, 3, 3), [2])));
    expect(enough && told(enough)).to.equal('fold 2: 6 (gain)');
  });

  it('merges nothing that was found to give back too little', () => {
    const of = segment(100, 10, 10, 10);
    const plan = planReclaim(input(of, [0, 3], { mergeGain: () => 0 }));
    expect(plan.reclaimableBytes).to.equal(0);
    expect(nextOf(plan, { ...RECLAIM_LIMITS, share: 0, minBytes: 0 })).to.equal(undefined);
  });

  it('merges a long row of small deltas whatever they give back, large ones left out', () => {
    const of = segment(1000, 60, ...Array.from({ length: 16 }, () => 1), 1);
    const plan = planReclaim(input(of, [0, 18], { mergeGain: () => 0 }));
    const next = nextOf(plan);
    expect(next && told(next)).to.match(/^compact 2 3 .* 17 18: 0 \(rows\)$/);
  });

  it('keeps the number of layers small in proportion to the work, for ever', () => {
    // each cycle's point is forgotten at once; what is merged is as large as its parts together
    let sizes: number[] = [];
    let written = 0;
    let longest = 0;
    for (let cycle = 0; cycle < 2000; cycle++) {
      sizes.push(1);
      const of = segment(1_000_000, ...sizes);
      const next = nextOf(planReclaim(input(of, [0, sizes.length], { mergeGain: () => 0 })));
      if (next?.action.kind === 'compact') {
        const merged = next.action.parts.reduce((sum, { dataBytes }) => sum + dataBytes, 0) / MIB;
        written += merged;
        sizes = [...sizes.slice(0, sizes.length - next.action.parts.length), merged];
      }
      longest = Math.max(longest, sizes.length);
    }
    expect(longest).to.be.at.most(RECLAIM_LIMITS.rowLayers + 1);
    // less than each byte a handful of times
    expect(written).to.be.at.most(2000 * 6);
  });
});
