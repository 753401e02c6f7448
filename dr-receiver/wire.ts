// The receiver's values as messages.

import { type Guid, guidToWire } from '../shared/bytes/index.js';
import type {
  Alarm as WireAlarm,
  CommitResponse,
  DescribeResponse,
  DiskGeometry as WireGeometry,
  OperationPlan as WirePlan,
  ProtectionStatus,
  RestorePoint,
} from '../shared/channel/index.js';
import { ProtectionState } from '../shared/channel/index.js';
import { MAX_DISKS } from '../shared/delta/index.js';
import type { UnfinishedCycle } from './ingest/incoming-cycle.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { CommitAnswer, Point, Protection } from './store/protection.js';
import type { DiskGeometry } from './store/records.js';
import { cycleRefusal, rowOf, validCommands } from './failover/machine.js';
import type { StateName } from './failover/model.js';
import type { AdapterPlan } from '../shared/network/index.js';
import { type OperationPlan, planHash } from './failover/plan.js';
import { addressesToWire } from './failover/planned-addresses.js';
import type { Standing } from './failover/refusals.js';
import { stateName } from './failover/states.js';
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

/** What a source is told; whether it is paused counts before anything that it could do. */
export function stateOf(desk: VmDesk, hasUnfinished: boolean): ProtectionState {
  const { isPaused } = desk.vm.protection;
  const name = nameOfState(desk, hasUnfinished);
  switch (name) {
    case 'HALTED':
      return ProtectionState.PROTECTION_STATE_HALTED;
    case 'SPLIT_BRAIN':
      return ProtectionState.PROTECTION_STATE_SPLIT_BRAIN;
    case 'COMMITTED':
      return ProtectionState.PROTECTION_STATE_COMMITTED;
    case 'FAILING_OVER':
      // the last cycles of a planned failover are the source's
      if (cycleRefusal(desk.vm.protection.failover, '') === undefined) break;
      return ProtectionState.PROTECTION_STATE_FAILED_OVER;
    case 'UNDOING':
    case 'FAILING_BACK':
      return ProtectionState.PROTECTION_STATE_RETURNING;
    case 'FAILED_OVER':
    case 'FAILED_BACK':
      return ProtectionState.PROTECTION_STATE_FAILED_OVER;
    case 'SEEDING':
    case 'UNPROTECTED':
      if (isPaused) return ProtectionState.PROTECTION_STATE_PAUSED;
      return name === 'SEEDING'
        ? ProtectionState.PROTECTION_STATE_SEEDING
        : ProtectionState.PROTECTION_STATE_UNPROTECTED;
    case 'RESYNC':
    case 'PROTECTED':
      if (isPaused) return ProtectionState.PROTECTION_STATE_PAUSED;
      if (name === 'RESYNC') return ProtectionState.PROTECTION_STATE_RESYNC;
  }
  return ProtectionState.PROTECTION_STATE_PROTECTED;
}

/** The state as failover.md § 2 names it. */
export function nameOfState({ vm, activeRequest }: VmDesk, hasUnfinished: boolean): StateName {
  const { protection } = vm;
  return stateName({
    phase: protection.failover.phase,
    isHalted: vm.halt !== undefined,
    hasPoint: protection.head !== undefined,
    isSeeding: hasUnfinished || activeRequest !== undefined,
    isComparing: activeRequest?.kind === 'resync' || protection.isCompareDue,
  });
}

/** The VM as the state machine sees it. */
export function standingOf(desk: VmDesk, hasUnfinished: boolean): Standing {
  const { vmName, failover } = desk.vm.protection;
  return { vmName, state: nameOfState(desk, hasUnfinished), failover };
}

export function planToWire(plan: OperationPlan, network: readonly AdapterPlan[] = []): WirePlan {
  return {
    command: plan.command,
    vmName: plan.vmName,
    fromState: plan.fromState,
    toState: plan.toState,
    steps: plan.steps.map(({ name, what }) => ({ name, what })),
    refusals: plan.refusals.map(({ code, message }) => ({ code, message })),
    notes: [...plan.notes, ...plan.timedNotes],
    pointId: plan.pointId === undefined ? Buffer.alloc(0) : guidToWire(plan.pointId),
    lostSeconds: BigInt(plan.lostSeconds),
    isDestructive: plan.isDestructive,
    hash: planHash(plan),
    addresses: addressesToWire(network),
  };
}

/** What is said of failover in a status. */
export function failoverToWire(
  desk: VmDesk,
  hasUnfinished: boolean,
): Pick<
  ProtectionStatus,
  | 'failoverState'
  | 'activeSite'
  | 'operation'
  | 'instanceName'
  | 'haltedBecause'
  | 'allowedCommands'
  | 'tests'
  | 'provenAtMs'
  | 'isProofPassed'
  | 'commitDeadlineMs'
  | 'reprotectedAtMs'
  | 'safetyUntilMs'
> {
  const { failover, tests, proof } = desk.vm.protection;
  const { operation, instance, halted, commit, reprotected } = failover;
  const state = nameOfState(desk, hasUnfinished);
  return {
    failoverState: state,
    activeSite: failover.activeSite,
    operation: operation === undefined ? '' : `${operation.kind}, step ${operation.step}`,
    instanceName: instance?.vmName ?? '',
    haltedBecause: halted?.cause ?? desk.vm.halt?.message ?? '',
    allowedCommands: [...validCommands(rowOf(state, failover), failover)],
    tests: [...tests.values()].map((test) => ({
      operationId: guidToWire(test.operationId),
      phase: test.phase,
      instanceName: test.instance.vmName,
      startedAtMs: BigInt(test.startedAtMs),
      deadlineMs: BigInt(test.deadlineMs),
    })),
    provenAtMs: BigInt(proof?.testedAtMs ?? 0),
    isProofPassed: proof?.isPassed ?? false,
    commitDeadlineMs: BigInt(commit?.deadlineMs ?? 0),
    reprotectedAtMs: BigInt(reprotected?.atMs ?? 0),
    safetyUntilMs: BigInt(reprotected?.safetyUntilMs ?? 0),
  };
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
      isSourceActive: false,
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
    isSourceActive: protection.failover.activeSite === 'source',
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
    isFinal: point.isFinal,
    disks: point.disks.map((disk) => ({
      geometry: geometryToWire(disk),
      cellCount: BigInt(disk.cellCount),
      storedBytes: BigInt(disk.dataBytes),
      isBase: disk.transfer === 'base',
    })),
    ...warning,
  };
}
