// Checkpoints that a user of the VM makes, goes back to and removes. They are real differencing
// chains; going back makes a branch.

import { randomGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { LabContext } from './context.js';
import { activeFault } from './faults.js';
import { newLeaf, removeFiles, withNewLeaves } from './leaf.js';
import { saveVm, type DiskRecord, type UserCheckpointRecord, type VmRecord } from './record.js';
import { nextMergeTime, scripted } from './checkpoints.js';
import { endEpoch } from './tracking.js';
import { changingVm, tidyTracking } from './vms.js';

/** VHDX chains have a limit; this one is Hyper-V's for checkpoints. */
const CHECKPOINTS_MAX = 50;

export async function addUserCheckpoint(
  context: LabContext,
  vmId: Guid,
  name: string | undefined,
): Promise<UserCheckpointRecord> {
  return changingVm(context, vmId, async (given) => {
    const chosen = name ?? nextName(given);
    if (given.userCheckpoints.some((other) => other.name === chosen)) {
      throw new DrError('E_EXISTS', `the VM ${given.name} has a checkpoint ${chosen} already`);
    }
    if (given.userCheckpoints.length >= CHECKPOINTS_MAX) {
      throw new DrError('E_CHECKPOINT', `a VM has at most ${CHECKPOINTS_MAX} checkpoints`);
    }
    if ((await activeFault(context, 'disk-full', vmId)) !== undefined) {
      throw scripted('E_CAPACITY', vmId, 'disk-full', 'no space for a checkpoint');
    }
    const frozen = await withNewLeaves(context, given);
    const record: UserCheckpointRecord = {
      id: randomGuid(context.random),
      name: chosen,
      createdAtMs: context.clock.now(),
      parentId: given.currentCheckpointId,
      disks: given.disks.map(({ diskId, leaf }) => ({ diskId, file: leaf })),
    };
    const vm = {
      ...frozen,
      userCheckpoints: [...frozen.userCheckpoints, record],
      currentCheckpointId: record.id,
    };
    await saveVm(context, vm);
    await tidyTracking(context, vm);
    return record;
  });
}

function nextName(vm: VmRecord): string {
  for (let number = vm.userCheckpoints.length + 1; ; number++) {
    const name = `checkpoint-${number}`;
    if (!vm.userCheckpoints.some((other) => other.name === name)) return name;
  }
}

/**
 * Takes the VM back to a checkpoint: what the guest wrote since its present state began is lost,
 * unless another checkpoint holds it. Change tracking begins anew.
 */
export async function applyUserCheckpoint(
  context: LabContext,
  vmId: Guid,
  nameOrId: string,
): Promise<UserCheckpointRecord> {
  return changingVm(context, vmId, async (vm) => {
    const record = userCheckpoint(vm, nameOrId);
    const disks = await branches(context, vm, record);
    const next = {
      ...vm,
      disks,
      currentCheckpointId: record.id,
      mergeNotBeforeMs: await nextMergeTime(context, vm),
    };
    await saveVm(context, next);
    await tidyTracking(context, next);
    return record;
  });
}

/** Every disk with a new leaf over what the checkpoint froze. A failure leaves no new file. */
async function branches(
  context: LabContext,
  vm: VmRecord,
  record: UserCheckpointRecord,
): Promise<DiskRecord[]> {
  const made: string[] = [];
  try {
    const disks: DiskRecord[] = [];
    for (const disk of vm.disks) {
      const file = record.disks.find(({ diskId }) => diskId === disk.diskId)?.file;
      if (file === undefined) {
        throw new DrError(
          'E_HYPERVISOR',
          `the checkpoint ${record.name} does not hold disk ${disk.diskId}, which was added later`,
          { context: { vmId: vm.id, diskId: disk.diskId }, hint: 'Remove that disk first.' },
        );
      }
      const leaf = await newLeaf(context, vm.id, file);
      made.push(leaf.file);
      const reason = `the checkpoint ${record.name} was applied`;
      disks.push({
        ...disk,
        leaf: leaf.file,
        files: [...disk.files, { file: leaf.file, parent: file }],
        tracking: await endEpoch(context, vm.id, disk, reason, leaf.contentId),
      });
    }
    return disks;
  } catch (error) {
    await removeFiles(context, vm, made);
    throw error;
  }
}

/** Lets a checkpoint go; the VM's present state and other checkpoints stay as they are. */
export async function removeUserCheckpoint(
  context: LabContext,
  vmId: Guid,
  nameOrId: string,
): Promise<UserCheckpointRecord> {
  return changingVm(context, vmId, async (vm) => {
    const record = userCheckpoint(vm, nameOrId);
    const { id, parentId } = record;
    await saveVm(context, {
      ...vm,
      userCheckpoints: vm.userCheckpoints
        .filter((other) => other.id !== id)
        .map((other) => (other.parentId === id ? { ...other, parentId } : other)),
      currentCheckpointId: vm.currentCheckpointId === id ? parentId : vm.currentCheckpointId,
      mergeNotBeforeMs: await nextMergeTime(context, vm),
    });
    return record;
  });
}

/** @throws DrError E_NOT_FOUND */
function userCheckpoint(vm: VmRecord, nameOrId: string): UserCheckpointRecord {
  const found = vm.userCheckpoints.find(({ id, name }) => id === nameOrId || name === nameOrId);
  if (found !== undefined) return found;
  const names = vm.userCheckpoints.map(({ name }) => name).join(', ');
  throw new DrError('E_NOT_FOUND', `the VM ${vm.name} has no checkpoint ${nameOrId}`, {
    context: { vmId: vm.id },
    hint: names === '' ? 'It has none at all.' : `Its checkpoints: ${names}.`,
  });
}
