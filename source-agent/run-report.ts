// What a run of the agent did, as data, and how it ends: pure. The command line, a Bacula job and
// the daemon's log all read this.

import type { Guid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import type { CycleResult } from './cycle-result.js';

export type SkipReason = 'running' | 'locked' | 'retired';

export type CycleOutcome =
  | { readonly kind: 'done'; readonly result: CycleResult }
  | { readonly kind: 'failed'; readonly error: DrError }
  /** Left out for a reason; `isCovered`: the VM is protected all the same. */
  | {
      readonly kind: 'skipped';
      readonly reason: SkipReason;
      readonly text: string;
      readonly isCovered: boolean;
    }
  | { readonly kind: 'stopped' };

/** One VM over all its cycles of a run; bounded however long the run is. */
export interface VmReport {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly cycleCount: number;
  readonly failureCount: number;
  readonly warningCount: number;
  readonly bytesSent: number;
  readonly rpoSeconds: number;
  readonly last: CycleOutcome;
  /** The last cycle that was done. */
  readonly lastDone: CycleResult | undefined;
}

export interface RunReport {
  readonly vms: readonly VmReport[];
  /** Given by abort_on_error: the failure that ended the run. */
  readonly abortedBy: DrError | undefined;
  readonly isStopped: boolean;
  readonly warnings: readonly string[];
}

export function addOutcome(
  before: VmReport | undefined,
  vm: Pick<VmReport, 'vmId' | 'vmName' | 'rpoSeconds'>,
  outcome: CycleOutcome,
): VmReport {
  const result = outcome.kind === 'done' ? outcome.result : undefined;
  const isWarning = outcome.kind === 'skipped';
  return {
    ...vm,
    cycleCount: (before?.cycleCount ?? 0) + 1,
    failureCount: (before?.failureCount ?? 0) + (outcome.kind === 'failed' ? 1 : 0),
    warningCount:
      (before?.warningCount ?? 0) + (result?.warnings.length ?? 0) + (isWarning ? 1 : 0),
    bytesSent: (before?.bytesSent ?? 0) + (result?.bytesSent ?? 0),
    last: outcome,
    lastDone: result ?? before?.lastDone,
  };
}

/** Names of VMs in a message. */
const NAMED_MAX = 8;

/**
 * How a run ends: `error` is undefined when every VM is protected; `isWarned` tells whether there
 * was something to say.
 */
export function verdict(
  report: RunReport,
  onPartial: 'warn' | 'fail',
): { readonly error: DrError | undefined; readonly isWarned: boolean } {
  const isWarned =
    report.warnings.length > 0 || report.vms.some(({ warningCount }) => warningCount > 0);
  if (report.abortedBy !== undefined) return { error: report.abortedBy, isWarned };
  const failed = report.vms.filter(isUnprotected);
  const [first] = failed;
  if (first === undefined) return { error: undefined, isWarned };
  const errors = failed.map(errorOf);
  const [one] = errors;
  const isAlike = errors.every((error) => error.code === one?.code);
  const isAll = failed.length === report.vms.length && failed.every(hasOnlyFailed);
  if (one !== undefined && ((isAll && isAlike) || onPartial === 'fail')) {
    return { error: failed.length === 1 ? one : several(one, failed), isWarned };
  }
  return { error: several(undefined, failed), isWarned };
}

function isUnprotected({ failureCount, last }: VmReport): boolean {
  return (
    failureCount > 0 || last.kind === 'stopped' || (last.kind === 'skipped' && !last.isCovered)
  );
}

function hasOnlyFailed({ lastDone }: VmReport): boolean {
  return lastDone === undefined;
}

function errorOf({ vmName, last, failureCount, cycleCount }: VmReport): DrError {
  switch (last.kind) {
    case 'failed':
      return last.error;
    case 'skipped':
      return new DrError('E_LOCKED', last.text);
    case 'stopped':
      return new DrError('E_PARTIAL', `${vmName} was stopped before its point was complete`);
    case 'done':
      return new DrError(
        'E_PARTIAL',
        `${failureCount} of ${cycleCount} cycles of ${vmName} failed; the last one was done`,
      );
  }
}

function several(cause: DrError | undefined, failed: readonly VmReport[]): DrError {
  const named = failed.slice(0, NAMED_MAX).map((vm) => `${vm.vmName} (${errorOf(vm).code})`);
  const more = failed.length > NAMED_MAX ? ` and ${failed.length - NAMED_MAX} more` : '';
  return new DrError(
    cause?.code ?? 'E_PARTIAL',
    `${failed.length === 1 ? '1 VM has' : `${failed.length} VMs have`} no new point: ${named.join(', ')}${more}`,
    {
      context: { failedCount: failed.length },
      done: 'the other VMs were done; what changed stays owed to the receiver',
      cause,
    },
  );
}

/**
 * Returns when the run has brought a point of the VM.
 * @throws DrError why it has not: the failure of its last cycle, E_STATE
 */
export function requirePoint(
  { vms }: RunReport,
  { vmName, vmId, place }: Pick<VmReport, 'vmName' | 'vmId'> & { readonly place: string },
): void {
  const last = vms.find((vm) => vm.vmId === vmId)?.last;
  if (last?.kind === 'done') return;
  if (last?.kind === 'failed') throw last.error;
  const why = last?.kind === 'skipped' ? last.text : 'it was stopped';
  throw new DrError('E_STATE', `${vmName} has no point at ${place} yet: ${why}`, {
    done: 'what was staged there stays',
    hint: 'The same command goes on.',
  });
}
