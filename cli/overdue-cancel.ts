// The limit of a cancelled job: it gives its checkpoints and leases back, and when something outside holds it up, its
// process ends all the same. The plugin kills a backend some seconds later (CANCEL_SECONDS in adapter/names.h), and what a
// killed one held is found by the next job.

import type { Clock } from '../shared/clock.js';

export const CANCEL_MS = 10_000;

/** Calls `end` so long after the cancel; the process has ended by itself before, as a rule. */
export async function endWhenOverdue(
  signal: AbortSignal,
  clock: Clock,
  end: () => void,
): Promise<void> {
  // a cancel may have come before anybody could listen
  if (!signal.aborted) {
    await new Promise<void>((resolve) => {
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
    });
  }
  await clock.sleep(CANCEL_MS);
  end();
}
