// The sector bitmap of the one chunk that a sealed differencing file is being filled in: 1 MiB that
// is set bit by bit, written once when the chunk is left, and used again for the next.

import { BITMAP_BLOCK_BYTES, LOG_SECTOR_BYTES } from './format.js';
import { setBits } from './sector-bitmap.js';

const NO_BITS = Buffer.alloc(LOG_SECTOR_BYTES);

export class ChunkBitmap {
  readonly #bytes = Buffer.alloc(BITMAP_BLOCK_BYTES);
  #startByte = BITMAP_BLOCK_BYTES;
  #endByte = 0;

  /** Sets bits [start, end), counted from the start of the chunk. */
  set(start: number, end: number): void {
    setBits(this.#bytes, start, end);
    this.#startByte = Math.min(this.#startByte, start >>> 3);
    this.#endByte = Math.max(this.#endByte, (end + 7) >>> 3);
  }

  /** Copies of the stretches of 4 KiB pages that hold a set bit; the rest is zero. */
  *stretches(): Generator<{ position: number; bytes: Buffer }> {
    const end = Math.min(BITMAP_BLOCK_BYTES, roundUp(this.#endByte));
    let start: number | undefined;
    for (
      let at = roundUp(this.#startByte + 1) - LOG_SECTOR_BYTES;
      at < end;
      at += LOG_SECTOR_BYTES
    ) {
      const isEmpty = NO_BITS.equals(this.#bytes.subarray(at, at + LOG_SECTOR_BYTES));
      if (!isEmpty) start ??= at;
      else if (start !== undefined) {
        yield { position: start, bytes: Buffer.from(this.#bytes.subarray(start, at)) };
        start = undefined;
      }
    }
    if (start !== undefined) {
      yield { position: start, bytes: Buffer.from(this.#bytes.subarray(start, end)) };
    }
  }

  /** Makes it empty, at the cost of what was set. */
  clear(): void {
    if (this.#startByte < this.#endByte) this.#bytes.fill(0, this.#startByte, this.#endByte);
    this.#startByte = BITMAP_BLOCK_BYTES;
    this.#endByte = 0;
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / LOG_SECTOR_BYTES) * LOG_SECTOR_BYTES;
}
