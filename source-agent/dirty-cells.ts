// What may have changed on one disk: a set of cells, or all of them when nothing is known. Sets only
// ever grow by union; they shrink when a receiver has confirmed what was sent, and then to nothing.

import { CELL_BYTES, type CellRange, CellSet, cellCount } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { ByteRange } from '../shared/hypervisor/index.js';

export type DirtyCells = CellSet | 'all';

export function noCells(): CellSet {
  return new CellSet();
}

export function isNone(cells: DirtyCells): boolean {
  return cells !== 'all' && cells.count === 0;
}

/** Both together; neither argument is changed. */
export function union(one: DirtyCells, other: DirtyCells): DirtyCells {
  if (one === 'all' || other === 'all') return 'all';
  if (one.count === 0) return other;
  if (other.count === 0) return one;
  const both = new CellSet();
  let end = 0;
  for (const range of merged(one.pageRanges(), other.pageRanges())) {
    if (range.end <= end) continue;
    both.add(Math.max(range.start, end), range.end);
    ({ end } = range);
  }
  return both;
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

/**
 * The cells that byte ranges touch. The ranges come in the order of their starts and lie inside the
 * disk; they may overlap.
 * @throws DrError E_TRACKING_INVALID when they do not: a range that was skipped would be a change
 *   that nobody ever sends
 */
export async function cellsOf(
  ranges: AsyncIterable<ByteRange>,
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
