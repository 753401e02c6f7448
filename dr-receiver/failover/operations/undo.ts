// Undo (failover.md § 4): as if the failover had not been, except for the epoch. From N2 on forward only.

import { keepInstanceDisks } from '../keep-disks.js';
import type { FailoverPatch } from '../failover-book.js';
import { takeAway, turnOff } from './come-up.js';
import { tellIfThere, type Work, type WorkStep } from './work.js';

async function removeVm(work: Work): Promise<FailoverPatch> {
  const { record, vm, values, site } = work;
  if (record.instance !== undefined && values.keep_disk !== undefined) {
    await keepInstanceDisks(site.seams, vm, record.instance.disks, values.keep_disk);
  }
  return takeAway(work);
}

/** Gives the VM back to the source; what it cannot be told now is owed. */
export async function giveBack(work: Work): Promise<FailoverPatch | undefined> {
  const { vm, order, record } = work;
  const isTold = await tellIfThere(work, async (source) => {
    await source.tellEpoch(vm.vmId, { ...order, isSourceActive: true, isRetired: false });
    await source.unfence(vm.vmId, order);
  });
  if (!isTold) return undefined;
  if (!record.isSourceStopped) return { paid: ['unfence'] };
  const isStarted = await tellIfThere(work, (source) => source.start(vm.vmId, order));
  return { paid: isStarted ? ['unfence', 'start'] : ['unfence'] };
}

export function owedOnReturn({ record }: Pick<Work, 'record'>): FailoverPatch {
  return { owes: record.isSourceStopped ? ['unfence', 'start'] : ['unfence'] };
}

const forward = { afterCrash: 'forward', afterFailure: 'forward' } as const;

export const UNDO: readonly WorkStep[] = [
  { name: 'N1', what: 'note the undo', ...forward },
  { name: 'N2', what: 'power off the VM here', ...forward, afterFailure: 'halt', run: turnOff },
  { name: 'N3', what: 'delete its protective disk', ...forward, run: removeVm },
  {
    name: 'N4',
    what: 'the primary site becomes the active one',
    ...forward,
    intent: (work) => ({ change: { activeSite: 'source' }, raisesEpoch: true, ...owedOnReturn(work) }),
  },
  { name: 'N5', what: 'give the VM back to the primary site', ...forward, run: giveBack },
];

export const UNDO_END = {
  step: 'N6',
  what: 'protected; the next cycle is a delta',
  patch: (): FailoverPatch => ({
    change: {
      phase: 'ordinary',
      instance: undefined,
      commit: undefined,
      halted: undefined,
      isSourceStopped: false,
    },
  }),
};
