// BAT and sector-bitmap pages in memory, bounded: a 64 TiB disk with 2 MiB blocks has 256 MiB of
// BAT, which must not be held at once. Loaded in chunks of 64 KiB, changed in pages of 4 KiB (the
// unit of the log). A chunk with changed pages stays until they are written to their place.

import { defined } from '../assert.js';
import type { BlockFile } from '../files/index.js';
import { LOG_SECTOR_BYTES } from './format.js';
import { CACHE_CHUNK_BYTES } from './geometry.js';

/** 256 chunks = 16 MiB. */
const CHUNK_LIMIT = 256;

export class PageCache {
  #file: BlockFile;
  readonly #chunks = new Map<number, Buffer>();
  readonly #loading = new Map<number, Promise<Buffer>>();
  readonly #dirty = new Set<number>();

  constructor(file: BlockFile) {
    this.#file = file;
  }

  /** Reads go to another view of the same bytes from now on (the file after its log was replayed). */
  useFile(file: BlockFile): void {
    this.#file = file;
  }

  /** The cached 64 KiB chunk that holds `offset`, or undefined. */
  peek(offset: number): Buffer | undefined {
    return this.#chunks.get(offset - (offset % CACHE_CHUNK_BYTES));
  }

  /** The chunk that holds `offset`; bytes behind the end of the file are zeros. */
  async load(offset: number): Promise<Buffer> {
    const start = offset - (offset % CACHE_CHUNK_BYTES);
    const cached = this.#chunks.get(start);
    if (cached !== undefined) {
      this.#chunks.delete(start);
      this.#chunks.set(start, cached);
      return cached;
    }
    const running = this.#loading.get(start) ?? this.#fetch(start);
    this.#loading.set(start, running);
    try {
      return await running;
    } finally {
      this.#loading.delete(start);
    }
  }

  async #fetch(start: number): Promise<Buffer> {
    const chunk = Buffer.alloc(CACHE_CHUNK_BYTES);
    await this.#file.read(start, chunk);
    this.#chunks.set(start, chunk);
    this.#evict();
    return chunk;
  }

  /** Records that the 4 KiB page holding `offset`, in a chunk just returned, was changed. */
  markDirty(offset: number): void {
    this.#dirty.add(offset - (offset % LOG_SECTOR_BYTES));
  }

  get dirtyPageCount(): number {
    return this.#dirty.size;
  }

  /** The changed pages, lowest place first; the bytes are the live ones. */
  dirtyPages(): { offset: number; bytes: Buffer }[] {
    return [...this.#dirty]
      .sort((a, b) => a - b)
      .map((offset) => {
        const chunk = defined(this.peek(offset), 'changed pages stay in the cache');
        const at = offset % CACHE_CHUNK_BYTES;
        return { offset, bytes: chunk.subarray(at, at + LOG_SECTOR_BYTES) };
      });
  }

  /** The changed pages are in their place. */
  clearDirty(): void {
    this.#dirty.clear();
    this.#evict();
  }

  #evict(): void {
    if (this.#chunks.size <= CHUNK_LIMIT) return;
    const pinned = new Set([...this.#dirty].map((page) => page - (page % CACHE_CHUNK_BYTES)));
    for (const start of this.#chunks.keys()) {
      if (this.#chunks.size <= CHUNK_LIMIT) return;
      if (!pinned.has(start)) this.#chunks.delete(start);
    }
  }
}
