// The Hyper-V of this host behind both interfaces of a hypervisor. It holds nothing in memory between two calls: the
// host is the truth, and memory.ts keeps durably what the host cannot. Every method is told a VM by its id.

import type { Guid } from '../../bytes/index.js';
import type { ReadableDisk } from '../../disk/index.js';
import { openVhdx } from '../../vhdx/index.js';
import { rangesAbove } from '../ranges-above.js';
import type { ReplicaHost } from '../replica.js';
import type {
  ByteRange,
  Checkpoint,
  CheckpointRequest,
  Fence,
  ReferencePoint,
  SourceCapabilities,
  SourceHypervisor,
} from '../source.js';
import type {
  Heartbeat,
  RegisterRequest,
  SwitchInfo,
  TargetCapabilities,
  TargetHypervisor,
  UnfinishedVms,
} from '../target.js';
import type { AddressSettings, OwnerTag, VmDefinition, VmSummary } from '../vm.js';
import { AcceptanceDisks } from './acceptance-disks.js';
import * as changes from './changes.js';
import * as checkpoints from './checkpoints.js';
import type { HyperVContext, HyperVSeams } from './context.js';
import * as fence from './fence.js';
import { setGuestAddress } from './guest.js';
import * as machines from './machines.js';
import { waitForMerge } from './merges.js';
import * as network from './network.js';
import * as power from './power.js';
import * as points from './reference-points.js';
import * as register from './register.js';
import { HyperVReplica } from './replica/hyperv-replica.js';
import { HyperVUnfinishedVms } from './unfinished.js';

export class HyperV implements SourceHypervisor, TargetHypervisor {
  readonly name = 'hyperv';
  readonly sourceCapabilities: SourceCapabilities = {
    isTrackingPersistent: true,
    canQuiesce: true,
  };
  readonly targetCapabilities: TargetCapabilities = {
    canSetGuestAddress: true,
    canMergeLive: true,
  };
  readonly replica: ReplicaHost;
  readonly unfinished: UnfinishedVms;
  /** The hand that an acceptance has at the disks of this host (`hvdr doctor --deep`). */
  readonly acceptance: AcceptanceDisks;
  readonly #context: HyperVContext;

  constructor(seams: HyperVSeams) {
    this.#context = seams;
    const { runner, clock, virtualDisks } = seams;
    this.replica = new HyperVReplica({ runner, clock, vms: this });
    this.unfinished = new HyperVUnfinishedVms(seams);
    this.acceptance = new AcceptanceDisks({
      ...{ vms: this, disks: virtualDisks, runner },
      rangesByWmi: (...asked) => changes.rangesByVmms(seams, ...asked),
    });
  }

  close(): Promise<void> {
    return this.#context.runner.close();
  }

  // ---- inventory and power --------------------------------------------------------------------

  listVms(): Promise<readonly VmSummary[]> {
    return machines.listVms(this.#context);
  }

  async summaryOf(vmId: Guid): Promise<VmSummary | undefined> {
    const machine = await machines.machineOrNone(this.#context, vmId);
    return machine && machines.summaryOf(machine);
  }

  describeVm(vmId: Guid): Promise<VmDefinition> {
    return machines.describeVm(this.#context, vmId);
  }

  startVm(vmId: Guid): Promise<void> {
    return power.startVm(this.#context, vmId);
  }

  shutDownVm(vmId: Guid, timeoutMs: number): Promise<void> {
    return power.shutDownVm(this.#context, vmId, timeoutMs);
  }

  turnOffVm(vmId: Guid): Promise<void> {
    return power.turnOffVm(this.#context, vmId);
  }

  heartbeat(vmId: Guid): Promise<Heartbeat> {
    return power.heartbeat(this.#context, vmId);
  }

  // ---- SourceHypervisor -----------------------------------------------------------------------

  createCheckpoint(vmId: Guid, request: CheckpointRequest): Promise<Checkpoint> {
    return checkpoints.createCheckpoint(this.#context, vmId, request);
  }

  listCheckpoints(vmId: Guid): Promise<readonly Checkpoint[]> {
    return checkpoints.listCheckpoints(this.#context, vmId);
  }

  removeCheckpoint(vmId: Guid, checkpointId: string): Promise<void> {
    return checkpoints.removeCheckpoint(this.#context, vmId, checkpointId);
  }

  convertToReferencePoint(vmId: Guid, checkpointId: string): Promise<ReferencePoint> {
    return points.convertToReferencePoint(this.#context, vmId, checkpointId);
  }

  waitForMerge(vmId: Guid, timeoutMs: number): Promise<void> {
    return waitForMerge(this.#context, vmId, timeoutMs);
  }

  listReferencePoints(vmId: Guid): Promise<readonly ReferencePoint[]> {
    return points.listReferencePoints(this.#context, vmId);
  }

  removeReferencePoint(vmId: Guid, referencePointId: string): Promise<void> {
    return points.removeReferencePoint(this.#context, vmId, referencePointId);
  }

  openCheckpointDisk(vmId: Guid, checkpointId: string, diskId: Guid): Promise<ReadableDisk> {
    return checkpoints.openCheckpointDisk(this.#context, vmId, checkpointId, diskId);
  }

  changedRanges(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    trackingId: string,
  ): AsyncIterable<ByteRange> {
    return changes.changedRanges(this.#context, vmId, checkpointId, diskId, trackingId);
  }

  /** By our own VHDX engine: virtdisk.dll has no map of what stands in which file. */
  async *rangesAbove(
    vmId: Guid,
    checkpointId: string,
    diskId: Guid,
    ancestorPath: string,
  ): AsyncGenerator<ByteRange> {
    const context = this.#context;
    const frozen = await checkpoints.requireFrozenFile(context, vmId, checkpointId, diskId);
    const disk = await openVhdx(frozen.path, context);
    try {
      yield* rangesAbove(context.fs, disk, ancestorPath);
    } finally {
      await disk.close();
    }
  }

  fenceVm(vmId: Guid, wanted: Fence): Promise<void> {
    return fence.fenceVm(this.#context, vmId, wanted);
  }

  unfenceVm(vmId: Guid): Promise<void> {
    return fence.unfenceVm(this.#context, vmId);
  }

  fenceOf(vmId: Guid): Promise<Fence | undefined> {
    return fence.fenceOf(this.#context, vmId);
  }

  // ---- TargetHypervisor -----------------------------------------------------------------------

  registerVm(request: RegisterRequest): Promise<Guid> {
    return register.registerVm(this.#context, request);
  }

  removeVm(vmId: Guid): Promise<void> {
    return register.removeVm(this.#context, vmId);
  }

  setDiskFiles(vmId: Guid, diskPaths: readonly string[]): Promise<void> {
    return register.setDiskFiles(this.#context, vmId, diskPaths);
  }

  findTagged(tag: OwnerTag): Promise<VmSummary | undefined> {
    return register.findTagged(this.#context, tag);
  }

  tagOf(vmId: Guid): Promise<OwnerTag | undefined> {
    return register.tagOf(this.#context, vmId);
  }

  dropTag(vmId: Guid): Promise<void> {
    return register.dropTag(this.#context, vmId);
  }

  defaultVmFolder(): Promise<string> {
    return register.defaultVmFolder(this.#context);
  }

  listSwitches(): Promise<readonly SwitchInfo[]> {
    return network.listSwitches(this.#context);
  }

  connectAdapter(
    vmId: Guid,
    adapterId: Guid,
    connection: network.Connection | undefined,
  ): Promise<void> {
    return network.connectAdapter(this.#context, vmId, adapterId, connection);
  }

  setMacAddress(vmId: Guid, adapterId: Guid, mac: string): Promise<void> {
    return network.setMacAddress(this.#context, vmId, adapterId, mac);
  }

  setGuestAddress(vmId: Guid, adapterId: Guid, settings: AddressSettings): Promise<void> {
    return setGuestAddress(this.#context, vmId, adapterId, settings);
  }
}
