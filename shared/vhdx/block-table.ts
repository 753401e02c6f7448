// The BAT and the sector bitmaps of one file as the read and write paths see them: look up an
// entry, change an entry, reach the bitmap bytes of a block. Works on the page cache; a look-up
// answers undefined when its page is not there, and the caller loads it and asks again. So each
// decision is taken synchronously on pages that are all present at that moment.

import { assert } from '../assert.js';
import { offsetOf, putEntry, stateOf } from './bat.js';
import { BAT_ENTRY_BYTES, type FileOffset } from './format.js';
import {
  bitmapEntryIndex,
  CACHE_CHUNK_BYTES,
  payloadEntryIndex,
  type Geometry,
} from './geometry.js';
import type { PageCache } from './page-cache.js';

export interface BlockEntry {
  readonly state: number;
  /** Meaningful only when the state owns space. */
  readonly offset: FileOffset;
}

export class BlockTable {
  readonly #geometry: Geometry;
  readonly #batOffset: number;
  readonly #cache: PageCache;

  constructor(geometry: Geometry, batOffset: number, cache: PageCache) {
    this.#geometry = geometry;
    this.#batOffset = batOffset;
    this.#cache = cache;
  }

  #payloadPlace(block: number): number {
    return this.#batOffset + payloadEntryIndex(this.#geometry, block) * BAT_ENTRY_BYTES;
  }

  #bitmapPlace(chunk: number): number {
    return this.#batOffset + bitmapEntryIndex(this.#geometry, chunk) * BAT_ENTRY_BYTES;
  }

  #peekEntry(place: number): BlockEntry | undefined {
    const page = this.#cache.peek(place);
    if (page === undefined) return undefined;
    const at = place % CACHE_CHUNK_BYTES;
    const low = page.readUInt32LE(at);
    return { state: stateOf(low), offset: offsetOf(low, page.readUInt32LE(at + 4)) };
  }

  #putEntry(place: number, state: number, offset: number): void {
    const page = this.#cache.peek(place);
    assert(page !== undefined, 'a BAT page is loaded before it is changed');
    putEntry(page, place % CACHE_CHUNK_BYTES, state, offset);
    this.#cache.markDirty(place);
  }

  /** Entry of payload block `block`, or undefined when its page must be loaded first. */
  peekBlock(block: number): BlockEntry | undefined {
    return this.#peekEntry(this.#payloadPlace(block));
  }

  async loadBlock(block: number): Promise<void> {
    await this.#cache.load(this.#payloadPlace(block));
  }

  putBlock(block: number, state: number, offset: number): void {
    this.#putEntry(this.#payloadPlace(block), state, offset);
  }

  peekBitmap(chunk: number): BlockEntry | undefined {
    return this.#peekEntry(this.#bitmapPlace(chunk));
  }

  async loadBitmap(chunk: number): Promise<void> {
    await this.#cache.load(this.#bitmapPlace(chunk));
  }

  putBitmap(chunk: number, state: number, offset: number): void {
    this.#putEntry(this.#bitmapPlace(chunk), state, offset);
  }

  /** Place in the file of the bits of `block`, given its chunk's bitmap block. */
  bitsPlace(block: number, bitmapBlock: number): number {
    const { chunkRatio, bitmapBytesPerBlock } = this.#geometry;
    return bitmapBlock + (block % chunkRatio) * bitmapBytesPerBlock;
  }

  /** The live bytes that hold the bits of a block, or undefined when they must be loaded first. */
  peekBits(place: number): Buffer | undefined {
    const page = this.#cache.peek(place);
    const at = place % CACHE_CHUNK_BYTES;
    return page?.subarray(at, at + this.#geometry.bitmapBytesPerBlock);
  }

  async loadBits(place: number): Promise<void> {
    await this.#cache.load(place);
  }

  /** Records that bits [startBit, endBit) of the block whose bits stand at `place` were changed. */
  markBitsDirty(place: number, startBit: number, endBit: number): void {
    const first = place + (startBit >>> 3);
    const last = place + ((endBit - 1) >>> 3);
    for (let at = first - (first % 4096); at <= last; at += 4096) this.#cache.markDirty(at);
  }

  /**
   * Index of the first entry that is not zero, from that of `block` on, looking no further than the
   * cached chunk: then it is the index where the next chunk begins. Undefined when the entry of
   * `block` itself is not zero.
   */
  async firstUsedIndex(block: number): Promise<number | undefined> {
    const place = this.#payloadPlace(block);
    const page = this.#cache.peek(place) ?? (await this.#cache.load(place));
    let at = place % CACHE_CHUNK_BYTES;
    const start = at;
    while (at < CACHE_CHUNK_BYTES && page.readInt32LE(at) === 0 && page.readInt32LE(at + 4) === 0) {
      at += BAT_ENTRY_BYTES;
    }
    if (at === start) return undefined;
    return (place - start + at - this.#batOffset) / BAT_ENTRY_BYTES;
  }

  /** The entry of a block, loading its page when needed. */
  async block(block: number): Promise<BlockEntry> {
    for (;;) {
      const entry = this.peekBlock(block);
      if (entry !== undefined) return entry;
      await this.loadBlock(block);
    }
  }

  /** The bits of a block in state 7, loading what is needed; the chunk's bitmap must exist. */
  async bits(block: number): Promise<Buffer> {
    const chunk = Math.floor(block / this.#geometry.chunkRatio);
    for (;;) {
      const bitmap = this.peekBitmap(chunk);
      if (bitmap === undefined) {
        await this.loadBitmap(chunk);
        continue;
      }
      const place = this.bitsPlace(block, bitmap.offset);
      const bits = this.peekBits(place);
      if (bits !== undefined) return bits;
      await this.loadBits(place);
    }
  }
}
