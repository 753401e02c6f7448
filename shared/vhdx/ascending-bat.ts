// Builds the BAT of a new file from entries that come in ascending order, a page at a time, so that
// the table of a 64 TiB disk never stands in memory. Pages without an entry are not produced: in a
// new file they are holes, in a stream the caller sends zeros. Used by sealed.ts and stream.ts.

import { assert } from '../assert.js';
import { putEntry } from './bat.js';
import { BAT_ENTRY_BYTES, KIB } from './format.js';

export const BAT_PAGE_BYTES = 64 * KIB;
const ENTRIES_PER_PAGE = BAT_PAGE_BYTES / BAT_ENTRY_BYTES;

/** A finished page and where it goes, counted from the start of the BAT region. */
export interface BatPage {
  readonly position: number;
  readonly bytes: Buffer;
}

export class AscendingBat {
  #page: Buffer | undefined;
  #pageNumber = 0;
  #nextIndex = 0;

  /**
   * Sets entry `index`, which lies behind all earlier ones. Returns the page that this completed;
   * it belongs to the caller.
   */
  put(index: number, state: number, offset: number): BatPage | undefined {
    assert(index >= this.#nextIndex, 'BAT entries come in ascending order');
    this.#nextIndex = index + 1;
    const pageNumber = Math.floor(index / ENTRIES_PER_PAGE);
    const finished = pageNumber === this.#pageNumber ? undefined : this.finish();
    this.#pageNumber = pageNumber;
    this.#page ??= Buffer.alloc(BAT_PAGE_BYTES);
    putEntry(this.#page, (index % ENTRIES_PER_PAGE) * BAT_ENTRY_BYTES, state, offset);
    return finished;
  }

  /** The page under construction, if there is one. */
  finish(): BatPage | undefined {
    const bytes = this.#page;
    this.#page = undefined;
    return bytes === undefined ? undefined : { position: this.#pageNumber * BAT_PAGE_BYTES, bytes };
  }
}
