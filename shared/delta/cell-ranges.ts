// Sets of cells out of ranges, and together: who compares change lists of two sides needs both.

import { DrError } from '../errors.js';
import { CELL_BYTES, cellCount } from './cell.js';
import { type CellRange, CellSet } from './cell-set.js';

/** Half-open range [start, end) of guest bytes. */
interface Bytes {
  readonly start: number;
  readonly end: number;
}

/** All of them together; none of the arguments is changed, and one that holds all of them is returned. */
export function unionOfCells(...sets: readonly CellSet[]): CellSet {
  const [first, ...others] = sets.filter(({ count }) => count > 0);
  let all = first ?? sets[0] ?? new CellSet();
  for (const other of others) {
    const both = new CellSet();
    let end = 0;
    for (const range of merged(all.pageRanges(), other.pageRanges())) {
      if (range.end <= end) continue;
      both.add(Math.max(range.start, end), range.end);
      ({ end } = range);
    }
    all = both;
  }
  return all;
}

/** The ranges of both in the order of their starts; they may overlap. */
function* merged(one: Iterable<CellRange>, other: Iterable<CellRange>): Generator<CellRange> {
  const left = one[Symbol.iterator]();
  const right = other[Symbol.iterator]();
  let a = left.next();
  let b = right.next();
  for (;;) {
    if (a.done !== true && (b.done === true || a.value.start <= b.value.start)) {
      yield a.value;
      a = left.next();
    } else if (b.done !== true) {
      yield b.value;
      b = right.next();
    } else {
      return;
    }
  }
}

const CELLS_PER_MIB = (1024 * 1024) / CELL_BYTES;

/** How many whole MiB of the disk have one of the cells: what a file with blocks of 1 MiB takes for them. */
export function touchedMib(cells: CellSet): number {
  let count = 0;
  let end = 0;
  for (const range of cells.ranges()) {
    const first = Math.max(end, Math.floor(range.start / CELLS_PER_MIB));
    end = Math.ceil(range.end / CELLS_PER_MIB);
    count += end - first;
  }
  return count;
}

/**
 * The cells that byte ranges touch. The ranges come in the order of their starts and lie inside the
 * disk; they may overlap.
 * @throws DrError E_TRACKING_INVALID when they do not: a range that was skipped would be a change
 *   that nobody ever sends
 */
export async function cellsOfRanges(
  ranges: AsyncIterable<Bytes>,
  diskSizeBytes: number,
): Promise<CellSet> {
  const cells = new CellSet();
  const last = cellCount(diskSizeBytes);
  let end = 0;
  let from = 0;
  for await (const range of ranges) {
    if (range.start < from || range.end < range.start || range.end > diskSizeBytes) {
      throw new DrError(
        'E_TRACKING_INVALID',
        `the hypervisor reports a range from ${range.start} to ${range.end} after one from ${from}, on a disk of ${diskSizeBytes} bytes`,
      );
    }
    from = range.start;
    const first = Math.max(end, Math.floor(range.start / CELL_BYTES));
    const stop = Math.min(last, Math.ceil(range.end / CELL_BYTES));
    if (first >= stop) continue;
    cells.add(first, stop);
    end = stop;
  }
  return cells;
}
