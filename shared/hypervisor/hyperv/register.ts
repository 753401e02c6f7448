// A VM over disks that stand ready, built step by step from our own description (hyperv.md § 3.2). Until the last
// step it bears a name that says that it is unfinished: nobody finds it as the VM of its tag, and what a crash leaves
// is taken away by the next attempt. It is never started by the host itself.

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { RegisterRequest } from '../target.js';
import type { OwnerTag, VmDefinition, VmSummary } from '../vm.js';
import { applyBootOrder } from './boot-order.js';
import { findCheckpoints, removeCheckpoint } from './checkpoints.js';
import { giveRole, removeWithRole, sharedFolderFor } from './cluster-role.js';
import type { HyperVContext } from './context.js';
import {
  allMachines,
  chainOf,
  diskFile,
  inOrder,
  isSamePath,
  loadMachine,
  machineOrNone,
  powerOf,
  summaryOf,
} from './machines.js';
import { forget } from './memory.js';
import { waitForMerge } from './merges.js';
import {
  isSameTag,
  isUnfinishedName,
  notesWithVmMark,
  unfinishedName,
  vmMarkOf,
} from './naming.js';
import { updateClusterRole } from './operations/cluster.js';
import { getHost } from './operations/host.js';
import * as operations from './operations/machines.js';
import type { MachineFacts } from './operations/machines.js';
import { addAdapter } from './operations/network.js';
import { setUp } from './set-up.js';
import { removeUnfinishedOf, whileRegistering } from './unfinished.js';

/** Of disks of ordinary size; what takes longer is told, or left to the host. */
const MERGE_MS = 10 * 60_000;
const POLL_MS = 500;

const NAME_LENGTH_MAX = 100;

export async function registerVm(context: HyperVContext, request: RegisterRequest): Promise<Guid> {
  const { definition, name, diskPaths, tag } = request;
  if (name === '' || name.length > NAME_LENGTH_MAX || isUnfinishedName(name)) {
    throw new DrError('E_PARAMETER', `${JSON.stringify(name)} is no name for a VM`);
  }
  if (diskPaths.length !== definition.disks.length) {
    throw new DrError(
      'E_HYPERVISOR',
      `the VM ${name} has ${definition.disks.length} disks, but ${diskPaths.length} files are given`,
    );
  }
  return whileRegistering(context, tag.operationId, undefined, async () => {
    const namesake = (await allMachines(context)).find((machine) => machine.name === name);
    if (namesake !== undefined) {
      throw new DrError('E_EXISTS', `this host has a VM ${name} already`, {
        context: { vmId: namesake.id },
      });
    }
    await removeUnfinishedOf(context, tag);
    for (const file of diskPaths) await diskFile(context, path.resolve(file));
    return build(context, unfinishedName(tag), request);
  });
}

async function build(
  context: HyperVContext,
  unfinished: string,
  request: RegisterRequest,
): Promise<Guid> {
  const { definition, name, tag, keepsMacAddresses = false, joinsCluster = false } = request;
  const { runner } = context;
  const diskPaths = request.diskPaths.map((file) => path.resolve(file));
  const shared = joinsCluster ? await sharedFolderFor(context, diskPaths) : undefined;
  const { vmId } = await runner.run(operations.createMachine, {
    name: unfinished,
    folder: shared ?? (await defaultVmFolder(context)),
    generation: definition.generation,
    memoryBytes: String(definition.memoryBytes),
    version: null,
  });
  const marked = (isUnfinished: boolean, remarks = ''): string =>
    notesWithVmMark({ id: vmId, notes: remarks }, { tag, diskPaths, isUnfinished });
  try {
    await runner.run(operations.setNotes, { vmId, notes: marked(true) });
    if (definition.generation === 1) await runner.run(operations.removeDvdDrives, { vmId });
    await runner.run(operations.setProcessors, { vmId, count: definition.cpuCount });
    const remarks = [...(await setUp(context, vmId, definition))];
    await addDisks(context, vmId, definition, diskPaths);
    const newAdapterIds: Guid[] = [];
    for (const { name: adapterName, mac, isLegacy = false } of definition.adapters) {
      // one that no start has given out yet is none
      const kept = keepsMacAddresses && !/^0*$/.test(mac) ? mac : null;
      const legacy = { isLegacy: isLegacy && definition.generation === 1 };
      const added = { vmId, name: adapterName, mac: kept, ...legacy };
      newAdapterIds.push((await runner.run(addAdapter, added)).adapterId);
    }
    await applyBootOrder(context, vmId, definition, newAdapterIds);
    if (shared !== undefined) remarks.push(...(await giveRole(context, vmId, name)));
    await runner.run(operations.setNotes, { vmId, notes: marked(false, remarks.join('\n')) });
    await runner.run(operations.renameMachine, { vmId, name });
    return vmId;
  } catch (error) {
    await takeBack(context, vmId);
    throw error;
  }
}

async function addDisks(
  { runner }: HyperVContext,
  vmId: Guid,
  { disks }: VmDefinition,
  diskPaths: readonly string[],
): Promise<void> {
  // a new VM has one SCSI controller
  const last = Math.max(
    0,
    ...disks.map(({ controller, controllerNumber }) =>
      controller === 'scsi' ? controllerNumber : 0,
    ),
  );
  for (let count = 0; count < last; count++) await runner.run(operations.addController, { vmId });
  for (const [index, disk] of disks.entries()) {
    await runner.run(operations.addDisk, {
      vmId,
      controllerType: disk.controller === 'ide' ? 'IDE' : 'SCSI',
      controllerNumber: disk.controllerNumber,
      controllerLocation: disk.controllerLocation,
      path: diskPaths[index] ?? '',
    });
  }
}

async function takeBack(context: HyperVContext, vmId: Guid): Promise<void> {
  try {
    const machine = await machineOrNone(context, vmId);
    if (machine !== undefined) await removeWithRole(context, machine);
  } catch (error) {
    // its name says what it is, and the next attempt removes it; the first error is the one to tell
    if (!(error instanceof DrError)) throw error;
  }
}

/**
 * What the hypervisor put above the files that one of ours was registered over goes with it; of a VM that is not ours
 * no file is touched.
 */
export async function removeVm(context: HyperVContext, vmId: Guid): Promise<void> {
  const machine = await machineOrNone(context, vmId);
  if (machine === undefined) return;
  if (powerOf(machine.state) !== 'off') {
    throw new DrError('E_HYPERVISOR', `the VM ${machine.name} is not off, so it is not removed`, {
      context: { vmId, state: machine.state },
      hint: 'Turn it off first.',
    });
  }
  const above = await filesAbove(context, machine);
  const ours = (await findCheckpoints(context, vmId)).filter(({ tag }) => tag !== undefined);
  for (const { facts } of ours) await removeCheckpoint(context, vmId, facts.id);
  if (ours.length > 0) await waitForMerge(context, vmId, MERGE_MS);
  await removeWithRole(context, machine);
  await removeLeft(context, above);
  await forget(context, machine);
}

/**
 * Hyper-V merges checkpoints of users after the VM is gone, and removes their files itself. What it leaves goes; one
 * that it still works on stays, and is its own affair.
 */
async function removeLeft(context: HyperVContext, files: readonly string[]): Promise<void> {
  const { fs, clock } = context;
  const deadline = clock.monotonic() + MERGE_MS;
  for (const file of files) {
    while ((await fs.status(file)) !== undefined && clock.monotonic() < deadline) {
      await clock.sleep(POLL_MS);
    }
    if ((await fs.status(file)) === undefined) continue;
    try {
      await fs.remove(file);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
    }
  }
}

async function filesAbove(
  context: HyperVContext,
  machine: MachineFacts,
): Promise<readonly string[]> {
  const { disks } = machine;
  const mark = vmMarkOf(machine);
  if (mark === undefined) return [];
  const files: string[] = [];
  for (const { path: leaf, isPassThrough } of disks) {
    if (isPassThrough) continue;
    const chain = await chainOf(context, leaf);
    const home = chain.findIndex((file) => mark.diskPaths.some((own) => isSamePath(own, file)));
    if (home > 0) files.push(...chain.slice(0, home));
  }
  return files;
}

export async function setDiskFiles(
  context: HyperVContext,
  vmId: Guid,
  diskPaths: readonly string[],
): Promise<void> {
  const { runner } = context;
  const machine = await loadMachine(context, vmId);
  const { name } = machine;
  const refuse = (what: string, hint: string): DrError =>
    new DrError('E_STATE', `the VM ${name} ${what}, so its disks stay on their files`, {
      context: { vmId },
      hint,
    });
  if (powerOf(machine.state) !== 'off') throw refuse('is not off', 'Shut it down first.');
  const checkpoints = await findCheckpoints(context, vmId);
  if (checkpoints.length > 0 || machine.parentCheckpointId !== undefined) {
    throw refuse('has checkpoints', 'Remove them first.');
  }
  await waitForMerge(context, vmId, MERGE_MS);
  const disks = inOrder(machine.disks);
  // a merge that failed leaves one behind, and vmms may yet try it again
  const unmerged = disks.find((disk) => /\.avhdx$/i.test(disk.path));
  if (unmerged !== undefined) {
    throw refuse(
      `stands on ${unmerged.path}`,
      'Wait for the merge; why one failed is in the event log of VMMS.',
    );
  }
  const files = diskPaths.map((file) => path.resolve(file));
  if (files.length !== disks.length) {
    throw new DrError(
      'E_DISK_MISMATCH',
      `the VM ${name} has ${disks.length} disks, but ${files.length} files are given`,
      { context: { vmId } },
    );
  }
  const changes = disks.flatMap((disk, index) => {
    const file = files[index] ?? '';
    return isSamePath(disk.path, file) ? [] : [{ disk, file }];
  });
  for (const { disk, file } of changes) {
    const { diskId } = await diskFile(context, file);
    const wanted = (await diskFile(context, disk.path)).diskId;
    if (diskId === wanted) continue;
    throw new DrError('E_DISK_MISMATCH', `${file} is the disk ${diskId}, not ${wanted}`, {
      context: { vmId, file, diskId },
      done: 'the VM stands on the files that it had',
    });
  }
  for (const { disk, file } of changes) {
    const { controllerType, controllerNumber, controllerLocation } = disk;
    const place = { vmId, controllerType, controllerNumber, controllerLocation };
    await runner.run(operations.setDiskPath, { ...place, path: file });
  }
  // the cluster has its own copy of the paths
  if (machine.isClustered && changes.length > 0) await runner.run(updateClusterRole, { vmId });
  const mark = vmMarkOf(machine);
  if (mark === undefined || changes.length === 0) return;
  const notes = notesWithVmMark(machine, { ...mark, diskPaths: files });
  await runner.run(operations.setNotes, { vmId, notes });
}

export async function findTagged(
  context: HyperVContext,
  tag: OwnerTag,
): Promise<VmSummary | undefined> {
  const machine = (await allMachines(context)).find((each) => {
    const mark = vmMarkOf(each);
    const isWhole = !isUnfinishedName(each.name) && mark?.isUnfinished !== true;
    return isWhole && isSameTag(mark?.tag, tag);
  });
  return machine && summaryOf(machine);
}

export async function tagOf(context: HyperVContext, vmId: Guid): Promise<OwnerTag | undefined> {
  return vmMarkOf(await loadMachine(context, vmId))?.tag;
}

export async function dropTag(context: HyperVContext, vmId: Guid): Promise<void> {
  const machine = await loadMachine(context, vmId);
  if (vmMarkOf(machine) === undefined) return;
  const without = notesWithVmMark(machine, undefined);
  await context.runner.run(operations.setNotes, { vmId, notes: without });
}

export async function defaultVmFolder({ runner }: HyperVContext): Promise<string> {
  return (await runner.run(getHost, {})).defaultVmFolder;
}
