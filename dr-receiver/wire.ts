// The receiver's values as messages.

import { type Guid, guidToWire } from '../shared/bytes/index.js';
import type {
  Alarm as WireAlarm,
  CommitResponse,
  DescribeResponse,
  DiskGeometry as WireGeometry,
  ProtectionStatus,
  RestorePoint,
} from '../shared/channel/index.js';
import { ProtectionState } from '../shared/channel/index.js';
import { MAX_DISKS } from '../shared/delta/index.js';
import type { UnfinishedCycle } from './ingest/incoming-cycle.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { CommitAnswer, Point, Protection } from './store/protection.js';
import type { DiskGeometry } from './store/records.js';
import { lostDisks, wantedCount } from './store/repair.js';
import { lastCleanPoint } from './warning/last-clean.js';
import type { Alarm } from './warning/warning-state.js';

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
    hasRaisedAlarm: answer.hasRaisedAlarm,
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

/** The disks of all unfinished cycles, each once: Hashes tells of them together. */
function disksOf(cycles: readonly UnfinishedCycle[]): DiskGeometry[] {
  const disks = new Map<string, DiskGeometry>();
  const own = cycles.filter(({ request }) => request.seededFrom === '');
  for (const { request } of [...own, ...cycles]) {
    for (const disk of request.disks) if (!disks.has(disk.diskId)) disks.set(disk.diskId, disk);
  }
  return [...disks.values()].slice(0, MAX_DISKS);
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
      earlierDisks: [],
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
            disks: disksOf(unfinished).map(geometryToWire),
          },
    pointIds: protection.listed.slice(-POINTS_TOLD).map((point) => guidToWire(point.pointId)),
    wantedCellCount: BigInt(wantedCount(desk.vm, 'untold')),
    lostDiskIds: lostDisks(desk.vm).map(guidToWire),
    earlierDisks: desk.earlier.disks().map(({ point, disk }) => ({
      geometry: geometryToWire(disk),
      pointId: guidToWire(point.pointId),
    })),
  };
}

/** Without a point of that id: empty. */
function idToWire(id: Guid | undefined): Buffer {
  return id === undefined ? Buffer.alloc(0) : guidToWire(id);
}

export function alarmToWire({ pointId, atMs, cleanPointId, reasons }: Alarm): WireAlarm {
  return {
    pointId: guidToWire(pointId),
    atMs: BigInt(atMs),
    cleanPointId: idToWire(cleanPointId),
    reasons: [...reasons],
  };
}

/** What the early warning says of a protection. */
export function warningToWire(
  protection: Protection,
): Pick<ProtectionStatus, 'alarm' | 'warningScore' | 'lastCleanPointId'> {
  const { alarm, score } = protection.warning;
  return {
    alarm: alarm && alarmToWire(alarm),
    warningScore: score,
    lastCleanPointId: idToWire(lastCleanPoint(protection)?.pointId),
  };
}

/** `because`: why retention keeps the point. */
export function pointToWire(
  point: Point,
  because: string,
  warning = { isDoubtful: false, hasRaisedAlarm: false },
): RestorePoint {
  return {
    pointId: guidToWire(point.pointId),
    parentPointId: idToWire(point.parentPointId),
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
    ...warning,
  };
}
