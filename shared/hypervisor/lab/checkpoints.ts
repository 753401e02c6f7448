// Recovery checkpoints, the reference points that are made of them, and the questions about both.
// Every change is one replacement of vm.json, after the files that it names are durable; what a
// change leaves to be merged follows from the graph (chain.ts).

import { randomGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { openVhdx, type VhdxDisk } from '../../vhdx/index.js';
import type {
  ByteRange,
  Checkpoint,
  CheckpointRequest,
  Consistency,
  ReferencePoint,
} from '../source.js';
import { hasDueTidying, settle } from './chain.js';
import type { LabContext } from './context.js';
import { activeFault, delayOf } from './faults.js';
import { diskPath } from './layout.js';
import { withNewLeaves } from './leaf.js';
import {
  saveVm,
  type CheckpointRecord,
  type DiskRecord,
  type FrozenDisk,
  type ReferencePointRecord,
  type VmRecord,
} from './record.js';
import {
  contentIdOf,
  endEpoch,
  lastSequence,
  openGenerations,
  parseTrackingId,
  trackingIdOf,
  trackingInvalid,
  unionOf,
} from './tracking.js';
import type { TrackingFile } from './tracking-file.js';
import { changingVm, diskOf, loadVm, tidyTracking, withVmLock } from './vms.js';

const MERGE_RETRY_MS = 20;
const REFERENCE_POINTS_MAX = 100;

/** See SourceHypervisor.createCheckpoint. */
export async function createCheckpoint(
  context: LabContext,
  vmId: Guid,
  request: CheckpointRequest,
): Promise<Checkpoint> {
  const { tag, consistency, timeoutMs } = request;
  const { clock } = context;
  const deadline = clock.monotonic() + timeoutMs;
  await loadVm(context, vmId);
  await applyCheckpointFaults(context, vmId, consistency, timeoutMs);
  const left = (): number => Math.max(0, deadline - clock.monotonic());
  await waitForMerge(context, vmId, left());
  try {
    return await freeze(context, vmId, { tag, consistency }, left());
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_LOCKED') throw error;
    throw new DrError('E_STALLED', `no checkpoint of the VM ${vmId} within ${timeoutMs} ms`, {
      context: { vmId, timeoutMs },
      hint: 'Another process works on the VM; ask again when it has ended.',
      cause: error,
    });
  }
}

async function applyCheckpointFaults(
  context: LabContext,
  vmId: Guid,
  consistency: Consistency,
  timeoutMs: number,
): Promise<void> {
  const slowMs = await delayOf(context, 'checkpoint-slow', vmId);
  if (slowMs > 0) await context.clock.sleep(Math.min(slowMs, timeoutMs));
  if (slowMs > timeoutMs) {
    throw new DrError('E_STALLED', `no checkpoint of the VM ${vmId} within ${timeoutMs} ms`, {
      context: { vmId, timeoutMs, fault: 'checkpoint-slow' },
    });
  }
  if ((await activeFault(context, 'checkpoint-fails', vmId)) !== undefined) {
    throw scripted('E_CHECKPOINT', vmId, 'checkpoint-fails', 'no checkpoint could be made');
  }
  if ((await activeFault(context, 'disk-full', vmId)) !== undefined) {
    throw scripted('E_CAPACITY', vmId, 'disk-full', 'no space for a checkpoint');
  }
  if (consistency === 'application') {
    if ((await activeFault(context, 'quiesce-refused', vmId)) !== undefined) {
      throw scripted('E_CONSISTENCY', vmId, 'quiesce-refused', 'the guest would not quiesce');
    }
  }
}

export function scripted(
  code: ConstructorParameters<typeof DrError>[0],
  vmId: Guid,
  fault: string,
  what: string,
): DrError {
  return new DrError(code, `the VM ${vmId}: ${what} (scripted fault ${fault})`, {
    context: { vmId, fault },
    hint: `\`hvdr lab fault DIR NAME clear ${fault}\` ends the fault.`,
  });
}

/** Makes the checkpoint itself; without a tag it is somebody else's. */
export function freeze(
  context: LabContext,
  vmId: Guid,
  made: Pick<CheckpointRecord, 'tag' | 'consistency'>,
  timeoutMs: number,
): Promise<Checkpoint> {
  return changingVm(
    context,
    vmId,
    async (given) => {
      const other = given.checkpoints.find(({ tag }) => tag !== undefined);
      if (made.tag !== undefined && other !== undefined) {
        throw new DrError('E_CHECKPOINT', `the VM ${given.name} has the checkpoint ${other.id}`, {
          context: { vmId, checkpointId: other.id },
          hint: 'Give it back first: a VM has one checkpoint of ours at a time.',
        });
      }
      const before = await afterTrackingLost(context, given);
      const frozen = await withNewLeaves(context, before);
      const record: CheckpointRecord = {
        id: randomGuid(context.random),
        createdAtMs: context.clock.now(),
        ...made,
        disks: frozen.disks.map((disk, index): FrozenDisk => ({
          diskId: disk.diskId,
          file: before.disks[index]?.leaf ?? disk.leaf,
          epoch: disk.tracking.epoch,
          sequence: lastSequence(disk.tracking),
        })),
      };
      const vm = { ...frozen, checkpoints: [...frozen.checkpoints, record] };
      await saveVm(context, vm);
      await tidyTracking(context, vm);
      return checkpointOf(vm, record);
    },
    timeoutMs,
  );
}

/** The scripted fault: everything asked for from before is unknown from now on. */
async function afterTrackingLost(context: LabContext, vm: VmRecord): Promise<VmRecord> {
  if ((await activeFault(context, 'tracking-lost', vm.id)) === undefined) return vm;
  return loseTracking(context, vm, 'the tracking data are lost (scripted fault tracking-lost)');
}

/** Ends the epoch of every disk. Not saved. */
export async function loseTracking(
  context: LabContext,
  vm: VmRecord,
  reason: string,
): Promise<VmRecord> {
  const disks: DiskRecord[] = [];
  for (const disk of vm.disks) {
    const contentId = await contentIdOf(context, diskPath(context.folder, vm.id, disk.leaf));
    disks.push({ ...disk, tracking: await endEpoch(context, vm.id, disk, reason, contentId) });
  }
  return { ...vm, disks };
}

function checkpointOf(vm: VmRecord, record: CheckpointRecord): Checkpoint {
  const { id, createdAtMs, consistency, tag } = record;
  const disks = record.disks.flatMap(({ diskId }) => {
    const disk = vm.disks.find((other) => other.diskId === diskId);
    if (disk === undefined) return [];
    const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
    return [{ diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes }];
  });
  return { id, vmId: vm.id, createdAtMs, consistency, tag, disks };
}

export async function listCheckpoints(
  context: LabContext,
  vmId: Guid,
): Promise<readonly Checkpoint[]> {
  const vm = await loadVm(context, vmId);
  return vm.checkpoints.map((record) => checkpointOf(vm, record));
}

/** Lets the checkpoint go. Its files are merged by tidyVm(). */
export async function removeCheckpoint(
  context: LabContext,
  vmId: Guid,
  checkpointId: string,
  isForeignAllowed = false,
): Promise<void> {
  await changingVm(context, vmId, async (vm) => {
    const record = vm.checkpoints.find(({ id }) => id === checkpointId);
    if (record === undefined) return;
    if (record.tag === undefined && !isForeignAllowed) throw foreign(vm, checkpointId);
    await saveVm(context, await withoutCheckpoint(context, vm, checkpointId));
  });
}

function foreign(vm: VmRecord, checkpointId: string): DrError {
  return new DrError(
    'E_CHECKPOINT',
    `the checkpoint ${checkpointId} of the VM ${vm.name} is not of this product`,
    { context: { vmId: vm.id, checkpointId }, hint: 'Whoever made it gives it back.' },
  );
}

async function withoutCheckpoint(
  context: LabContext,
  vm: VmRecord,
  checkpointId: string,
): Promise<VmRecord> {
  return {
    ...vm,
    checkpoints: vm.checkpoints.filter(({ id }) => id !== checkpointId),
    mergeNotBeforeMs: await nextMergeTime(context, vm),
  };
}

/** From when on the merges that a change calls for may begin. */
export async function nextMergeTime(context: LabContext, vm: VmRecord): Promise<number> {
  const delayMs = await delayOf(context, 'merge-delay', vm.id);
  return delayMs === 0 ? 0 : context.clock.now() + delayMs;
}

/** See SourceHypervisor.convertToReferencePoint. */
export async function convertToReferencePoint(
  context: LabContext,
  vmId: Guid,
  checkpointId: string,
): Promise<ReferencePoint> {
  if ((await activeFault(context, 'convert-fails', vmId)) !== undefined) {
    throw scripted('E_CHECKPOINT', vmId, 'convert-fails', 'the checkpoint was not converted');
  }
  return changingVm(context, vmId, async (vm) => {
    const checkpoint = vm.checkpoints.find(({ id }) => id === checkpointId);
    if (checkpoint === undefined) throw noCheckpoint(vm, checkpointId);
    if (checkpoint.tag === undefined) throw foreign(vm, checkpointId);
    if (vm.referencePoints.length >= REFERENCE_POINTS_MAX) {
      throw new DrError(
        'E_CHECKPOINT',
        `the VM ${vm.name} has ${REFERENCE_POINTS_MAX} reference points already`,
        { context: { vmId }, hint: 'Remove those that nobody asks from.' },
      );
    }
    const record: ReferencePointRecord = {
      id: randomGuid(context.random),
      createdAtMs: checkpoint.createdAtMs,
      tag: checkpoint.tag,
      disks: checkpoint.disks.map(({ diskId, epoch, sequence }) => ({ diskId, epoch, sequence })),
    };
    const rest = await withoutCheckpoint(context, vm, checkpointId);
    await saveVm(context, { ...rest, referencePoints: [...vm.referencePoints, record] });
    return referencePointOf(vm.id, record);
  });
}

function referencePointOf(vmId: Guid, record: ReferencePointRecord): ReferencePoint {
  const { id, createdAtMs, tag } = record;
  const disks = record.disks.map(({ diskId, epoch, sequence }) => ({
    diskId,
    trackingId: trackingIdOf(epoch, sequence),
  }));
  return { id, vmId, createdAtMs, tag, disks };
}

function noCheckpoint(vm: VmRecord, checkpointId: string): DrError {
  return new DrError('E_NOT_FOUND', `the VM ${vm.name} has no checkpoint ${checkpointId}`, {
    context: { vmId: vm.id, checkpointId },
    hint: '`hvdr lab show DIR NAME` lists its checkpoints.',
  });
}

export async function listReferencePoints(
  context: LabContext,
  vmId: Guid,
): Promise<readonly ReferencePoint[]> {
  const vm = await loadVm(context, vmId);
  return vm.referencePoints.map((record) => referencePointOf(vmId, record));
}

export async function removeReferencePoint(
  context: LabContext,
  vmId: Guid,
  referencePointId: string,
): Promise<void> {
  await withVmLock(context, vmId, async (vm) => {
    const referencePoints = vm.referencePoints.filter(({ id }) => id !== referencePointId);
    if (referencePoints.length === vm.referencePoints.length) return;
    await saveVm(context, { ...vm, referencePoints });
  });
}

/** See SourceHypervisor.openCheckpointDisk. The files are held shared until close(). */
export function openCheckpointDisk(
  context: LabContext,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
): Promise<VhdxDisk> {
  return changingVm(context, vmId, async (vm) => {
    const marks = [...vm.checkpoints, ...vm.userCheckpoints];
    const checkpoint = marks.find(({ id }) => id === checkpointId);
    const frozen = checkpoint?.disks.find((disk) => disk.diskId === diskId);
    if (checkpoint === undefined) throw noCheckpoint(vm, checkpointId);
    if (frozen === undefined) {
      throw new DrError('E_NOT_FOUND', `the checkpoint ${checkpointId} holds no disk ${diskId}`, {
        context: { vmId, checkpointId, diskId },
      });
    }
    const { fs, random, folder } = context;
    return openVhdx(diskPath(folder, vm.id, frozen.file), { fs, random });
  });
}

/** See SourceHypervisor.changedRanges. */
export async function* changedRanges(
  context: LabContext,
  vmId: Guid,
  checkpointId: string,
  diskId: Guid,
  trackingId: string,
): AsyncGenerator<ByteRange> {
  const { disk, files } = await changingVm(context, vmId, async (given) => {
    const vm = await afterTrackingLost(context, given);
    if (vm !== given) {
      await saveVm(context, vm);
      throw trackingInvalid(diskId, 'the tracking data are lost (scripted fault tracking-lost)');
    }
    return openAnswer(context, vm, checkpointId, diskId, trackingId);
  });
  try {
    yield* unionOf(files, disk);
  } finally {
    await Promise.all(files.map((file) => file.close()));
  }
}

async function openAnswer(
  context: LabContext,
  vm: VmRecord,
  checkpointId: string,
  diskId: Guid,
  trackingId: string,
): Promise<{ disk: DiskRecord; files: TrackingFile[] }> {
  const checkpoint = vm.checkpoints.find(({ id }) => id === checkpointId);
  if (checkpoint === undefined) throw noCheckpoint(vm, checkpointId);
  const disk = diskOf(vm, diskId);
  const frozen = checkpoint.disks.find((other) => other.diskId === diskId);
  if (frozen === undefined)
    throw trackingInvalid(diskId, 'the disk was added after the checkpoint');
  const asked = parseTrackingId(trackingId);
  if (asked === undefined) throw trackingInvalid(diskId, 'the tracking id is unknown');
  const { epoch, ended } = disk.tracking;
  if (asked.epoch !== epoch || frozen.epoch !== epoch) {
    const reason =
      ended.find((other) => other.epoch === asked.epoch)?.reason ??
      (asked.epoch === epoch ? ended.at(-1)?.reason : undefined);
    throw trackingInvalid(diskId, reason ?? 'the tracking id is unknown');
  }
  const isLive = vm.referencePoints.some((point) =>
    point.disks.some((mark) => mark.epoch === epoch && mark.sequence === asked.sequence),
  );
  if (!isLive) throw trackingInvalid(diskId, 'its reference point was removed');
  if (asked.sequence > frozen.sequence) {
    throw trackingInvalid(diskId, 'the reference point is younger than the checkpoint');
  }
  return {
    disk,
    files: await openGenerations(context, vm.id, disk, asked.sequence, frozen.sequence),
  };
}

/**
 * Merges what is due now. A file that somebody reads is left for later: false then, and when a
 * scripted delay has not passed. @throws DrError E_IO, E_CAPACITY, VhdxError
 */
export async function tidyVm(
  context: LabContext,
  vmId: Guid,
  timeoutMs?: number,
): Promise<boolean> {
  const isDone = (vm: VmRecord): boolean => !hasDueTidying(vm);
  if (isDone(await loadVm(context, vmId))) return true;
  try {
    return await changingVm(
      context,
      vmId,
      async (vm) => {
        if (context.clock.now() < vm.mergeNotBeforeMs) return isDone(vm);
        return isDone(await settle(context, vm, 'all'));
      },
      timeoutMs,
    );
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_LOCKED') return false;
    throw error;
  }
}

/** See SourceHypervisor.waitForMerge. */
export async function waitForMerge(
  context: LabContext,
  vmId: Guid,
  timeoutMs: number,
): Promise<void> {
  const { clock } = context;
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    const leftMs = Math.max(0, deadline - clock.monotonic());
    if (await tidyVm(context, vmId, leftMs)) return;
    if (clock.monotonic() >= deadline) break;
    await clock.sleep(Math.min(MERGE_RETRY_MS, Math.max(1, leftMs)));
  }
  throw new DrError('E_STALLED', `the disks of the VM ${vmId} did not merge in ${timeoutMs} ms`, {
    context: { vmId, timeoutMs },
    hint: 'Close every reader of a checkpoint of this VM; the merge goes on by itself then.',
  });
}
