// Health of a protection: a pure function of what is known. RPO is the age of the newest point; every
// cell of a point was checked against its hash when it came.

import type { Forecast } from './forecast.js';

export type Health = 'ok' | 'warn' | 'critical';

export interface HealthInput {
  readonly nowMs: number;
  readonly newestPointAtMs: number | undefined;
  /** 0: none was asked for. */
  readonly rpoSeconds: number;
  readonly isPaused: boolean;
  readonly haltReason: string | undefined;
  readonly damagedCount: number;
  readonly forecast: Forecast | undefined;
  /** Why space could not be reclaimed; undefined: nothing is wrong. */
  readonly reclaimFailure?: string | undefined;
}

const WARN_SHARE = 0.8;

export function healthOf(input: HealthInput): { health: Health; reasons: string[] } {
  const { nowMs, newestPointAtMs, rpoSeconds, isPaused, haltReason, damagedCount, forecast } =
    input;
  const critical: string[] = [];
  const warn: string[] = [];
  if (haltReason !== undefined) critical.push(haltReason);
  if (damagedCount > 0)
    critical.push(`${damagedCount} point(s) do not read back to their manifests`);
  if (newestPointAtMs === undefined) {
    warn.push('there is no restore point yet');
  } else if (rpoSeconds > 0) {
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
