// Compares the cells of a delta, as they come, with the records of its manifest: the same cells on
// both sides, each with its hash. An apply stops at the first finding; a check lists them all.

import { isAllZero } from '../disk/index.js';
import type { ErrorCode } from '../errors.js';
import { CELL_BYTES, cellLength, hashCell } from './cell.js';
import type { ManifestFile } from './manifest.js';
import { type ManifestRecord, recordCells } from './manifest-format.js';
import { Peekable } from './peekable.js';
import type { Segment } from './segments.js';

export interface CellFinding {
  readonly code: ErrorCode;
  /** Guest offset of the first cell concerned. */
  readonly offset: number;
  readonly message: string;
}

export class CellVerifier {
  readonly #records: Peekable<ManifestRecord>;
  readonly #diskSizeBytes: number;
  readonly #report: (finding: CellFinding) => void;
  #isClosed = false;

  /** `report` may throw: that ends the comparison. */
  constructor(manifest: ManifestFile, report: (finding: CellFinding) => void) {
    this.#records = new Peekable(manifest.records());
    this.#diskSizeBytes = manifest.header.diskSizeBytes;
    this.#report = report;
  }

  /** Checks every cell of the next segment. @throws DeltaError E_DELTA_MANIFEST */
  async check(segment: Segment): Promise<void> {
    let at = 0;
    while (at < segment.data.length) {
      const offset = segment.offset + at;
      const cell = Math.floor(offset / CELL_BYTES);
      const lengthBytes = cellLength(cell, this.#diskSizeBytes);
      const data = segment.data.subarray(at, at + lengthBytes);
      const record = await this.#take(cell);
      if (record === undefined) {
        this.#reportCoverage(cell, `the delta has cell ${cell}, the manifest does not`);
      } else if (!segment.isWhole) {
        this.#reportCoverage(cell, `the delta covers cell ${cell} in part only`);
      } else {
        this.#compare(cell, data, record);
      }
      at += data.length;
    }
  }

  /** To be called after the last segment: nothing may be left in the manifest. */
  async finish(): Promise<void> {
    await this.#skipTo(Infinity);
    await this.close();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#records.close();
  }

  #compare(cell: number, data: Buffer, record: ManifestRecord): void {
    const offset = cell * CELL_BYTES;
    if (record.kind === 'zero') {
      if (isAllZero(data)) return;
      const message = `cell ${cell} is listed as zeros and is not`;
      this.#report({ code: 'E_DELTA_HASH', offset, message });
    } else if (!hashCell(data).equals(record.hash)) {
      const message = `the bytes of cell ${cell} do not have the hash of the manifest`;
      this.#report({ code: 'E_DELTA_HASH', offset, message });
    }
  }

  /** Takes the record for `cell`, reporting what the manifest lists before it. */
  async #take(cell: number): Promise<ManifestRecord | undefined> {
    await this.#skipTo(cell);
    const record = await this.#records.peek();
    if (record?.cell !== cell) return undefined;
    await this.#records.next();
    if (record.kind === 'zero' && record.count > 1) {
      this.#records.replace({ kind: 'zero', cell: cell + 1, count: record.count - 1 });
    }
    return record;
  }

  async #skipTo(cell: number): Promise<void> {
    for (;;) {
      const record = await this.#records.peek();
      if (record === undefined || record.cell >= cell) return;
      await this.#records.next();
      const end = record.cell + recordCells(record);
      const missing = Math.min(end, cell) - record.cell;
      if (record.kind === 'zero' && end > cell) {
        this.#records.replace({ kind: 'zero', cell, count: end - cell });
      }
      this.#reportCoverage(
        record.cell,
        `the manifest lists ${missing} cell(s) from ${record.cell} on that the delta does not have`,
      );
    }
  }

  #reportCoverage(cell: number, message: string): void {
    this.#report({ code: 'E_DELTA_COVERAGE', offset: cell * CELL_BYTES, message });
  }
}
