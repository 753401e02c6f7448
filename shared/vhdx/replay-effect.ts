// What a sequence of log records comes to: the same change without anything that a later record
// undoes. A hostile log holds millions of zero records that lie over each other and over pages;
// after this step laying it over a file or writing it costs what the log is long, not the product.

import { LOG_SECTOR_BYTES } from './format.js';
import type { LogRecord } from './log-entry.js';

/**
 * The final effect of `records`, applied in order: zeroed ranges, ascending and disjoint, then each
 * page at most once. A page behind a zeroed range was logged after it.
 */
export function effectOf(records: readonly LogRecord[]): LogRecord[] {
  const zeroed = new DisjointRanges();
  const pages = new Map<number, LogRecord>();
  for (const record of records.toReversed()) {
    if (record.kind === 'zero') {
      zeroed.add(record.offset, record.offset + record.lengthBytes);
    } else if (!pages.has(record.offset) && !zeroed.has(record.offset)) {
      pages.set(record.offset, record);
    }
  }
  const zeros = zeroed.ranges.map(({ start, end }): LogRecord => {
    return { kind: 'zero', offset: start, lengthBytes: end - start };
  });
  return [...zeros, ...[...pages.values()].reverse()];
}

/** Where the last of the records ends. */
export function endOf(records: readonly LogRecord[]): number {
  return records.reduce((end, record) => {
    const length = record.kind === 'page' ? LOG_SECTOR_BYTES : record.lengthBytes;
    return Math.max(end, record.offset + length);
  }, 0);
}

/** A set of bytes as ascending ranges [start, end) that neither overlap nor touch. */
class DisjointRanges {
  readonly ranges: { start: number; end: number }[] = [];

  add(start: number, end: number): void {
    if (start >= end) return;
    const from = this.#firstEndingAtOrAfter(start);
    let to = from;
    let merged = { start, end };
    for (; to < this.ranges.length; to++) {
      const range = this.ranges[to];
      if (range === undefined || range.start > end) break;
      merged = { start: Math.min(merged.start, range.start), end: Math.max(merged.end, range.end) };
    }
    this.ranges.splice(from, to - from, merged);
  }

  has(position: number): boolean {
    const range = this.ranges[this.#firstEndingAtOrAfter(position + 1)];
    return range !== undefined && range.start <= position;
  }

  #firstEndingAtOrAfter(position: number): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.ranges[middle]?.end ?? 0) < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
