// Whether the primary lets a VM that serves there again be stopped, as an undo of a failback has to.

import { DrError } from '../../../shared/errors.js';
import type { FailoverRecord } from '../model.js';
import { isAlive, probeSource } from '../operations/probe.js';
import type { Work } from '../operations/work.js';
import type { SourceVm } from '../ports.js';

/** A failback that has asked the primary to start the VM. */
export function mayServeThere({ phase, operation }: FailoverRecord): boolean {
  if (phase === 'failed-back') return true;
  return phase === 'failing-back' && operation?.kind === 'failback' && operation.step >= 'F4';
}

/** @throws DrError E_REMOTE_ACTION */
export function requireStoppable({ allowed }: SourceVm, vmName: string): void {
  if (allowed.includes('failback') || allowed.includes('shutdown')) return;
  throw new DrError(
    'E_REMOTE_ACTION',
    `the primary site does not let ${vmName}, which serves there again, be stopped from here`,
    { context: { vmName, allowed: allowed.join(',') }, done: 'nothing was changed' },
  );
}

/**
 * Before an undo: nobody answers, or the primary lets it be done. With force only a VM that runs there
 * stands in its way. @throws DrError E_REMOTE_ACTION
 */
export async function lookBeforeUndo({
  source,
  vm,
  values: { force },
}: Pick<Work, 'source' | 'vm' | 'values'>): Promise<void> {
  const { failover, vmName } = vm.protection;
  if (!mayServeThere(failover)) return;
  const state = await probeSource({ source, vm });
  if (state === undefined) return;
  // an operation under way may not have come as far as the start
  const isCertain = failover.phase === 'failed-back' && !force;
  if (isAlive(state) || isCertain) requireStoppable(state, vmName);
}
