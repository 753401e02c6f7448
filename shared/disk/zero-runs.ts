// Finds the zeros in a piece of data, on the 64 KiB grid that the whole product works with, so that
// what need not be stored is not stored.

const CELL_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(CELL_BYTES);

/** A half-open range [start, end) inside the bytes that were looked at. */
export interface ZeroRun {
  readonly start: number;
  readonly end: number;
  readonly isZero: boolean;
}

/** True when every byte is zero. */
export function isAllZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += CELL_BYTES) {
    const cell = bytes.subarray(at, at + CELL_BYTES);
    // The first word decides for nearly all data without a call into the engine.
    if (cell[0] !== 0 || cell[cell.length - 1] !== 0) return false;
    if (!cell.equals(ZEROS.subarray(0, cell.length))) return false;
  }
  return true;
}

/**
 * The runs of zero and non-zero cells of `bytes`, which stand at guest offset `offset`; cells lie on
 * the grid of the disk, so the first and last may be short.
 */
export function zeroRuns(bytes: Buffer, offset: number): ZeroRun[] {
  const runs: ZeroRun[] = [];
  let start = 0;
  while (start < bytes.length) {
    const cellEnd = Math.min(bytes.length, start + CELL_BYTES - ((offset + start) % CELL_BYTES));
    const isZero = isAllZero(bytes.subarray(start, cellEnd));
    const last = runs.at(-1);
    if (last?.isZero === isZero) runs[runs.length - 1] = { ...last, end: cellEnd };
    else runs.push({ start, end: cellEnd, isZero });
    start = cellEnd;
  }
  return runs;
}
