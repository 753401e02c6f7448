// Health of a protection: a pure function of what is known. RPO is the age of the newest point; every
// cell of a point was checked against its hash when it came.

import type { FailoverWords } from './failover/health-words.js';
import type { Forecast } from './forecast.js';

export type Health = 'ok' | 'warn' | 'critical';

export interface HealthInput {
  readonly nowMs: number;
  readonly newestPointAtMs: number | undefined;
  /** 0: none was asked for. */
  readonly rpoSeconds: number;
  readonly isPaused: boolean;
  readonly haltReason: string | undefined;
  /** The first finding of each damaged point. */
  readonly damaged: readonly string[];
  /** Cycles in the store that the journal does not know. */
  readonly unknownCount: number;
  readonly forecast: Forecast | undefined;
  /** Why space could not be reclaimed; undefined: nothing is wrong. */
  readonly reclaimFailure?: string | undefined;
  /** An open alarm of the early warning, in words. */
  readonly alarm?: string | undefined;
  /** The last cycles look somewhat like encryption, in words. */
  readonly suspicion?: string | undefined;
  /** Points that commits have pinned, when there is no room for more. */
  readonly automaticPins?: string | undefined;
  readonly failover?: FailoverWords | undefined;
}

/** Findings that are told one by one. */
const FINDINGS_TOLD = 3;

const WARN_SHARE = 0.8;

export function healthOf(input: HealthInput): { health: Health; reasons: string[] } {
  const { nowMs, newestPointAtMs, rpoSeconds, isPaused, haltReason, forecast } = input;
  const { damaged, unknownCount } = input;
  const { alarm, suspicion, automaticPins } = input;
  const critical: string[] = [];
  const warn: string[] = [];
  if (haltReason !== undefined) critical.push(haltReason);
  critical.push(...(input.failover?.critical ?? []));
  if (alarm !== undefined) critical.push(alarm);
  warn.push(...(input.failover?.warn ?? []));
  if (suspicion !== undefined) warn.push(suspicion);
  if (automaticPins !== undefined) warn.push(automaticPins);
  if (damaged.length > 0) {
    critical.push(`${damaged.length} point(s) do not read back to their manifests`);
    critical.push(...[...new Set(damaged)].slice(0, FINDINGS_TOLD));
  }
  if (unknownCount > 0) {
    warn.push(
      `${unknownCount} complete cycle(s) are not in the journal; \`hvdr gc --plan\` names them`,
    );
  }
  if (newestPointAtMs === undefined) {
    warn.push('there is no restore point yet');
  } else if (rpoSeconds > 0 && input.failover?.isWithoutRpo !== true) {
    const ageSeconds = Math.max(0, Math.round((nowMs - newestPointAtMs) / 1000));
    const text = `the newest point is ${ageSeconds} s old, the RPO is ${rpoSeconds} s`;
    if (ageSeconds >= rpoSeconds) critical.push(text);
    else if (ageSeconds >= rpoSeconds * WARN_SHARE) warn.push(text);
    // a pause is known already, and no rate
    if (forecast?.willMissRpo === true && !isPaused) {
      const { newestAgeSeconds, because } = forecast;
      warn.push(
        `it will miss its RPO of ${rpoSeconds} s at this rate: the newest point will be ` +
          `${newestAgeSeconds} s old (${because})`,
      );
    }
  }
  if (isPaused) warn.push('the protection is paused');
  if (input.reclaimFailure !== undefined) {
    warn.push(`space could not be reclaimed: ${input.reclaimFailure}`);
  }
  const health = critical.length > 0 ? 'critical' : warn.length > 0 ? 'warn' : 'ok';
  return { health, reasons: [...critical, ...warn] };
}
