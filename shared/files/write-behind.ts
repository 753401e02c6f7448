// Writes to a file under construction, several at a time. The first failure is kept: everything
// after it is refused, because such a file is only good for deleting. The device is set to work
// early by a flush in the background every so many bytes, so that the one that counts is short.

import type { BlockFile } from './block-file.js';

export class WriteBehind {
  readonly #file: BlockFile;
  readonly #inFlightMaxBytes: number;
  readonly #flushEveryBytes: number;
  readonly #underWay = new Set<Promise<void>>();
  #inFlightBytes = 0;
  #bytesSinceFlush = 0;
  #isFlushing = false;
  #failure: { readonly error: unknown } | undefined;
  #waiting: (() => void)[] = [];

  constructor(file: BlockFile, inFlightMaxBytes: number, flushEveryBytes: number) {
    this.#file = file;
    this.#inFlightMaxBytes = inFlightMaxBytes;
    this.#flushEveryBytes = flushEveryBytes;
  }

  /**
   * Starts a write. The buffer must not change until the promise settled. The promise may be
   * ignored: a failure also shows in room() and drain().
   */
  write(position: number, bytes: Uint8Array): Promise<void> {
    this.#inFlightBytes += bytes.length;
    const done = this.#track(this.#file.write(position, bytes)).finally(() => {
      this.#inFlightBytes -= bytes.length;
      this.#bytesSinceFlush += bytes.length;
      if (this.#bytesSinceFlush >= this.#flushEveryBytes) this.#flushInBackground();
      this.#wakeAll();
    });
    done.catch(() => undefined);
    return done;
  }

  /** Returns when another write may start. @throws the first failure */
  async room(): Promise<void> {
    while (this.#inFlightBytes > this.#inFlightMaxBytes) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
      this.throwFailure();
    }
  }

  /** Returns when nothing is under way any more. Not a flush. @throws the first failure */
  async drain(): Promise<void> {
    await this.settled();
    this.throwFailure();
  }

  /** Like drain(), but does not throw. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #wakeAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  #flushInBackground(): void {
    if (this.#isFlushing || this.#failure !== undefined) return;
    this.#isFlushing = true;
    this.#bytesSinceFlush = 0;
    this.#track(this.#file.flush())
      .catch(() => undefined)
      .finally(() => {
        this.#isFlushing = false;
      });
  }

  async #track(work: Promise<void>): Promise<void> {
    const tracked = work.catch((error: unknown) => {
      this.#failure ??= { error };
      throw error;
    });
    this.#underWay.add(tracked);
    try {
      await tracked;
    } finally {
      this.#underWay.delete(tracked);
    }
  }
}
