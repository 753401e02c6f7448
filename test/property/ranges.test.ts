// The algebra of ranges against a naive bitmap.

import { expect } from 'chai';
import fc from 'fast-check';
import { RangeSet, type Range } from '../../shared/bytes/index.js';

const LIMIT = 200;

const range: fc.Arbitrary<Range> = fc
  .tuple(fc.nat(LIMIT), fc.nat(LIMIT))
  .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));
const ranges = fc.array(range, { maxLength: 12 });

function bitmapOf(list: readonly Range[]): boolean[] {
  const bits = new Array<boolean>(LIMIT + 64).fill(false);
  for (const { start, end } of list) bits.fill(true, start, end);
  return bits;
}

/** The one legal form of a set with these members. */
function normalOf(bits: readonly boolean[]): Range[] {
  const out: Range[] = [];
  let start = -1;
  for (let i = 0; i <= bits.length; i++) {
    const isIn = bits[i] === true;
    if (isIn && start === -1) start = i;
    if (!isIn && start !== -1) {
      out.push({ start, end: i });
      start = -1;
    }
  }
  return out;
}

const runs = { numRuns: process.env['SLOW'] === '1' ? 20_000 : 1000 };

describe('laws: sets of ranges', () => {
  it('take ranges in any order into the one sorted, disjoint form', () => {
    fc.assert(
      fc.property(ranges, (list) => {
        expect([...RangeSet.of(list)]).to.deep.equal(normalOf(bitmapOf(list)));
      }),
      runs,
    );
  });

  const operations = [
    ['union', (a: boolean, b: boolean) => a || b],
    ['intersect', (a: boolean, b: boolean) => a && b],
    ['subtract', (a: boolean, b: boolean) => a && !b],
  ] as const;
  for (const [name, law] of operations) {
    it(`${name} as bitmaps do`, () => {
      fc.assert(
        fc.property(ranges, ranges, (a, b) => {
          const bits = bitmapOf(b);
          const expected = bitmapOf(a).map((bit, i) => law(bit, bits[i] === true));
          const result = RangeSet.of(a)[name](RangeSet.of(b));
          expect([...result]).to.deep.equal(normalOf(expected));
          expect(result.equals(RangeSet.of(result))).to.equal(true);
          expect(result.size).to.equal(expected.filter(Boolean).length);
        }),
        runs,
      );
    });
  }

  it('add, remove and cut single ranges', () => {
    fc.assert(
      fc.property(ranges, range, (list, one) => {
        const set = RangeSet.of(list);
        const single = RangeSet.of([one]);
        expect(set.add(one.start, one.end).equals(set.union(single))).to.equal(true);
        expect(set.remove(one.start, one.end).equals(set.subtract(single))).to.equal(true);
        expect(set.within(one.start, one.end).equals(set.intersect(single))).to.equal(true);
      }),
      runs,
    );
  });

  it('know their members and what they cover', () => {
    fc.assert(
      fc.property(ranges, range, fc.nat(LIMIT), (list, one, value) => {
        const bits = bitmapOf(list);
        const set = RangeSet.of(list);
        expect(set.has(value)).to.equal(bits[value]);
        const isCovered = bits.slice(one.start, one.end).every(Boolean);
        expect(set.covers(one.start, one.end)).to.equal(isCovered);
      }),
      runs,
    );
  });

  it('widen to the grid, and no further than the limit', () => {
    fc.assert(
      fc.property(ranges, fc.integer({ min: 1, max: 40 }), fc.nat(30), (list, unit, slack) => {
        const set = RangeSet.of(list);
        const last = [...set].at(-1)?.end ?? 0;
        const limit = last + slack;
        const bits = bitmapOf(list);
        const expected = bits.map((_, i) => {
          const first = i - (i % unit);
          return i < limit && bits.slice(first, first + unit).some(Boolean);
        });
        expect([...set.alignOutward(unit, limit)]).to.deep.equal(normalOf(expected));
      }),
      runs,
    );
  });
});
