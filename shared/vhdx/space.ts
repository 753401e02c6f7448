// Which MiB of the file are in use. Serves two ends: finding structures that overlap (§ 9 point 8)
// and finding room for new blocks.
//
// The state of the room matters: what a plain extension of the file gives reads as zeros, while a
// gap or a freed block holds old bytes of some other block. Freed room is offered again only after
// the change that freed it is durable; else replaying the log could bring the old mapping back over
// new data.

import { assert } from '../assert.js';
import { fileOffset, MIB, type FileOffset } from './format.js';

/** What newly allocated room holds. */
export type SpaceContent =
  /** reads as zeros: fresh from extending the file */
  | 'zeros'
  /** bytes of a block that was there before: must be overwritten before it is published */
  | 'stale';

export interface Allocation {
  readonly offset: FileOffset;
  readonly content: SpaceContent;
}

/** How many MiB one search for a gap may look at; bounds the time in a fragmented hostile file. */
const SEARCH_LIMIT = 65536;

export class SpaceMap {
  #used: Uint8Array;
  /** Everything from here on is free and fresh. */
  #endMiB = 0;
  /** Number of MiB below the end that are free; 0 saves the search. */
  #gapMiB = 0;
  #cursorMiB = 1;
  #freed: { startMiB: number; countMiB: number }[] = [];

  constructor(fileSizeBytes: number) {
    this.#used = new Uint8Array(Math.ceil(fileSizeBytes / MIB / 8) + 1);
  }

  /**
   * Marks [start, start + length) as used. Returns false when a part of it was used already; the
   * free part is marked all the same.
   */
  claim(startByte: number, lengthBytes: number): boolean {
    const start = Math.floor(startByte / MIB);
    const end = Math.ceil((startByte + lengthBytes) / MIB);
    if (end > this.#used.length * 8) this.#grow(end);
    let isDisjoint = true;
    for (let mib = start; mib < end; mib++) {
      if (this.#isUsed(mib)) isDisjoint = false;
      else {
        this.#set(mib, true);
        if (mib < this.#endMiB) this.#gapMiB--;
      }
    }
    if (end > this.#endMiB) {
      this.#gapMiB += Math.max(0, start - this.#endMiB);
      this.#endMiB = end;
    }
    return isDisjoint;
  }

  /** First byte behind the last structure. */
  get endBytes(): number {
    return this.#endMiB * MIB;
  }

  /**
   * Declares everything below `byte` old: what lies there and is not used may hold anything, for
   * instance payload of a session that crashed before it published it.
   */
  distrustBelow(byte: number): void {
    const end = Math.ceil(byte / MIB);
    if (end <= this.#endMiB) return;
    if (end > this.#used.length * 8) this.#grow(end);
    this.#gapMiB += end - this.#endMiB;
    this.#endMiB = end;
  }

  /** Declares everything from `byte` on fresh: the file was cut there and will read as zeros. */
  trustFrom(byte: number): void {
    const end = Math.ceil(byte / MIB);
    assert(this.lastUsedEndBytes() <= byte, 'what is used is never cut off');
    this.#gapMiB -= Math.max(0, this.#endMiB - end);
    this.#endMiB = Math.min(this.#endMiB, end);
  }

  /** Room for `lengthBytes`, a multiple of 1 MiB: a gap when there is one, else at the end. */
  allocate(lengthBytes: number): Allocation {
    assert(lengthBytes > 0 && lengthBytes % MIB === 0, 'space is given out in MiB');
    const count = lengthBytes / MIB;
    const gap = this.#gapMiB >= count ? this.#findGap(count) : undefined;
    const start = gap ?? this.#endMiB;
    const isClaimed = this.claim(start * MIB, lengthBytes);
    assert(isClaimed, 'allocated space was free');
    return { offset: fileOffset(start * MIB), content: gap === undefined ? 'zeros' : 'stale' };
  }

  /** Gives space back; it is offered again after releaseFreed(). */
  free(startByte: number, lengthBytes: number): void {
    this.#freed.push({ startMiB: startByte / MIB, countMiB: lengthBytes / MIB });
  }

  /** Call when the change that freed space is durable and no reader can still use it. */
  releaseFreed(): void {
    for (const { startMiB, countMiB } of this.#freed) this.#unmark(startMiB, countMiB);
    this.#freed = [];
  }

  get hasFreed(): boolean {
    return this.#freed.length > 0;
  }

  /** End of the last used MiB: where a file can be cut on a clean close. */
  lastUsedEndBytes(): number {
    let mib = this.#endMiB;
    while (mib > 0 && !this.#isUsed(mib - 1)) mib--;
    return mib * MIB;
  }

  #unmark(startMiB: number, countMiB: number): void {
    for (let mib = startMiB; mib < startMiB + countMiB; mib++) {
      assert(this.#isUsed(mib), 'freed space was used');
      this.#set(mib, false);
      this.#gapMiB++;
    }
    this.#cursorMiB = Math.min(this.#cursorMiB, startMiB);
  }

  #findGap(countMiB: number): number | undefined {
    let run = 0;
    let mib = this.#cursorMiB;
    const limit = Math.min(this.#endMiB, mib + SEARCH_LIMIT);
    for (; mib < limit; mib++) {
      run = this.#isUsed(mib) ? 0 : run + 1;
      if (run === countMiB) {
        this.#cursorMiB = mib + 1;
        return mib + 1 - countMiB;
      }
    }
    this.#cursorMiB = mib >= this.#endMiB ? 1 : mib;
    return undefined;
  }

  #isUsed(mib: number): boolean {
    return ((this.#used[mib >>> 3] ?? 0) & (1 << (mib & 7))) !== 0;
  }

  #set(mib: number, isUsed: boolean): void {
    const byte = this.#used[mib >>> 3] ?? 0;
    const bit = 1 << (mib & 7);
    this.#used[mib >>> 3] = isUsed ? byte | bit : byte & ~bit;
  }

  #grow(neededMiB: number): void {
    const bytes = Math.max(Math.ceil(neededMiB / 8) + 1, Math.ceil(this.#used.length * 1.5));
    const larger = new Uint8Array(bytes);
    larger.set(this.#used);
    this.#used = larger;
  }
}
