// PCBT version 1, byte by byte (product.md § 4; docs/on-disk.md). Little-endian:
//
//   header, 16 bytes   0  magic "PCBT"   4  version u32 = 1   8  block_count u32   12  reserved u32 = 0
//   block_count times  0  offset u64     8  length u64        16 data[length]
//
// Blocks lie in ascending order, do not overlap, are not empty and end inside the disk. They may
// touch, and may have any alignment and length: other programs make such deltas too. PcbtRules is
// the one place that knows these rules; writer, reader and check all ask it.

import type { ErrorCode } from '../errors.js';
import { assert } from '../assert.js';
import { MAX_DISK_BYTES } from './cell.js';
import { DeltaError } from './delta-error.js';

export const PCBT_HEADER_BYTES = 16;
export const PCBT_ENTRY_BYTES = 16;
export const PCBT_MAGIC = Buffer.from('PCBT', 'latin1');
export const PCBT_VERSION = 1;
export const PCBT_MAX_BLOCKS = 2 ** 32 - 1;

/** A half-open range of guest bytes that a block of a delta covers. */
export interface PcbtRange {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** A rule that the bytes break; `position` is the byte of the file where it shows. */
export interface PcbtViolation {
  readonly code: ErrorCode;
  readonly position: number;
  readonly message: string;
}

export function pcbtError(violation: PcbtViolation, done?: string): DeltaError {
  return new DeltaError(
    violation.code,
    `${violation.message}, at byte ${violation.position} of the delta`,
    { context: { position: violation.position }, ...(done === undefined ? {} : { done }) },
  );
}

export function encodePcbtHeader(blockCount: number): Buffer {
  assert(Number.isInteger(blockCount) && blockCount >= 0, 'block count is a count');
  assert(blockCount <= PCBT_MAX_BLOCKS, 'block count fits 32 bits');
  const out = Buffer.alloc(PCBT_HEADER_BYTES);
  PCBT_MAGIC.copy(out, 0);
  out.writeUInt32LE(PCBT_VERSION, 4);
  out.writeUInt32LE(blockCount, 8);
  return out;
}

export interface PcbtHeader {
  readonly blockCount: number;
  /** The first rule that the header breaks; the count holds when it is only the reserved field. */
  readonly violation: PcbtViolation | undefined;
}

/** Decodes the header from the first bytes of a file, fewer than 16 when the file ends there. */
export function parsePcbtHeader(bytes: Buffer): PcbtHeader {
  const bad = (code: ErrorCode, position: number, message: string, blockCount = 0): PcbtHeader => ({
    blockCount,
    violation: { code, position, message },
  });
  const magic = bytes.subarray(0, PCBT_MAGIC.length);
  if (!magic.equals(PCBT_MAGIC.subarray(0, magic.length))) {
    return bad('E_PCBT_MAGIC', 0, 'the file does not begin with "PCBT"');
  }
  if (bytes.length < PCBT_HEADER_BYTES) {
    return bad('E_PCBT_TRUNCATED', bytes.length, 'the file ends inside the header');
  }
  const version = bytes.readUInt32LE(4);
  if (version !== PCBT_VERSION) {
    return bad('E_PCBT_VERSION', 4, `the version is ${version}, known is ${PCBT_VERSION}`);
  }
  const blockCount = bytes.readUInt32LE(8);
  const reserved = bytes.readUInt32LE(12);
  if (reserved !== 0) {
    return bad('E_PCBT_RESERVED', 12, `the reserved field is ${reserved}, not 0`, blockCount);
  }
  return { blockCount, violation: undefined };
}

/** Writes the 16 bytes before a block's data at `position` of `out`. */
export function encodePcbtEntry(range: PcbtRange, out: Buffer, position = 0): void {
  out.writeUInt32LE(range.offset % 2 ** 32, position);
  out.writeUInt32LE(Math.floor(range.offset / 2 ** 32), position + 4);
  out.writeUInt32LE(range.lengthBytes % 2 ** 32, position + 8);
  out.writeUInt32LE(Math.floor(range.lengthBytes / 2 ** 32), position + 12);
}

/** The 16 bytes before a block's data, still unchecked. */
export interface PcbtEntry {
  readonly offset: bigint;
  readonly length: bigint;
}

export function parsePcbtEntry(bytes: Buffer, position = 0): PcbtEntry {
  return {
    offset: bytes.readBigUInt64LE(position),
    length: bytes.readBigUInt64LE(position + 8),
  };
}

/** The rules over all blocks of one delta, in the order in which they stand in the file. */
export class PcbtRules {
  readonly #diskSizeBytes: bigint;
  #end = 0n;

  /** Without a disk size the largest disk of Hyper-V is the bound. */
  constructor(diskSizeBytes: number | undefined) {
    this.#diskSizeBytes = BigInt(diskSizeBytes ?? MAX_DISK_BYTES);
  }

  /** Guest offset at which the highest block so far ends. */
  get end(): bigint {
    return this.#end;
  }

  /**
   * The rule that this block breaks, or undefined; `position` is the place of the entry in the
   * file. Only after undefined may offset and length be converted to numbers.
   */
  check(entry: PcbtEntry, position: number): PcbtViolation | undefined {
    const { offset, length } = entry;
    const end = offset + length;
    const previous = this.#end;
    const isInside = end <= this.#diskSizeBytes;
    if (isInside && end > previous) this.#end = end;
    if (length === 0n) {
      return {
        code: 'E_PCBT_EMPTY_BLOCK',
        position: position + 8,
        message: `the block at guest offset ${offset.toString()} has the length 0`,
      };
    }
    if (!isInside) {
      return {
        code: 'E_PCBT_BEYOND_DISK',
        position,
        message:
          `the block at guest offset ${offset.toString()} with ${length.toString()} bytes reaches ` +
          `beyond the end of the disk at ${this.#diskSizeBytes.toString()}`,
      };
    }
    if (offset < previous) {
      return {
        code: 'E_PCBT_ORDER',
        position,
        message:
          `the block at guest offset ${offset.toString()} begins before the end of the former ` +
          `blocks at ${previous.toString()}`,
      };
    }
    return undefined;
  }
}
