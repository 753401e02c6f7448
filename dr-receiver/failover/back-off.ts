// What is tried by itself and fails is tried again after longer and longer times, so that it neither
// fills the journal nor keeps anything else waiting. Known by this process only: a new one tries at once.

import type { Clock } from '../../shared/clock.js';

const FIRST_WAIT_MS = 30_000;
const LONGEST_WAIT_MS = 60 * 60_000;

export class BackOff {
  readonly #clock: Clock;
  readonly #waits = new Map<string, { readonly untilMs: number; readonly waitMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isDue(key: string): boolean {
    return (this.#waits.get(key)?.untilMs ?? 0) <= this.#clock.monotonic();
  }

  /** Told before each try: the next one waits unless forget() comes first. */
  tried(key: string): void {
    const former = this.#waits.get(key)?.waitMs;
    const waitMs = former === undefined ? FIRST_WAIT_MS : Math.min(LONGEST_WAIT_MS, 2 * former);
    this.#waits.set(key, { untilMs: this.#clock.monotonic() + waitMs, waitMs });
  }

  forget(key: string): void {
    this.#waits.delete(key);
  }
}
