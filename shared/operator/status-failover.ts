// What a status says of failover, tests and proofs.

import { guidFromWire } from '../bytes/index.js';
import type { ProtectionStatus } from '../channel/index.js';
import type { JsonObject } from '../json.js';

/** Times of a status are 0 for never. */
function timeOrNull(ms: bigint): string | null {
  return ms === 0n ? null : new Date(Number(ms)).toISOString();
}

export function failoverDocument(each: ProtectionStatus): JsonObject {
  return {
    activeSite: each.activeSite,
    operation: each.operation === '' ? null : each.operation,
    instance: each.instanceName === '' ? null : each.instanceName,
    haltedBecause: each.haltedBecause === '' ? null : each.haltedBecause,
    validCommands: each.allowedCommands,
    reprotectedAt: timeOrNull(each.reprotectedAtMs),
    safetyUntil: timeOrNull(each.safetyUntilMs),
    commitDeadline: timeOrNull(each.commitDeadlineMs),
    tests: each.tests.map((test) => ({
      operation: guidFromWire(test.operationId) ?? '',
      phase: test.phase,
      vm: test.instanceName,
      startedAt: timeOrNull(test.startedAtMs),
      deadline: timeOrNull(test.deadlineMs),
    })),
    proof:
      each.provenAtMs === 0n
        ? null
        : { testedAt: timeOrNull(each.provenAtMs), isPassed: each.isProofPassed },
  };
}

const SECOND_MS = 1000;
const DAY_MS = 24 * 60 * 60 * SECOND_MS;

/** `in 240 s`, `3 days ago` */
function relative(ms: bigint, nowMs: number): string {
  const distanceMs = Number(ms) - nowMs;
  const size = Math.abs(distanceMs);
  const text =
    size >= 2 * DAY_MS ? `${Math.floor(size / DAY_MS)} days` : `${Math.round(size / SECOND_MS)} s`;
  return distanceMs > 0 ? `in ${text}` : `${text} ago`;
}

/** What is known of the VM of a failover. After a reprotect it may have gone home by another protection. */
function whereabouts({ activeSite, reprotectedAtMs }: ProtectionStatus): string {
  if (reprotectedAtMs > 0n) return 'was left';
  return activeSite === 'target' ? 'serves' : 'is registered';
}

/** Lines below that of the VM; none for one that is simply protected and was never tested. */
export function failoverLines(each: ProtectionStatus, nowMs: number): string[] {
  const lines: string[] = [];
  if (each.instanceName !== '') {
    lines.push(`    ${each.instanceName} ${whereabouts(each)} at this site`);
  }
  if (each.commitDeadlineMs > 0n) {
    lines.push(`    the commit policy acts ${relative(each.commitDeadlineMs, nowMs)}`);
  }
  if (each.reprotectedAtMs > 0n) {
    const since = relative(each.reprotectedAtMs, nowMs);
    const isOver = each.safetyUntilMs <= BigInt(nowMs);
    const hold = isOver ? 'ended' : 'ends';
    const until = relative(each.safetyUntilMs, nowMs);
    lines.push(
      `    reprotected ${since}; the safety hold ${hold} ${until}; \`hvdr forget\` removes the points`,
    );
  }
  for (const test of each.tests) {
    const id = guidFromWire(test.operationId) ?? '';
    const end = test.deadlineMs === 0n ? '' : `, ends ${relative(test.deadlineMs, nowMs)}`;
    lines.push(`    test ${id} of ${test.instanceName}: ${test.phase}${end}`);
  }
  // a failed one stands among the reasons of its health
  if (each.isProofPassed) {
    lines.push(`    proven by a test ${relative(each.provenAtMs, nowMs)}`);
  }
  const isSettled = ['', 'UNPROTECTED', 'SEEDING', 'PROTECTED', 'RESYNC'].includes(
    each.failoverState,
  );
  if (!isSettled) {
    const commands = each.allowedCommands.length === 0 ? 'none' : each.allowedCommands.join(', ');
    lines.push(`    valid commands: ${commands}`);
  }
  return lines;
}
