// What a commit decides, as values: which points are pinned because of it, which are forgotten, what
// the source is told. The caller appends the record that comes out of it.

import type { Guid } from '../../shared/bytes/index.js';
import { cellCount } from '../../shared/delta/index.js';
import { gridRules, retentionPoint } from '../store/forget.js';
import type { Protection } from '../store/protection.js';
import type { CommitRecord, DiskRecord, PinnedBy } from '../store/records.js';
import { decideRetention, type RetentionPolicy } from '../store/retention.js';
import type { CycleRequest } from './open-request.js';

/** A delta that changes more of a disk than this share keeps its predecessor. */
const LARGE_CHANGE_SHARE = 0.25;

export interface CommitInput {
  readonly protection: Protection;
  readonly request: CycleRequest;
  readonly disks: readonly DiskRecord[];
  readonly by: string;
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

export function planCommit(input: CommitInput): CommitRecord {
  const { protection, request, disks, by, nowMs, isClockTrusted, policy } = input;
  const { head } = protection;
  const warnings: string[] = [];
  const pinned: PinnedBy[] = [];
  const reason = largeChange(head?.disks ?? [], disks);
  if (reason !== undefined && head !== undefined) {
    warnings.push(`point ${head.pointId} is pinned: ${reason}`);
    if (head.pinReason === undefined) pinned.push({ pointId: head.pointId, reason });
  }
  if (!isClockTrusted) {
    warnings.push("the receiver's clock jumped: no point is forgotten for its age");
  }
  const isPinned = (pointId: Guid): boolean => pinned.some((pin) => pin.pointId === pointId);
  const verdicts = decideRetention({
    points: [
      ...protection.listed.map(retentionPoint).map((point) => ({
        ...point,
        isPinned: point.isPinned || isPinned(point.pointId),
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
    by,
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
  };
}
