// What the bytes of a cycle look like, judged while they pass: how many cells hold random-looking
// bytes, and a sample of such cells looked at closely, so that commit time can compare them with what
// stood there before (compare.ts). Pure; one for each disk of a cycle. Memory is two small samples.
//
//   screen   of each 4 KiB block, 128 bytes at a place that the cell's own hash gives: how often two of
//            them are equal. 32 pairs are expected of random bytes, hundreds of text or programs.
//   look     of each sampled cell, the chi-square statistic of all bytes, block by block. Encrypted
//            bytes are spread evenly; compressed ones look random to the screen, and most of them not
//            to this.
//
// The screen costs 3 µs for a cell, against 40 µs of its SHA-256; of a large cycle it sees a quarter of
// the cells. A sample is the cells with the lowest numbers drawn from their hashes (bottom-k), so the
// same cycle gives the same figures.

import { CELL_BYTES } from '../../shared/delta/index.js';

/** What a file system allots, and the least that ransomware encrypts in a row. */
const BLOCK_BYTES = 4096;
const BLOCKS = CELL_BYTES / BLOCK_BYTES;

const SCREEN_BYTES = 128;
/** 31.75 pairs are the mean of random bytes, with a deviation of 5.6; programs have 150 and more. */
const SCREEN_PAIRS_MAX = 60;
/** So many cells of a disk are all screened; behind them, one in SCREENED_EACH. */
const SCREENED_ALL = 512;
const SCREENED_EACH = 4;

/** Random-looking cells that are looked at closely and compared. */
const RANDOM_SAMPLE = 64;
/** Other cells, of which only is asked whether they replaced data. */
const OTHER_SAMPLE = 16;

/** Chi-square of 256 values: 255 ± 23 for random bytes, whatever their number. */
const RANDOM_BLOCK_MAX = 350;
const RANDOM_CELL_MAX = 320;
/** Compressed blocks have 250 to 700, text and programs more than 3,000. */
const STRUCTURED_BLOCK_MIN = 1000;
/** Compressed cells that are surely not random; packed text has 380, packed programs 700. */
const COMPRESSED_CELL_MIN = 360;
/** Blocks of which most bytes are the same are room rather than content: a file grows into them. */
const EMPTY_SHARE = 0.75;

/** What a cell holds. Bit n of a mask stands for its block n. */
export interface CellLook {
  /** Blocks whose bytes are evenly spread. */
  readonly randomBlocks: number;
  /** Blocks with content that is neither random nor compressed. */
  readonly structuredBlocks: number;
  /** Blocks that are random or compressed. */
  readonly denseCount: number;
  /** Chi-square of all of these together; 0 when there are none. */
  readonly spread: number;
}

export interface RandomSample {
  readonly cell: number;
  readonly look: CellLook;
}

const counts = new Uint8Array(256);

function equalPairs(bytes: Uint8Array, start: number): number {
  counts.fill(0);
  let pairs = 0;
  for (let at = start; at < start + SCREEN_BYTES; at++) {
    const value = bytes[at] ?? 0;
    const count = counts[value] ?? 0;
    pairs += count;
    counts[value] = count + 1;
  }
  return pairs;
}

/** Whether a block of the cell looks random. A few dozen of a million blocks of text do as well. */
function hasRandomBlock(bytes: Uint8Array, hash: Uint8Array): boolean {
  for (let block = 0; (block + 1) * BLOCK_BYTES <= bytes.length; block++) {
    // nobody can leave just these bytes as they are without choosing the hash of the whole cell
    const place = (hash[block] ?? 0) * 15;
    if (equalPairs(bytes, block * BLOCK_BYTES + place) <= SCREEN_PAIRS_MAX) return true;
  }
  return false;
}

function chiSquare(histogram: Uint32Array, byteCount: number): number {
  const expected = byteCount / 256;
  let sum = 0;
  for (const count of histogram) sum += (count - expected) ** 2;
  return sum / expected;
}

/** Looks at every byte of a cell. */
export function lookAt(bytes: Uint8Array): CellLook {
  const block = new Uint32Array(256);
  const dense = new Uint32Array(256);
  let randomBlocks = 0;
  let structuredBlocks = 0;
  let denseCount = 0;
  for (let index = 0; (index + 1) * BLOCK_BYTES <= bytes.length; index++) {
    block.fill(0);
    const end = (index + 1) * BLOCK_BYTES;
    for (let at = index * BLOCK_BYTES; at < end; at++) {
      const value = bytes[at] ?? 0;
      block[value] = (block[value] ?? 0) + 1;
    }
    const spread = chiSquare(block, BLOCK_BYTES);
    if (spread >= STRUCTURED_BLOCK_MIN) {
      if (Math.max(...block) <= BLOCK_BYTES * EMPTY_SHARE) structuredBlocks |= 1 << index;
      continue;
    }
    if (spread <= RANDOM_BLOCK_MAX) randomBlocks |= 1 << index;
    denseCount++;
    for (let value = 0; value < 256; value++) {
      dense[value] = (dense[value] ?? 0) + (block[value] ?? 0);
    }
  }
  const spread = denseCount === 0 ? 0 : chiSquare(dense, denseCount * BLOCK_BYTES);
  return { randomBlocks, structuredBlocks, denseCount, spread };
}

/** Whether what is random in the cell looks encrypted, and not merely compressed. */
export function isEncryptedLook({ randomBlocks, spread }: CellLook): boolean {
  return randomBlocks !== 0 && spread <= RANDOM_CELL_MAX;
}

/** Whether content gave way to bytes that look encrypted. */
export function hasTurned(before: CellLook, now: CellLook): boolean {
  if (!isEncryptedLook(now)) return false;
  if ((before.structuredBlocks & now.randomBlocks) !== 0) return true;
  const half = BLOCKS / 2;
  return (
    before.denseCount >= half && now.denseCount >= half && before.spread >= COMPRESSED_CELL_MIN
  );
}

/** The `size` items with the lowest numbers. */
class LowestItems<T> {
  readonly #size: number;
  readonly #items: { readonly number: number; readonly item: T }[] = [];
  #highest = Infinity;

  constructor(size: number) {
    this.#size = size;
  }

  /** Whether an item with this number belongs to them, as far as is known. */
  wants(number: number): boolean {
    return this.#items.length < this.#size || number < this.#highest;
  }

  add(number: number, item: T): void {
    this.#items.push({ number, item });
    if (this.#items.length > this.#size) {
      this.#items.splice(
        this.#items.findIndex((each) => each.number === this.#highest),
        1,
      );
    }
    this.#highest = Math.max(...this.#items.map((each) => each.number));
  }

  get items(): T[] {
    return this.#items.map(({ item }) => item);
  }
}

export class CellStatistics {
  #cellCount = 0;
  #screenedCount = 0;
  #screenedWeight = 0;
  #randomWeight = 0;
  readonly #random = new LowestItems<RandomSample>(RANDOM_SAMPLE);
  readonly #others = new LowestItems<number>(OTHER_SAMPLE);

  /** Takes a data cell whose hash was checked. `bytes` are not kept. */
  add(cell: number, hash: Uint8Array, bytes: Uint8Array): void {
    this.#cellCount++;
    const weight = this.#cellCount <= SCREENED_ALL ? 1 : SCREENED_EACH;
    if (weight > 1 && (hash[20] ?? 0) % SCREENED_EACH !== 0) return;
    this.#screenedCount++;
    this.#screenedWeight += weight;
    const drawn = ((hash[16] ?? 0) << 16) | ((hash[17] ?? 0) << 8) | (hash[18] ?? 0);
    const number = drawn / weight;
    if (hasRandomBlock(bytes, hash)) {
      this.#randomWeight += weight;
      if (this.#random.wants(number)) this.#random.add(number, { cell, look: lookAt(bytes) });
    } else if (this.#others.wants(number)) {
      this.#others.add(number, cell);
    }
  }

  /** Cells that were screened. Those that came before a restart of the receiver were not. */
  get screenedCount(): number {
    return this.#screenedCount;
  }

  /** Which share of the cells has a block that looks random, 0 to 1. */
  get randomShare(): number {
    return this.#screenedWeight === 0 ? 0 : this.#randomWeight / this.#screenedWeight;
  }

  /** A sample of the cells with a block that looks random: all of them when they are few. */
  get randomSample(): readonly RandomSample[] {
    return this.#random.items;
  }

  /** A sample of the other cells. */
  get otherSample(): readonly number[] {
    return this.#others.items;
  }
}
