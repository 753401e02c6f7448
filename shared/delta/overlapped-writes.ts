// Several changes of a disk under way at once, for a caller whose data is valid only until it asks
// for the next. Each write is copied into one of a few buffers that go round: a copy costs a tenth of
// the wait for a write that it saves. The ranges must not overlap, for their order is not kept.

import { defined } from '../assert.js';
import type { WritableDisk } from '../disk/index.js';
import { DrError } from '../errors.js';

/** Enough to hide the way to the system and back; more only makes the writes wait for each other. */
const UNDER_WAY_MAX = 4;

/**
 * What made a disk refuse every further change, when `error` is such a refusal: of several changes
 * under way, the one that was refused may end before the one that failed.
 */
function causeOf(error: unknown): unknown {
  const isRefusal = error instanceof DrError && error.code === 'E_VHDX_POISONED';
  return isRefusal && error.cause instanceof DrError ? error.cause : error;
}

export class OverlappedWrites {
  readonly #target: Pick<WritableDisk, 'write' | 'zero'>;
  /** Free buffers, the last one used on top; each grows to the longest write it has held. */
  readonly #free: Buffer[] = Array.from({ length: UNDER_WAY_MAX }, () => Buffer.alloc(0));
  readonly #underWay = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(target: Pick<WritableDisk, 'write' | 'zero'>) {
    this.#target = target;
  }

  /**
   * Begins a write, when there is room; the bytes are the caller's again on return. A failure shows
   * in a later call. @throws what an earlier write or zero threw
   */
  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#room();
    const free = defined(this.#free.pop(), 'there is a buffer for each write under way');
    const buffer = free.length >= data.length ? free : Buffer.allocUnsafeSlow(data.length);
    buffer.set(data);
    this.#begin(this.#target.write(offset, buffer.subarray(0, data.length)), buffer);
  }

  /** Begins to zero a range, when there is room. @throws what an earlier write or zero threw */
  async zero(offset: number, lengthBytes: number): Promise<void> {
    await this.#room();
    const buffer = defined(this.#free.pop(), 'there is a buffer for each write under way');
    this.#begin(this.#target.zero(offset, lengthBytes), buffer);
  }

  /** Returns when nothing is under way. @throws what a write or zero threw */
  async drain(): Promise<void> {
    await this.settled();
    this.#throwFailure();
  }

  /** Like drain(), but does not throw. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #room(): Promise<void> {
    while (this.#free.length === 0) await Promise.race(this.#underWay);
    this.#throwFailure();
  }

  #begin(change: Promise<void>, buffer: Buffer): void {
    const whole = change
      .catch((error: unknown) => {
        this.#failure ??= { error: causeOf(error) };
      })
      .then(() => {
        this.#free.push(buffer);
        this.#underWay.delete(whole);
      });
    this.#underWay.add(whole);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
