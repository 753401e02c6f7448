// Arithmetic of the benches. Pure. Medians stand for a set of rounds, because one slow round of a
// shared machine must not move the figure.

import { assert } from '../shared/assert.js';

/** The middle of `values`; the mean of the two middle ones when their count is even. */
export function median(values: readonly number[]): number {
  assert(values.length > 0, 'a median needs a value');
  const sorted = values.toSorted((left, right) => left - right);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  if (sorted.length % 2 === 1) return upper;
  const lower = sorted[sorted.length / 2 - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}

/** The smallest value that `share` of the values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  assert(values.length > 0 && share > 0 && share <= 1, 'a percentile needs values and a share');
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}

/** Largest deviation from the median, as a share of the median: 0.1 means within 10 %. */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  if (middle === 0) return 0;
  return Math.max(...values.map((value) => Math.abs(value - middle))) / middle;
}

/** Megabytes (1e6) a second. */
export function megabytesPerSecond(bytes: number, seconds: number): number {
  return bytes / 1e6 / seconds;
}

/** CPU seconds for a gigabyte (1e9) of payload. */
export function cpuSecondsPerGigabyte(cpuSeconds: number, bytes: number): number {
  return cpuSeconds / (bytes / 1e9);
}

/** The order of `count` contenders in a round: forward, then backward, so that no place favours. */
export function orderOfRound(count: number, round: number): number[] {
  const forward = Array.from({ length: count }, (_, index) => index);
  return round % 2 === 0 ? forward : forward.toReversed();
}
