// Finds the data of a sparse file without reading its holes.

import type { NativePosix } from './native-posix.js';
import { nativePosix } from './native-posix.js';

export interface DataRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The next range [start, end) at or after `position` that may hold non-zero bytes, inside a file of
 * `sizeBytes`; undefined when only holes follow. Where the system or the file system cannot tell,
 * everything counts as data.
 */
export async function nextDataRange(
  descriptor: number,
  position: number,
  sizeBytes: number,
): Promise<DataRange | undefined> {
  if (position >= sizeBytes) return undefined;
  const native = await nativePosix();
  if (native === undefined) return { start: position, end: sizeBytes };
  return seekDataRange(native, descriptor, position, sizeBytes);
}

function seekDataRange(
  native: NativePosix,
  descriptor: number,
  position: number,
  sizeBytes: number,
): DataRange | undefined {
  const data = native.lseek(descriptor, position, native.seekData);
  // ENXIO is the one answer that means "no more data"; EINVAL and others mean "cannot tell".
  if (data.failure === 'ENXIO') return undefined;
  if (data.failure !== undefined) return { start: position, end: sizeBytes };
  // The file may have grown since its size was read; the caller asked about the part before.
  if (data.value >= sizeBytes) return undefined;
  const start = Math.max(position, data.value);
  const hole = native.lseek(descriptor, start, native.seekHole);
  if (hole.failure !== undefined || hole.value <= start) return { start, end: sizeBytes };
  return { start, end: Math.min(hole.value, sizeBytes) };
}
