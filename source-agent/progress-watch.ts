// Gives up what makes no progress. The total time is not limited: a seed may take a week, as long
// as something moves. Whoever works calls touch(); after `timeoutMs` without it the signal aborts.

import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';

export class ProgressWatch {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #what: string;
  readonly #onTouch: (() => void) | undefined;
  #touchedAt: number;

  /** `what` is for the message: "the push of SQL01". `onTouch` is told of each touch. */
  constructor(clock: Clock, timeoutMs: number, what: string, onTouch?: () => void) {
    this.#clock = clock;
    this.#onTouch = onTouch;
    this.#timeoutMs = timeoutMs;
    this.#what = what;
    this.#touchedAt = clock.monotonic();
  }

  touch(): void {
    this.#touchedAt = this.#clock.monotonic();
    this.#onTouch?.();
  }

  get isOver(): boolean {
    return this.#clock.monotonic() - this.#touchedAt >= this.#timeoutMs;
  }

  stalled(cause?: unknown): DrError {
    const seconds = Math.round(this.#timeoutMs / 1000);
    return new DrError('E_STALLED', `${this.#what} made no progress for ${seconds} s`, {
      done: 'it was given up; what it carried stays owed to the receiver',
      cause,
    });
  }

  /**
   * Runs `work` with a signal that aborts when progress stops or `outer` aborts. Does not wait for
   * work that ignores its signal. @throws DrError E_STALLED; the reason of `outer`
   */
  async guard<T>(outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    outer.throwIfAborted();
    const inner = new AbortController();
    const abort = (): void => {
      inner.abort(outer.reason);
    };
    outer.addEventListener('abort', abort, { once: true });
    const aborted = new Promise<never>((_resolve, reject) => {
      inner.signal.addEventListener('abort', () => {
        const reason: unknown = inner.signal.reason;
        reject(reason instanceof Error ? reason : new Error(String(reason)));
      });
    });
    aborted.catch(() => undefined);
    const done = new AbortController();
    const watching = this.#watch(inner, done.signal);
    const working = work(inner.signal);
    working.catch(() => undefined);
    try {
      return await Promise.race([working, aborted]);
    } finally {
      outer.removeEventListener('abort', abort);
      done.abort();
      await watching;
    }
  }

  async #watch(inner: AbortController, done: AbortSignal): Promise<void> {
    while (!done.aborted) {
      if (this.isOver) {
        inner.abort(this.stalled());
        return;
      }
      const leftMs = this.#timeoutMs - (this.#clock.monotonic() - this.#touchedAt);
      try {
        await this.#clock.sleep(Math.max(1, leftMs), done);
      } catch {
        return; // done
      }
    }
  }
}
