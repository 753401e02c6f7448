// Blocks of a differencing disk over a parent that has nothing but zeros there. What is not written of
// them is said to be zero, so that the child has them whole: such a block costs no bitmap, which on a
// large sparse disk is as many small writes again as there are cells.

import type { ReadableDisk } from '../disk/index.js';
import type { DeltaTarget } from './apply.js';

export class WholeBlocks implements DeltaTarget {
  readonly #target: DeltaTarget;
  readonly #parent: ReadableDisk;
  readonly #blockSizeBytes: number;
  /** Start of the block under way. */
  #block = -1;
  #isBare = false;
  /** End of the last range. */
  #end = 0;

  /** `target` takes ranges in ascending order, and so does this. */
  constructor(target: DeltaTarget, parent: ReadableDisk, blockSizeBytes: number) {
    this.#target = target;
    this.#parent = parent;
    this.#blockSizeBytes = blockSizeBytes;
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    const end = offset + data.length;
    for (let at = offset; at < end; at = this.#end) {
      await this.#enter(at);
      const pieceEnd = Math.min(end, this.#block + this.#blockSizeBytes);
      await this.#target.write(at, data.subarray(at - offset, pieceEnd - offset));
      this.#end = pieceEnd;
    }
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    await this.#enter(offset);
    await this.#target.zero(offset, lengthBytes);
    this.#end = offset + lengthBytes;
  }

  /** The last block is whole too. */
  async finish(): Promise<void> {
    await this.#leave();
  }

  async #enter(offset: number): Promise<void> {
    const block = offset - (offset % this.#blockSizeBytes);
    if (block !== this.#block) {
      await this.#leave();
      this.#block = block;
      const end = Math.min(block + this.#blockSizeBytes, this.#parent.sizeBytes);
      this.#isBare = await isBare(this.#parent, block, end);
      this.#end = Math.max(this.#end, block);
    }
    if (this.#isBare && this.#end < offset) {
      await this.#target.zero(this.#end, offset - this.#end);
    }
  }

  async #leave(): Promise<void> {
    const blockEnd = Math.min(this.#block + this.#blockSizeBytes, this.#parent.sizeBytes);
    if (!this.#isBare || this.#end >= blockEnd) return;
    await this.#target.zero(this.#end, blockEnd - this.#end);
    this.#end = blockEnd;
  }
}

async function isBare(disk: ReadableDisk, start: number, end: number): Promise<boolean> {
  for await (const { kind } of disk.extents(start, end)) if (kind !== 'zero') return false;
  return true;
}
