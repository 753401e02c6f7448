// What the source agent needs of a hypervisor: frozen disks, and what changed between two frozen
// moments. Implementations: lab/ (a hypervisor in a folder), hyperv/. One conformance suite
// (test/conformance/hypervisor.ts) is passed by all of them.
//
// Two kinds of marks (hyperv.md § 1):
//   checkpoint       a recovery checkpoint: the disks' bytes stay as they were while the guest runs
//                    on. Short-lived, at most one of ours per VM.
//   reference point  a moment from which changes can be asked for later. Holds no bytes. Made from a
//                    checkpoint, which is gone then; at most one of ours per VM lives between cycles.
//
// Contract about changes: changedRanges() may report too much, never too little. When it cannot
// promise that, it throws E_TRACKING_INVALID with the reason. The guest's writes that a reported
// range covers lie between the reference point and the checkpoint that is asked about.

import type { Guid } from '../bytes/index.js';
import type { ReadableDisk } from '../disk/index.js';
import type { ReplicaHost } from './replica.js';
import type { OwnerTag, VmInventory, VmPower } from './vm.js';

export type Consistency = 'application' | 'crash';

export interface CheckpointDisk {
  readonly diskId: Guid;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

export interface Checkpoint {
  readonly id: string;
  readonly vmId: Guid;
  /** By the host's clock, milliseconds since 1970. */
  readonly createdAtMs: number;
  readonly consistency: Consistency;
  /** undefined: it is not ours, and must not be touched. */
  readonly tag: OwnerTag | undefined;
  readonly disks: readonly CheckpointDisk[];
}

export interface ReferencePoint {
  readonly id: string;
  readonly vmId: Guid;
  readonly createdAtMs: number;
  readonly tag: OwnerTag | undefined;
  /** What changedRanges() is asked with, by disk. */
  readonly disks: readonly { readonly diskId: Guid; readonly trackingId: string }[];
}

/** Half-open range [start, end) of guest bytes. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface CheckpointRequest {
  readonly tag: OwnerTag;
  readonly consistency: Consistency;
  /** Given up after so long. */
  readonly timeoutMs: number;
}

/** Why a VM may not be started here: it serves at the other site (failover.md § 4, P4). */
export interface Fence {
  readonly tag: OwnerTag;
  readonly epoch: bigint;
}

/** Differences between hosts, as values. */
export interface SourceCapabilities {
  /** Whether reference points outlive a restart of the host or its service. */
  readonly isTrackingPersistent: boolean;
  readonly canQuiesce: boolean;
}

export interface SourceHypervisor extends VmInventory, VmPower {
  /** For messages: `lab:/srv/lab`, `hyperv`. */
  readonly name: string;
  readonly sourceCapabilities: SourceCapabilities;
  /** The host's own replication; undefined where it has none. */
  readonly replica?: ReplicaHost | undefined;

  /**
   * Freezes all disks of the VM at one moment.
   * @throws DrError E_CONSISTENCY (the guest would not quiesce: ask again for 'crash'),
   *   E_CHECKPOINT (could not be made, with the host's reason), E_NOT_FOUND, E_STALLED (timeout)
   */
  createCheckpoint(vmId: Guid, request: CheckpointRequest): Promise<Checkpoint>;

  /** All recovery checkpoints of the VM, ours and foreign; user checkpoints are not listed. */
  listCheckpoints(vmId: Guid): Promise<readonly Checkpoint[]>;

  /** Gives the checkpoint back; its file is merged in the background. No error when it is gone. */
  removeCheckpoint(vmId: Guid, checkpointId: string): Promise<void>;

  /**
   * Turns the checkpoint into a reference point of the same moment; the merge begins. All disks of
   * the checkpoint must have been closed. @throws DrError E_CHECKPOINT, E_NOT_FOUND
   */
  convertToReferencePoint(vmId: Guid, checkpointId: string): Promise<ReferencePoint>;

  /** Resolves when no merge of the VM's disks is under way. @throws DrError E_STALLED */
  waitForMerge(vmId: Guid, timeoutMs: number): Promise<void>;

  listReferencePoints(vmId: Guid): Promise<readonly ReferencePoint[]>;

  /** No error when it is gone. */
  removeReferencePoint(vmId: Guid, referencePointId: string): Promise<void>;

  /** The whole disk as of the checkpoint; the caller closes it. */
  openCheckpointDisk(vmId: Guid, checkpointId: string, diskId: Guid): Promise<ReadableDisk>;

  /**
   * The ranges that may have changed between the reference point with `trackingId` and the
   * checkpoint: ascending, disjoint, inside the disk.
   * @throws DrError E_TRACKING_INVALID: nothing is known, every byte may have changed
   */
  changedRanges(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    trackingId: string,
  ): AsyncIterable<ByteRange>;

  /**
   * The ranges that the files of the disk above `ancestorPath` do not leave to it, as of the checkpoint:
   * written, zeroed and discarded ones, through all files in between, the user's checkpoints included.
   * Ascending, disjoint, inside the disk (failover.md § 1 "What a protective disk changed").
   * @throws DrError E_NOT_FOUND when `ancestorPath` is no file of the disk's chain
   */
  rangesAbove(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    ancestorPath: string,
  ): AsyncIterable<ByteRange>;

  /**
   * Keeps a VM, which must be off, from being started by anybody: a block at start, no automatic start,
   * its adapters disconnected. Durable on return; the same fence again changes nothing.
   * @throws DrError E_STATE when it is not off
   */
  fenceVm(vmId: Guid, fence: Fence): Promise<void>;

  /** Lifts the fence; automatic start and adapters are as they were before. No error without one. */
  unfenceVm(vmId: Guid): Promise<void>;

  fenceOf(vmId: Guid): Promise<Fence | undefined>;

  close(): Promise<void>;
}
