// The grid of every delta (design.md § 1): 64 KiB cells, aligned to the guest disk; the last cell
// of a disk may be short. Pure arithmetic, and the hash of a cell.

import { hash } from 'node:crypto';

import { DeltaError } from './delta-error.js';

export const CELL_BYTES = 64 * 1024;

/** The largest disk that Hyper-V knows, 64 TiB; larger sizes are refused, not computed with. */
export const MAX_DISK_BYTES = 64 * 2 ** 40;

/** Length of a SHA-256. */
export const HASH_BYTES = 32;

const ZEROS = Buffer.alloc(CELL_BYTES);
const zeroHashes = new Map<number, Buffer>();

/** Number of cells of a disk, the short last one included. */
export function cellCount(diskSizeBytes: number): number {
  return Math.ceil(diskSizeBytes / CELL_BYTES);
}

/** Length in bytes of cell `index`: 64 KiB, or less for the last cell of a disk. */
export function cellLength(index: number, diskSizeBytes: number): number {
  return Math.min(CELL_BYTES, diskSizeBytes - index * CELL_BYTES);
}

/** Guest offset at which the cells before `index` end, never beyond the disk. */
export function cellOffset(index: number, diskSizeBytes: number): number {
  return Math.min(index * CELL_BYTES, diskSizeBytes);
}

/** SHA-256 of a cell's real bytes; a short last cell is hashed over its real length. */
export function hashCell(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

/** SHA-256 of `lengthBytes` zeros (at most a cell): the hash that no data record may carry. */
export function zeroHash(lengthBytes: number): Buffer {
  let known = zeroHashes.get(lengthBytes);
  if (known === undefined) {
    known = hashCell(ZEROS.subarray(0, lengthBytes));
    if (zeroHashes.size < 64) zeroHashes.set(lengthBytes, known);
  }
  return known;
}

/** @throws DeltaError E_DISK_MISMATCH for a size that no disk of Hyper-V has */
export function checkDiskSize(diskSizeBytes: number, what: string): void {
  if (Number.isSafeInteger(diskSizeBytes) && diskSizeBytes >= 0) {
    if (diskSizeBytes <= MAX_DISK_BYTES) return;
  }
  throw new DeltaError(
    'E_DISK_MISMATCH',
    `${what} has ${diskSizeBytes} bytes, beyond the 64 TiB that a virtual disk can have`,
    { context: { diskSizeBytes } },
  );
}
