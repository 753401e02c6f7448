// Where SealedVhdxWriter puts the bytes of a dynamic disk, told without its file: places follow from
// the order of the writes. For reading a file that is still under construction, and has no head.

import { DEFAULT_BLOCK_BYTES, DEFAULT_LOGICAL_SECTOR_BYTES } from './format.js';
import { geometryOf } from './geometry.js';
import { firstBlockOffsetOf, type NewDisk } from './layout.js';

export class SealedPlaces {
  readonly #blockSizeBytes: number;
  #nextFree: number;
  #block: number | undefined;
  #blockPlace = 0;
  #blockCount = 0;

  /** With `after`: goes on behind that many blocks, in the last of which guest byte `offset` stands. */
  constructor(
    disk: Pick<NewDisk, 'sizeBytes' | 'blockSizeBytes' | 'logicalSectorBytes'>,
    after?: { readonly blockCount: number; readonly offset: number },
  ) {
    this.#blockSizeBytes = disk.blockSizeBytes ?? DEFAULT_BLOCK_BYTES;
    this.#nextFree = firstBlockOffsetOf(
      geometryOf({
        type: 'dynamic',
        sizeBytes: disk.sizeBytes,
        blockSizeBytes: this.#blockSizeBytes,
        logicalSectorBytes: disk.logicalSectorBytes ?? DEFAULT_LOGICAL_SECTOR_BYTES,
      }),
    );
    if (after === undefined || after.blockCount === 0) return;
    this.#blockCount = after.blockCount;
    this.#nextFree += after.blockCount * this.#blockSizeBytes;
    this.#block = Math.floor(after.offset / this.#blockSizeBytes);
    this.#blockPlace = this.#nextFree - this.#blockSizeBytes;
  }

  /** Blocks that the file has so far. */
  get blockCount(): number {
    return this.#blockCount;
  }

  /** The byte of the file that holds guest byte `offset`; calls in the order of the writes. */
  of(offset: number): number {
    const block = Math.floor(offset / this.#blockSizeBytes);
    if (block !== this.#block) {
      this.#block = block;
      this.#blockPlace = this.#nextFree;
      this.#nextFree += this.#blockSizeBytes;
      this.#blockCount++;
    }
    return this.#blockPlace + offset - block * this.#blockSizeBytes;
  }
}
