// Builds a VHDX file that nobody can see yet (§ 7.1): payload in ascending order, then bitmaps, BAT
// and head, one flush, and a rename to the final name. No log is needed, because a crash leaves only
// the temporary file. Used by convert, export and materialise. The DR store builds the base of a
// disk in a file of its own naming instead, over hours and with interruptions: places follow from the
// order of the calls alone, so a builder that is told the same ranges again goes on where it was.
//
// Invariants:
// - Space is handed out at the end of a new file, where everything not yet written reads as zeros.
//   So a range that must be zero inside an allocated block is never written, only marked.
// - BAT entries are final and in ascending order when a block is left; a chunk's bitmap follows the
//   entries of its blocks.
// - Memory: one BAT page, one chunk's bitmap (1 MiB, differencing only), the caller's buffers and at
//   most IN_FLIGHT_BYTES of our own pages; whatever the size of the disk.

import path from 'node:path';
import { assert } from '../assert.js';
import type { Guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import {
  refuseExisting,
  createBeside,
  WriteBehind,
  type BlockFile,
  type FileSystem,
} from '../files/index.js';
import { AscendingBat, type BatPage } from './ascending-bat.js';
import { ChunkBitmap } from './chunk-bitmap.js';
import {
  BITMAP_BLOCK_BYTES,
  BITMAP_PRESENT,
  BLOCK_FULLY_PRESENT,
  BLOCK_PARTIALLY_PRESENT,
  BLOCK_ZERO,
  MIB,
} from './format.js';
import { bitmapEntryIndex, payloadEntryIndex, type Geometry } from './geometry.js';
import { planNewFile, type NewDisk, type NewFileLayout } from './layout.js';

/** Bytes under way to the file before the next write waits for one to end. */
const IN_FLIGHT_BYTES = 8 * MIB;
/** The device starts to work while the file is still being built; the last flush is then short. */
const FLUSH_EVERY_BYTES = 256 * MIB;
/** Entries set without a pause in long runs of equal blocks. */
const RUN_ENTRIES = 8192;

export interface SealedVhdxOptions extends NewDisk {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Final name. */
  readonly path: string;
  /** Replace a file that has the final name (default: refuse with E_EXISTS). */
  readonly isReplacing?: boolean | undefined;
  /** How much is written before the device is set to work on it, with the caller waiting for neither. */
  readonly flushEveryBytes?: number | undefined;
}

/** A file of the caller's that takes the disk; it has no other content. */
export interface OwnedVhdxOptions extends NewDisk {
  readonly random: Random;
  /** Writes under way at most. Default 1; more pay for a file that passes the page cache by. */
  readonly concurrency?: number;
}

/** How the writes go to the file. */
interface Pacing {
  readonly concurrency?: number | undefined;
  readonly flushEveryBytes?: number | undefined;
}

export interface SealedVhdx {
  readonly path: string;
  /** Length of the file. */
  readonly lengthBytes: number;
  /** What a child of this file stores as its linkage. */
  readonly dataWriteGuid: Guid;
  readonly diskId: Guid;
}

/** A stretch of the guest's bytes that lies in one piece in the file. */
interface Placement {
  readonly fileStart: number;
  readonly from: number;
  readonly to: number;
}

export class SealedVhdxWriter {
  /** undefined: the file is the caller's, and so is its name. */
  readonly #naming: (SealedVhdxOptions & { readonly temporaryPath: string }) | undefined;
  readonly #layout: NewFileLayout;
  readonly #file: BlockFile;
  readonly #output: WriteBehind;
  readonly #bat = new AscendingBat();
  readonly #bitmap: ChunkBitmap | undefined;
  /** End of the last range written or zeroed. */
  #guestEnd = 0;
  #nextFree: number;
  #block: number | undefined;
  /** Where the block under way stands; undefined as long as it holds no data. */
  #blockPlace: number | undefined;
  #blockCoveredBytes = 0;
  #chunk = 0;
  #isBitmapNeeded = false;
  /** Ranges are placed one after the other, in the order of the calls. */
  #turn: Promise<unknown> = Promise.resolve();
  #state: 'open' | 'finished' | 'aborted' = 'open';

  private constructor(
    layout: NewFileLayout,
    file: BlockFile,
    naming?: SealedVhdxOptions & { readonly temporaryPath: string },
    { concurrency, flushEveryBytes = FLUSH_EVERY_BYTES }: Pacing = {},
  ) {
    this.#naming = naming;
    this.#layout = layout;
    this.#file = file;
    this.#output = new WriteBehind(file, IN_FLIGHT_BYTES, flushEveryBytes, concurrency);
    this.#bitmap = layout.geometry.type === 'differencing' ? new ChunkBitmap() : undefined;
    this.#nextFree = layout.firstBlockOffset;
  }

  /**
   * Begins a file under a temporary name in the folder of `path`.
   * @throws DrError E_USAGE for an impossible disk, E_EXISTS, E_NOT_FOUND (folder), E_IO, E_CAPACITY
   */
  static async create(options: SealedVhdxOptions): Promise<SealedVhdxWriter> {
    const layout = planNewFile(options, options.random);
    await refuseExisting(options.fs, options.path, options.isReplacing ?? false);
    const { temporaryPath, file } = await createBeside(options.fs, options.path, options.random);
    return new SealedVhdxWriter(layout, file, { ...options, temporaryPath }, options);
  }

  /**
   * Builds into `file`, which stays the caller's to flush, to close and to name; finish() leaves it
   * complete and flushed. @throws DrError E_USAGE for an impossible disk
   */
  static into(file: BlockFile, options: OwnedVhdxOptions): SealedVhdxWriter {
    const layout = planNewFile(options, options.random);
    return new SealedVhdxWriter(layout, file, undefined, options);
  }

  get geometry(): Geometry {
    return this.#layout.geometry;
  }

  get dataWriteGuid(): Guid {
    return this.#layout.dataWriteGuid;
  }

  /**
   * Writes guest bytes at `offset`, behind everything written or zeroed before. The buffer is the
   * caller's again when the promise settled. Calls may overlap, which is how a fast source keeps
   * the device busy; their order is the order in which they were made. In a differencing disk the
   * range is a whole number of sectors. @throws DrError E_IO, E_CAPACITY
   */
  async write(offset: number, data: Uint8Array): Promise<void> {
    if (data.length === 0) return;
    const written = await this.#inTurn(async () => {
      this.#take(offset, data.length);
      const writes = this.#place(offset, data.length).map(({ fileStart, from, to }) =>
        this.#output.write(fileStart, data.subarray(from - offset, to - offset)),
      );
      await this.#output.room();
      return { done: Promise.all(writes) };
    });
    await written.done;
  }

  /**
   * Passes over a range that an earlier builder has written to this file. Returns where in the file
   * it ends; what lies behind that has to read as zeros, so the caller cuts it off before it goes on.
   */
  async skip(offset: number, lengthBytes: number): Promise<number> {
    return this.#inTurn(async () => {
      this.#take(offset, lengthBytes);
      const last = this.#place(offset, lengthBytes).at(-1);
      await this.#output.room();
      return last === undefined ? this.#nextFree : last.fileStart + last.to - last.from;
    });
  }

  /**
   * Makes a range read as zeros: nothing to store in a fixed or dynamic disk; in a differencing one
   * whole blocks become ZERO and parts of a block are marked as present.
   */
  async zero(offset: number, lengthBytes: number): Promise<void> {
    if (lengthBytes === 0) return;
    await this.#inTurn(async () => {
      this.#take(offset, lengthBytes);
      if (this.geometry.type !== 'differencing') return;
      const { blockSizeBytes } = this.geometry;
      const end = offset + lengthBytes;
      let position = offset;
      while (position < end) {
        const block = Math.floor(position / blockSizeBytes);
        const endBlock =
          end === this.geometry.sizeBytes
            ? this.geometry.payloadBlockCount
            : Math.floor(end / blockSizeBytes);
        if (position === block * blockSizeBytes && endBlock > block) {
          await this.#zeroBlocks(block, endBlock);
          position = endBlock * blockSizeBytes;
          continue;
        }
        this.#enterBlock(block);
        const pieceEnd = Math.min(end, (block + 1) * blockSizeBytes);
        this.#cover(position, pieceEnd);
        position = pieceEnd;
      }
      await this.#output.room();
    });
  }

  /**
   * Completes the file and gives it its name. On return it is durable under that name; after an
   * error nothing is left of it. @throws DrError E_IO, E_CAPACITY, E_EXISTS
   */
  async finish(): Promise<SealedVhdx> {
    try {
      return await this.#complete();
    } catch (error) {
      await this.abort();
      throw error;
    }
  }

  #complete(): Promise<SealedVhdx> {
    return this.#inTurn(async () => {
      const { geometry, head } = this.#layout;
      if (geometry.type === 'fixed') await this.#allocateAll();
      this.#leaveChunk();
      this.#emit(this.#bat.finish());
      await this.#output.drain();
      // Pads the last block, and the BAT of a disk without any.
      await this.#file.truncate(this.#nextFree);
      await this.#file.write(0, head);
      await this.#file.flush();
      await this.#publish();
      this.#state = 'finished';
      return {
        path: this.#naming?.path ?? this.#file.path,
        lengthBytes: this.#nextFree,
        dataWriteGuid: this.#layout.dataWriteGuid,
        diskId: this.#layout.disk.diskId,
      };
    });
  }

  async #publish(): Promise<void> {
    if (this.#naming === undefined) return;
    const { fs, path: target, temporaryPath, isReplacing = false } = this.#naming;
    await this.#file.close();
    await refuseExisting(fs, target, isReplacing);
    await fs.rename(temporaryPath, target);
    // it has its name: abort() must not look for the temporary one
    this.#state = 'finished';
    await fs.flushFolder(path.dirname(target));
  }

  /**
   * Removes what was built, unless finish() has already given it its name. Never throws: what went
   * wrong first is what counts, and a file that cannot be removed tells by its name what it is.
   */
  async abort(): Promise<void> {
    await this.#turn.catch(() => undefined);
    if (this.#state !== 'open') return;
    this.#state = 'aborted';
    await this.#output.settled();
    if (this.#naming === undefined) return;
    await this.#file.close().catch(() => undefined);
    await this.#naming.fs.remove(this.#naming.temporaryPath).catch(() => undefined);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      assert(this.#state === 'open', 'nothing is written to a sealed file that has ended');
      this.#output.throwFailure();
      return work();
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }

  #take(offset: number, lengthBytes: number): void {
    const { sizeBytes, type, logicalSectorBytes } = this.geometry;
    assert(offset >= this.#guestEnd, 'a sealed file is written in ascending order');
    assert(offset + lengthBytes <= sizeBytes, 'a write ends inside the disk');
    if (type === 'differencing') {
      assert(offset % logicalSectorBytes === 0, 'a range starts on a sector');
      assert(lengthBytes % logicalSectorBytes === 0, 'a range is a whole number of sectors');
    }
    this.#guestEnd = offset + lengthBytes;
  }

  /** Where the bytes of a range go; allocates blocks on the way. */
  #place(offset: number, lengthBytes: number): Placement[] {
    const { blockSizeBytes, type } = this.geometry;
    const end = offset + lengthBytes;
    if (type === 'fixed') {
      return [{ fileStart: this.#layout.firstBlockOffset + offset, from: offset, to: end }];
    }
    const placements: Placement[] = [];
    let position = offset;
    while (position < end) {
      const block = Math.floor(position / blockSizeBytes);
      const pieceEnd = Math.min(end, (block + 1) * blockSizeBytes);
      this.#enterBlock(block);
      this.#blockPlace ??= this.#allocate(blockSizeBytes);
      this.#cover(position, pieceEnd);
      const fileStart = this.#blockPlace + position - block * blockSizeBytes;
      const last = placements.at(-1);
      if (last !== undefined && last.fileStart + (last.to - last.from) === fileStart) {
        placements[placements.length - 1] = { ...last, to: pieceEnd };
      } else {
        placements.push({ fileStart, from: position, to: pieceEnd });
      }
      position = pieceEnd;
    }
    return placements;
  }

  #allocate(lengthBytes: number): number {
    const place = this.#nextFree;
    this.#nextFree += lengthBytes;
    return place;
  }

  #enterBlock(block: number): void {
    if (this.#block === block) return;
    this.#leaveBlock();
    this.#enterChunk(Math.floor(block / this.geometry.chunkRatio));
    this.#block = block;
  }

  /** Notes that [start, end), inside the block under way, is now this file's own. */
  #cover(start: number, end: number): void {
    this.#blockCoveredBytes += end - start;
    if (this.#bitmap === undefined) return;
    const { logicalSectorBytes, chunkSizeBytes } = this.geometry;
    const chunkStart = this.#chunk * chunkSizeBytes;
    this.#bitmap.set(
      (start - chunkStart) / logicalSectorBytes,
      (end - chunkStart) / logicalSectorBytes,
    );
  }

  #leaveBlock(): void {
    const block = this.#block;
    if (block === undefined) return;
    const { blockSizeBytes, sizeBytes, type } = this.geometry;
    const guestBytes = Math.min(blockSizeBytes, sizeBytes - block * blockSizeBytes);
    const isWhole = type !== 'differencing' || this.#blockCoveredBytes === guestBytes;
    if (!isWhole) {
      this.#isBitmapNeeded = true;
      const place = (this.#blockPlace ??= this.#allocate(blockSizeBytes));
      this.#putBlock(block, BLOCK_PARTIALLY_PRESENT, place);
    } else if (this.#blockPlace !== undefined) {
      this.#putBlock(block, BLOCK_FULLY_PRESENT, this.#blockPlace);
    } else {
      this.#putBlock(block, BLOCK_ZERO, 0);
    }
    this.#block = undefined;
    this.#blockPlace = undefined;
    this.#blockCoveredBytes = 0;
  }

  #enterChunk(chunk: number): void {
    if (chunk === this.#chunk) return;
    this.#leaveChunk();
    this.#chunk = chunk;
  }

  #leaveChunk(): void {
    this.#leaveBlock();
    if (this.#bitmap === undefined) return;
    if (this.#isBitmapNeeded) {
      const place = this.#allocate(BITMAP_BLOCK_BYTES);
      for (const { position, bytes } of this.#bitmap.stretches()) {
        void this.#output.write(place + position, bytes);
      }
      this.#put(bitmapEntryIndex(this.geometry, this.#chunk), BITMAP_PRESENT, place);
      this.#isBitmapNeeded = false;
    }
    this.#bitmap.clear();
  }

  async #zeroBlocks(start: number, end: number): Promise<void> {
    this.#leaveBlock();
    for (let block = start; block < end; block++) {
      this.#enterChunk(Math.floor(block / this.geometry.chunkRatio));
      this.#putBlock(block, BLOCK_ZERO, 0);
      if (block % RUN_ENTRIES === 0) await this.#output.room();
    }
  }

  /** Every block of a fixed disk, in order. */
  async #allocateAll(): Promise<void> {
    const { payloadBlockCount, blockSizeBytes } = this.geometry;
    for (let block = 0; block < payloadBlockCount; block++) {
      this.#putBlock(block, BLOCK_FULLY_PRESENT, this.#allocate(blockSizeBytes));
      if (block % RUN_ENTRIES === 0) await this.#output.room();
    }
  }

  #putBlock(block: number, state: number, place: number): void {
    this.#put(payloadEntryIndex(this.geometry, block), state, place);
  }

  #put(index: number, state: number, place: number): void {
    this.#emit(this.#bat.put(index, state, place));
  }

  #emit(page: BatPage | undefined): void {
    if (page === undefined) return;
    void this.#output.write(this.#layout.batOffset + page.position, page.bytes);
  }
}
