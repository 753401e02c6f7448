// One pass over the whole BAT: every entry is checked (§ 9 points 6 to 9) and its space is marked,
// so that overlap shows. Opening does this too, because nothing may be written to a file that fails
// a check. Holes of the file are skipped, pages are not kept: time follows what is allocated, memory
// does not grow.

import type { BlockFile } from '../files/index.js';
import {
  bitmapStateProblem,
  offsetOf,
  ownsSpace,
  payloadStateProblem,
  reservedOf,
  stateOf,
} from './bat.js';
import {
  BAT_ENTRY_BYTES,
  BITMAP_BLOCK_BYTES,
  BITMAP_PRESENT,
  BLOCK_PARTIALLY_PRESENT,
  BLOCK_ZERO,
  FIRST_STRUCTURE_OFFSET,
  MIB,
} from './format.js';
import { entryOwner, type Geometry } from './geometry.js';
import type { SpaceMap } from './space.js';
import type { Report } from './violation.js';

export interface BatCounts {
  fullyPresent: number;
  partiallyPresent: number;
  /** Blocks that say zero explicitly. */
  zero: number;
  bitmaps: number;
}

export interface BatScanInput {
  readonly file: BlockFile;
  readonly fileSizeBytes: number;
  readonly geometry: Geometry;
  readonly batOffset: number;
  readonly space: SpaceMap;
  /**
   * A last block cut short by the end of the file goes to `warn` instead of `report`. Never a sector
   * bitmap: its missing bits would show the parent where this file has data.
   */
  readonly isShortLastBlockTolerated: boolean;
  readonly report: Report;
  readonly warn: (message: string) => void;
}

const READ_BYTES = MIB;

export async function scanBat(input: BatScanInput): Promise<BatCounts> {
  const { file, geometry, batOffset } = input;
  const counts: BatCounts = { fullyPresent: 0, partiallyPresent: 0, zero: 0, bitmaps: 0 };
  const end = batOffset + geometry.batEntryCount * BAT_ENTRY_BYTES;
  const scan = new ChunkScan(input, counts);
  const buffer = Buffer.alloc(Math.min(READ_BYTES, end - batOffset));
  let position = batOffset;
  while (position < end) {
    const data = await file.nextData(position);
    if (data === undefined || data.start >= end) break;
    // Entries are 8 bytes and the region is aligned, so a hole never ends inside an entry.
    position = Math.max(position, data.start - (data.start % BAT_ENTRY_BYTES));
    const dataBytes = Math.ceil((data.end - position) / BAT_ENTRY_BYTES) * BAT_ENTRY_BYTES;
    const length = Math.min(buffer.length, end - position, dataBytes);
    const view = buffer.subarray(0, length);
    view.fill(0, await file.read(position, view));
    scan.entries(view, (position - batOffset) / BAT_ENTRY_BYTES);
    position += length;
  }
  scan.finish();
  return counts;
}

/** The state that a pass carries from one entry to the next. */
class ChunkScan {
  readonly #input: BatScanInput;
  readonly #counts: BatCounts;
  /** First entry in state 7 of the chunk under way, and whether its bitmap was seen. */
  #partial: { chunk: number; index: number } | undefined;

  constructor(input: BatScanInput, counts: BatCounts) {
    this.#input = input;
    this.#counts = counts;
  }

  entries(bytes: Buffer, firstIndex: number): void {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    for (let i = 0; i < words.length; i += 2) {
      const low = words[i] ?? 0;
      const high = words[i + 1] ?? 0;
      if (low !== 0 || high !== 0) this.#entry(firstIndex + (i >>> 1), low >>> 0, high >>> 0);
    }
  }

  #wrong(index: number, message: string): void {
    const { geometry, batOffset, report } = this.#input;
    const owner = entryOwner(geometry, index);
    const code = owner.kind === 'bitmap' ? 'E_VHDX_BITMAP' : 'E_VHDX_BAT';
    const name = owner.kind === 'bitmap' ? `sector bitmap ${owner.chunk}` : `block ${owner.block}`;
    const offset = batOffset + index * BAT_ENTRY_BYTES;
    report({ code, structure: 'BAT', offset, message: `${name}: ${message}` });
  }

  /** Runs once for each entry that is not zero, up to 2^26 times: makes no garbage when all is well. */
  #entry(index: number, low: number, high: number): void {
    const { geometry } = this.#input;
    const owner = entryOwner(geometry, index);
    const state = stateOf(low);
    const { type } = geometry;
    const problem =
      owner.kind === 'bitmap' ? bitmapStateProblem(state, type) : payloadStateProblem(state, type);
    if (problem !== undefined) {
      this.#wrong(index, problem);
      return;
    }
    if (reservedOf(low) !== 0) {
      this.#wrong(index, `reserved bits 0x${reservedOf(low).toString(16)}`);
    }
    if (owner.kind === 'bitmap') {
      if (this.#partial?.chunk === owner.chunk && state === BITMAP_PRESENT)
        this.#partial = undefined;
    } else {
      const chunk = Math.floor(owner.block / geometry.chunkRatio);
      if (this.#partial !== undefined && this.#partial.chunk !== chunk) this.#reportMissingBitmap();
      if (state === BLOCK_PARTIALLY_PRESENT) this.#partial ??= { chunk, index };
    }
    if (state === BLOCK_ZERO) this.#counts.zero++;
    if (!ownsSpace(state)) return;
    if (owner.kind === 'bitmap') this.#counts.bitmaps++;
    else if (state === BLOCK_PARTIALLY_PRESENT) this.#counts.partiallyPresent++;
    else this.#counts.fullyPresent++;
    const lengthBytes = owner.kind === 'bitmap' ? BITMAP_BLOCK_BYTES : geometry.blockSizeBytes;
    const isShortTolerated = this.#input.isShortLastBlockTolerated && owner.kind === 'payload';
    this.#claim(index, offsetOf(low, high), lengthBytes, isShortTolerated);
  }

  #claim(index: number, offset: number, lengthBytes: number, isShortTolerated: boolean): void {
    const { batOffset, fileSizeBytes, space, report, warn } = this.#input;
    if (offset < FIRST_STRUCTURE_OFFSET) {
      this.#wrong(index, `lies at byte ${offset}, in the header area`);
      return;
    }
    const isShort = offset + lengthBytes > fileSizeBytes;
    const shortage = isShort
      ? `ends at byte ${offset + lengthBytes}, the file at ${fileSizeBytes}`
      : '';
    const at = batOffset + index * BAT_ENTRY_BYTES;
    if (isShort && (!isShortTolerated || offset >= fileSizeBytes)) {
      report({ code: 'E_VHDX_TRUNCATED', structure: 'BAT', offset: at, message: shortage });
      return;
    }
    if (!space.claim(offset, lengthBytes)) {
      report({
        code: 'E_VHDX_OVERLAP',
        structure: 'BAT',
        offset: at,
        message: `the space at byte ${offset} belongs to another structure as well`,
      });
    } else if (isShort) {
      // At most once, as only one block can own the end of the file.
      warn(`the block at byte ${offset} ${shortage}; the missing part reads as zeros`);
    }
  }

  #reportMissingBitmap(): void {
    if (this.#partial === undefined) return;
    const { index, chunk } = this.#partial;
    this.#input.report({
      code: 'E_VHDX_BITMAP',
      structure: 'BAT',
      offset: this.#input.batOffset + index * BAT_ENTRY_BYTES,
      message: `a block is partially present, but sector bitmap ${chunk} is not there`,
    });
    this.#partial = undefined;
  }

  /** Chunks whose bitmap entry is zero are never visited as an entry: look once more at the end. */
  finish(): void {
    this.#reportMissingBitmap();
  }
}
