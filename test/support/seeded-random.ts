// Reproducible randomness: the same seed gives the same values on every machine. SplitMix32 spreads
// the seed over the state of xoshiro128** (Blackman and Vigna), which makes the numbers.

import type { Random } from '../../shared/clock.js';

export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed | 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) | 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    // All four zero would be the one state that never moves.
    this.#d = next() | 1;
  }

  /** 32 unsigned bits. */
  next(): number {
    const product = Math.imul(this.#b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** A whole number in [0, below), below at most 2^53. */
  int(below: number): number {
    const wide = this.next() * 0x200000 + (this.next() >>> 11);
    return Math.floor((wide / 2 ** 53) * below);
  }

  /** A whole number in [low, high). */
  between(low: number, high: number): number {
    return low + this.int(high - low);
  }

  /** True with probability `share` (0 to 1). */
  chance(share: number): boolean {
    return this.next() < share * 2 ** 32;
  }

  /** One of `values`, which must not be empty. */
  pick<T>(values: readonly T[]): T {
    const index = this.int(values.length);
    if (index >= values.length) throw new RangeError('nothing to pick from');
    return values[index] as T;
  }

  fill<T extends Uint8Array>(target: T): T {
    for (let i = 0; i < target.length; i += 4) {
      let word = this.next();
      for (let k = i; k < i + 4 && k < target.length; k++) {
        target[k] = word & 0xff;
        word >>>= 8;
      }
    }
    return target;
  }

  /** `lengthBytes` new bytes. */
  bytes(lengthBytes: number): Buffer {
    return this.fill(Buffer.alloc(lengthBytes));
  }
}
