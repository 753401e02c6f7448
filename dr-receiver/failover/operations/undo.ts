// Undo (failover.md § 4): as if the failover had not been, except for the epoch. From N2 on forward only.

import { findInstance, tagOfInstance } from '../instance.js';
import { keepDisks } from '../keep-disks.js';
import { operationTable } from '../engine.js';
import type { FailoverPatch } from '../failover-book.js';
import { takeAway, turnOff } from './come-up.js';
import { tellIfThere, type Work, type WorkTable } from './work.js';

async function removeVm(work: Work): Promise<FailoverPatch> {
  const { record, vm, values, site, host } = work;
  if (record.instance === undefined || values.keep_disk === undefined) return takeAway(work);
  // once the VM is gone, its disks were kept before
  const found = await findInstance(host, tagOfInstance(vm.vmId, record.instance));
  if (found !== undefined) {
    const { disks } = await host.describeVm(found.vmId);
    const paths = disks.map(({ path }) => path);
    await keepDisks(site.seams, vm, paths, values.keep_disk);
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

export const UNDO: WorkTable = operationTable(
  'undo',
  {
    N2: { afterFailure: 'halt', run: turnOff },
    N3: { run: removeVm },
    N4: {
      intent: (work) => ({
        change: { activeSite: 'source' },
        raisesEpoch: true,
        ...owedOnReturn(work),
      }),
    },
    N5: { run: giveBack },
  },
  () => ({
    change: {
      phase: 'ordinary',
      instance: undefined,
      commit: undefined,
      halted: undefined,
      isSourceStopped: false,
    },
  }),
);
