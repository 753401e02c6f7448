// Which points stay, by table. A point is written as its day and hour, with p pinned, v verified,
// d damaged; the verdicts as one letter each: k kept by count, g guard, p pinned, v verified, s first of
// its step in the grid, . gone.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  DEFAULT_RETENTION,
  decideRetention,
  keptPointCount,
  type RetentionPoint,
} from '../../../dr-receiver/store/retention.js';
import { gridRules } from '../../../dr-receiver/store/forget.js';
import { parseRetentionGrid } from '../../../shared/params/index.js';
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
  grid = '',
): string {
  const [day = '0', hour = '0'] = now.split(':');
  return decideRetention({
    points: pointsOf(text),
    requestedPoints,
    requestedGrid: gridRules(grid),
    policy: DEFAULT_RETENTION,
    nowMs: START + Number(day) * DAY + Number(hour) * HOUR,
    isClockTrusted,
  })
    .map((verdict) => {
      if (!verdict.isKept) return '.';
      if (verdict.because.startsWith('first point of its step')) return 's';
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

  const grids: readonly [what: string, points: string, grid: string, now: string, want: string][] =
    [
      ['each step keeps its first point', '0:0 0:1 0:2 0:3 0:4 0:5', '1d/2h', '0:5', 'g.s.sk'],
      ['a step is kept while it reaches into the span', '9:0 9:5 9:8 9:9', '1d/6h', '9:9', 'g.sk'],
      ['a step that is over goes', '1:0 1:7 8:1 8:2 8:3', '6d/6h', '8:3', '..g.k'],
      ['a step that is just not over stays', '1:0 1:7 7:5 7:6 7:7', '6d/6h', '7:7', 'gsgsk'],
      ['the last part reaches farthest', '0:0 3:0 8:0 9:0 20:0', '1d/1h,4w/1w', '20:0', 's.s.g'],
      [
        'a damaged first point keeps a sound one',
        '9:0 9:6d 9:7d 9:8 9:9 9:10',
        '1d/6h',
        '9:10',
        'gs.s.k',
      ],
    ];
  for (const [what, points, grid, now, want] of grids) {
    it(`by a grid: ${what}`, () => {
      expect(verdicts(points, 1, now, true, grid)).to.equal(want);
    });
  }

  it('lets no point of a grid go for its age after a jump of the clock', () => {
    expect(verdicts('0:1 0:2 0:3 9:1', 1, '99:2', false, '2h/1h')).to.equal('gssg');
  });

  // each as a store lives it: points come, each with a decision about all that are still listed
  it('keeps of each step the first point that ever was, until the step is over', () => {
    const life = fc.record({
      gaps: fc.array(fc.integer({ min: 1, max: 9 * 60 }), { minLength: 1, maxLength: 120 }),
      asked: fc.constantFrom('', '12h/1h', '2d/5h', '24h/3h,7d/1d', '3d/7h,2w/3d'),
      floor: fc.constantFrom('', '6h/1h', '5d/1d'),
      count: fc.integer({ min: 1, max: 4 }),
    });
    fc.assert(
      fc.property(life, ({ gaps, asked, floor, count }) => {
        const all: RetentionPoint[] = [];
        let listed: RetentionPoint[] = [];
        let nowMs = START;
        for (const [index, minutes] of gaps.entries()) {
          nowMs += minutes * 60_000;
          const point = {
            committedAtMs: nowMs,
            isPinned: false,
            verifiedAtMs: 0,
            isDamaged: false,
          };
          all.push({ ...point, pointId: id(index + 1) });
          listed.push({ ...point, pointId: id(index + 1) });
          const decided = decideRetention({
            points: listed,
            requestedPoints: count,
            requestedGrid: gridRules(asked),
            policy: { ...DEFAULT_RETENTION, grid: gridRules(floor) },
            nowMs,
            isClockTrusted: true,
          });
          listed = listed.filter((_, place) => decided[place]?.isKept);
          for (const { spanMs, stepMs } of [...gridRules(asked), ...gridRules(floor)]) {
            for (let step = Math.floor((nowMs - spanMs) / stepMs); step * stepMs <= nowMs; step++) {
              const end = (step + 1) * stepMs;
              if (end <= nowMs - spanMs) continue;
              const first = all.find(
                ({ committedAtMs }) => committedAtMs >= step * stepMs && committedAtMs < end,
              );
              if (first !== undefined) expect(listed).to.deep.include(first);
            }
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('whatever a source asks for, keeps all that the receiver keeps by itself', () => {
    const point = fc.record({
      committedAtMs: fc.integer({ min: START, max: START + 30 * DAY }),
      isPinned: fc.boolean(),
      verifiedAtMs: fc.constantFrom(0, 1),
      isDamaged: fc.boolean(),
    });
    const grid = fc.constantFrom('', '24h/1h', '30d/1d', '10d/7h,4w/1w');
    fc.assert(
      fc.property(
        fc.array(point, { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 0, max: 4_000_000_000 }),
        grid,
        grid,
        fc.integer({ min: 1, max: 5 }),
        fc.boolean(),
        (list, requestedPoints, asked, floor, minRestorePoints, isClockTrusted) => {
          const points = list
            .sort((a, b) => a.committedAtMs - b.committedAtMs)
            .map((each, index) => ({ ...each, pointId: id(index + 1) }));
          const policy = { minRestorePoints, maxRestorePoints: 100, grid: gridRules(floor) };
          const input = { points, policy, nowMs: START + 31 * DAY, isClockTrusted };
          const byItself = decideRetention({ ...input, requestedPoints: 1 });
          const requestedGrid = gridRules(asked);
          const both = decideRetention({ ...input, requestedPoints, requestedGrid });
          for (const [index, { isKept }] of byItself.entries()) {
            if (isKept) expect(both[index]?.isKept).to.equal(true);
          }
        },
      ),
    );
  });

  it('decides about a thousand points in calls that grow with the points', () => {
    const rules = parseRetentionGrid('500h/1h,400d/1d');
    if ('wrong' in rules) throw new Error(rules.wrong);
    let readCount = 0;
    const points = Array.from({ length: 1000 }, (_, index) => ({
      pointId: id(index + 1),
      get committedAtMs(): number {
        readCount++;
        return START + index * 600_000;
      },
      isPinned: false,
      verifiedAtMs: 0,
      isDamaged: false,
    }));
    const nowMs = START + 1000 * 600_000;
    const input = { points, requestedPoints: 5, requestedGrid: rules, nowMs, isClockTrusted: true };
    decideRetention({ ...input, policy: DEFAULT_RETENTION });
    expect(readCount).to.be.at.most(6 * points.length);
  });

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
