/** What `hvdr doctor` found out about one thing. */
export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly detail: string;
  /** How to mend it; empty when there is nothing to mend. */
  readonly remedy: string;
}

/** A warn costs comfort, a fail would stop the role's work. */
export type Verdict = 'ok' | 'warn' | 'fail';

export function ok(check: string, detail: string): Finding {
  return { check, verdict: 'ok', detail, remedy: '' };
}

export function warn(check: string, detail: string, remedy: string): Finding {
  return { check, verdict: 'warn', detail, remedy };
}

export function fail(check: string, detail: string, remedy: string): Finding {
  return { check, verdict: 'fail', detail, remedy };
}
