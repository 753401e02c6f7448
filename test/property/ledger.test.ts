// The law of the ledger (failover.md I3) against a naive model: whatever happens in whatever order -
// cycles that succeed, fail, lose their answer or are committed late, several chains, disks that
// come and go - the confirmed point plus what is owed covers every difference to the disk as it is.

import { expect } from 'chai';
import fc from 'fast-check';
import type { Guid } from '../../shared/bytes/index.js';
import { CellSet, cellsOfRanges } from '../../shared/delta/index.js';
import { type DirtyCells, union } from '../../source-agent/dirty-cells.js';
import {
  absorb,
  begin,
  type Chain,
  confirm,
  emptyLedger,
  type Geometry,
  type Ledger,
  newChain,
  settle,
  withChain,
} from '../../source-agent/ledger.js';
import { testGuid } from '../support/fake-source-hypervisor.js';
import { refusal } from '../support/refusal.js';

const CELLS = 24;
const GEOMETRY: Geometry = {
  sizeBytes: CELLS * 65536,
  logicalSectorBytes: 512,
  physicalSectorBytes: 4096,
};
const DISK = testGuid(1);
const RUNS = process.env['SLOW'] === '1' ? 20_000 : 1_500;

type Step =
  | { readonly kind: 'write'; readonly cell: number }
  | { readonly kind: 'break-tracking' }
  /** One cycle of a chain, with what becomes of it. */
  | {
      readonly kind: 'cycle';
      readonly chain: number;
      readonly end: 'ok' | 'failed' | 'answer-lost' | 'committed-late' | 'not-converted';
    };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('write' as const), cell: fc.nat(CELLS - 1) }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'break-tracking' } as const) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('cycle' as const),
      chain: fc.nat(2),
      end: fc.constantFrom(
        'ok' as const,
        'failed' as const,
        'answer-lost' as const,
        'committed-late' as const,
        'not-converted' as const,
      ),
    }),
  },
);

/** A receiver that keeps whole points: the content of each cell. */
interface Store {
  head: { readonly pointId: Guid; readonly content: readonly number[] } | undefined;
  /** A commit that is still on its way there. */
  late:
    | {
        readonly parent: Guid | undefined;
        readonly pointId: Guid;
        readonly content: readonly number[];
      }
    | undefined;
}

class Model {
  readonly content = Array.from({ length: CELLS }, () => 0);
  ledger: Ledger = emptyLedger(testGuid(7), 'vm');
  /** Cells written since the reference point; undefined: there is none, or it is not valid. */
  since: Set<number> | undefined;
  readonly stores: Store[] = [0, 1, 2].map(() => ({ head: undefined, late: undefined }));
  #value = 1;
  #nextPoint = 100;

  run(what: Step): void {
    switch (what.kind) {
      case 'write':
        this.content[what.cell] = this.#value++;
        this.since?.add(what.cell);
        break;
      case 'break-tracking':
        this.since = undefined;
        break;
      case 'cycle':
        this.#cycle(what.chain, what.end);
        break;
    }
  }

  #cycle(number: number, end: Extract<Step, { kind: 'cycle' }>['end']): void {
    const store = this.stores[number];
    if (store === undefined) return;
    const key = `dr:${number}`;
    // what was on its way arrives at some moment before the next cycle ends, or never
    const late = store.late;
    const head = store.head;
    const chain = settle(this.ledger.chains.get(key) ?? newChain(key, 1n), head?.pointId);
    const changed: DirtyCells = this.since === undefined ? 'all' : setOf(this.since);
    const because = '';
    let ledger = absorb(withChain(this.ledger, chain), [
      { diskId: DISK, geometry: GEOMETRY, changed, because },
    ]);
    const absorbed = ledger.chains.get(key) ?? chain;
    const debt = absorbed.disks.get(DISK);
    const isKnown = absorbed.confirmed?.pointId === head?.pointId && head !== undefined;
    const pending: DirtyCells = isKnown && debt !== undefined ? debt.pending : 'all';
    const pointId = testGuid(this.#nextPoint++);
    const cycle = { cycleId: testGuid(this.#nextPoint++), pointId, consistentAtMs: 0 };
    ledger = withChain(
      ledger,
      begin(absorbed, cycle, [{ diskId: DISK, generation: 0, geometry: GEOMETRY, cells: pending }]),
    );
    this.ledger = ledger;
    if (late !== undefined && late.parent === store.head?.pointId) {
      // the commit of the cycle before lands now: this one's parent is no longer the head
      store.head = { pointId: late.pointId, content: late.content };
      store.late = undefined;
      return;
    }
    store.late = undefined;
    // the receiver applies exactly the cells that were sent
    const before = store.head?.content ?? this.content;
    const sent = pending === 'all' ? undefined : new Set(cellsIn(pending));
    const content = this.content.map((value, cell) =>
      sent === undefined || sent.has(cell) ? value : (before[cell] ?? 0),
    );
    if (end === 'failed') return;
    // read and sent: the replica must be the disk as it is
    expect(content, 'the point that is committed').to.deep.equal(this.content);
    if (end === 'committed-late') {
      store.late = { parent: store.head?.pointId, pointId, content };
      this.since = new Set();
      return;
    }
    if (end !== 'not-converted') this.since = new Set();
    store.head = { pointId, content };
    if (end === 'answer-lost') return;
    const flown = this.ledger.chains.get(key);
    if (flown !== undefined) this.ledger = withChain(this.ledger, confirm(flown));
  }

  /** The law, for every chain. */
  check(): void {
    for (const [number, store] of this.stores.entries()) {
      const chain = this.ledger.chains.get(`dr:${number}`);
      const { head } = store;
      if (chain === undefined || head === undefined) continue;
      if (!isCovering(chain, head.pointId)) continue;
      const debt = chain.disks.get(DISK);
      if (debt === undefined || this.since === undefined) continue;
      let owed = union(debt.pending, setOf(this.since));
      // in flight counts, unless the head is exactly what was in flight
      if (chain.inFlight?.pointId !== head.pointId && debt.inFlight !== undefined) {
        owed = union(owed, debt.inFlight);
      }
      if (owed === 'all') continue;
      const covered = new Set(cellsIn(owed));
      for (const [cell, value] of head.content.entries()) {
        if (value === this.content[cell] || covered.has(cell)) continue;
        throw new Error(`chain ${number} would miss cell ${cell}`);
      }
    }
  }
}

/** The chain would send a delta to this head, not compare. */
function isCovering(chain: Chain, head: Guid): boolean {
  return settle(chain, head).confirmed?.pointId === head;
}

function setOf(cells: ReadonlySet<number>): CellSet {
  const set = new CellSet();
  for (const cell of [...cells].sort((a, b) => a - b)) set.add(cell, cell + 1);
  return set;
}

function cellsIn(set: CellSet): number[] {
  const cells: number[] = [];
  for (const { start, end } of set.ranges()) for (let c = start; c < end; c++) cells.push(c);
  return cells;
}

describe('ledger', () => {
  it('covers every change of every chain, in any order of events', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => {
        const model = new Model();
        for (const what of steps) {
          model.run(what);
          model.check();
        }
      }),
      { numRuns: RUNS },
    );
  });

  it('unites sets as sets are united', () => {
    const cells = fc.uniqueArray(fc.nat(200_000), { maxLength: 60 });
    fc.assert(
      fc.property(cells, cells, (one, other) => {
        const both = union(setOf(new Set(one)), setOf(new Set(other)));
        expect(both).not.to.equal('all');
        const wanted = [...new Set([...one, ...other])].sort((a, b) => a - b);
        expect(both === 'all' ? [] : cellsIn(both)).to.deep.equal(wanted);
      }),
    );
    expect(union('all', new CellSet())).to.equal('all');
    expect(union(new CellSet(), 'all')).to.equal('all');
  });

  it('takes every cell that a byte range touches', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(CELLS * 65536), fc.nat(200_000)), { maxLength: 12 }),
        async (parts) => {
          const ranges = parts
            .map(([start, length]) => ({ start, end: Math.min(CELLS * 65536, start + length) }))
            .filter(({ start, end }) => start < end)
            .sort((a, b) => a.start - b.start);
          // overlapping input is more than the contract allows, and harmless
          const set = await cellsOfRanges(stream(ranges), CELLS * 65536);
          const wanted = new Set<number>();
          for (const { start, end } of ranges) {
            for (let c = Math.floor(start / 65536); c * 65536 < end; c++) wanted.add(c);
          }
          expect(cellsIn(set)).to.deep.equal([...wanted].sort((a, b) => a - b));
        },
      ),
    );
  });

  it('skips no range that comes out of order or leaves the disk: then nothing is known', async () => {
    const size = CELLS * 65536;
    for (const ranges of [
      [
        { start: 5 * 65536, end: 6 * 65536 },
        { start: 65536, end: 2 * 65536 },
      ],
      [{ start: 65536, end: size + 1 }],
      [{ start: 2, end: 1 }],
    ]) {
      const error = await refusal(() => cellsOfRanges(stream(ranges), size));
      expect(error.code).to.equal('E_TRACKING_INVALID');
    }
  });
});

// eslint-disable-next-line @typescript-eslint/require-await -- the contract iterates asynchronously
async function* stream<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}
