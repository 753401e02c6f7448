// Writes the segments of a delta to a disk, for apply.ts: cells of zeros as zeros, joined; the parts of
// one cell as one write; several writes under way; a flush now and then. Memory is a few buffers of
// the longest segment, and one cell.
//
// A foreign delta may cut a cell into as many parts as it has bytes. They are gathered, and the bytes
// between them are read from the disk once and written back as they are. A crash in the midst of that
// write leaves each sector old or new, as one part alone would; applying again completes it.

import { type WritableDisk, zeroRuns } from '../disk/index.js';
import { CELL_BYTES, cellLength } from './cell.js';
import { OverlappedWrites } from './overlapped-writes.js';
import type { Segment } from './segments.js';

export class GroupedWriter {
  zeroBytes = 0;
  /** Whether the target may have changed. */
  hasWritten = false;
  #isAnnounced = false;
  readonly #announce: () => Promise<void>;
  readonly #target: WritableDisk;
  readonly #changes: OverlappedWrites;
  readonly #flushEveryBytes: number;
  #sinceFlush = 0;
  #zeroOffset = 0;
  #zeroLength = 0;
  readonly #patch: CellPatch;

  /** `announce` is called once, before the first change of the target, or else by finish(). */
  constructor(target: WritableDisk, flushEveryBytes: number, announce: () => Promise<void>) {
    this.#announce = announce;
    this.#target = target;
    this.#patch = new CellPatch(target);
    this.#changes = new OverlappedWrites(target);
    this.#flushEveryBytes = flushEveryBytes;
  }

  async add(segment: Segment): Promise<void> {
    const { offset, data } = segment;
    if (!this.#patch.isOf(offset)) await this.#endPatch();
    if (segment.isWhole) {
      await this.#addCells(offset, data);
    } else {
      if (this.#patch.needsRead(offset)) await this.#changes.drain();
      await this.#patch.add(offset, data);
    }
    if (this.#sinceFlush >= this.#flushEveryBytes) {
      this.#sinceFlush = 0;
      await this.#changes.drain();
      await this.#target.flush();
    }
  }

  async #addCells(offset: number, data: Buffer): Promise<void> {
    for (const part of zeroRuns(data, offset)) {
      if (part.isZero) {
        await this.#zero(offset + part.start, part.end - part.start);
      } else {
        await this.#write(offset + part.start, data.subarray(part.start, part.end));
      }
    }
  }

  /** Durable on return. */
  async finish(): Promise<void> {
    await this.#endPatch();
    await this.#endZero();
    await this.#begin();
    await this.#changes.drain();
    await this.#target.flush();
  }

  /** Returns when nothing is under way; does not throw. */
  async settled(): Promise<void> {
    await this.#changes.settled();
  }

  async #zero(offset: number, lengthBytes: number): Promise<void> {
    this.zeroBytes += lengthBytes;
    if (this.#zeroLength > 0 && offset === this.#zeroOffset + this.#zeroLength) {
      this.#zeroLength += lengthBytes;
      return;
    }
    await this.#endZero();
    this.#zeroOffset = offset;
    this.#zeroLength = lengthBytes;
  }

  async #begin(): Promise<void> {
    if (this.#isAnnounced) return;
    this.#isAnnounced = true;
    await this.#announce();
  }

  async #write(offset: number, data: Buffer): Promise<void> {
    await this.#endZero();
    await this.#begin();
    this.hasWritten = true;
    await this.#changes.write(offset, data);
    this.#sinceFlush += data.length;
  }

  async #endPatch(): Promise<void> {
    const patched = this.#patch.take();
    if (patched !== undefined) await this.#write(patched.offset, patched.data);
  }

  async #endZero(): Promise<void> {
    if (this.#zeroLength === 0) return;
    const lengthBytes = this.#zeroLength;
    this.#zeroLength = 0;
    await this.#begin();
    this.hasWritten = true;
    await this.#changes.zero(this.#zeroOffset, lengthBytes);
  }
}

/** The parts of one cell in ascending order, and what the disk has between them. */
class CellPatch {
  readonly #disk: WritableDisk;
  readonly #buffer = Buffer.alloc(CELL_BYTES);
  /** The cell; -1: none. */
  #cell = -1;
  /** Guest bytes [start, end) that are to be written; empty: nothing is. */
  #start = 0;
  #end = 0;
  /** Whether the buffer has what the disk holds from some part to the end of the cell. */
  #isRead = false;

  constructor(disk: WritableDisk) {
    this.#disk = disk;
  }

  /** Whether a part at `offset` goes on with the cell that is being gathered. */
  isOf(offset: number): boolean {
    return Math.floor(offset / CELL_BYTES) === this.#cell;
  }

  /** Whether add() at `offset` will read the disk: at the first gap within a cell. */
  needsRead(offset: number): boolean {
    return this.isOf(offset) && offset > this.#end && !this.#isRead;
  }

  /** Adds the next part; the bytes are the caller's again on return. */
  async add(offset: number, data: Buffer): Promise<void> {
    if (!this.isOf(offset)) {
      this.#cell = Math.floor(offset / CELL_BYTES);
      this.#start = offset;
      this.#end = offset;
      this.#isRead = false;
    }
    const cellStart = this.#cell * CELL_BYTES;
    if (this.needsRead(offset)) {
      const cellEnd = cellStart + cellLength(this.#cell, this.#disk.sizeBytes);
      const rest = this.#buffer.subarray(this.#end - cellStart, cellEnd - cellStart);
      await this.#disk.read(this.#end, rest);
      this.#isRead = true;
    }
    this.#buffer.set(data, offset - cellStart);
    this.#end = offset + data.length;
  }

  /** What is to be written, when there is anything; valid until the next add(). */
  take(): { offset: number; data: Buffer } | undefined {
    if (this.#cell < 0) return undefined;
    const cellStart = this.#cell * CELL_BYTES;
    this.#cell = -1;
    const data = this.#buffer.subarray(this.#start - cellStart, this.#end - cellStart);
    return { offset: this.#start, data };
  }
}
