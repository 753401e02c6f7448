// `bandwidth_schedule`: how fast a source may send at which hour of the week. Pure.
//
//   mon-fri 08-18=5M,*=0        DAYS [HOURS]=RATE, separated by commas; the first that fits holds
//
// Days are `*`, one day or a range that may pass the weekend (sat-mon); hours are whole, from and up
// to, and may pass midnight: `fri 22-06` ends on Saturday at six. Where no entry fits, `bandwidth`
// holds.

import { BadValue, parseRate } from './rate.js';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const HOURS_A_DAY = 24;
const ENTRIES_MAX = 64;

/** Bytes per second for each hour of the week from Sunday 0:00 on, 0 without limit; undefined: unsaid. */
export type BandwidthSchedule = readonly (number | undefined)[];

/** The rate at an hour, by day of the week from Sunday = 0; undefined where the schedule is silent. */
export function rateAt(schedule: BandwidthSchedule, day: number, hour: number): number | undefined {
  return schedule[day * HOURS_A_DAY + hour];
}

export function parseSchedule(text: string): BandwidthSchedule | BadValue {
  const entries = text.split(',');
  if (entries.length > ENTRIES_MAX) return new BadValue(`has more than ${ENTRIES_MAX} entries`);
  const week = new Array<number | undefined>(DAYS.length * HOURS_A_DAY).fill(undefined);
  for (const [index, entry] of entries.entries()) {
    const said = `entry ${index + 1}`;
    const match = /^\s*(\S+?)(?:\s+(\S+?))?\s*=\s*(\S+)\s*$/.exec(entry);
    if (match === null) return new BadValue(`has an ${said} that is no DAYS [HOURS]=RATE`);
    const days = parseDays(match[1] ?? '');
    if (days === undefined) return new BadValue(`names no days in ${said}`);
    const hours = parseHours(match[2]);
    if (hours === undefined) return new BadValue(`names no hours in ${said}`);
    const rate = parseRate(match[3] ?? '');
    if (rate instanceof BadValue) return new BadValue(`has a rate in ${said} that ${rate.why}`);
    let isOfUse = false;
    for (const day of days) {
      for (const hour of hours) {
        const at = (day * HOURS_A_DAY + hour) % week.length;
        if (week[at] !== undefined) continue;
        week[at] = rate;
        isOfUse = true;
      }
    }
    if (!isOfUse) return new BadValue(`never gets to ${said}: those before it cover its hours`);
  }
  return week;
}

function parseDays(text: string): number[] | undefined {
  if (text === '*') return DAYS.map((_, index) => index);
  const match = /^([a-z]{3})(?:-([a-z]{3}))?$/i.exec(text);
  const first = dayOf(match?.[1]);
  const last = match?.[2] === undefined ? first : dayOf(match[2]);
  if (first === undefined || last === undefined) return undefined;
  const count = ((last - first + DAYS.length) % DAYS.length) + 1;
  return Array.from({ length: count }, (_, index) => (first + index) % DAYS.length);
}

function dayOf(name: string | undefined): number | undefined {
  const index = DAYS.findIndex((day) => day === name?.toLowerCase());
  return index < 0 ? undefined : index;
}

/** Hours from midnight of the day on; those past 23 are of the next day. */
function parseHours(text: string | undefined): number[] | undefined {
  if (text === undefined) return Array.from({ length: HOURS_A_DAY }, (_, hour) => hour);
  const match = /^(\d{1,2})-(\d{1,2})$/.exec(text);
  if (match === null) return undefined;
  const from = Number(match[1]);
  const until = Number(match[2]);
  if (from >= HOURS_A_DAY || until > HOURS_A_DAY || from === until) return undefined;
  const count = until > from ? until - from : until + HOURS_A_DAY - from;
  return Array.from({ length: count }, (_, index) => from + index);
}
