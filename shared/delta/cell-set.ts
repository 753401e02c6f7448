// A set of cells, filled in ascending order and iterated any number of times: what the first pass
// of a diff hands to the second. Kept in pages of 65536 cells (4 GiB of disk), each page either as
// runs of 4 bytes or as a bitmap of 8 KiB, whichever is smaller. So the memory is at most 4 bytes
// for each run of changed cells, and never more than one bit per cell of the disk: 128 MiB for a
// 64 TiB disk of which every second cell changed.

import { assert } from '../assert.js';

const PAGE_CELLS = 65536;
const BITMAP_BYTES = PAGE_CELLS / 8;
const SCATTERED_RUN_CELLS = 4;

interface Page {
  readonly index: number;
  /** Pairs of first and last cell within the page, or a bitmap. */
  readonly runs: Uint16Array | undefined;
  readonly bitmap: Uint8Array | undefined;
}

/** The half-open range of cells [start, end). */
export interface CellRange {
  readonly start: number;
  readonly end: number;
}

export class CellSet {
  readonly #pages: Page[] = [];
  #count = 0;
  #runStart = 0;
  #runEnd = 0;
  #openPage = -1;
  #openRuns: number[] = [];
  #openBitmap: Uint8Array | undefined;

  /** Number of cells in the set. */
  get count(): number {
    return this.#count;
  }

  /** Runs are so short on the whole that they are best read cell by cell. */
  get isScattered(): boolean {
    let runCount = 0;
    for (const { start, end } of this.pageRanges()) if (start < end) runCount++;
    return this.#count < runCount * SCATTERED_RUN_CELLS;
  }

  /** Bytes that the closed pages hold, for reports and tests. */
  get memoryBytes(): number {
    let sum = 0;
    for (const page of this.#pages) sum += page.runs?.byteLength ?? page.bitmap?.byteLength ?? 0;
    return sum;
  }

  /** Adds [start, end), which must not begin before the end of what was added before. */
  add(start: number, end: number): void {
    assert(start < end, 'a range of cells is not empty');
    assert(start >= this.#runEnd, 'cells are added in ascending order');
    this.#count += end - start;
    if (start === this.#runEnd && this.#runEnd > this.#runStart) {
      this.#runEnd = end;
      return;
    }
    this.#store();
    this.#runStart = start;
    this.#runEnd = end;
  }

  /** The ranges in ascending order, joined where they touch, except at most at page borders. */
  *pageRanges(): Generator<CellRange> {
    this.#store();
    this.#runStart = this.#runEnd;
    this.#closePage();
    for (const page of this.#pages) {
      const first = page.index * PAGE_CELLS;
      if (page.runs !== undefined) {
        for (let i = 0; i + 1 < page.runs.length; i += 2) {
          yield { start: first + (page.runs[i] ?? 0), end: first + (page.runs[i + 1] ?? 0) + 1 };
        }
      } else if (page.bitmap !== undefined) {
        yield* bitmapRanges(page.bitmap, first);
      }
    }
  }

  /** The ranges in ascending order, none touching the next. */
  *ranges(): Generator<CellRange> {
    let open: CellRange | undefined;
    for (const range of this.pageRanges()) {
      if (open?.end === range.start) {
        open = { start: open.start, end: range.end };
      } else {
        if (open !== undefined) yield open;
        open = range;
      }
    }
    if (open !== undefined) yield open;
  }

  #store(): void {
    let start = this.#runStart;
    while (start < this.#runEnd) {
      const page = Math.floor(start / PAGE_CELLS);
      if (page !== this.#openPage) {
        this.#closePage();
        this.#openPage = page;
      }
      const first = page * PAGE_CELLS;
      const end = Math.min(this.#runEnd, first + PAGE_CELLS);
      this.#storeInPage(start - first, end - first);
      start = end;
    }
  }

  #storeInPage(start: number, end: number): void {
    if (this.#openBitmap === undefined) {
      this.#openRuns.push(start, end - 1);
      if (this.#openRuns.length * 2 < BITMAP_BYTES) return;
      this.#openBitmap = new Uint8Array(BITMAP_BYTES);
      for (let i = 0; i + 1 < this.#openRuns.length; i += 2) {
        setBits(this.#openBitmap, this.#openRuns[i] ?? 0, (this.#openRuns[i + 1] ?? 0) + 1);
      }
      this.#openRuns = [];
    } else {
      setBits(this.#openBitmap, start, end);
    }
  }

  #closePage(): void {
    if (this.#openRuns.length > 0 || this.#openBitmap !== undefined) {
      const bitmap = this.#openBitmap;
      const runs = bitmap === undefined ? Uint16Array.from(this.#openRuns) : undefined;
      this.#pages.push({ index: this.#openPage, runs, bitmap });
    }
    this.#openPage = -1;
    this.#openRuns = [];
    this.#openBitmap = undefined;
  }
}

function setBits(bitmap: Uint8Array, start: number, end: number): void {
  for (let bit = start; bit < end; bit++) {
    bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) | (1 << (bit & 7));
  }
}

function* bitmapRanges(bitmap: Uint8Array, first: number): Generator<CellRange> {
  let start = -1;
  for (let bit = 0; bit < PAGE_CELLS; bit++) {
    const isSet = ((bitmap[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0;
    if (isSet && start < 0) start = bit;
    if (!isSet && start >= 0) {
      yield { start: first + start, end: first + bit };
      start = -1;
    }
  }
  if (start >= 0) yield { start: first + start, end: first + PAGE_CELLS };
}
