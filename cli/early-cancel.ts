// Cancel of a backend. The file daemon may send it at any moment, and Node opens its inspector at a
// SIGUSR1 that nobody handles, so this is the first thing that a backend loads. (`--disable-sigusr1`
// does not serve: with it the signal never reaches a handler either.)

import inspector from 'node:inspector';

const controller = new AbortController();

export const cancelSignal = controller.signal;

export function cancelJob(): void {
  controller.abort();
}

/** Takes the signals over from whoever handled them; a cancel that came before counts. */
export function takeSignals(): void {
  for (const signal of ['SIGUSR1', 'SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.removeAllListeners(signal);
    process.on(signal, cancelJob);
  }
  if (inspector.url() === undefined) return;
  inspector.close();
  cancelJob();
}
