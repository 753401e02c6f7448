// Reads chosen cells of a frozen disk, in order, several pieces ahead: what the disk knows to be
// zero is told as a run without being read; everything else comes as pieces of whole cells.

import { type Extent, type Piece, readAhead, type ReadableDisk } from '../disk/index.js';
import { CELL_BYTES, cellOffset } from './cell.js';
import type { CellRange } from './cell-set.js';

const PIECE_BYTES = 1024 * 1024;
/** Of the disk: 4 MiB of sequential data, or 32 scattered cells. */
const DEPTH = 4;
const SCATTERED_DEPTH = 32;

/** The pieces of the cells of `ranges`: zero runs of any length, data of at most 1 MiB. */
export function readCells(
  disk: ReadableDisk,
  ranges: Iterable<CellRange>,
  isScattered: boolean,
): AsyncGenerator<Piece, void, void> {
  return readAhead(disk, {
    extents: cellExtents(disk, ranges),
    pieceBytes: isScattered ? CELL_BYTES : PIECE_BYTES,
    depth: isScattered ? SCATTERED_DEPTH : DEPTH,
  });
}

/** The extents of whole cells: a cell is data when any byte of it may be. */
export async function* cellExtents(
  disk: ReadableDisk,
  ranges: Iterable<CellRange>,
): AsyncGenerator<Extent> {
  for (const range of ranges) {
    const start = cellOffset(range.start, disk.sizeBytes);
    const end = cellOffset(range.end, disk.sizeBytes);
    let position = start;
    // the data extent that may still grow
    let dataStart = start;
    for await (const extent of disk.extents(start, end)) {
      if (extent.kind === 'zero') continue;
      const from = Math.max(position, extent.start - (extent.start % CELL_BYTES));
      const to = Math.min(end, Math.ceil(extent.end / CELL_BYTES) * CELL_BYTES);
      if (to <= position) continue;
      if (from > position) {
        if (position > dataStart) yield { start: dataStart, end: position, kind: 'data' };
        yield { start: position, end: from, kind: 'zero' };
        dataStart = from;
      }
      position = to;
    }
    if (position > dataStart) yield { start: dataStart, end: position, kind: 'data' };
    if (position < end) yield { start: position, end, kind: 'zero' };
  }
}
