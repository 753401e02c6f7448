// The schedule of bandwidth: which rate holds at which hour of the week.

import { expect } from 'chai';
import { BadValue } from '../../../shared/params/rate.js';
import { type BandwidthSchedule, parseSchedule, rateAt } from '../../../shared/params/schedule.js';

const M = 2 ** 20;
const [SUN, MON, FRI, SAT] = [0, 1, 5, 6];

function legal(text: string): BandwidthSchedule {
  const schedule = parseSchedule(text);
  if (schedule instanceof BadValue) throw new Error(schedule.why);
  return schedule;
}

describe('bandwidth_schedule', () => {
  const rows: readonly (readonly [string, number, number, number | undefined])[] = [
    ['mon-fri 08-18=5M,*=0', MON, 7, 0],
    ['mon-fri 08-18=5M,*=0', MON, 8, 5 * M],
    ['mon-fri 08-18=5M,*=0', FRI, 17, 5 * M],
    ['mon-fri 08-18=5M,*=0', FRI, 18, 0],
    ['mon-fri 08-18=5M,*=0', SAT, 9, 0],
    ['mon-fri 08-18=5M', SUN, 9, undefined],
    ['sat-mon=1M', SUN, 0, M],
    ['sat-mon=1M', FRI, 23, undefined],
    ['fri 22-06=1M', FRI, 22, M],
    ['fri 22-06=1M', SAT, 5, M],
    ['fri 22-06=1M', SAT, 6, undefined],
    ['fri 22-06=1M', FRI, 5, undefined],
    // past the end of the week
    ['sat 22-06=1M', SUN, 5, M],
    ['mon 08-10=1M,mon 09-12=2M', MON, 9, M],
    ['mon 08-10=1M,mon 09-12=2M', MON, 10, 2 * M],
    ['* 00-24=1M', SAT, 23, M],
  ];
  for (const [text, day, hour, want] of rows) {
    it(`${text}: day ${day}, ${hour} o'clock`, () => {
      expect(rateAt(legal(text), day, hour)).to.equal(want);
    });
  }

  const refused: readonly (readonly [string, RegExp])[] = [
    ['mon', /no DAYS/],
    ['monday=1M', /days in entry 1/],
    ['mon=1M,tue 8=1M', /hours in entry 2/],
    ['mon=9Mbit', /entry 1 that is ambiguous/],
    ['*=0,mon=1M', /never gets to entry 2/],
  ];
  for (const [text, why] of refused) {
    it(`says what is wrong with ${text}`, () => {
      const bad = parseSchedule(text);
      expect(bad instanceof BadValue ? bad.why : '').to.match(why);
    });
  }
});
