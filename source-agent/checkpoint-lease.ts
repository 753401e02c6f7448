// A checkpoint as a lease: whatever happens while it is used, it is given back - converted to a
// reference point or removed - before the lease ends, with all its disks closed first. What a
// killed process left is found by its tag at the start of the next cycle.

import type { Guid } from '../shared/bytes/index.js';
import type { Clock } from '../shared/clock.js';
import type { ReadableDisk } from '../shared/disk/index.js';
import { DrError } from '../shared/errors.js';
import type {
  Checkpoint,
  OwnerTag,
  ReferencePoint,
  SourceHypervisor,
} from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';

export type WantedConsistency = 'require' | 'prefer' | 'crash';

export interface CheckpointOptions {
  readonly vmId: Guid;
  readonly tag: OwnerTag;
  readonly consistency: WantedConsistency;
  readonly timeoutMs: number;
}

export interface LeasedCheckpoint {
  readonly checkpoint: Checkpoint;
  /** Why less than application consistency was reached although it was wanted. */
  readonly loweredBecause: string | undefined;
  /** Opens a frozen disk; the lease closes it at the latest when it ends. */
  openDisk(diskId: Guid): Promise<ReadableDisk>;
  /** Closes all disks and turns the checkpoint into a reference point. It is gone then. */
  convert(): Promise<ReferencePoint>;
}

/**
 * Makes a checkpoint, lets `use` work with it, gives it back.
 * @throws DrError E_CHECKPOINT, E_CONSISTENCY; what `use` throws
 */
export async function withCheckpoint<T>(
  hypervisor: SourceHypervisor,
  options: CheckpointOptions,
  log: Log,
  use: (lease: LeasedCheckpoint) => Promise<T>,
): Promise<T> {
  const { vmId } = options;
  const { checkpoint, loweredBecause } = await create(hypervisor, options);
  const disks = new Set<ReadableDisk>();
  const state = { isGone: false };
  const closeDisks = async (): Promise<void> => {
    const open = [...disks];
    disks.clear();
    await Promise.all(open.map((disk) => disk.close()));
  };
  try {
    return await use({
      checkpoint,
      loweredBecause,
      openDisk: async (diskId) => {
        const disk = await hypervisor.openCheckpointDisk(vmId, checkpoint.id, diskId);
        disks.add(disk);
        return disk;
      },
      convert: async () => {
        await closeDisks();
        const point = await hypervisor.convertToReferencePoint(vmId, checkpoint.id);
        state.isGone = true;
        return point;
      },
    });
  } finally {
    if (!state.isGone) await giveBack(hypervisor, vmId, checkpoint.id, closeDisks, log);
  }
}

async function create(
  hypervisor: SourceHypervisor,
  { vmId, tag, consistency, timeoutMs }: CheckpointOptions,
): Promise<{ checkpoint: Checkpoint; loweredBecause: string | undefined }> {
  const ask = (wanted: 'application' | 'crash'): Promise<Checkpoint> =>
    hypervisor.createCheckpoint(vmId, { tag, consistency: wanted, timeoutMs });
  if (consistency === 'crash') return { checkpoint: await ask('crash'), loweredBecause: undefined };
  try {
    const checkpoint = await ask('application');
    if (checkpoint.consistency === 'application' || consistency === 'prefer') {
      const because = 'the hypervisor made a crash-consistent checkpoint';
      const loweredBecause = checkpoint.consistency === 'application' ? undefined : because;
      return { checkpoint, loweredBecause };
    }
    await hypervisor.removeCheckpoint(vmId, checkpoint.id);
  } catch (error) {
    const isRefused = error instanceof DrError && error.code === 'E_CONSISTENCY';
    if (!isRefused || consistency === 'require') throw error;
    return { checkpoint: await ask('crash'), loweredBecause: error.message };
  }
  throw new DrError('E_CONSISTENCY', 'the hypervisor made a crash-consistent checkpoint only', {
    context: { vmId },
    done: 'the checkpoint was removed',
  });
}

/** Never throws: the error of the work matters more, and the tag finds what stayed. */
async function giveBack(
  hypervisor: SourceHypervisor,
  vmId: Guid,
  checkpointId: string,
  closeDisks: () => Promise<void>,
  log: Log,
): Promise<void> {
  try {
    await closeDisks();
    await hypervisor.removeCheckpoint(vmId, checkpointId);
  } catch (error) {
    log.error('cycle.warning', {
      what: 'the checkpoint could not be given back',
      checkpointId,
      error,
    });
  }
}

/** What a clean-up removed. */
export interface Leftovers {
  readonly checkpointCount: number;
  readonly referencePointCount: number;
}

/**
 * Removes checkpoints of ours, and reference points of ours but `keptId`. What bears no tag of ours
 * is not touched.
 * @throws what the hypervisor throws: no new checkpoint is made beside an old one
 */
export async function removeLeftoversOf(
  hypervisor: SourceHypervisor,
  vmId: Guid,
  protectionId: Guid,
  keptId: string | undefined,
  log: Log,
): Promise<Leftovers> {
  const isOurs = (tag: OwnerTag): boolean => tag.protectionId === protectionId;
  const checkpointCount = await removeCheckpoints(hypervisor, vmId, isOurs, log);
  const referencePointCount = await removeReferencePoints(hypervisor, vmId, protectionId, keptId);
  return { checkpointCount, referencePointCount };
}

/**
 * For work that makes no point: removes the checkpoint of the operation that was killed while it held
 * the lease of this state folder, and nothing else. What bears our tag otherwise may be in use by the
 * agent of another state folder.
 * @throws what the hypervisor throws
 */
export async function removeKilledCheckpoint(
  hypervisor: SourceHypervisor,
  vmId: Guid,
  killedId: Guid | undefined,
  log: Log,
): Promise<void> {
  if (killedId === undefined) return;
  const isKilled = (tag: OwnerTag): boolean =>
    tag.protectionId === vmId && tag.operationId === killedId;
  await removeCheckpoints(hypervisor, vmId, isKilled, log);
}

async function removeCheckpoints(
  hypervisor: SourceHypervisor,
  vmId: Guid,
  isLeftover: (tag: OwnerTag) => boolean,
  log: Log,
): Promise<number> {
  let count = 0;
  for (const { id: checkpointId, tag } of await hypervisor.listCheckpoints(vmId)) {
    if (tag === undefined || !isLeftover(tag)) continue;
    await hypervisor.removeCheckpoint(vmId, checkpointId);
    count++;
    log.warn('checkpoint.leftover-removed', { checkpointId, operationId: tag.operationId });
  }
  return count;
}

/** Removes reference points of ours but `keptId`; returns how many. */
export async function removeReferencePoints(
  hypervisor: SourceHypervisor,
  vmId: Guid,
  protectionId: Guid,
  keptId: string | undefined,
): Promise<number> {
  let count = 0;
  for (const point of await hypervisor.listReferencePoints(vmId)) {
    if (point.tag?.protectionId !== protectionId || point.id === keptId) continue;
    await hypervisor.removeReferencePoint(vmId, point.id);
    count++;
  }
  return count;
}

/** A merge is waited for in pieces of so long. */
const MERGE_WAIT_MS = 2000;

/**
 * Waits until the merges that earlier checkpoints left have ended, in short pieces, so that a stop need
 * not wait for them. @throws DrError E_STALLED, …; the reason of the signal
 */
export async function waitForMerge(
  hypervisor: SourceHypervisor,
  vmId: Guid,
  timeoutMs: number,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    signal.throwIfAborted();
    const leftMs = deadline - clock.monotonic();
    try {
      await hypervisor.waitForMerge(vmId, Math.max(0, Math.min(leftMs, MERGE_WAIT_MS)));
      return;
    } catch (error) {
      const isPiece = error instanceof DrError && error.code === 'E_STALLED';
      if (!isPiece || leftMs <= MERGE_WAIT_MS) throw error;
    }
  }
}
