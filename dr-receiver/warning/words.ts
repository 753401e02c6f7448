// What the early warning says to people who ask how a VM is doing.

import { AUTOMATIC_PINS_MAX } from '../ingest/commit.js';
import type { Protection } from '../store/protection.js';
import { lastCleanPoint } from './last-clean.js';

/** For health.ts: undefined where there is nothing to say. */
export function warningWords(protection: Protection): {
  readonly alarm: string | undefined;
  readonly suspicion: string | undefined;
  readonly automaticPins: string | undefined;
} {
  const { warning, listed } = protection;
  const { alarm, score, isSuspicious } = warning;
  const clean = lastCleanPoint(protection);
  const from =
    clean === undefined ? 'there is no clean point' : `the last clean point is ${clean.pointId}`;
  const pins = listed.filter((point) => point.isPinAutomatic).length;
  return {
    alarm:
      alarm &&
      `the data look as if they were being encrypted since point ${alarm.pointId}: ` +
        `${alarm.reasons.join('; ')}; ${from}`,
    suspicion:
      alarm === undefined && isSuspicious
        ? `the last cycles look somewhat like encryption (${(score / 1000).toFixed(2)} of an alarm); ${from}`
        : undefined,
    automaticPins:
      pins < AUTOMATIC_PINS_MAX
        ? undefined
        : `${pins} points were pinned by the receiver and wait for a look; no more are pinned by itself`,
  };
}
