// A growable array of bytes that stores only the pages written to, so that a 64 TiB file costs what
// was put into it. Clones share their pages until one of them writes.

import { assert } from '../../shared/assert.js';

export const PAGE_BYTES = 4096;

export class SparseBytes {
  #sizeBytes = 0;
  #pages = new Map<number, Buffer>();
  /** Pages that no clone shares and that may be changed in place. */
  #owned = new Set<number>();
  /** Page numbers in order; dropped when a page comes or goes. */
  #order: number[] | undefined;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get storedBytes(): number {
    return this.#pages.size * PAGE_BYTES;
  }

  clone(): SparseBytes {
    const copy = new SparseBytes();
    copy.#sizeBytes = this.#sizeBytes;
    copy.#pages = new Map(this.#pages);
    this.#owned = new Set();
    return copy;
  }

  /** Returns the number of bytes read, fewer than asked for only at the end. */
  read(position: number, target: Uint8Array): number {
    const length = Math.max(0, Math.min(target.length, this.#sizeBytes - position));
    let done = 0;
    while (done < length) {
      const page = Math.floor((position + done) / PAGE_BYTES);
      const within = position + done - page * PAGE_BYTES;
      const count = Math.min(length - done, PAGE_BYTES - within);
      const stored = this.#pages.get(page);
      if (stored === undefined) target.fill(0, done, done + count);
      else target.set(stored.subarray(within, within + count), done);
      done += count;
    }
    return length;
  }

  write(position: number, source: Uint8Array): void {
    assert(Number.isSafeInteger(position) && position >= 0, 'a position is a whole number');
    if (source.length === 0) return;
    let done = 0;
    while (done < source.length) {
      const page = Math.floor((position + done) / PAGE_BYTES);
      const within = position + done - page * PAGE_BYTES;
      if (within === 0 && source.length - done >= PAGE_BYTES) {
        const wholeBytes = source.length - done - ((source.length - done) % PAGE_BYTES);
        this.#takePages(page, Buffer.from(source.subarray(done, done + wholeBytes)));
        done += wholeBytes;
        continue;
      }
      const count = Math.min(source.length - done, PAGE_BYTES - within);
      this.#ownPage(page).set(source.subarray(done, done + count), within);
      done += count;
    }
    this.#sizeBytes = Math.max(this.#sizeBytes, position + source.length);
  }

  truncate(sizeBytes: number): void {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'a size is a whole number');
    if (sizeBytes < this.#sizeBytes) {
      const keep = Math.ceil(sizeBytes / PAGE_BYTES);
      for (const page of this.#pages.keys()) {
        if (page >= keep) {
          this.#pages.delete(page);
          this.#owned.delete(page);
          this.#order = undefined;
        }
      }
      const tail = sizeBytes % PAGE_BYTES;
      if (tail !== 0 && this.#pages.has(keep - 1)) this.#ownPage(keep - 1).fill(0, tail);
    }
    this.#sizeBytes = sizeBytes;
  }

  /** The next run of stored pages at or after `position`, cut to the size. */
  nextData(position: number): { start: number; end: number } | undefined {
    this.#order ??= [...this.#pages.keys()].sort((a, b) => a - b);
    const order = this.#order;
    const wanted = Math.floor(position / PAGE_BYTES);
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((order[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    const first = order[low];
    if (first === undefined) return undefined;
    let count = 1;
    while (order[low + count] === first + count) count++;
    const start = Math.max(position, first * PAGE_BYTES);
    const end = Math.min((first + count) * PAGE_BYTES, this.#sizeBytes);
    return start < end ? { start, end } : undefined;
  }

  /** All bytes; for small files in tests. */
  toBuffer(): Buffer {
    const out = Buffer.alloc(this.#sizeBytes);
    this.read(0, out);
    return out;
  }

  /** Whole pages, which become parts of `bytes`. */
  #takePages(first: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = first + at / PAGE_BYTES;
      if (!this.#pages.has(page)) this.#order = undefined;
      this.#pages.set(page, bytes.subarray(at, at + PAGE_BYTES));
      this.#owned.add(page);
    }
  }

  #ownPage(page: number): Buffer {
    const stored = this.#pages.get(page);
    if (stored !== undefined && this.#owned.has(page)) return stored;
    const own = stored === undefined ? Buffer.alloc(PAGE_BYTES) : Buffer.from(stored);
    if (stored === undefined) this.#order = undefined;
    this.#pages.set(page, own);
    this.#owned.add(page);
    return own;
  }
}
