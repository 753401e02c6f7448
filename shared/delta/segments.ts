// Cuts the pieces of a delta on the cell grid. Blocks may have any alignment, touch each other and
// arrive byte by byte; what comes out are either whole cells, several in a row, or a fragment of
// one cell where the delta covers it in part. At most one cell is copied at a time; cells that lie
// whole within a piece are passed on as they are.

import { CELL_BYTES, cellLength } from './cell.js';
import type { PcbtPiece } from './pcbt.js';

export interface Segment {
  /** Guest offset. */
  readonly offset: number;
  /** Valid until the next segment is asked for. */
  readonly data: Buffer;
  /** Begins on the grid and consists of whole cells (the last one of the disk may be short). */
  readonly isWhole: boolean;
}

/** `pieces` in ascending order and disjoint, inside a disk of `diskSizeBytes`. */
export async function* segmentsOf(
  pieces: AsyncIterable<PcbtPiece>,
  diskSizeBytes: number,
): AsyncGenerator<Segment> {
  const gathered = Buffer.alloc(CELL_BYTES);
  let gatheredOffset = 0;
  let gatheredLength = 0;
  const lengthAt = (offset: number): number =>
    cellLength(Math.floor(offset / CELL_BYTES), diskSizeBytes);
  const flush = (): Segment => {
    const data = gathered.subarray(0, gatheredLength);
    gatheredLength = 0;
    const isWhole = gatheredOffset % CELL_BYTES === 0 && data.length === lengthAt(gatheredOffset);
    return { offset: gatheredOffset, data, isWhole };
  };
  for await (const piece of pieces) {
    let { offset, data } = piece;
    if (gatheredLength > 0 && offset !== gatheredOffset + gatheredLength) yield flush();
    while (data.length > 0) {
      const inCell = offset % CELL_BYTES;
      const whole = inCell === 0 && gatheredLength === 0 ? wholeBytes(offset, data.length) : 0;
      if (whole > 0) {
        yield { offset, data: data.subarray(0, whole), isWhole: true };
        offset += whole;
        data = data.subarray(whole);
        continue;
      }
      const room = lengthAt(offset) - inCell;
      const part = data.subarray(0, room);
      if (gatheredLength === 0) gatheredOffset = offset;
      gathered.set(part, gatheredLength);
      gatheredLength += part.length;
      offset += part.length;
      data = data.subarray(part.length);
      if (part.length === room) yield flush();
    }
  }
  if (gatheredLength > 0) yield flush();

  function wholeBytes(offset: number, lengthBytes: number): number {
    const end = offset + lengthBytes;
    return end === diskSizeBytes ? lengthBytes : lengthBytes - (end % CELL_BYTES);
  }
}
