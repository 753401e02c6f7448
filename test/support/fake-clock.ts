// A clock that stands still until a test moves it. Sleepers wake in the order of their deadlines,
// each with the clock at exactly that time.

import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../shared/clock.js';

interface Sleeper {
  readonly wakeAt: number;
  readonly wake: () => void;
}

export class FakeClock implements Clock {
  #elapsedMs = 0;
  #wallMs: number;
  #sleepers: Sleeper[] = [];

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#wallMs = startMs;
  }

  now(): number {
    return this.#wallMs;
  }

  monotonic(): number {
    return this.#elapsedMs;
  }

  /** How many sleep() calls are waiting. */
  get sleeperCount(): number {
    return this.#sleepers.length;
  }

  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const refuse = (): void => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        // The reason is whatever the test gave to abort(), as for node:timers.
        const reason: unknown = signal?.reason;
        reject(reason instanceof Error ? reason : new Error(String(reason)));
      };
      const sleeper: Sleeper = {
        wakeAt: this.#elapsedMs + Math.max(0, durationMs),
        wake: () => {
          signal?.removeEventListener('abort', refuse);
          resolve();
        },
      };
      this.#sleepers.push(sleeper);
      if (signal?.aborted === true) refuse();
      else signal?.addEventListener('abort', refuse, { once: true });
    });
  }

  /** Lets `durationMs` pass; what was asleep and what it starts gets its turn at its time. */
  async advance(durationMs: number): Promise<void> {
    const target = this.#elapsedMs + durationMs;
    await turn();
    for (;;) {
      const due = this.#sleepers
        .filter((sleeper) => sleeper.wakeAt <= target)
        .sort((a, b) => a.wakeAt - b.wakeAt)[0];
      if (due === undefined) break;
      this.#sleepers = this.#sleepers.filter((other) => other !== due);
      this.#moveTo(due.wakeAt);
      due.wake();
      await turn();
    }
    this.#moveTo(target);
  }

  /** Sets the wall clock, as an operator or NTP does; monotonic time is not touched. */
  setWall(wallMs: number): void {
    this.#wallMs = wallMs;
  }

  #moveTo(elapsedMs: number): void {
    const step = Math.max(0, elapsedMs - this.#elapsedMs);
    this.#elapsedMs += step;
    this.#wallMs += step;
  }
}
