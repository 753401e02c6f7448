// A delta whose cells can be read one by one, whatever its form on disk: a manifest beside the bytes
// of its data cells (cell-delta.ts, the form of the DR store) or beside a PCBT file
// (pcbt-source.ts). Union, merge, the layered disk and the writer of a differencing VHDX know
// nothing else.

import { isAllZero } from '../disk/index.js';
import { CELL_BYTES, cellLength, hashCell } from './cell.js';
import { DeltaError } from './delta-error.js';
import type { ManifestHeader } from './manifest-format.js';

export interface DataEntry {
  readonly kind: 'data';
  readonly cell: number;
  readonly hash: Buffer;
  /** Where the source keeps the bytes of the cell: consecutive for cells that lie in a row. */
  readonly position: number;
}

export interface ZeroEntry {
  readonly kind: 'zero';
  readonly cell: number;
  readonly count: number;
}

/** A cell with data, or a run of cells of zeros. */
export type DeltaEntry = DataEntry | ZeroEntry;

export interface DeltaSource {
  readonly header: ManifestHeader;
  /** In ascending order; may be called again. @throws DeltaError E_DELTA_MANIFEST, … */
  entries(): AsyncIterable<DeltaEntry>;
  /** Fills `target` from a position that an entry gave, or inside its cell; not verified. */
  read(position: number, target: Uint8Array): Promise<void>;
}

/**
 * Reads whole cells that lie in a row and checks each hash before it returns.
 * @throws DeltaError E_DELTA_HASH
 */
export async function readVerified(
  source: DeltaSource,
  entries: readonly DataEntry[],
  target: Buffer,
): Promise<void> {
  const first = entries[0];
  if (first === undefined) return;
  await source.read(first.position, target);
  checkHashes(source, entries, target);
}

/** Checks whole cells that lie in a row and were read. @throws DeltaError E_DELTA_HASH */
export function checkHashes(
  source: DeltaSource,
  entries: readonly DataEntry[],
  bytesRead: Buffer,
): void {
  let at = 0;
  for (const entry of entries) {
    const end = at + cellLength(entry.cell, source.header.diskSizeBytes);
    const bytes = bytesRead.subarray(at, end);
    if (isAllZero(bytes) || !hashCell(bytes).equals(entry.hash)) {
      const offset = entry.cell * CELL_BYTES;
      throw new DeltaError(
        'E_DELTA_HASH',
        `the bytes of cell ${entry.cell} (guest offset ${offset}) of the delta of point ${source.header.point} do not have the hash of the manifest`,
        { context: { offset, point: source.header.point } },
      );
    }
    at = end;
  }
}
