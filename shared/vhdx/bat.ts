// A block allocation table entry (§ 5): bits 0-2 state, 3-19 reserved, 20-63 file offset in MiB.
// Kept as two 32-bit halves; BigInt would cost more than everything else on this path.

import { assert } from '../assert.js';
import {
  BITMAP_PRESENT,
  BLOCK_FULLY_PRESENT,
  BLOCK_NOT_PRESENT,
  BLOCK_PARTIALLY_PRESENT,
  BLOCK_UNDEFINED,
  BLOCK_UNMAPPED,
  BLOCK_ZERO,
  fileOffset,
  MIB,
  type FileOffset,
} from './format.js';
import type { VhdxType } from './geometry.js';

export type BlockState =
  | typeof BLOCK_NOT_PRESENT
  | typeof BLOCK_UNDEFINED
  | typeof BLOCK_ZERO
  | typeof BLOCK_UNMAPPED
  | typeof BLOCK_FULLY_PRESENT
  | typeof BLOCK_PARTIALLY_PRESENT;

/** Low half: state, reserved bits, the low 12 bits of the MiB number. */
export function stateOf(low: number): number {
  return low & 7;
}

/** The reserved bits; anything but 0 is a violation. */
export function reservedOf(low: number): number {
  return (low >>> 3) & 0x1ffff;
}

/** The file position that an entry names. */
export function offsetOf(low: number, high: number): FileOffset {
  return fileOffset(((low >>> 20) + high * 4096) * MIB);
}

/** Writes an entry into a BAT page. */
export function putEntry(page: Buffer, at: number, state: number, offset: number): void {
  assert(offset % MIB === 0, 'blocks start on a MiB');
  const mebibytes = offset / MIB;
  page.writeUInt32LE((((mebibytes % 4096) << 20) | state) >>> 0, at);
  page.writeUInt32LE(Math.floor(mebibytes / 4096), at + 4);
}

/** What is wrong with the state of a payload entry, or undefined (§ 5.1). */
export function payloadStateProblem(state: number, type: VhdxType): string | undefined {
  if (state === 4 || state === 5) return `reserved payload state ${state}`;
  if (state === BLOCK_PARTIALLY_PRESENT && type !== 'differencing') {
    return `state 7 (partially present) in a ${type} disk`;
  }
  return undefined;
}

/** What is wrong with the state of a sector-bitmap entry, or undefined (§ 5.2). */
export function bitmapStateProblem(state: number, type: VhdxType): string | undefined {
  if (state !== BLOCK_NOT_PRESENT && state !== BITMAP_PRESENT) {
    return `sector-bitmap state ${state}`;
  }
  if (state === BITMAP_PRESENT && type !== 'differencing') {
    return `a sector bitmap in a ${type} disk`;
  }
  return undefined;
}

/** True when an entry of this state owns space in the file. */
export function ownsSpace(state: number): boolean {
  return state === BLOCK_FULLY_PRESENT || state === BLOCK_PARTIALLY_PRESENT;
}
