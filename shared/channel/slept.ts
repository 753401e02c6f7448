import type { Clock } from '../clock.js';

/** True after the time, false when the signal came first. */
export async function slept(
  clock: Clock,
  durationMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await clock.sleep(durationMs, signal);
    return !signal.aborted;
  } catch {
    return false;
  }
}
