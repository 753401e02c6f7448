// Finding VMs, and changing one: under its lock, from its record as it stands, with leftovers of
// crashes out of the way.

import path from 'node:path';
import { parseGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { removeLeftovers } from '../../files/index.js';
import type { VmDefinition, VmDisk } from '../vm.js';
import { removeStrayFiles, settle } from './chain.js';
import { withLockFile, type LabContext } from './context.js';
import {
  diskPath,
  disksFolder,
  mergeFailureFile,
  removingFile,
  trackingFolder,
  vmFile,
  vmFolder,
  vmLockFile,
  vmsFolder,
} from './layout.js';
import { readVm, type DiskRecord, type VmRecord } from './record.js';
import { readUnlessSeen } from './seen-records.js';
import { removeStrayGenerations } from './tracking.js';

/** All VMs, in the order of their names. */
export async function allVms(context: LabContext): Promise<readonly VmRecord[]> {
  return (await surveyVms(context)).vms;
}

export interface Survey {
  /** In the order of their names. */
  readonly vms: readonly VmRecord[];
  /** Folders without a record: a VM that is being made or removed, or what a crash left of one. */
  readonly unfinished: readonly Guid[];
}

/** One look at all folders of VMs. */
export async function surveyVms(context: LabContext): Promise<Survey> {
  const vms: VmRecord[] = [];
  const unfinished: Guid[] = [];
  for (const vmId of await vmFolders(context)) {
    const vm = await readUnlessSeen(context, vmId);
    if (vm === undefined) unfinished.push(vmId);
    else vms.push(vm);
  }
  vms.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return { vms, unfinished };
}

async function vmFolders({ fs, folder }: LabContext): Promise<Guid[]> {
  const names = await fs.list(vmsFolder(folder));
  return names.flatMap((name) => parseGuid(name) ?? []);
}

/** @throws DrError E_NOT_FOUND */
export async function loadVm(context: LabContext, vmId: Guid): Promise<VmRecord> {
  const vm = await readVm(context, vmFile(context.folder, vmId));
  if (vm !== undefined) return vm;
  throw new DrError('E_NOT_FOUND', `the lab ${context.folder} has no VM ${vmId}`, {
    context: { vmId },
    hint: `\`hvdr lab list ${context.folder}\` shows its VMs.`,
  });
}

/**
 * Runs `action` on the VM's record while nobody else changes the VM, with its files in order: no
 * leftovers, no merge half done. `timeoutMs`: how long to wait for others.
 * @throws DrError E_NOT_FOUND, E_LOCKED
 */
export function changingVm<T>(
  context: LabContext,
  vmId: Guid,
  action: (vm: VmRecord) => Promise<T>,
  timeoutMs?: number,
): Promise<T> {
  return withVmLock(
    context,
    vmId,
    async (vm) => {
      await removeStrayFiles(context, vm);
      await removeLeftovers(context.fs, vmFile(context.folder, vmId));
      return action(await settle(context, vm, 'begun'));
    },
    timeoutMs,
  );
}

/**
 * Runs `action`, which has nothing to do with the files of the disks, on the VM's record while
 * nobody else changes the VM. @throws DrError E_NOT_FOUND, E_LOCKED
 */
export async function withVmLock<T>(
  context: LabContext,
  vmId: Guid,
  action: (vm: VmRecord) => Promise<T>,
  timeoutMs?: number,
): Promise<T> {
  await loadVm(context, vmId);
  return withLockFile(
    context,
    vmLockFile(context.folder, vmId),
    async () => action(await loadVm(context, vmId)),
    timeoutMs,
  );
}

/** The disk at a place in the order of the controllers. @throws DrError E_NOT_FOUND */
export function diskAt(vm: VmRecord, index: number): DiskRecord {
  const disk = vm.disks[index];
  if (disk !== undefined) return disk;
  const last = vm.disks.length - 1;
  throw new DrError('E_NOT_FOUND', `the VM ${vm.name} has no disk ${index}`, {
    context: { vmId: vm.id, disk: index },
    hint: last < 0 ? 'It has no disk at all.' : `Its disks are 0 to ${last}.`,
  });
}

/** @throws DrError E_NOT_FOUND */
export function diskOf(vm: VmRecord, diskId: Guid): DiskRecord {
  const disk = vm.disks.find((other) => other.diskId === diskId);
  if (disk !== undefined) return disk;
  throw new DrError('E_NOT_FOUND', `the VM ${vm.name} has no disk ${diskId}`, {
    context: { vmId: vm.id, diskId },
  });
}

export function definitionOf({ folder }: LabContext, vm: VmRecord): VmDefinition {
  const { id, name, generation, cpuCount, memoryBytes, isAutoStart } = vm;
  return {
    id,
    name,
    generation,
    cpuCount,
    memoryBytes,
    isAutoStart,
    disks: vm.disks.map((disk): VmDisk => {
      const { diskId, controller, controllerNumber, controllerLocation } = disk;
      const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
      return {
        diskId,
        controller,
        controllerNumber,
        controllerLocation,
        sizeBytes,
        logicalSectorBytes,
        physicalSectorBytes,
        path: diskPath(folder, vm.id, disk.leaf),
      };
    }),
    adapters: vm.adapters.map((adapter) => {
      const { id: adapterId, mac, isMacStatic, switchName, vlan, guest } = adapter;
      return { id: adapterId, name: adapter.name, mac, isMacStatic, switchName, vlan, guest };
    }),
  };
}

/** Takes away what is left of a VM whose record is renamed or was never written. Under its lock. */
export async function removeVmFiles(context: LabContext, vmId: Guid): Promise<void> {
  const { fs, folder } = context;
  for (const where of [disksFolder(folder, vmId), trackingFolder(folder, vmId)]) {
    if ((await fs.status(where)) === undefined) continue;
    for (const name of await fs.list(where)) await fs.remove(path.join(where, name));
    await fs.flushFolder(where);
  }
  await removeLeftovers(fs, vmFile(folder, vmId));
  await removeLeftovers(fs, mergeFailureFile(folder, vmId));
  await fs.remove(mergeFailureFile(folder, vmId));
  // Last of all, because it says that there is something to be taken away. The empty folder and its
  // lock stay: another process may be waiting for that very file.
  await fs.remove(removingFile(folder, vmId));
  await fs.flushFolder(vmFolder(folder, vmId));
}

/**
 * Removes tracking files that nobody can ask any more. The change that made them superfluous stands
 * already, so one that cannot be removed now waits for the next time.
 */
export async function tidyTracking(context: LabContext, vm: VmRecord): Promise<void> {
  try {
    await removeStrayGenerations(context, vm);
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_IO') throw error;
  }
}
