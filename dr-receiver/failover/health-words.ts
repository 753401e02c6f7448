// What failover means for the health of a protection, in words.

import type { Protection } from '../store/protection.js';

export interface FailoverWords {
  readonly critical: readonly string[];
  readonly warn: readonly string[];
  /** No source adds points now, so their age says nothing. */
  readonly isWithoutRpo: boolean;
}

export function failoverWords(
  { failover, tests, proof }: Pick<Protection, 'failover' | 'tests' | 'proof'>,
  nowMs: number,
  isRetiredRunning = false,
): FailoverWords {
  const { phase, halted, instance, commit } = failover;
  const critical: string[] = [];
  const warn: string[] = [];
  if (halted !== undefined) critical.push(`step ${halted.step} is halted: ${halted.cause}`);
  if (phase === 'split-brain') {
    critical.push('the VM may run at both sites; `hvdr resolve` says which one counts');
  }
  if (phase === 'committed' && isRetiredRunning) {
    critical.push('its retired original runs at the primary as well: turn one of them off');
  }
  if (instance?.ranBesideAtMs !== undefined) {
    critical.push(
      `the VM was seen running here too, at ${new Date(instance.ranBesideAtMs).toISOString()}: \`hvdr failover undo\` keeps what it wrote here; turn it off here and make the failback permanent to keep what the primary has`,
    );
  }
  if (phase === 'failed-over') {
    warn.push('the VM serves here and has no other copy: go back, undo, or make it permanent');
  }
  if (instance?.checks === 'failed') critical.push(`checks of ${instance.vmName} failed`);
  if (commit?.policy === 'rollback' && commit.deadlineMs > 0 && nowMs >= commit.deadlineMs) {
    warn.push('its time to be committed is over: undo it, or make it permanent');
  }
  for (const { operationId, phase: at, cause } of tests.values()) {
    if (at !== 'cleanup-failed') continue;
    warn.push(`test ${operationId} could not be removed: ${cause ?? 'no cause was told'}`);
  }
  if (proof?.isPassed === false) {
    warn.push(`the last test failed, at ${new Date(proof.testedAtMs).toISOString()}`);
  }
  return { critical, warn, isWithoutRpo: !['ordinary', 'failing-over', 'halted'].includes(phase) };
}
