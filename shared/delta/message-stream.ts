// Disks and deltas as messages of the push stream (cell-batch.ts), for whoever brings them without a
// connection between: a seed from a file, a delta that came by the other road. Memory is one message.

import { isAllZero, type ReadableDisk } from '../disk/index.js';
import {
  BATCH_ENTRIES,
  BATCH_PAYLOAD_BYTES,
  type BatchEntry,
  encodeBatch,
  encodeEndOfDisk,
  parseBatch,
} from './cell-batch.js';
import { readCells } from './cell-reader.js';
import type { CellRange } from './cell-set.js';
import { CELL_BYTES, cellCount, cellLength, hashCell } from './cell.js';
import { type DeltaSource, readVerified } from './delta-source.js';

class Gatherer {
  readonly #diskIndex: number;
  #entries: BatchEntry[] = [];
  #parts: Buffer[] = [];
  #payloadBytes = 0;

  constructor(diskIndex: number) {
    this.#diskIndex = diskIndex;
  }

  /** The message that had to go first, if any. `bytes` must stay as they are until a flush. */
  add(entry: BatchEntry, bytes?: Buffer): Buffer | undefined {
    const lengthBytes = bytes?.length ?? 0;
    const isFull =
      this.#entries.length === BATCH_ENTRIES ||
      this.#payloadBytes + lengthBytes > BATCH_PAYLOAD_BYTES;
    const full = isFull ? this.flush() : undefined;
    this.#entries.push(entry);
    if (bytes !== undefined) this.#parts.push(bytes);
    this.#payloadBytes += lengthBytes;
    return full;
  }

  flush(): Buffer | undefined {
    if (this.#entries.length === 0) return undefined;
    const payload = Buffer.concat(this.#parts, this.#payloadBytes);
    const message = encodeBatch({
      kind: 'cells',
      diskIndex: this.#diskIndex,
      entries: this.#entries,
      payload,
    });
    this.#entries = [];
    this.#parts = [];
    this.#payloadBytes = 0;
    return message;
  }
}

/** All cells of a disk that are not zero, from `firstCell` on, and its end. */
export async function* diskMessages(
  disk: ReadableDisk,
  diskIndex: number,
  firstCell: number,
): AsyncGenerator<Buffer, void, undefined> {
  const end = cellCount(disk.sizeBytes);
  const ranges = firstCell < end ? [{ start: firstCell, end }] : [];
  const gatherer = new Gatherer(diskIndex);
  for await (const piece of readCells(disk, ranges, false)) {
    try {
      const { bytes } = piece;
      if (bytes === undefined) continue;
      for (let at = 0; at < bytes.length; at += CELL_BYTES) {
        const cell = bytes.subarray(at, at + CELL_BYTES);
        if (isAllZero(cell)) continue;
        const index = (piece.offset + at) / CELL_BYTES;
        const full = gatherer.add({ kind: 'data', cell: index, hash: hashCell(cell) }, cell);
        if (full !== undefined) yield full;
      }
      const rest = gatherer.flush();
      if (rest !== undefined) yield rest;
    } finally {
      piece.release();
    }
  }
  yield encodeEndOfDisk(diskIndex);
}

/** Chosen cells of a disk, those that are zero as well, and its end. */
export async function* cellMessages(
  disk: ReadableDisk,
  diskIndex: number,
  ranges: Iterable<CellRange>,
  isScattered: boolean,
): AsyncGenerator<Buffer, void, undefined> {
  const gatherer = new Gatherer(diskIndex);
  for await (const piece of readCells(disk, ranges, isScattered)) {
    try {
      const { bytes, offset, lengthBytes } = piece;
      const first = offset / CELL_BYTES;
      if (bytes === undefined) {
        const count = Math.ceil(lengthBytes / CELL_BYTES);
        const full = gatherer.add({ kind: 'zero', cell: first, count });
        if (full !== undefined) yield full;
        continue;
      }
      for (let at = 0; at < bytes.length; at += CELL_BYTES) {
        const part = bytes.subarray(at, at + CELL_BYTES);
        const cell = first + at / CELL_BYTES;
        const full = isAllZero(part)
          ? gatherer.add({ kind: 'zero', cell, count: 1 })
          : // the piece is given back before the message goes
            gatherer.add({ kind: 'data', cell, hash: hashCell(part) }, Buffer.from(part));
        if (full !== undefined) yield full;
      }
    } finally {
      piece.release();
    }
  }
  const rest = gatherer.flush();
  if (rest !== undefined) yield rest;
  yield encodeEndOfDisk(diskIndex);
}

/**
 * A delta from `firstCell` on, each cell checked against its hash, and its end.
 * @throws DeltaError E_DELTA_HASH, E_DELTA_MANIFEST, E_DELTA_COVERAGE, E_PCBT_…
 */
export async function* deltaMessages(
  source: DeltaSource,
  diskIndex: number,
  firstCell: number,
): AsyncGenerator<Buffer, void, undefined> {
  const { diskSizeBytes } = source.header;
  const gatherer = new Gatherer(diskIndex);
  for await (const entry of source.entries()) {
    let full: Buffer | undefined;
    if (entry.kind === 'zero') {
      const cell = Math.max(entry.cell, firstCell);
      const count = entry.cell + entry.count - cell;
      if (count > 0) full = gatherer.add({ kind: 'zero', cell, count });
    } else if (entry.cell >= firstCell) {
      const bytes = Buffer.allocUnsafe(cellLength(entry.cell, diskSizeBytes));
      await readVerified(source, [entry], bytes);
      full = gatherer.add({ kind: 'data', cell: entry.cell, hash: entry.hash }, bytes);
    }
    if (full !== undefined) yield full;
  }
  const rest = gatherer.flush();
  if (rest !== undefined) yield rest;
  yield encodeEndOfDisk(diskIndex);
}

/**
 * What a message says of cells from `firstCell` on; undefined when that is nothing.
 * @throws DeltaError E_PROTOCOL
 */
export function messageFrom(
  message: Buffer,
  firstCell: number,
  diskSizeBytes: number,
): Buffer | undefined {
  const parsed = parseBatch(message);
  const first = parsed.kind === 'cells' ? parsed.entries[0] : undefined;
  if (parsed.kind !== 'cells' || first === undefined || first.cell >= firstCell) return message;
  const { diskIndex, entries, payload } = parsed;
  const kept: BatchEntry[] = [];
  let skippedBytes = 0;
  for (const entry of entries) {
    if (entry.cell >= firstCell) {
      kept.push(entry);
    } else if (entry.kind === 'data') {
      skippedBytes += cellLength(entry.cell, diskSizeBytes);
    } else if (entry.kind === 'zero' && entry.cell + entry.count > firstCell) {
      kept.push({ kind: 'zero', cell: firstCell, count: entry.cell + entry.count - firstCell });
    }
  }
  if (kept.length === 0) return undefined;
  return encodeBatch({
    kind: 'cells',
    diskIndex,
    entries: kept,
    payload: payload.subarray(skippedBytes),
  });
}
