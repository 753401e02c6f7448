// One budget of bytes per second for everything that a source sends. Whoever sends asks first and
// waits its turn; over time exactly the budget leaves, whatever the sizes and however many senders.
// Time that nobody used is not saved up beyond a tenth of a second.

import type { Clock } from '../shared/clock.js';

const BURST_MS = 100;

export class Bandwidth {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** When what was granted so far has left, on the monotonic clock. */
  #grantedUntilMs = 0;

  /** `bytesPerSecond` 0: no limit. */
  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when `bytes` may leave; rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const now = this.#clock.monotonic();
    const startMs = Math.max(this.#grantedUntilMs, now - BURST_MS);
    this.#grantedUntilMs = startMs + (bytes * 1000) / this.#bytesPerSecond;
    const waitMs = this.#grantedUntilMs - now;
    if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
  }
}
