// What a commit decides, as values: which points are pinned because of it, which are forgotten, what
// the source is told. The caller appends the record that comes out of it.

import type { Guid } from '../../shared/bytes/index.js';
import { cellCount } from '../../shared/delta/index.js';
import { gridRules, retentionPoint } from '../store/forget.js';
import type { Point, Protection } from '../store/protection.js';
import type { Actor, CommitRecord, CommitWarning, DiskRecord, PinnedBy } from '../store/records.js';
import { decideRetention, type RetentionPolicy } from '../store/retention.js';
import { SUSPICION } from '../warning/score.js';
import type { CycleRequest } from './open-request.js';

/** A delta that changes more of a disk than this share keeps its predecessor. */
const LARGE_CHANGE_SHARE = 0.25;
/**
 * Points of a VM that are pinned by commits at most, until an operator has looked at them. The first
 * ones stay: whoever could push them out by more cycles could erase history
 * (docs/decisions/007-automatic-pins.md).
 */
export const AUTOMATIC_PINS_MAX = 8;

export interface CommitInput {
  readonly protection: Protection;
  readonly request: CycleRequest;
  readonly disks: readonly DiskRecord[];
  readonly actor: Actor;
  /** What came up while they were looked at, for the source. */
  readonly notes: readonly string[];
  readonly nowMs: number;
  readonly isClockTrusted: boolean;
  readonly policy: RetentionPolicy;
}

/**
 * Why the predecessor is worth keeping: ransomware and wiping look like this. A disk that is left out
 * or sent anew counts as well, or whoever wants a point forgotten would do just that.
 */
function largeChange(
  before: readonly DiskRecord[],
  disks: readonly DiskRecord[],
): string | undefined {
  for (const { diskId } of before) {
    const disk = disks.find((each) => each.diskId === diskId);
    if (disk === undefined) return `the next cycle has disk ${diskId} no more`;
    if (disk.transfer === 'base') return `the next cycle replaced disk ${diskId} as a whole`;
    const share = disk.cellCount / cellCount(disk.sizeBytes);
    if (share <= LARGE_CHANGE_SHARE) continue;
    return `the next cycle changed ${Math.round(share * 100)} % of disk ${diskId}`;
  }
  return undefined;
}

/** Pins for the points that a cycle makes worth keeping, as many as there is room for. */
function planPins(
  protection: Protection,
  wishes: readonly { readonly point: Point | undefined; readonly reason: string | undefined }[],
): { pinned: PinnedBy[]; warnings: string[] } {
  const warnings: string[] = [];
  const pinned: PinnedBy[] = [];
  const held = protection.listed.filter((point) => point.isPinAutomatic).length;
  for (const { point, reason } of wishes) {
    if (point === undefined || reason === undefined) continue;
    const { pointId, pinReason } = point;
    if (pinReason === undefined && !pinned.some((pin) => pin.pointId === pointId)) {
      if (held + pinned.length >= AUTOMATIC_PINS_MAX) {
        warnings.push(
          `point ${pointId} would be pinned (${reason}), but ${AUTOMATIC_PINS_MAX} pinned points wait for an operator to look at them`,
        );
        continue;
      }
      pinned.push({ pointId, reason });
    }
    warnings.push(`point ${pointId} is pinned: ${reason}`);
  }
  return { pinned, warnings };
}

/** What the source is told of the early warning. */
function warningText(
  protection: Protection,
  warning: CommitWarning | undefined,
): readonly string[] {
  if (warning === undefined) return [];
  const { alarm } = protection.warning;
  const why = warning.reasons.join('; ');
  if (warning.isAlarm) return [`the data look as if they were being encrypted: ${why}`];
  if (alarm !== undefined) {
    return [`the alarm of point ${alarm.pointId} is open${why === '' ? '' : `; ${why}`}`];
  }
  return warning.score >= SUSPICION && why !== '' ? [`this may be encryption: ${why}`] : [];
}

export function planCommit(input: CommitInput): CommitRecord {
  const { protection, request, disks, actor, nowMs, isClockTrusted, policy } = input;
  const { head } = protection;
  const warning = protection.warning.judge(disks, head?.pointId);
  const cleanPointId = protection.warning.alarm?.cleanPointId ?? warning?.cleanPointId;
  const clean = cleanPointId == null ? undefined : protection.point(cleanPointId);
  const { pinned, warnings } = planPins(protection, [
    {
      point: clean,
      reason:
        warning?.isAlarm === true
          ? 'the last point before data began to look encrypted'
          : undefined,
    },
    { point: head, reason: largeChange(head?.disks ?? [], disks) },
  ]);
  warnings.unshift(...warningText(protection, warning));
  warnings.push(...input.notes);
  if (!isClockTrusted) {
    warnings.push("the receiver's clock jumped: no point is forgotten for its age");
  }
  const isPinned = (pointId: Guid): boolean => pinned.some((pin) => pin.pointId === pointId);
  const verdicts = decideRetention({
    points: [
      ...protection.listed.map((point) => ({
        ...retentionPoint(protection, point),
        isLastClean: point.pointId === clean?.pointId,
        isPinned: point.pinReason !== undefined || isPinned(point.pointId),
      })),
      {
        pointId: request.pointId,
        committedAtMs: nowMs,
        isPinned: false,
        verifiedAtMs: 0,
        isDamaged: false,
      },
    ],
    requestedPoints: request.maxRestorePoints,
    requestedGrid: gridRules(request.retentionGrid),
    policy,
    nowMs,
    isClockTrusted,
  });
  const definition = request.definition.toString('base64');
  return {
    kind: 'commit',
    atMs: nowMs,
    cycleId: request.cycleId,
    pointId: request.pointId,
    parentPointId: request.parentPointId ?? null,
    epoch: request.epoch.toString(),
    cycleKind: request.kind,
    ...actor,
    vmName: request.vmName,
    consistentAtMs: request.consistentAtMs,
    isApplicationConsistent: request.isApplicationConsistent,
    maxRestorePoints: request.maxRestorePoints,
    rpoSeconds: request.rpoSeconds,
    ...(request.retentionGrid === '' ? {} : { retentionGrid: request.retentionGrid }),
    disks,
    definition: definition === head?.definition ? null : definition,
    pinned,
    delisted: verdicts.filter((verdict) => !verdict.isKept).map((verdict) => verdict.pointId),
    pointCount: verdicts.filter((verdict) => verdict.isKept).length,
    warnings,
    ...(warning === undefined ? {} : { warning }),
  };
}
