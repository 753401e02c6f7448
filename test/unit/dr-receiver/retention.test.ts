// Which points stay, by table. A point is written as its day and hour, with p pinned, v verified,
// d damaged; the verdicts as one letter each: k kept by count, g guard, p pinned, v verified, . gone.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  DEFAULT_RETENTION,
  decideRetention,
  keptPointCount,
  type RetentionPoint,
} from '../../../dr-receiver/store/retention.js';
import { id } from './source-double.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 1);

function pointsOf(text: string): RetentionPoint[] {
  return text.split(' ').map((word, index) => {
    const match = /^(\d+):(\d+)([pvd]*)$/.exec(word);
    const [, day = '0', hour = '0', marks = ''] = match ?? [];
    return {
      pointId: id(index + 1),
      committedAtMs: START + Number(day) * DAY + Number(hour) * HOUR,
      isPinned: marks.includes('p'),
      verifiedAtMs: marks.includes('v') ? 1 : 0,
      isDamaged: marks.includes('d'),
    };
  });
}

function verdicts(
  text: string,
  requestedPoints: number,
  now: string,
  isClockTrusted = true,
): string {
  const [day = '0', hour = '0'] = now.split(':');
  return decideRetention({
    points: pointsOf(text),
    requestedPoints,
    policy: DEFAULT_RETENTION,
    nowMs: START + Number(day) * DAY + Number(hour) * HOUR,
    isClockTrusted,
  })
    .map((verdict) => {
      if (!verdict.isKept) return '.';
      return { '': 'k', pinned: 'p', 'first point of its day': 'g' }[verdict.because] ?? 'v';
    })
    .join('');
}

describe('retention', () => {
  const table: readonly [what: string, points: string, asked: number, now: string, want: string][] =
    [
      ['one point stays', '0:1', 1, '0:1', 'g'],
      ['the newest stay besides the first of the day', '0:1 0:2 0:3 0:4', 2, '0:4', 'g.kk'],
      ['each day keeps its first', '0:1 0:2 1:1 1:2 1:3', 1, '1:3', 'g.g.k'],
      ['a guard point goes after seven days', '0:1 7:0 7:1 7:2', 2, '7:2', '.gkk'],
      ['and not an hour before', '0:1 6:23 7:0', 1, '7:0', 'ggg'],
      ['the newest is kept when it is the guard', '0:1 9:1', 1, '9:1', '.g'],
      ['pins stay and are not counted off', '0:1 0:2p 0:3 0:4 0:5', 2, '0:5', 'gp.kk'],
      ['the last verified point stays', '0:1 0:2v 0:3v 0:4 0:5', 1, '0:5', 'g.v.k'],
      ['a damaged one is no verified point', '0:1 0:2v 0:3vd 0:4 0:5', 1, '0:5', 'gv..k'],
      ['damaged points push out no good one', '0:1 0:2 0:3 0:4d 0:5d', 2, '0:5', 'gkkkk'],
      ['and go when there are enough good ones', '0:1 0:2d 0:3 0:4', 2, '0:4', 'g.kk'],
      ['but no more of them stay than good ones', '0:1 0:2d 0:3d 0:4d', 2, '0:4', 'g.kk'],
      ['nothing asked for means five', '0:0 0:1 0:2 0:3 0:4 0:5 0:6', 0, '0:6', 'g.kkkkk'],
    ];
  for (const [what, points, asked, now, want] of table) {
    it(what, () => {
      expect(verdicts(points, asked, now)).to.equal(want);
    });
  }

  it('lets no point go for its age after a jump of the clock', () => {
    expect(verdicts('0:1 0:2 99:1 99:2', 1, '99:2', false)).to.equal('g.gk');
  });

  it('counts between the floor and the ceiling of the receiver', () => {
    const policy = { minRestorePoints: 3, maxRestorePoints: 10 };
    expect([1, 3, 7, 10, 4_000_000_000].map((n) => keptPointCount(n, policy))).to.deep.equal([
      3, 3, 7, 10, 10,
    ]);
  });

  it('never drops the newest, a pin, or one of the newest that were asked for', () => {
    const point = fc.record({
      committedAtMs: fc.integer({ min: START, max: START + 30 * DAY }),
      isPinned: fc.boolean(),
      verifiedAtMs: fc.constantFrom(0, 1),
      isDamaged: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(point, { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 0, max: 20 }),
        fc.boolean(),
        (list, requestedPoints, isClockTrusted) => {
          const points = list.map((each, index) => ({ ...each, pointId: id(index + 1) }));
          const nowMs = START + 31 * DAY;
          const policy = DEFAULT_RETENTION;
          const input = { points, requestedPoints, policy, nowMs, isClockTrusted };
          const kept = decideRetention(input).map((verdict) => verdict.isKept);
          const count = keptPointCount(requestedPoints, policy);
          expect(kept.slice(-count).every(Boolean)).to.equal(true);
          for (const [index, each] of points.entries()) {
            if (each.isPinned) expect(kept[index]).to.equal(true);
          }
        },
      ),
    );
  });
});
