import { expect } from 'chai';
import { AssertionError } from '../../../shared/assert.js';
import { RangeSet, RangeSetBuilder } from '../../../shared/bytes/index.js';

describe('sets of ranges', () => {
  it('hold offsets of a 64 TiB disk exactly', () => {
    const end = 64 * 2 ** 40;
    const set = RangeSet.single(end - 1, end).add(0, 1);
    expect([...set]).to.deep.equal([
      { start: 0, end: 1 },
      { start: end - 1, end },
    ]);
    expect(set.alignOutward(65536, end).size).to.equal(2 * 65536);
  });

  it('join what touches and drop what is empty', () => {
    const set = RangeSet.of([
      { start: 10, end: 20 },
      { start: 5, end: 5 },
      { start: 20, end: 30 },
    ]);
    expect([...set]).to.deep.equal([{ start: 10, end: 30 }]);
    expect(RangeSet.single(7, 7).isEmpty).to.equal(true);
    expect(RangeSet.empty.rangeCount).to.equal(0);
  });

  it('grow past the first guess of the builder, which may go on after finish()', () => {
    const builder = new RangeSetBuilder();
    for (let i = 0; i < 1000; i++) builder.add(i * 10, i * 10 + 5);
    const first = builder.finish();
    builder.add(20_000, 20_001);
    expect(first.rangeCount).to.equal(1000);
    expect(first.size).to.equal(5000);
    expect(builder.finish().rangeCount).to.equal(1001);
  });

  it('stop at what is no range', () => {
    const wrong = [
      [-1, 5],
      [5, 4],
      [0.5, 2],
      [0, Number.MAX_SAFE_INTEGER + 1],
      [Number.NaN, 5],
    ] as const;
    for (const [start, end] of wrong) {
      expect(() => RangeSet.single(start, end)).to.throw(AssertionError);
    }
    const builder = new RangeSetBuilder();
    builder.add(10, 20);
    expect(() => builder.add(5, 6)).to.throw(AssertionError);
  });
});
