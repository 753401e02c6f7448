// The push messages of one disk of a cycle: read, find zeros, hash, compare with what the receiver
// has, gather. Knows nothing of connections: after a break it is asked for messages again, from the
// cell at which the receiver goes on, and feeds the manifest root only with cells that it has not
// fed before. The frozen disk gives the same bytes again, so both sides reach the same root.

import { assert } from '../shared/assert.js';
import {
  CELL_BYTES,
  cellCount,
  type CellRange,
  encodeEndOfDisk,
  hashCell,
  ManifestRoot,
  type ManifestHeader,
} from '../shared/delta/index.js';
import { isAllZero, type Piece, type ReadableDisk } from '../shared/disk/index.js';
import { Batcher } from './batcher.js';
import type { CompressionChoice } from './compression-choice.js';
import { readCells } from './cell-reader.js';
import type { RemoteHashes } from './remote-hashes.js';

/** Sets whose mean run is shorter are read cell by cell. */
const SCATTERED_RUN_CELLS = 4;

/** What the receiver tells of cells, opened anew for each connection. */
export interface RemoteSides {
  /** Hashes of the head point: only what differs is sent. */
  readonly compare: RemoteHashes | undefined;
  /** Hashes of an unfinished cycle: what is equal is named. */
  readonly reuse: RemoteHashes | undefined;
}

export interface DiskCounts {
  /** Bytes of cells sent as data, repeats included. */
  dataBytes: number;
  /** Of those, sent for a second time after a break. */
  repeatedBytes: number;
  /** Bytes of cells that the receiver had already from an unfinished cycle. */
  reusedBytes: number;
  /** Bytes of guest data read. */
  readBytes: number;
}

export interface DiskStreamOptions {
  readonly diskIndex: number;
  readonly disk: ReadableDisk;
  readonly header: ManifestHeader;
  /** The cells to look at, ascending; iterated anew after a break. */
  readonly ranges: () => Iterable<CellRange>;
  /** Mean cells of a range; tells how to read ahead. */
  readonly meanRunCells: number;
  readonly compression: CompressionChoice;
  /** Told whenever a piece of the disk was read. */
  readonly onPiece?: (() => void) | undefined;
}

export class DiskStream {
  readonly counts: DiskCounts = { dataBytes: 0, repeatedBytes: 0, reusedBytes: 0, readBytes: 0 };
  readonly #options: DiskStreamOptions;
  readonly #isBase: boolean;
  readonly #root: ManifestRoot;
  /** Cells below were fed to the root. */
  #fedCells = 0;
  #zeroStart = 0;
  #zeroEnd = 0;
  #isRead = false;
  #digest: Buffer | undefined;

  constructor(options: DiskStreamOptions) {
    this.#options = options;
    this.#isBase = options.header.kind === 'base';
    this.#root = new ManifestRoot(options.header);
  }

  /** Every cell was handed out at least once. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** No cell from here on was spoken of yet; when the disk was read to its end, it is its end. */
  get sentCells(): number {
    return this.#isRead ? cellCount(this.#options.header.diskSizeBytes) : this.#fedCells;
  }

  /** The manifest root; all messages must have been taken once. */
  root(): Buffer {
    assert(this.#isRead, 'a root stands after the last cell');
    if (this.#digest === undefined) {
      this.#endZeroRun();
      this.#digest = this.#root.finish().root;
    }
    return this.#digest;
  }

  /**
   * The messages from `firstCell` on, the end of the disk included. Each is valid until the next one
   * is asked for.
   */
  async *messages(firstCell: number, remote: RemoteSides): AsyncGenerator<Buffer> {
    const { diskIndex, disk, compression, meanRunCells, onPiece } = this.#options;
    const batcher = new Batcher(diskIndex, compression);
    const ranges = rangesFrom(this.#options.ranges(), firstCell);
    const pieces = readCells(disk, ranges, meanRunCells < SCATTERED_RUN_CELLS);
    for await (const piece of pieces) {
      onPiece?.();
      try {
        const messages =
          piece.bytes === undefined
            ? this.#zeroPiece(piece, batcher, remote)
            : this.#dataPiece(piece, piece.bytes, batcher, remote);
        for await (const message of messages) yield message;
      } finally {
        piece.release();
      }
    }
    const rest = batcher.flush();
    if (rest !== undefined) yield rest;
    this.#isRead = true;
    yield encodeEndOfDisk(diskIndex);
  }

  async *#zeroPiece(piece: Piece, batcher: Batcher, remote: RemoteSides): AsyncGenerator<Buffer> {
    const start = piece.offset / CELL_BYTES;
    const end = Math.ceil((piece.offset + piece.lengthBytes) / CELL_BYTES);
    yield* this.#zeros(start, end, batcher, remote);
  }

  async *#zeros(
    start: number,
    end: number,
    batcher: Batcher,
    remote: RemoteSides,
  ): AsyncGenerator<Buffer> {
    // A base begins as an empty disk: nothing need be said about zeros.
    if (this.#isBase) return;
    if (remote.compare === undefined) {
      const full = this.#addZero(start, end, batcher);
      if (full !== undefined) yield full;
      return;
    }
    for await (const cell of remote.compare.dataIn(start, end)) {
      const full = this.#addZero(cell, cell + 1, batcher);
      if (full !== undefined) yield full;
    }
  }

  #addZero(start: number, end: number, batcher: Batcher): Buffer | undefined {
    this.#feedZero(start, end);
    return batcher.addZero(start, end - start);
  }

  async *#dataPiece(
    piece: Piece,
    bytes: Buffer,
    batcher: Batcher,
    remote: RemoteSides,
  ): AsyncGenerator<Buffer> {
    const { counts } = this;
    counts.readBytes += bytes.length;
    for (let at = 0; at < bytes.length; at += CELL_BYTES) {
      const cell = (piece.offset + at) / CELL_BYTES;
      const part = bytes.subarray(at, at + CELL_BYTES);
      if (isAllZero(part)) {
        yield* this.#zeros(cell, cell + 1, batcher, remote);
        continue;
      }
      const hash = hashCell(part);
      if (remote.compare !== undefined && (await remote.compare.at(cell))?.equals(hash) === true) {
        continue;
      }
      const isRepeated = cell < this.#fedCells;
      this.#feedData(cell, hash);
      let full: Buffer | undefined;
      if (remote.reuse !== undefined && (await remote.reuse.at(cell))?.equals(hash) === true) {
        counts.reusedBytes += part.length;
        full = batcher.addReuse(cell, hash);
      } else {
        counts.dataBytes += part.length;
        if (isRepeated) counts.repeatedBytes += part.length;
        full = batcher.addData(cell, hash, part);
      }
      if (full !== undefined) yield full;
    }
  }

  #feedData(cell: number, hash: Buffer): void {
    if (cell < this.#fedCells) return;
    this.#endZeroRun();
    this.#check({ kind: 'data', cell, hash });
    this.#fedCells = cell + 1;
  }

  #feedZero(start: number, end: number): void {
    const from = Math.max(start, this.#fedCells);
    if (from >= end) return;
    if (this.#zeroEnd !== from || this.#zeroStart === this.#zeroEnd) {
      this.#endZeroRun();
      this.#zeroStart = from;
    }
    this.#zeroEnd = end;
    this.#fedCells = end;
  }

  #endZeroRun(): void {
    const { diskSizeBytes } = this.#options.header;
    if (this.#zeroStart === this.#zeroEnd) return;
    assert(this.#zeroEnd <= cellCount(diskSizeBytes), 'runs end with the disk');
    this.#check({ kind: 'zero', cell: this.#zeroStart, count: this.#zeroEnd - this.#zeroStart });
    this.#zeroStart = this.#zeroEnd;
  }

  #check(record: Parameters<ManifestRoot['check']>[0]): void {
    const wrong = this.#root.check(record);
    assert(wrong === undefined, `legal records only: ${wrong ?? ''}`);
  }
}

function* rangesFrom(ranges: Iterable<CellRange>, firstCell: number): Generator<CellRange> {
  for (const { start, end } of ranges) {
    if (end > firstCell) yield { start: Math.max(start, firstCell), end };
  }
}
