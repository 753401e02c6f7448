// `run_for`: when a job that would go on for ever is to end well.

import type { Clock } from '../../shared/clock.js';
import type { FileSink } from '../../source-agent/index.js';

export interface TimeLimit {
  /** Aborts when the time is over. */
  readonly closing: AbortSignal;
  /** Nobody waits for it any more. */
  end(): void;
}

/** `seconds` 0: there is no limit. */
export function closingAfter(seconds: number, clock: Clock): TimeLimit {
  const closing = new AbortController();
  const ended = new AbortController();
  if (seconds > 0) {
    void clock.sleep(seconds * 1000, ended.signal).then(
      () => {
        closing.abort();
      },
      () => undefined, // the job has ended before
    );
  }
  return {
    closing: closing.signal,
    end: () => {
      ended.abort();
    },
  };
}

/** Says of a job that only a cancel would end that it is one. */
export function warnOfNoEnd(what: string, runForSeconds: number, sink: FileSink): void {
  if (runForSeconds > 0) return;
  sink.say(
    'warning',
    `${what} has no end: the job runs until it is cancelled; run_for=SECONDS lets it end well`,
  );
}
