// Permanent (failover.md § 4): the VM here owns its disks from now on. No data moves.

import { DrError } from '../../../shared/errors.js';
import { operationTable } from '../engine.js';
import type { FailoverPatch } from '../failover-book.js';
import { tellIfThere, type Work, type WorkTable } from './work.js';

/** @throws DrError E_STATE when the VM gives no sign of life, unless it is forced */
async function confirmHealthy({ host, instance, values, vm }: Work): Promise<undefined> {
  if (values.force) return undefined;
  const { vmId } = instance;
  if (vmId !== undefined && (await host.heartbeat(vmId)) === 'ok') return undefined;
  throw new DrError('E_STATE', `${vm.protection.vmName} gives no sign of life here`, {
    context: { vmId: vmId ?? '' },
    hint: 'Look at the VM; `--force --reason TEXT` makes the failover permanent regardless.',
  });
}

async function retireSource(work: Work): Promise<FailoverPatch | undefined> {
  const { vm, order } = work;
  const isTold = await tellIfThere(work, (source) =>
    source.tellEpoch(vm.vmId, { ...order, isSourceActive: false, isRetired: true }),
  );
  return isTold ? { paid: ['retire'] } : undefined;
}

export const PERMANENT: WorkTable = operationTable(
  'permanent',
  {
    C1: { run: confirmHealthy },
    C2: { intent: () => ({ change: { phase: 'committed', commit: undefined }, owes: ['retire'] }) },
    C3: { run: retireSource },
  },
  () => ({}),
);
