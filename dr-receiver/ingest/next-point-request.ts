// The Open request of a point that no source asks for, but the receiver itself: the return point of a
// failback, a delta that came by the other road. Whatever is not about the cells is as in the head.

import { type Guid, guidToWire } from '../../shared/bytes/index.js';
import { DiskTransfer, OpenRequest, VmDefinition } from '../../shared/channel/index.js';
import type { Point } from '../store/point.js';
import type { VmStore } from '../store/vm-store.js';
import { geometryToWire } from '../wire.js';
import { type CycleRequest, parseOpenRequest } from './open-request.js';

export interface NextPoint {
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly kind: string;
  /** Of the cycle: nobody has a checkpoint of this name. */
  readonly checkpointId: string;
  /** 0: nobody knows. */
  readonly consistentAtMs: number;
}

/** A point behind `head`, whose disks it has, each as a delta. */
export function nextPointRequest(
  { protection, vmId }: VmStore,
  head: Point,
  { cycleId, pointId, kind, checkpointId, consistentAtMs }: NextPoint,
): CycleRequest {
  return parseOpenRequest({
    ...OpenRequest.fromPartial({}),
    ...{ vmId: guidToWire(vmId), vmName: protection.vmName },
    ...{ cycleId: guidToWire(cycleId), pointId: guidToWire(pointId) },
    parentPointId: guidToWire(head.pointId),
    epoch: protection.epoch,
    ...{ kind, checkpointId, consistentAtMs: BigInt(consistentAtMs) },
    disks: head.disks.map((disk) => ({
      geometry: geometryToWire(disk),
      transfer: DiskTransfer.DISK_TRANSFER_DELTA,
    })),
    definition:
      head.definition === ''
        ? undefined
        : VmDefinition.decode(Buffer.from(head.definition, 'base64')),
    maxRestorePoints: protection.maxRestorePoints,
    rpoSeconds: protection.rpoSeconds,
    retentionGrid: protection.retentionGrid,
  });
}
