// Undo (failover.md § 4): as if the failover had not been, except for the epoch. From N2 on forward only.

import { DrError } from '../../../shared/errors.js';
import { findInstance, tagOfInstance } from '../instance.js';
import { instanceDiskPaths, instanceFiles } from '../instance-files.js';
import { areKept, keepDisks } from '../keep-disks.js';
import type { Instance } from '../model.js';
import { operationTable } from '../engine.js';
import type { FailoverPatch } from '../failover-book.js';
import { takeAway, turnOff } from './come-up.js';
import { tellIfThere, type Work, type WorkTable } from './work.js';

async function removeVm(work: Work): Promise<FailoverPatch> {
  const { instance } = work.record;
  const { keep_disk: name } = work.values;
  if (instance !== undefined && name !== undefined) await keepWritten(work, instance, name);
  return takeAway(work);
}

/** @throws DrError E_STATE when there is nothing that could be kept; E_EXISTS, E_CAPACITY, E_IO */
async function keepWritten(work: Work, instance: Instance, name: string): Promise<void> {
  const { vm, site, host } = work;
  const { fs } = site.seams;
  const found = await findInstance(host, tagOfInstance(vm.vmId, instance));
  if (found !== undefined) {
    const { disks } = await host.describeVm(found.vmId);
    const paths = disks.map(({ path }) => path);
    await keepDisks(site.seams, vm, paths, name);
    return;
  }
  // no guest has written anything
  if (instance.poweredOnAtMs === 0) return;
  const files = await instanceFiles(fs, vm.layout);
  const own = files.filter(({ operationId }) => operationId === instance.operationId);
  const names = new Set(instance.disks.map(({ protective }) => protective));
  const protective = own.filter((file) => names.has(file.name));
  if (protective.length === names.size && !own.some(({ name: each }) => isAbove(each, names))) {
    const paths = instance.disks.map((disk) => instanceDiskPaths(vm.layout, disk).protective);
    await keepDisks(site.seams, vm, paths, name);
    return;
  }
  // the VM went after its disks were kept, and some of its files as well
  if (await areKept(fs, vm, instance.disks.length, name)) return;
  throw new DrError(
    'E_STATE',
    `${instance.vmName} is gone, and its disks cannot be kept as ${name}: ` +
      (protective.length < names.size ? 'a file is missing' : 'checkpoints stand above them'),
    {
      context: { operationId: instance.operationId },
      done: 'no file was touched',
      hint: 'Copy what is of use from the folder of the disks; undo without `--keep-disk` removes it.',
    },
  );
}

/** What a hypervisor put above: which of several is the newest, only the VM knew. */
function isAbove(name: string, protective: ReadonlySet<string>): boolean {
  if (protective.has(name) || name.startsWith('.')) return false;
  return name.endsWith('.avhdx');
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
      orphanEpoch: undefined,
    },
  }),
);
