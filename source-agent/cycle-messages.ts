// What a cycle tells the receiver: the request that opens it, and the manifests of its disks.

import { type Guid, guidToWire, ZERO_GUID } from '../shared/bytes/index.js';
import { DiskTransfer, type OpenRequest } from '../shared/channel/index.js';
import { CELL_BYTES, type ManifestHeader } from '../shared/delta/index.js';
import type { Checkpoint, VmDefinition, VmSummary } from '../shared/hypervisor/index.js';
import type { CyclePlan, DiskPlan } from './plan.js';
import { wireOrEmpty } from './push.js';
import { wireDefinition } from './wire-definition.js';

export interface CycleIdentity {
  readonly vm: VmSummary;
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly epoch: bigint;
}

/** What of the settings the receiver is told. */
export interface Wishes {
  readonly maxRestorePoints: number;
  readonly retentionGrid: string;
  readonly rpoSeconds: number;
}

export function openRequest(
  { vm, cycleId, pointId, epoch }: CycleIdentity,
  plan: CyclePlan,
  definition: VmDefinition,
  checkpoint: Checkpoint,
  { maxRestorePoints, retentionGrid, rpoSeconds }: Wishes,
): OpenRequest {
  return {
    vmId: guidToWire(vm.id),
    vmName: vm.name,
    cycleId: guidToWire(cycleId),
    pointId: guidToWire(pointId),
    parentPointId: wireOrEmpty(plan.parentPointId),
    epoch,
    kind: plan.kind === 'nothing' ? 'delta' : plan.kind,
    disks: plan.disks.map((disk) => ({
      geometry: {
        diskId: guidToWire(disk.diskId),
        generation: disk.generation,
        sizeBytes: BigInt(disk.geometry.sizeBytes),
        logicalSectorBytes: disk.geometry.logicalSectorBytes,
        physicalSectorBytes: disk.geometry.physicalSectorBytes,
      },
      transfer:
        disk.send.how === 'whole'
          ? DiskTransfer.DISK_TRANSFER_BASE
          : DiskTransfer.DISK_TRANSFER_DELTA,
    })),
    definition: wireDefinition(definition, plan.disks),
    consistentAtMs: BigInt(Math.max(0, Math.round(checkpoint.createdAtMs))),
    isApplicationConsistent: checkpoint.consistency === 'application',
    maxRestorePoints,
    rpoSeconds,
    checkpointId: checkpoint.id,
    seededFrom: '',
    retentionGrid,
    expectedBytes: BigInt(expectedBytes(plan)),
  };
}

/** Bytes of the cells that will be named; 0 when only reading will tell. */
function expectedBytes({ disks }: CyclePlan): number {
  let sum = 0;
  for (const { send } of disks) {
    if (send.how !== 'dirty') return 0;
    sum += send.cells.count * CELL_BYTES;
  }
  return sum;
}

export function manifestHeader(
  disk: DiskPlan,
  plan: CyclePlan,
  { vm, pointId, epoch }: CycleIdentity,
): ManifestHeader {
  const isBase = disk.send.how === 'whole';
  return {
    kind: isBase ? 'base' : 'delta',
    point: pointId,
    parentPoint: isBase ? ZERO_GUID : (plan.parentPointId ?? ZERO_GUID),
    vmId: vm.id,
    diskId: disk.diskId,
    diskGeneration: disk.generation,
    diskSizeBytes: disk.geometry.sizeBytes,
    logicalSectorBytes: disk.geometry.logicalSectorBytes,
    physicalSectorBytes: disk.geometry.physicalSectorBytes,
    epoch,
  };
}
