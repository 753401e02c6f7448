// Time and randomness as seams: production takes the system's, tests and the simulation inject
// their own. Nothing else in the tree asks the system for either (held by test/tidy).

import { randomFillSync } from 'node:crypto';
import { setTimeout as systemSleep } from 'node:timers/promises';

export interface Clock {
  /** Milliseconds since 1970-01-01T00:00Z. Never used for order between hosts. */
  now(): number;
  /** Milliseconds from an arbitrary start; never goes back. For durations and deadlines. */
  monotonic(): number;
  /** Resolves after `durationMs`; rejects with the signal's reason when aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>;
}

export interface Random {
  /** Fills `target` with unpredictable bytes and returns it. */
  fill<T extends Uint8Array>(target: T): T;
}

/** A timer of the runtime that is set to longer goes off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (durationMs, signal) => {
    const options = signal === undefined ? {} : { signal };
    let leftMs = durationMs;
    for (; leftMs > LONGEST_TIMER_MS; leftMs -= LONGEST_TIMER_MS) {
      await systemSleep(LONGEST_TIMER_MS, undefined, options);
    }
    await systemSleep(leftMs, undefined, options);
  },
};

export const systemRandom: Random = {
  fill: (target) => randomFillSync(target),
};
