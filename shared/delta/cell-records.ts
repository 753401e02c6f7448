// The manifest records of what a disk has now, and one hash over all of them.

import { createHash } from 'node:crypto';
import { isAllZero, type ReadableDisk } from '../disk/index.js';
import { CELL_BYTES, hashCell } from './cell.js';
import { readCells } from './cell-reader.js';
import type { CellRange } from './cell-set.js';
import {
  encodeManifestRecord,
  MANIFEST_RECORD_BYTES,
  type ManifestRecord,
} from './manifest-format.js';

/** Of the cells in the ranges that are not zero, in ascending order. @throws what reading throws */
export async function* recordsOfCells(
  disk: ReadableDisk,
  ranges: Iterable<CellRange>,
  isScattered: boolean,
): AsyncGenerator<ManifestRecord> {
  for await (const piece of readCells(disk, ranges, isScattered)) {
    try {
      const { bytes, offset } = piece;
      if (bytes === undefined) continue;
      for (let at = 0; at < bytes.length; at += CELL_BYTES) {
        const part = bytes.subarray(at, at + CELL_BYTES);
        if (isAllZero(part)) continue;
        yield { kind: 'data', cell: (offset + at) / CELL_BYTES, hash: hashCell(part) };
      }
    } finally {
      piece.release();
    }
  }
}

/** SHA-256 over records as a manifest writes them. */
export class RecordsRoot {
  readonly #hash = createHash('sha256');
  readonly #bytes = Buffer.alloc(MANIFEST_RECORD_BYTES);

  /** In ascending order. */
  add(record: ManifestRecord): void {
    encodeManifestRecord(record, this.#bytes, 0);
    this.#hash.update(this.#bytes);
  }

  /** 32 bytes. To be called once, after the last record. */
  digest(): Buffer {
    return this.#hash.digest();
  }
}

/** The root of all `records`. */
export async function rootOfRecords(
  records: AsyncIterable<ManifestRecord>,
  onRecord?: () => void,
): Promise<Buffer> {
  const root = new RecordsRoot();
  for await (const record of records) {
    root.add(record);
    onRecord?.();
  }
  return root.digest();
}
