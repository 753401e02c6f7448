// Changing a published VHDX in place, safely (§ 7).
//
//   write/zero   payload goes to its final place; BAT entries and bitmap bits change in the cache
//   commit       1. flush: payload, and the pages of the commit before, are durable
//                2. all changed pages as one log entry, flush: the commit point
//                3. the pages to their place, flushed by the next commit or by close
//
// Many writes may be under way at once; a commit waits for those that began and holds back new
// ones. The pages that they may change are reserved before they start, so that every commit is one
// log entry, atomic.
//
// Invariants between calls:
//   - an entry that owns space is put into the cache only after the payload was written
//   - freed space is reused only after the freeing commit, and when no reader is under way
//   - after any failed write or flush the session is poisoned: nothing more is written, the log
//     stays dirty, and the next open recovers to the last commit

import { assert } from '../assert.js';
import { randomGuid, type Guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import type { BlockFile } from '../files/index.js';
import type { BlockEntry, BlockTable } from './block-table.js';
import {
  BITMAP_BLOCK_BYTES,
  BITMAP_PRESENT,
  BLOCK_FULLY_PRESENT,
  BLOCK_NOT_PRESENT,
  BLOCK_PARTIALLY_PRESENT,
  BLOCK_ZERO,
  MIB,
  REGION_TABLE_BYTES,
  REGION_TABLE_OFFSETS,
  type FileOffset,
} from './format.js';
import type { Geometry } from './geometry.js';
import { LogWriter, PAGES_PER_ENTRY_MAX, type LoggedPage } from './log-writer.js';
import type { PageCache } from './page-cache.js';
import { areAllSet, setBits } from './sector-bitmap.js';
import type { Allocation, SpaceMap } from './space.js';
import type { Structures } from './structures.js';
import { VhdxError } from './violation.js';

export interface WriteSessionInput {
  readonly file: BlockFile;
  readonly structures: Structures;
  readonly cache: PageCache;
  readonly table: BlockTable;
  readonly log: LogWriter;
  readonly random: Random;
  readonly fileSizeBytes: number;
  /** How many reads of this file are under way. */
  readonly readsUnderWay: () => number;
  /**
   * 'new' for ordinary writing: children that were linked to the old content no longer fit.
   * 'keep' for a merge, which changes only what its child hides.
   */
  readonly contentIdentity: 'new' | 'keep';
}

/** The file grows in steps, so that not every block costs a change of its length. */
const GROWTH_STEP_BYTES = 32 * MIB;
const ZEROS = Buffer.alloc(MIB);

export class WriteSession {
  readonly #file: BlockFile;
  readonly #structures: Structures;
  readonly #geometry: Geometry;
  readonly #cache: PageCache;
  readonly #table: BlockTable;
  readonly #space: SpaceMap;
  readonly #log: LogWriter;
  readonly #random: Random;
  readonly #readsUnderWay: () => number;
  readonly #contentIdentity: 'new' | 'keep';

  #fileSizeBytes: number;
  #growing: Promise<void> = Promise.resolve();
  #begun: Promise<void> | undefined;
  #poison: unknown;
  #reservedPages = 0;
  #activeWrites = 0;
  #committing: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;
  #hasUnflushedPayload = false;
  /** Blocks and chunks whose place is being decided; others wait for them. */
  readonly #allocatingBlocks = new Map<number, Promise<unknown>>();
  readonly #allocatingBitmaps = new Map<number, Promise<void>>();

  constructor(input: WriteSessionInput) {
    this.#file = input.file;
    this.#structures = input.structures;
    this.#geometry = input.structures.geometry;
    this.#cache = input.cache;
    this.#table = input.table;
    this.#space = input.structures.space;
    this.#log = input.log;
    this.#random = input.random;
    this.#readsUnderWay = input.readsUnderWay;
    this.#contentIdentity = input.contentIdentity;
    this.#fileSizeBytes = input.fileSizeBytes;
    this.#space.distrustBelow(input.fileSizeBytes);
  }

  /**
   * Writes guest bytes. In a differencing disk the parts of blocks that are not covered whole must
   * be aligned to the logical sector (the chain sees to that). Durable after flush().
   */
  async write(offset: number, source: Uint8Array): Promise<void> {
    const { blockSizeBytes } = this.#geometry;
    await this.#begin();
    let position = offset;
    const end = offset + source.length;
    while (position < end) {
      const block = Math.floor(position / blockSizeBytes);
      const pieceEnd = Math.min(end, (block + 1) * blockSizeBytes);
      const piece = source.subarray(position - offset, pieceEnd - offset);
      const within = position - block * blockSizeBytes;
      await this.#guarded(() => this.#writeBlock(block, within, piece));
      position = pieceEnd;
    }
  }

  /** Makes guest bytes zero; whole blocks give their space back (not in a fixed disk). */
  async zero(offset: number, lengthBytes: number): Promise<void> {
    const { blockSizeBytes, sizeBytes } = this.#geometry;
    await this.#begin();
    let position = offset;
    const end = offset + lengthBytes;
    while (position < end) {
      const block = Math.floor(position / blockSizeBytes);
      const blockEnd = Math.min((block + 1) * blockSizeBytes, sizeBytes);
      const pieceEnd = Math.min(end, blockEnd);
      const isWhole = position === block * blockSizeBytes && pieceEnd === blockEnd;
      const within = position - block * blockSizeBytes;
      const length = pieceEnd - position;
      await this.#guarded(() =>
        isWhole ? this.#zeroWholeBlock(block, length) : this.#zeroPart(block, within, length),
      );
      position = pieceEnd;
    }
  }

  /** Durable on return: every write and zero that had returned before the call. */
  async flush(): Promise<void> {
    this.#refuseWhenPoisoned();
    if (this.#begun === undefined) return;
    await this.#begun;
    await this.#commit();
  }

  /** Gives the content a new identity, or the one that a merge hands over. Durable on return. */
  async setDataWriteGuid(dataWriteGuid: Guid): Promise<void> {
    await this.#begin();
    await this.#commit();
    await this.#poisoning(() => this.#log.updateHeader({ dataWriteGuid, isNewWrite: false }));
  }

  /**
   * Ends the session with a clean log. After a poisoned session nothing is written; the log stays
   * as it is and the next open replays it.
   */
  async end(): Promise<void> {
    if (this.#begun === undefined || this.#poison !== undefined) return;
    await this.#begun;
    await this.#commit();
    await this.#poisoning(async () => {
      await this.#file.flush(); // the pages of the last commit, in their place
      await this.#log.end();
      const end = this.#space.lastUsedEndBytes();
      // Only now: while the log is dirty, a file shorter than its entries say is refused.
      if (end < this.#fileSizeBytes) await this.#file.truncate(end);
    });
  }

  // ---- one block ------------------------------------------------------------------------------

  #writeBlock(block: number, within: number, data: Uint8Array): Promise<void> {
    return this.#whenSettled(block, async (entry) => {
      if (entry.state === BLOCK_FULLY_PRESENT) {
        await this.#payload(entry.offset + within, data);
      } else if (entry.state === BLOCK_PARTIALLY_PRESENT) {
        await this.#payload(entry.offset + within, data);
        await this.#setBits(block, within, data.length, entry);
      } else {
        await this.#exclusively(block, () => this.#allocateBlock(block, entry, within, data));
      }
    });
  }

  /**
   * Runs `action` on the entry of a block that nobody is allocating. From the look at the entry to
   * the first await of `action` nothing else runs, so what it decides there still holds.
   */
  async #whenSettled(block: number, action: (entry: BlockEntry) => Promise<void>): Promise<void> {
    for (;;) {
      const busy = this.#allocatingBlocks.get(block);
      if (busy !== undefined) {
        await busy;
        continue;
      }
      const entry = this.#table.peekBlock(block);
      if (entry === undefined) {
        await this.#table.loadBlock(block);
        continue;
      }
      await action(entry);
      return;
    }
  }

  /** Called inside #whenSettled before any await. */
  async #exclusively(block: number, action: () => Promise<void>): Promise<void> {
    const running = action();
    // Waiters look again whatever came of it; a failure poisons the session and reaches its caller.
    const settled = running.catch(() => undefined);
    this.#allocatingBlocks.set(block, settled);
    try {
      await running;
    } finally {
      this.#allocatingBlocks.delete(block);
    }
  }

  async #allocateBlock(
    block: number,
    entry: BlockEntry,
    within: number,
    data: Uint8Array,
  ): Promise<void> {
    const { type, blockSizeBytes, sizeBytes } = this.#geometry;
    const guestBytes = Math.min(blockSizeBytes, sizeBytes - block * blockSizeBytes);
    const isWhole = data.length === guestBytes;
    const showsParent = type === 'differencing' && entry.state === BLOCK_NOT_PRESENT;
    const allocation = await this.#allocate(blockSizeBytes);
    if (showsParent && !isWhole) {
      const place = await this.#clearedBits(block);
      await this.#payload(allocation.offset + within, data);
      await this.#putBlock(block, BLOCK_PARTIALLY_PRESENT, allocation.offset);
      await this.#putBits(place, within, data.length);
      return;
    }
    if (allocation.content === 'stale') {
      await this.#writeZeros(allocation.offset, within);
      const behind = within + data.length;
      await this.#writeZeros(allocation.offset + behind, blockSizeBytes - behind);
    }
    await this.#payload(allocation.offset + within, data);
    await this.#putBlock(block, BLOCK_FULLY_PRESENT, allocation.offset);
  }

  async #putBlock(block: number, state: number, offset: number): Promise<void> {
    while (this.#table.peekBlock(block) === undefined) await this.#table.loadBlock(block);
    this.#table.putBlock(block, state, offset);
  }

  /** Sets the bits of sectors written to a block in state 7; a full bitmap raises it to state 6. */
  async #setBits(
    block: number,
    within: number,
    lengthBytes: number,
    entry: BlockEntry,
  ): Promise<void> {
    const chunk = Math.floor(block / this.#geometry.chunkRatio);
    const bitmap = await this.#bitmapOf(chunk);
    const place = this.#table.bitsPlace(block, bitmap);
    const isComplete = await this.#putBits(place, within, lengthBytes);
    if (!isComplete) return;
    while (this.#table.peekBlock(block) === undefined) await this.#table.loadBlock(block);
    const now = this.#table.peekBlock(block);
    const isSame = now?.state === BLOCK_PARTIALLY_PRESENT && now.offset === entry.offset;
    if (isSame) this.#table.putBlock(block, BLOCK_FULLY_PRESENT, entry.offset);
  }

  /** True when every sector of the block is now in this file. */
  async #putBits(place: number, within: number, lengthBytes: number): Promise<boolean> {
    const { blockSizeBytes, logicalSectorBytes: sector } = this.#geometry;
    assert(within % sector === 0 && lengthBytes % sector === 0, 'partial writes are whole sectors');
    const first = within / sector;
    const end = first + lengthBytes / sector;
    return this.#changeBits(place, (bits) => {
      setBits(bits, first, end);
      this.#table.markBitsDirty(place, first, end);
      return areAllSet(bits, blockSizeBytes / sector);
    });
  }

  /** Runs `change` on the live bits, which cannot leave the cache before it has returned. */
  async #changeBits<T>(place: number, change: (bits: Buffer) => T): Promise<T> {
    for (;;) {
      const bits = this.#table.peekBits(place);
      if (bits !== undefined) return change(bits);
      await this.#table.loadBits(place);
    }
  }

  /** Bits of a block that is about to become partially present: whatever stood there is cleared. */
  async #clearedBits(block: number): Promise<number> {
    const { chunkRatio, blockSizeBytes, logicalSectorBytes } = this.#geometry;
    const bitmap = await this.#bitmapOf(Math.floor(block / chunkRatio));
    const place = this.#table.bitsPlace(block, bitmap);
    await this.#changeBits(place, (bits) => {
      bits.fill(0);
      this.#table.markBitsDirty(place, 0, blockSizeBytes / logicalSectorBytes);
    });
    return place;
  }

  /** The sector-bitmap block of a chunk, made when it is not there. */
  async #bitmapOf(chunk: number): Promise<FileOffset> {
    for (;;) {
      const busy = this.#allocatingBitmaps.get(chunk);
      if (busy !== undefined) {
        await busy;
        continue;
      }
      const entry = this.#table.peekBitmap(chunk);
      if (entry === undefined) {
        await this.#table.loadBitmap(chunk);
        continue;
      }
      if (entry.state === BITMAP_PRESENT) return entry.offset;
      const running = this.#allocateBitmap(chunk);
      this.#allocatingBitmaps.set(
        chunk,
        running.catch(() => undefined),
      );
      try {
        await running;
      } finally {
        this.#allocatingBitmaps.delete(chunk);
      }
    }
  }

  async #allocateBitmap(chunk: number): Promise<void> {
    const allocation = await this.#allocate(BITMAP_BLOCK_BYTES);
    if (allocation.content === 'stale')
      await this.#writeZeros(allocation.offset, BITMAP_BLOCK_BYTES);
    while (this.#table.peekBitmap(chunk) === undefined) await this.#table.loadBitmap(chunk);
    this.#table.putBitmap(chunk, BITMAP_PRESENT, allocation.offset);
  }

  #zeroWholeBlock(block: number, lengthBytes: number): Promise<void> {
    const { type, blockSizeBytes } = this.#geometry;
    return this.#whenSettled(block, async (entry) => {
      const isStored =
        entry.state === BLOCK_FULLY_PRESENT || entry.state === BLOCK_PARTIALLY_PRESENT;
      if (type === 'fixed') {
        if (isStored) await this.#writeZeros(entry.offset, lengthBytes);
        return;
      }
      const readsZero = !isStored && (type === 'dynamic' || entry.state !== BLOCK_NOT_PRESENT);
      if (readsZero) return;
      this.#table.putBlock(block, BLOCK_ZERO, 0);
      if (isStored) this.#space.free(entry.offset, blockSizeBytes);
    });
  }

  #zeroPart(block: number, within: number, lengthBytes: number): Promise<void> {
    const { type } = this.#geometry;
    return this.#whenSettled(block, async (entry) => {
      if (entry.state === BLOCK_FULLY_PRESENT) {
        await this.#writeZeros(entry.offset + within, lengthBytes);
        return;
      }
      const showsParent =
        type === 'differencing' &&
        (entry.state === BLOCK_NOT_PRESENT || entry.state === BLOCK_PARTIALLY_PRESENT);
      if (!showsParent) return;
      for (let done = 0; done < lengthBytes; done += ZEROS.length) {
        const piece = ZEROS.subarray(0, Math.min(ZEROS.length, lengthBytes - done));
        await this.#writeBlock(block, within + done, piece);
      }
    });
  }

  // ---- space and payload ----------------------------------------------------------------------

  async #allocate(lengthBytes: number): Promise<Allocation> {
    const allocation = this.#space.allocate(lengthBytes);
    // Growing is one after the other: truncate() of a later step must not come before an earlier.
    const grown = this.#growing.then(() => this.#ensureLength(allocation.offset + lengthBytes));
    this.#growing = grown.catch(() => undefined);
    await grown;
    return allocation;
  }

  async #ensureLength(neededBytes: number): Promise<void> {
    if (neededBytes <= this.#fileSizeBytes) return;
    const target = Math.max(neededBytes, this.#fileSizeBytes + GROWTH_STEP_BYTES);
    await this.#poisoning(() => this.#file.truncate(target));
    this.#fileSizeBytes = target;
  }

  async #payload(offset: number, data: Uint8Array): Promise<void> {
    this.#hasUnflushedPayload = true;
    await this.#poisoning(() => this.#file.write(offset, data));
  }

  async #writeZeros(offset: number, lengthBytes: number): Promise<void> {
    for (let done = 0; done < lengthBytes; done += ZEROS.length) {
      await this.#payload(
        offset + done,
        ZEROS.subarray(0, Math.min(ZEROS.length, lengthBytes - done)),
      );
    }
  }

  // ---- session and commit ---------------------------------------------------------------------

  #begin(): Promise<void> {
    this.#refuseWhenPoisoned();
    this.#begun ??= this.#poisoning(async () => {
      const guid =
        this.#contentIdentity === 'keep'
          ? this.#log.header.dataWriteGuid
          : randomGuid(this.#random);
      await this.#cutUnpublishedTail();
      await this.#log.begin(guid, this.#fileSizeBytes);
      await this.#repairRegionTable();
    });
    return this.#begun;
  }

  /**
   * What lies behind the last structure was never published, for instance because the disk was full.
   * Cut off, it costs no space and reads as zeros when the file grows again. The log's first entry
   * is flushed after this, and with it the new length.
   */
  async #cutUnpublishedTail(): Promise<void> {
    const end = this.#space.lastUsedEndBytes();
    if (end >= this.#fileSizeBytes) return;
    await this.#file.truncate(end);
    this.#fileSizeBytes = end;
    this.#space.trustFrom(end);
  }

  async #repairRegionTable(): Promise<void> {
    const damaged = this.#structures.damagedRegionCopy;
    if (damaged === undefined) return;
    const good = Buffer.alloc(REGION_TABLE_BYTES);
    await this.#file.read(REGION_TABLE_OFFSETS[damaged === 0 ? 1 : 0], good);
    const pages: LoggedPage[] = [];
    for (let at = 0; at < REGION_TABLE_BYTES; at += 4096) {
      pages.push({
        offset: REGION_TABLE_OFFSETS[damaged] + at,
        bytes: good.subarray(at, at + 4096),
      });
    }
    await this.#log.commit(pages, this.#fileSizeBytes, this.#fileSizeBytes);
    await this.#file.write(REGION_TABLE_OFFSETS[damaged], good);
  }

  /** Pages that one call on one block can change at the most. */
  get #pagesPerCall(): number {
    return this.#geometry.type === 'differencing' ? 2 + this.#geometry.bitmapPagesPerBlock : 1;
  }

  /** Runs `action` between commits, with room for the pages that it may change. */
  async #guarded(action: () => Promise<void>): Promise<void> {
    const pages = this.#pagesPerCall;
    for (;;) {
      this.#refuseWhenPoisoned();
      if (this.#committing !== undefined) {
        await this.#committing;
      } else if (this.#cache.dirtyPageCount + this.#reservedPages + pages > PAGES_PER_ENTRY_MAX) {
        await this.#commit();
      } else {
        break;
      }
    }
    this.#reservedPages += pages;
    this.#activeWrites++;
    try {
      await action();
    } finally {
      this.#reservedPages -= pages;
      this.#activeWrites--;
      if (this.#activeWrites === 0) this.#whenIdle?.();
    }
  }

  /** Joins the commit under way: it covers every write that returned before this call. */
  #commit(): Promise<void> {
    this.#committing ??= this.#commitNow().finally(() => {
      this.#committing = undefined;
    });
    return this.#committing;
  }

  async #commitNow(): Promise<void> {
    if (this.#activeWrites > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
      this.#whenIdle = undefined;
    }
    this.#refuseWhenPoisoned();
    const pages = this.#cache.dirtyPages();
    if (pages.length === 0 && !this.#hasUnflushedPayload) return;
    await this.#poisoning(async () => {
      await this.#file.flush();
      this.#hasUnflushedPayload = false;
      if (pages.length === 0) return;
      await this.#log.commit(pages, this.#fileSizeBytes, this.#space.endBytes);
      for (const page of pages) await this.#file.write(page.offset, page.bytes);
      this.#cache.clearDirty();
    });
    if (this.#space.hasFreed && this.#readsUnderWay() === 0) this.#space.releaseFreed();
  }

  async #poisoning(action: () => Promise<void>): Promise<void> {
    this.#refuseWhenPoisoned();
    try {
      await action();
    } catch (error) {
      this.#poison ??= error;
      throw error;
    }
  }

  #refuseWhenPoisoned(): void {
    if (this.#poison === undefined) return;
    throw new VhdxError(
      {
        code: 'E_VHDX_POISONED',
        structure: 'file',
        message: 'an earlier write or flush failed',
      },
      this.#file.path,
      { cause: this.#poison, done: 'nothing was written since; the log recovers the last commit' },
    );
  }
}
