// How old the newest point will get: by table.

import { expect } from 'chai';
import { type ActiveCycle, forecast, type ForecastInput } from '../../../dr-receiver/forecast.js';
import { CommitHistory } from '../../../dr-receiver/store/commit-history.js';

const NOW = 10_000_000;
const MIB = 2 ** 20;

const QUIET: ForecastInput = {
  nowMs: NOW,
  newestPointAtMs: NOW - 20_000,
  rpoSeconds: 60,
  intervalsMs: [30_000, 31_000, 29_000, 30_000],
  active: undefined,
};

function cycle(part: Partial<ActiveCycle> = {}): ActiveCycle {
  const came = { elapsedMs: 10_000, cameBytes: 10 * MIB, namedBytes: 10 * MIB };
  return { ...came, expectedBytes: 100 * MIB, ...part };
}

describe('forecast of the newest age', () => {
  const rows: readonly (readonly [
    what: string,
    change: Partial<ForecastInput>,
    want: readonly [ageSeconds: number, willMiss: boolean, because: RegExp] | undefined,
  ])[] = [
    ['the rhythm holds', {}, [30, false, /^points came every 30 s$/]],
    [
      'one long interval changes nothing',
      { intervalsMs: [30_000, 9e6, 30_000] },
      [30, false, /30/],
    ],
    ['the rhythm is too slow', { intervalsMs: [90_000, 90_000, 90_000] }, [90, true, /every 90 s/]],
    [
      'overdue',
      { newestPointAtMs: NOW - 50_000 },
      [50, false, /every 30 s, and none has come for 50 s$/],
    ],
    ['missed already', { newestPointAtMs: NOW - 70_000 }, [70, false, /none has come/]],
    ['no rhythm yet', { intervalsMs: [30_000, 30_000] }, undefined],
    ['no point', { newestPointAtMs: undefined }, undefined],
    [
      'the cycle under way is too slow',
      { active: cycle() },
      [110, true, /^the cycle under way brought 10 % in 10 s$/],
    ],
    ['without an RPO', { active: cycle(), rpoSeconds: 0 }, [110, false, /10 %/]],
    [
      'fast enough',
      { active: cycle({ namedBytes: 90 * MIB, cameBytes: 90 * MIB }) },
      [21, false, /90 %/],
    ],
    [
      'gone on with after a break: by the rate of this time',
      { active: cycle({ namedBytes: 60 * MIB }) },
      [60, true, /60 %/],
    ],
    ['more than was expected', { active: cycle({ namedBytes: 200 * MIB }) }, [20, false, /100 %/]],
    [
      'it stands still',
      { active: cycle({ elapsedMs: 1e6, cameBytes: MIB }) },
      [90_020, true, /10 %/],
    ],
    ['nothing came yet: the rhythm', { active: cycle({ cameBytes: 0 }) }, [30, false, /every/]],
    ['the source does not know', { active: cycle({ expectedBytes: 0 }) }, [30, false, /every/]],
    ['it has just begun', { active: cycle({ elapsedMs: 10 }) }, [30, false, /every/]],
  ];
  for (const [what, change, want] of rows) {
    it(what, () => {
      const found = forecast({ ...QUIET, ...change });
      expect(found?.newestAgeSeconds).to.equal(want?.[0]);
      expect(found?.willMissRpo).to.equal(want?.[1]);
      if (want !== undefined) expect(found?.because).to.match(want[2]);
    });
  }
});

describe('commit history', () => {
  const DAY = 86_400_000;
  const at = (day: number, seconds: number): number => day * DAY + seconds * 1000;

  it('counts the seconds beyond the RPO on the days on which they passed', () => {
    const history = new CommitHistory();
    history.commit(at(100, 0), 60);
    history.commit(at(100, 50), 60);
    expect(history.violatedDays(at(100, 100))).to.deep.equal([]);
    history.commit(at(100, 150), 60);
    history.commit(at(100, 86_400 - 160), 60);
    // over midnight: a hundred seconds of the one day, twenty of the other
    history.commit(at(101, 20), 0);
    expect(history.violatedDays(at(101, 30))).to.deep.equal([
      { day: 100, violatedMs: 40_000 + (86_400 - 160 - 150 - 60) * 1000 + 100_000 },
      { day: 101, violatedMs: 20_000 },
    ]);
    // nothing is asked for any more
    expect(history.violatedDays(at(101, 5000)).at(-1)?.violatedMs).to.equal(20_000);
  });

  it('counts on while no point comes, without entering it', () => {
    const history = new CommitHistory();
    history.commit(at(100, 0), 60);
    for (const seconds of [70, 70, 100]) {
      expect(history.violatedDays(at(100, seconds))).to.deep.equal([
        { day: 100, violatedMs: (seconds - 60) * 1000 },
      ]);
    }
    expect(history.violatedDays(at(150, 10))).to.deep.equal([
      ...Array.from({ length: 6 }, (_, index) => ({ day: 144 + index, violatedMs: DAY })),
      { day: 150, violatedMs: 10_000 },
    ]);
  });

  it('does not grow, whatever the clock does', () => {
    const history = new CommitHistory();
    for (let i = 0; i < 1000; i++) history.commit(at(i, 0), 60);
    expect(history.intervalsMs).to.have.length(8);
    expect(history.violatedDays(at(999, 0))).to.have.length(7 - 1);
    history.commit(at(5, 0), 60);
    expect(history.intervalsMs.at(-1)).to.equal(0);
    expect(history.violatedDays(at(5, 100))).to.deep.equal([{ day: 5, violatedMs: 40_000 }]);
  });
});
