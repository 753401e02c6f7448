// The BAT of a VHDX that comes through a pipe: kept in a compact form until the metadata is known,
// then checked, and put into the order of the file. Memory: 12 bytes for each entry that is not zero
// and 8 more for sorting, 80 MiB at most.

import { assert } from '../assert.js';
import {
  bitmapStateProblem,
  offsetOf,
  ownsSpace,
  payloadStateProblem,
  reservedOf,
  stateOf,
} from './bat.js';
import { BAT_ENTRY_BYTES, FILE_SIZE_MAX, FIRST_STRUCTURE_OFFSET, MIB } from './format.js';
import { entryOwner, type Geometry } from './geometry.js';
import type { Region } from './region-table.js';
import { needsSeeking, refuse } from './stream-input.js';

/** Present blocks that a stream may have: 8 TiB of data in blocks of 2 MiB, 128 TiB in 32 MiB. */
export const BLOCKS_MAX = 2 ** 22;

/** A stretch of the file that is in use. */
export interface Area {
  readonly start: number;
  readonly end: number;
}

export interface StreamedBlock {
  readonly block: number;
  readonly place: number;
}

/**
 * The entries that are not zero. Only what is needed to judge them later is kept, in two growing
 * arrays; entries without space are kept until the type of the disk is known, then dropped.
 */
export class StreamedBat {
  #indexes = new Uint32Array(1024);
  #low = new Uint32Array(1024);
  #high = new Uint32Array(1024);
  #count = 0;

  /** False when there are too many. */
  add(index: number, low: number, high: number): boolean {
    // An entry that says zero in the plainest way needs no memory in any type of disk but one,
    // which is refused anyway.
    if (low === ZERO_ENTRY_LOW && high === 0) return true;
    if (this.#count === BLOCKS_MAX) return false;
    if (this.#count === this.#indexes.length) this.#grow();
    this.#indexes[this.#count] = index;
    this.#low[this.#count] = low;
    this.#high[this.#count] = high;
    this.#count++;
    return true;
  }

  #grow(): void {
    const grown = (old: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> => {
      const next = new Uint32Array(old.length * 2);
      next.set(old);
      return next;
    };
    this.#indexes = grown(this.#indexes);
    this.#low = grown(this.#low);
    this.#high = grown(this.#high);
  }

  /** Checks every entry (§ 9 points 7 and 8) and puts the blocks into the order of the file. */
  check(
    geometry: Geometry,
    bat: Region,
    areas: readonly Area[],
    position: number,
    name: string,
  ): { isAscending: boolean; blocks: Iterable<StreamedBlock> } {
    if (bat.lengthBytes < geometry.batEntryCount * BAT_ENTRY_BYTES) {
      const message = `the region has ${bat.lengthBytes} bytes, the disk needs ${geometry.batEntryCount * BAT_ENTRY_BYTES}`;
      refuse(name, 'E_VHDX_BAT', 'BAT', bat.offset, message);
    }
    areas.reduce((end, area) => {
      if (area.start < end) {
        const message = 'the log or a region overlaps another';
        refuse(name, 'E_VHDX_OVERLAP', 'region table', area.start, message);
      }
      return area.end;
    }, FIRST_STRUCTURE_OFFSET);
    // One double holds place (27 bits of MiB) and ordinal (22 bits), and sorts by place.
    const keys = new Float64Array(this.#count);
    let present = 0;
    let isAscending = true;
    for (let ordinal = 0; ordinal < this.#count; ordinal++) {
      const place = this.#checkEntry(ordinal, geometry, bat.offset, name);
      if (place === undefined) continue;
      const key = (place / MIB) * BLOCKS_MAX + ordinal;
      if (present > 0 && key < (keys[present - 1] ?? 0)) isAscending = false;
      keys[present++] = key;
    }
    const sorted = keys.subarray(0, present);
    if (!isAscending) sorted.sort();
    this.#checkPlaces(sorted, geometry, bat.offset, areas, position, name);
    return { isAscending, blocks: this.#blocks(sorted, geometry) };
  }

  /** The place of a block that is present; undefined when the entry owns no space. */
  #checkEntry(
    ordinal: number,
    geometry: Geometry,
    batOffset: number,
    name: string,
  ): number | undefined {
    const index = this.#indexes[ordinal] ?? 0;
    const low = this.#low[ordinal] ?? 0;
    const at = batOffset + index * BAT_ENTRY_BYTES;
    if (index >= geometry.batEntryCount) return undefined; // behind the table: ignored (§ 4)
    const owner = entryOwner(geometry, index);
    const state = stateOf(low);
    const isBitmap = owner.kind === 'bitmap';
    const problem = isBitmap
      ? bitmapStateProblem(state, geometry.type)
      : payloadStateProblem(state, geometry.type);
    const code = isBitmap ? 'E_VHDX_BITMAP' : 'E_VHDX_BAT';
    if (problem !== undefined) refuse(name, code, 'BAT', at, `entry ${index}: ${problem}`);
    if (reservedOf(low) !== 0) refuse(name, code, 'BAT', at, `entry ${index} has reserved bits`);
    if (!ownsSpace(state)) return undefined;
    const place = offsetOf(low, this.#high[ordinal] ?? 0);
    if (place < FIRST_STRUCTURE_OFFSET) {
      refuse(name, code, 'BAT', at, `entry ${index} lies in the header area`);
    }
    if (place + geometry.blockSizeBytes > FILE_SIZE_MAX) {
      refuse(name, 'E_VHDX_LIMIT', 'BAT', at, `entry ${index} lies at byte ${place}`);
    }
    return place;
  }

  #checkPlaces(
    sorted: Float64Array,
    geometry: Geometry,
    batOffset: number,
    areas: readonly Area[],
    position: number,
    name: string,
  ): void {
    let area = 0;
    let end = FIRST_STRUCTURE_OFFSET;
    for (const key of sorted) {
      const place = placeOf(key);
      const blockEnd = place + geometry.blockSizeBytes;
      while (area < areas.length && (areas[area]?.end ?? 0) <= place) area++;
      const at = batOffset + (this.#indexes[ordinalOf(key)] ?? 0) * BAT_ENTRY_BYTES;
      const next = areas[area];
      if (place < end || (next !== undefined && next.start < blockEnd)) {
        const message = `the space at byte ${place} belongs to another structure as well`;
        refuse(name, 'E_VHDX_OVERLAP', 'BAT', at, message);
      }
      end = blockEnd;
      if (place < position) {
        needsSeeking(name, 'BAT', at, 'a file with payload in front of its BAT or metadata');
      }
    }
  }

  *#blocks(sorted: Float64Array, geometry: Geometry): Generator<StreamedBlock, void, void> {
    for (const key of sorted) {
      const owner = entryOwner(geometry, this.#indexes[ordinalOf(key)] ?? 0);
      assert(owner.kind === 'payload', 'a disk without parent has no bitmap blocks');
      yield { block: owner.block, place: placeOf(key) };
    }
  }
}

const ZERO_ENTRY_LOW = 2;

function placeOf(key: number): number {
  return Math.floor(key / BLOCKS_MAX) * MIB;
}

function ordinalOf(key: number): number {
  return key % BLOCKS_MAX;
}
