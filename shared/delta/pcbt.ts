// Streaming reader and writer of PCBT version 1 (format: pcbt-format.ts). Neither a delta nor a
// single long block is ever whole in memory: blocks arrive and leave in pieces. The block count
// stands first, so the writer is given the ranges before the first byte leaves, and checks them
// all; the reader checks the same rules as the bytes arrive.

import { assert } from '../assert.js';
import type { BlockFile } from '../files/index.js';
import { ByteReader, type Chunks } from './byte-source.js';
import {
  encodePcbtEntry,
  encodePcbtHeader,
  parsePcbtEntry,
  parsePcbtHeader,
  PCBT_ENTRY_BYTES,
  PCBT_HEADER_BYTES,
  PCBT_MAX_BLOCKS,
  pcbtError,
  type PcbtRange,
  PcbtRules,
  type PcbtViolation,
} from './pcbt-format.js';

/** The longest piece that reader and writer handle at once. */
export const PIECE_BYTES = 1024 * 1024;

export interface PcbtOptions {
  /** Size of the disk that the delta belongs to; without it 64 TiB is the bound. */
  readonly diskSizeBytes?: number | undefined;
}

/** A part of one block's data. */
export interface PcbtPiece {
  /** Guest offset of the first byte. */
  readonly offset: number;
  /** 1 byte to PIECE_BYTES; valid until the next piece is asked for. */
  readonly data: Buffer;
}

/** One block of a delta file, without its data. */
export interface PcbtBlock extends PcbtRange {
  /** Byte of the file at which the data begins. */
  readonly dataPosition: number;
}

/**
 * Reads a delta from chunks of any size. `open` has checked the header; `pieces` checks each block
 * before it yields its first byte, and the end of the file after the last.
 */
export class PcbtReader {
  readonly blockCount: number;
  readonly #bytes: ByteReader;
  readonly #rules: PcbtRules;

  private constructor(blockCount: number, bytes: ByteReader, rules: PcbtRules) {
    this.blockCount = blockCount;
    this.#bytes = bytes;
    this.#rules = rules;
  }

  /** @throws DeltaError E_PCBT_MAGIC, E_PCBT_VERSION, E_PCBT_RESERVED, E_PCBT_TRUNCATED */
  static async open(chunks: Chunks, options: PcbtOptions = {}): Promise<PcbtReader> {
    const bytes = new ByteReader(chunks);
    try {
      const first = Buffer.alloc(PCBT_HEADER_BYTES);
      const lengthBytes = await bytes.read(first);
      const { blockCount, violation } = parsePcbtHeader(first.subarray(0, lengthBytes));
      if (violation !== undefined) throw pcbtError(violation);
      return new PcbtReader(blockCount, bytes, new PcbtRules(options.diskSizeBytes));
    } catch (error) {
      await bytes.close();
      throw error;
    }
  }

  /**
   * The data of all blocks in order. To be iterated once.
   * @throws DeltaError E_PCBT_EMPTY_BLOCK, E_PCBT_BEYOND_DISK, E_PCBT_ORDER, E_PCBT_TRUNCATED,
   *   E_PCBT_TRAILING
   */
  async *pieces(): AsyncGenerator<PcbtPiece> {
    const bytes = this.#bytes;
    const entryBytes = Buffer.alloc(PCBT_ENTRY_BYTES);
    try {
      for (let block = 0; block < this.blockCount; block++) {
        const position = bytes.position;
        const got = await bytes.read(entryBytes);
        if (got < PCBT_ENTRY_BYTES) throw this.#truncated(block, 'entry');
        const entry = parsePcbtEntry(entryBytes);
        const violation = this.#rules.check(entry, position);
        if (violation !== undefined) throw pcbtError(violation);
        let offset = Number(entry.offset);
        const end = offset + Number(entry.length);
        while (offset < end) {
          const data = await bytes.some(Math.min(PIECE_BYTES, end - offset));
          if (data === undefined) throw this.#truncated(block, 'data');
          yield { offset, data };
          offset += data.length;
        }
      }
      if (!(await bytes.isAtEnd())) {
        throw pcbtError({
          code: 'E_PCBT_TRAILING',
          position: bytes.position,
          message: `bytes follow the last of ${this.blockCount} blocks`,
        });
      }
    } finally {
      await bytes.close();
    }
  }

  #truncated(block: number, part: 'entry' | 'data'): Error {
    return pcbtError({
      code: 'E_PCBT_TRUNCATED',
      position: this.#bytes.position,
      message: `the file ends inside the ${part} of block ${block + 1} of ${this.blockCount}`,
    });
  }
}

const SMALL_WINDOW_BYTES = 4 * 1024;
const LARGE_WINDOW_BYTES = 1024 * 1024;
/** Reading so much more costs less than another call to the system. */
const NEAR_BYTES = 128 * 1024;

/**
 * The blocks of a delta file in order, read without the data in between. When it ends without an
 * error the whole structure is legal: header, order, bounds, length of the file.
 * @throws DeltaError with each code of PcbtReader
 */
export function indexPcbt(
  file: BlockFile,
  options: PcbtOptions = {},
): AsyncGenerator<PcbtBlock, void> {
  return walkPcbt(file, options, (violation) => {
    throw pcbtError(violation);
  });
}

/**
 * Like indexPcbt, but each broken rule is reported and the walk goes on where the bytes still make
 * sense. Yields the legal blocks only.
 */
export async function* walkPcbt(
  file: BlockFile,
  options: PcbtOptions,
  report: (violation: PcbtViolation) => void,
): AsyncGenerator<PcbtBlock, void> {
  const sizeBytes = await file.size();
  const first = Buffer.alloc(PCBT_HEADER_BYTES);
  const firstLength = await file.read(0, first);
  const { blockCount, violation } = parsePcbtHeader(first.subarray(0, firstLength));
  if (violation !== undefined) {
    report(violation);
    if (violation.code !== 'E_PCBT_RESERVED') return;
  }
  const rules = new PcbtRules(options.diskSizeBytes);
  const window = Buffer.alloc(LARGE_WINDOW_BYTES);
  let windowStart = 0;
  let windowEnd = 0;
  let position = PCBT_HEADER_BYTES;
  for (let block = 0; block < blockCount; block++) {
    if (position + PCBT_ENTRY_BYTES > windowEnd) {
      // Short blocks follow each other within a large window; after a long one only its successor's
      // entry is of interest.
      const isNear = block > 0 && position - windowEnd < NEAR_BYTES;
      const wanted = isNear ? LARGE_WINDOW_BYTES : SMALL_WINDOW_BYTES;
      windowStart = position;
      windowEnd = position + (await file.read(position, window.subarray(0, wanted)));
    }
    const truncated = (part: string): PcbtViolation => ({
      code: 'E_PCBT_TRUNCATED',
      position: sizeBytes,
      message: `the file ends inside the ${part} of block ${block + 1} of ${blockCount}`,
    });
    if (position + PCBT_ENTRY_BYTES > windowEnd) {
      report(truncated('entry'));
      return;
    }
    const entry = parsePcbtEntry(window, position - windowStart);
    const broken = rules.check(entry, position);
    if (broken !== undefined) report(broken);
    const dataPosition = position + PCBT_ENTRY_BYTES;
    if (entry.length > BigInt(sizeBytes - dataPosition)) {
      report(truncated('data'));
      return;
    }
    const lengthBytes = Number(entry.length);
    position = dataPosition + lengthBytes;
    if (broken === undefined) yield { offset: Number(entry.offset), lengthBytes, dataPosition };
  }
  if (position < sizeBytes) {
    report({
      code: 'E_PCBT_TRAILING',
      position,
      message: `${sizeBytes - position} bytes follow the last of ${blockCount} blocks`,
    });
  }
}

/** Ranges that give the same answer each time they are iterated. */
export type PcbtRanges = Iterable<PcbtRange>;

export interface PcbtPlan {
  readonly ranges: PcbtRanges;
  readonly blockCount: number;
  /** Length of the finished file. */
  readonly fileBytes: number;
}

/**
 * Checks all ranges before a byte leaves, so that the header's count is final. A range that breaks
 * a rule is a bug of the caller and trips an assertion.
 */
export function planPcbt(ranges: PcbtRanges, options: PcbtOptions): PcbtPlan {
  const rules = new PcbtRules(options.diskSizeBytes);
  let blockCount = 0;
  let fileBytes = PCBT_HEADER_BYTES;
  for (const range of ranges) {
    assertRange(rules, range, fileBytes);
    blockCount++;
    fileBytes += PCBT_ENTRY_BYTES + range.lengthBytes;
  }
  assert(blockCount <= PCBT_MAX_BLOCKS, 'a delta has at most 2^32 - 1 blocks');
  return { ranges, blockCount, fileBytes };
}

function assertRange(rules: PcbtRules, range: PcbtRange, position: number): void {
  assert(Number.isSafeInteger(range.offset) && range.offset >= 0, 'block offset is a byte offset');
  assert(Number.isSafeInteger(range.lengthBytes), 'block length is a length');
  const entry = { offset: BigInt(range.offset), length: BigInt(range.lengthBytes) };
  const violation = rules.check(entry, position);
  assert(violation === undefined, `legal blocks only: ${violation?.message ?? ''}`);
}

/**
 * The bytes of a delta file. `read` fills a buffer with guest bytes; it is called once per piece,
 * in ascending order, and never across the border of a block. A chunk is valid until the next one
 * is asked for.
 */
export async function* encodePcbt(
  plan: PcbtPlan,
  options: PcbtOptions,
  read: (offset: number, target: Buffer) => Promise<void>,
): AsyncGenerator<Buffer> {
  const out = Buffer.allocUnsafe(PCBT_ENTRY_BYTES + PIECE_BYTES);
  const rules = new PcbtRules(options.diskSizeBytes);
  let blockCount = 0;
  yield encodePcbtHeader(plan.blockCount);
  for (const range of plan.ranges) {
    // The second iteration is checked like the first: what leaves must be what was announced.
    assertRange(rules, range, 0);
    blockCount++;
    encodePcbtEntry(range, out);
    let filled = PCBT_ENTRY_BYTES;
    let done = 0;
    while (done < range.lengthBytes) {
      const lengthBytes = Math.min(PIECE_BYTES, range.lengthBytes - done);
      await read(range.offset + done, out.subarray(filled, filled + lengthBytes));
      yield out.subarray(0, filled + lengthBytes);
      filled = 0;
      done += lengthBytes;
    }
  }
  assert(blockCount === plan.blockCount, 'the ranges are the same in both iterations');
}
