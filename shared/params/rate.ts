// Bytes per second as people write them, and what is wrong with a value. Pure.

const RATE_MIN = 16 * 1024;
const RATE_MAX = 2 ** 40;
const FACTORS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** What is wrong with a value; `why` continues the sentence "the value …". */
export class BadValue {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

export function parseRate(text: string): number | BadValue {
  if (/bit|bps|[kmg]b\b/i.test(text)) {
    return new BadValue('is ambiguous between bits and bytes: write bytes');
  }
  const match = /^(\d{1,13})([KMG]?)$/i.exec(text);
  if (match === null) return new BadValue('is not a rate');
  const value = Number(match[1]) * (FACTORS[(match[2] ?? '').toUpperCase()] ?? Number.NaN);
  if (value !== 0 && value < RATE_MIN) return new BadValue('is too slow to be useful');
  return value > RATE_MAX ? new BadValue('is out of range') : value;
}
