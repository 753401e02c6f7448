// One VHDX file: what this layer alone says about the guest's bytes. A differencing file answers
// 'parent' for ranges that it does not hold; shared/vhdx/chain.ts puts layers together.

import { assert } from '../assert.js';
import { ZERO_GUID, type Guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import type { Extent } from '../disk/index.js';
import { DrError } from '../errors.js';
import type { BlockFile, FileSystem, LockKind } from '../files/index.js';
import { BlockTable } from './block-table.js';
import {
  BAT_ENTRY_BYTES,
  BLOCK_FULLY_PRESENT,
  BLOCK_NOT_PRESENT,
  BLOCK_PARTIALLY_PRESENT,
  fileOffset,
  type FileOffset,
} from './format.js';
import { CACHE_CHUNK_BYTES, type Geometry } from './geometry.js';
import type { Header } from './header.js';
import { writeReplay } from './log-replay.js';
import { LogWriter } from './log-writer.js';
import { PageCache } from './page-cache.js';
import { bitRuns } from './sector-bitmap.js';
import { loadStructures, type Structures } from './structures.js';
import { refusing } from './violation.js';
import { WriteSession } from './write-session.js';

export interface VhdxFileOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  readonly isWritable: boolean;
  /** Default: exclusive for writing, shared for reading. */
  readonly lock?: LockKind;
  /** See WriteSession; only a merge keeps the identity of the content. */
  readonly contentIdentity?: 'new' | 'keep';
}

/** A hole inside of a block that is told as zeros; smaller ones would only make the list long. */
const HOLE_BYTES_MIN = 64 * 1024;

/** A guest range and where its bytes are, as far as this file knows. */
export type Segment =
  | { readonly start: number; readonly end: number; readonly kind: 'data'; readonly at: FileOffset }
  | { readonly start: number; readonly end: number; readonly kind: 'zero' | 'parent' };

export class VhdxFile {
  readonly path: string;
  readonly structures: Structures;
  readonly isWritable: boolean;
  readonly #file: BlockFile;
  /** The file, or the file with its dirty log replayed in memory. */
  #view: BlockFile;
  readonly #cache: PageCache;
  readonly #table: BlockTable;
  readonly #log: LogWriter;
  readonly #session: WriteSession | undefined;
  /** True while the file on disk is not yet what its log says. */
  #isReplayDue: boolean;
  /** The stretch of the file that was last found to be no hole. */
  #knownData: { readonly start: number; readonly end: number } | undefined;
  #readsUnderWay = 0;
  #closing: Promise<void> | undefined;

  private constructor(
    file: BlockFile,
    structures: Structures,
    log: LogWriter,
    fileSizeBytes: number,
    options: VhdxFileOptions,
  ) {
    const { view } = structures;
    this.path = file.path;
    this.structures = structures;
    this.isWritable = options.isWritable;
    this.#file = file;
    this.#view = view;
    this.#cache = new PageCache(view);
    this.#table = new BlockTable(structures.geometry, structures.regions.bat.offset, this.#cache);
    this.#log = log;
    this.#isReplayDue = options.isWritable && structures.replay !== undefined;
    this.#session = options.isWritable
      ? new WriteSession({
          file,
          structures,
          cache: this.#cache,
          table: this.#table,
          log,
          random: options.random,
          fileSizeBytes,
          readsUnderWay: () => this.#readsUnderWay,
          contentIdentity: options.contentIdentity ?? 'new',
        })
      : undefined;
  }

  /**
   * Opens a file, checking all of its structures. Nothing is written: a dirty log is replayed in
   * memory. Who means to write calls replayLog() when everything else has been checked, too.
   * @throws VhdxError for what is damaged, DrError E_NOT_FOUND, E_LOCKED, E_IO
   */
  static async open(path: string, options: VhdxFileOptions): Promise<VhdxFile> {
    const { fs, random, isWritable } = options;
    const file = await fs.open(path, {
      mode: isWritable ? 'write' : 'read',
      lock: options.lock ?? (isWritable ? 'exclusive' : 'shared'),
    });
    try {
      const structures = await loadStructures(file, {
        report: refusing(path),
        isForWriting: isWritable,
      });
      assert(structures !== undefined, 'a refusing report throws or the structures are there');
      const log = new LogWriter(file, structures.current, random);
      if (isWritable) log.refuseExhausted();
      return new VhdxFile(file, structures, log, await structures.view.size(), options);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Brings a file that is open for writing to the state that its dirty log describes; durable on
   * return. Required before the first write. @throws DrError E_IO, E_CAPACITY
   */
  async replayLog(): Promise<void> {
    const { replay } = this.structures;
    if (!this.#isReplayDue || replay === undefined) return;
    await writeReplay(this.#file, replay);
    await this.#log.updateHeader({ logGuid: ZERO_GUID, isNewWrite: true });
    this.#view = this.#file;
    this.#cache.useFile(this.#file);
    this.#isReplayDue = false;
  }

  get geometry(): Geometry {
    return this.structures.geometry;
  }

  /** The current header; changes while the file is written to. */
  get header(): Header {
    return this.#log.header;
  }

  /**
   * What this file says about [start, end), without gaps, neighbours joined. At most 64 segments
   * for each KiB of bitmap touched; callers pass ranges of a few MiB.
   */
  async resolve(start: number, end: number): Promise<Segment[]> {
    const { blockSizeBytes } = this.geometry;
    const segments: Segment[] = [];
    let position = start;
    while (position < end) {
      const block = Math.floor(position / blockSizeBytes);
      const blockStart = block * blockSizeBytes;
      const pieceEnd = Math.min(end, blockStart + blockSizeBytes);
      const { state, offset } = this.#table.peekBlock(block) ?? (await this.#table.block(block));
      if (state === BLOCK_FULLY_PRESENT) {
        const at = fileOffset(offset + position - blockStart);
        push(segments, { start: position, end: pieceEnd, kind: 'data', at });
      } else if (state === BLOCK_PARTIALLY_PRESENT) {
        await this.#resolvePartial(segments, block, offset, position, pieceEnd);
      } else {
        const isHole = state === BLOCK_NOT_PRESENT && this.geometry.type === 'differencing';
        push(segments, { start: position, end: pieceEnd, kind: isHole ? 'parent' : 'zero' });
      }
      position = pieceEnd;
    }
    return segments;
  }

  async #resolvePartial(
    segments: Segment[],
    block: number,
    blockOffset: number,
    start: number,
    end: number,
  ): Promise<void> {
    const { blockSizeBytes, logicalSectorBytes } = this.geometry;
    const blockStart = block * blockSizeBytes;
    const bits = await this.#table.bits(block);
    const firstBit = Math.floor((start - blockStart) / logicalSectorBytes);
    const endBit = Math.ceil((end - blockStart) / logicalSectorBytes);
    for (const run of bitRuns(bits, firstBit, endBit)) {
      const runStart = Math.max(start, blockStart + run.start * logicalSectorBytes);
      const runEnd = Math.min(end, blockStart + run.end * logicalSectorBytes);
      if (run.isSet) {
        const at = fileOffset(blockOffset + runStart - blockStart);
        push(segments, { start: runStart, end: runEnd, kind: 'data', at });
      } else {
        push(segments, { start: runStart, end: runEnd, kind: 'parent' });
      }
    }
  }

  /** Marks a read as under way, so that space freed meanwhile is not reused under it. */
  beginRead(): void {
    this.#readsUnderWay++;
  }

  endRead(): void {
    this.#readsUnderWay--;
  }

  /** Fills `target` from a place that resolve() named; what lies behind the file's end is zero. */
  async readStored(at: FileOffset, target: Uint8Array): Promise<void> {
    const got = await this.#view.read(at, target);
    if (got < target.length) target.fill(0, got);
  }

  /**
   * This layer's extents in [start, end): 'data', 'zero', or 'parent'. Stretches of the BAT that
   * are holes of the file are skipped, and holes inside of blocks are 'zero', so the cost follows
   * what is allocated.
   */
  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    const { blockSizeBytes, type } = this.geometry;
    const holeKind = type === 'differencing' ? 'parent' : 'zero';
    let pending: Extent | undefined;
    let position = start;
    while (position < end) {
      const block = Math.floor(position / blockSizeBytes);
      const emptyEnd = Math.min(end, (await this.#emptyBlocksEnd(block)) * blockSizeBytes);
      const stepEnd = Math.max(emptyEnd, Math.min(end, (block + 1) * blockSizeBytes));
      const pieces: readonly Extent[] =
        emptyEnd > position
          ? [{ start: position, end: emptyEnd, kind: holeKind }]
          : await this.#withoutHoles(await this.resolve(position, stepEnd));
      for (const { start: from, end: to, kind } of pieces) {
        if (pending?.kind === kind) {
          pending = { start: pending.start, end: to, kind };
        } else {
          if (pending !== undefined) yield pending;
          pending = { start: from, end: to, kind };
        }
      }
      position = stepEnd;
    }
    if (pending !== undefined) yield pending;
  }

  /** The segments as extents, with holes of the file as zeros. A small hole is read with the rest. */
  async #withoutHoles(segments: readonly Segment[]): Promise<Extent[]> {
    const extents: Extent[] = [];
    for (const segment of segments) {
      const { start, end, kind } = segment;
      if (kind !== 'data') {
        extents.push({ start, end, kind });
        continue;
      }
      const inFile = (position: number): number => segment.at + (position - start);
      let position = start;
      while (position < end) {
        const data = await this.#nextData(inFile(position));
        const dataStart =
          data === undefined ? end : Math.min(end, start + (data.start - segment.at));
        const dataEnd = data === undefined ? end : Math.min(end, start + (data.end - segment.at));
        if (dataStart - position >= HOLE_BYTES_MIN) {
          extents.push({ start: position, end: dataStart, kind: 'zero' });
          position = dataStart;
        }
        if (position < dataEnd) extents.push({ start: position, end: dataEnd, kind: 'data' });
        position = dataEnd;
      }
    }
    return extents;
  }

  /**
   * The next data of the file. A stretch of data is remembered: what has become a hole since is read, and
   * reads as zeros.
   */
  async #nextData(place: number): Promise<{ start: number; end: number } | undefined> {
    const known = this.#knownData;
    if (known !== undefined && place >= known.start && place < known.end) {
      return { start: place, end: known.end };
    }
    const data = await this.#view.nextData(place);
    if (data !== undefined) this.#knownData = data;
    return data;
  }

  /** First block at or after `block` whose entry may be other than 0; `block` itself mostly. */
  async #emptyBlocksEnd(block: number): Promise<number> {
    const { batEntryCount, chunkRatio, payloadBlockCount } = this.geometry;
    let index = await this.#table.firstUsedIndex(block);
    const batOffset = this.structures.regions.bat.offset;
    // A stretch of zeros up to the end of a cached chunk: perhaps a hole goes on behind it. While
    // changes are not in the file yet, its holes say nothing.
    if (index === undefined) return block;
    const place = batOffset + index * BAT_ENTRY_BYTES;
    if (place % CACHE_CHUNK_BYTES === 0 && this.#cache.dirtyPageCount === 0) {
      const data = await this.#view.nextData(place);
      index =
        data === undefined ? batEntryCount : Math.floor((data.start - batOffset) / BAT_ENTRY_BYTES);
    }
    const group = chunkRatio + 1;
    const chunk = Math.floor(index / group);
    const next = chunk * chunkRatio + Math.min(index % group, chunkRatio);
    return Math.min(Math.max(next, block), payloadBlockCount);
  }

  /** Writes guest bytes through the log; see WriteSession.write. */
  write(offset: number, source: Uint8Array): Promise<void> {
    return this.#writer().write(offset, source);
  }

  zero(offset: number, lengthBytes: number): Promise<void> {
    return this.#writer().zero(offset, lengthBytes);
  }

  async flush(): Promise<void> {
    await this.#session?.flush();
  }

  setDataWriteGuid(dataWriteGuid: Guid): Promise<void> {
    return this.#writer().setDataWriteGuid(dataWriteGuid);
  }

  #writer(): WriteSession {
    assert(!this.#isReplayDue, 'a dirty log is replayed before the first write');
    if (this.#session !== undefined) return this.#session;
    throw new DrError('E_VHDX_READ_ONLY', `${this.path} is open for reading`);
  }

  /** Ends a session of writing with a clean log (unless it is poisoned) and gives the lock back. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#session?.end();
    } finally {
      await this.#file.close();
    }
  }
}

function push(segments: Segment[], next: Segment): void {
  const last = segments.at(-1);
  if (last?.kind === next.kind && last.end === next.start) {
    const isContiguous =
      last.kind !== 'data' || next.kind !== 'data' || next.at === last.at + last.end - last.start;
    if (isContiguous) {
      segments[segments.length - 1] = { ...last, end: next.end };
      return;
    }
  }
  segments.push(next);
}
