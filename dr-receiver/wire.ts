// The receiver's values as messages.

import { guidToWire } from '../shared/bytes/index.js';
import type {
  CommitResponse,
  DescribeResponse,
  DiskGeometry as WireGeometry,
  RestorePoint,
} from '../shared/channel/index.js';
import { ProtectionState } from '../shared/channel/index.js';
import type { UnfinishedCycle } from './ingest/incoming-cycle.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { CommitAnswer, Point } from './store/protection.js';
import type { DiskGeometry } from './store/records.js';
import { lostDisks, wantedCount } from './store/repair.js';

/** Points that Describe names at most. */
const POINTS_TOLD = 64;

export function geometryToWire(disk: DiskGeometry): WireGeometry {
  return {
    diskId: guidToWire(disk.diskId),
    generation: disk.generation,
    sizeBytes: BigInt(disk.sizeBytes),
    logicalSectorBytes: disk.logicalSectorBytes,
    physicalSectorBytes: disk.physicalSectorBytes,
  };
}

export function answerToWire(answer: CommitAnswer): CommitResponse {
  return {
    pointId: guidToWire(answer.pointId),
    committedAtMs: BigInt(answer.committedAtMs),
    pointCount: answer.pointCount,
    warnings: [...answer.warnings],
  };
}

export function stateOf(desk: VmDesk, hasUnfinished: boolean): ProtectionState {
  const { vm, activeRequest } = desk;
  if (vm.halt !== undefined) return ProtectionState.PROTECTION_STATE_HALTED;
  if (vm.protection.isPaused) return ProtectionState.PROTECTION_STATE_PAUSED;
  if (vm.protection.head === undefined) {
    return hasUnfinished || activeRequest !== undefined
      ? ProtectionState.PROTECTION_STATE_SEEDING
      : ProtectionState.PROTECTION_STATE_UNPROTECTED;
  }
  return activeRequest?.kind === 'resync' || vm.protection.isCompareDue
    ? ProtectionState.PROTECTION_STATE_RESYNC
    : ProtectionState.PROTECTION_STATE_PROTECTED;
}

export function describeToWire(
  storeId: Buffer,
  desk: VmDesk | undefined,
  unfinished: readonly UnfinishedCycle[],
): DescribeResponse {
  if (desk === undefined) {
    return {
      storeId,
      state: ProtectionState.PROTECTION_STATE_UNPROTECTED,
      epoch: 0n,
      headPointId: Buffer.alloc(0),
      disks: [],
      unfinished: undefined,
      pointIds: [],
      wantedCellCount: 0n,
      lostDiskIds: [],
    };
  }
  const { protection } = desk.vm;
  const { head } = protection;
  const best = unfinished[0];
  return {
    storeId,
    state: stateOf(desk, best !== undefined),
    epoch: protection.epoch,
    headPointId: head === undefined ? Buffer.alloc(0) : guidToWire(head.pointId),
    disks: (head?.disks ?? []).map(geometryToWire),
    unfinished:
      best === undefined
        ? undefined
        : {
            cycleId: guidToWire(best.request.cycleId),
            disks: best.request.disks.map(geometryToWire),
          },
    pointIds: protection.listed.slice(-POINTS_TOLD).map((point) => guidToWire(point.pointId)),
    wantedCellCount: BigInt(wantedCount(desk.vm, 'untold')),
    lostDiskIds: lostDisks(desk.vm).map(guidToWire),
  };
}

/** `because`: why retention keeps the point. */
export function pointToWire(point: Point, because: string): RestorePoint {
  return {
    pointId: guidToWire(point.pointId),
    parentPointId:
      point.parentPointId === undefined ? Buffer.alloc(0) : guidToWire(point.parentPointId),
    committedAtMs: BigInt(point.committedAtMs),
    consistentAtMs: BigInt(point.consistentAtMs),
    kind: point.cycleKind,
    isApplicationConsistent: point.isApplicationConsistent,
    isPinned: point.pinReason !== undefined,
    keptBecause: point.pinReason ?? because,
    verifiedAtMs: BigInt(point.verifiedAtMs),
    isDamaged: point.damage !== undefined,
    damage: point.damage ?? '',
    disks: point.disks.map((disk) => ({
      geometry: geometryToWire(disk),
      cellCount: BigInt(disk.cellCount),
      storedBytes: BigInt(disk.dataBytes),
      isBase: disk.transfer === 'base',
    })),
  };
}
