// Writes to a file under construction, handed over faster than they are done. They go to the system
// one at a time, because it would make them wait for each other on the file's lock anyway and burn
// processor time there; the gain is that the caller reads on meanwhile. Past the page cache (a file
// opened with `isDirect`) several under way are worth it: what is saved is the turn of the event loop
// between two of them. The device is set to work
// early by a flush in the background every so many bytes, so that the one that counts is short. The
// first failure is kept: everything after it is refused, such a file is only good for deleting.

import type { BlockFile } from './block-file.js';

interface QueuedWrite {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly settle: (failure?: { readonly error: unknown }) => void;
}

export class WriteBehind {
  readonly #file: BlockFile;
  readonly #queuedMaxBytes: number;
  readonly #flushEveryBytes: number;
  readonly #queue: QueuedWrite[] = [];
  #queuedBytes = 0;
  #bytesSinceFlush = 0;
  readonly #concurrency: number;
  /** Loops that take from the queue. */
  #writerCount = 0;
  #whenIdle: (() => void)[] = [];
  #flushing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #waiting: (() => void)[] = [];

  /** `concurrency`: writes under way at most. */
  constructor(file: BlockFile, queuedMaxBytes: number, flushEveryBytes: number, concurrency = 1) {
    this.#file = file;
    this.#concurrency = concurrency;
    this.#queuedMaxBytes = queuedMaxBytes;
    this.#flushEveryBytes = flushEveryBytes;
  }

  /**
   * Takes a write. The buffer must not change until the promise settled. The promise may be
   * ignored: a failure also shows in room() and drain().
   */
  write(position: number, bytes: Uint8Array): Promise<void> {
    const done = new Promise<void>((resolve, reject) => {
      const settle = (failure?: { readonly error: unknown }): void => {
        this.#queuedBytes -= bytes.length;
        // what was thrown is passed on as it is
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
        if (failure !== undefined) reject(failure.error);
        else resolve();
      };
      this.#queuedBytes += bytes.length;
      this.#queue.push({ position, bytes, settle });
    });
    done.catch(() => undefined);
    if (this.#writerCount < this.#concurrency) {
      this.#writerCount++;
      void this.#writeQueue();
    }
    return done;
  }

  /** Returns when another write may be handed over. @throws the first failure */
  async room(): Promise<void> {
    this.throwFailure();
    while (this.#queuedBytes > this.#queuedMaxBytes) {
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
    while (this.#writerCount > 0 || this.#flushing !== undefined) {
      if (this.#writerCount > 0) {
        await new Promise<void>((resolve) => {
          this.#whenIdle.push(resolve);
        });
      } else {
        await this.#flushing;
      }
    }
  }

  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #writeQueue(): Promise<void> {
    // The first step is a turn later, so that writes handed over together are seen together.
    await Promise.resolve();
    for (;;) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      if (this.#failure === undefined) {
        try {
          await this.#file.write(next.position, next.bytes);
        } catch (error) {
          this.#failure = { error };
        }
      }
      next.settle(this.#failure);
      this.#wakeAll();
      this.#bytesSinceFlush += next.bytes.length;
      if (this.#bytesSinceFlush >= this.#flushEveryBytes) this.#flushInBackground();
    }
    this.#writerCount--;
    if (this.#writerCount > 0) return;
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const wake of waiting) wake();
  }

  #flushInBackground(): void {
    if (this.#flushing !== undefined) return;
    this.#bytesSinceFlush = 0;
    this.#flushing = Promise.resolve().then(() => this.#flush());
  }

  async #flush(): Promise<void> {
    try {
      await this.#file.flush();
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#flushing = undefined;
  }

  #wakeAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}
