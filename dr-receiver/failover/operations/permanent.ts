// Permanent (failover.md § 4): the VM here owns its disks from now on. No data moves.

import { DrError } from '../../../shared/errors.js';
import type { FailoverPatch } from '../failover-book.js';
import { tellIfThere, type Work, type WorkStep } from './work.js';

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

export const PERMANENT: readonly WorkStep[] = [
  {
    name: 'C1',
    what: 'see that the VM here is healthy',
    afterCrash: 'back',
    afterFailure: 'back',
    run: confirmHealthy,
  },
  {
    name: 'C2',
    what: 'the VM here owns its disks from now on',
    afterCrash: 'forward',
    afterFailure: 'forward',
    intent: () => ({ change: { phase: 'committed', commit: undefined }, owes: ['retire'] }),
  },
  {
    name: 'C3',
    what: 'retire the source',
    afterCrash: 'forward',
    afterFailure: 'forward',
    run: retireSource,
  },
];

export const PERMANENT_END = {
  step: 'C4',
  what: 'permanent; disks and fence of the primary stay as they are',
  patch: (): FailoverPatch => ({}),
};
