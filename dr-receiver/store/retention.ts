// Which points stay listed: a pure function of the points and the receiver's policy. The source may
// ask for more points than the receiver keeps by itself, never for fewer than its floor.
//
//   newest            always
//   count             the newest `max_restore_points`; pinned and guard points are not counted off, and
//                     damaged ones are counted by themselves, so that they push out no good point
//   pins              until an operator unpins
//   in use            as long as a VM of a failover or a test runs on it
//   last clean        the last point before an alarm or suspicion of encryption, as long as it lasts
//   guard points      the first of each day of the receiver's clock, for seven days
//   last verified     the newest point that was read back and found whole
//   grid              SPAN/STEP: of each step of time that reaches into the span, the first point
//
// A grid is that of the source and that of the receiver together. Steps are counted from 1970, and a
// step leaves the span as a whole, so which point stands for it never changes: the first one is kept
// from its commit until its step is over, and no later one takes its place. While the first point of a
// step is damaged, the first sound one is kept beside it.
//
// When the clock has jumped, no point is let go for its age: neither a guard nor one of a grid.

import type { Guid } from '../../shared/bytes/index.js';
import type { GridRule } from '../../shared/params/index.js';

export interface RetentionPolicy {
  /** The receiver's own minimum. */
  readonly minRestorePoints: number;
  /** What a source may ask for at most. */
  readonly maxRestorePoints: number;
  /** Kept whatever a source asks for. */
  readonly grid?: readonly GridRule[] | undefined;
}

export const DEFAULT_RETENTION: RetentionPolicy = { minRestorePoints: 1, maxRestorePoints: 1000 };

/** Kept when a source asks for nothing. */
const DEFAULT_RESTORE_POINTS = 5;
const DAY_MS = 24 * 60 * 60 * 1000;
const GUARD_DAYS = 7;

/** What retention knows of a listed point. */
export interface RetentionPoint {
  readonly pointId: Guid;
  readonly committedAtMs: number;
  readonly isPinned: boolean;
  /** Why a VM of ours needs it; absent: none does. */
  readonly use?: string | undefined;
  /** The one before an open alarm or suspicion. */
  readonly isLastClean?: boolean;
  /** 0: never. */
  readonly verifiedAtMs: number;
  readonly isDamaged: boolean;
}

export interface RetentionInput {
  /** Listed points, the oldest first. */
  readonly points: readonly RetentionPoint[];
  /** What the source asks for; 0: nothing. */
  readonly requestedPoints: number;
  /** What the source asks for besides. */
  readonly requestedGrid?: readonly GridRule[] | undefined;
  readonly policy: RetentionPolicy;
  readonly nowMs: number;
  /** False after a jump of the clock. */
  readonly isClockTrusted: boolean;
}

export type Verdict =
  | { readonly pointId: Guid; readonly isKept: true; readonly because: string }
  | { readonly pointId: Guid; readonly isKept: false };

export function keptPointCount(requestedPoints: number, policy: RetentionPolicy): number {
  const wished = requestedPoints === 0 ? DEFAULT_RESTORE_POINTS : requestedPoints;
  return Math.max(1, policy.minRestorePoints, Math.min(wished, policy.maxRestorePoints));
}

/** One verdict for each point, in order. `because` is empty when only the count keeps it. */
export function decideRetention(input: RetentionInput): Verdict[] {
  const { points, requestedPoints, policy } = input;
  const keptCount = keptPointCount(requestedPoints, policy);
  const lastVerified = lastVerifiedOf(points);
  const guards = guardsOf(input);
  const grid = [...(policy.grid ?? []), ...(input.requestedGrid ?? [])];
  const inGrid = pointsOfGrid(grid, input);
  const verdicts: Verdict[] = [];
  let goodCount = 0;
  let damagedCount = 0;
  for (const point of points.toReversed()) {
    const { pointId } = point;
    const isUsed = point.use !== undefined;
    const isBesides = point.isPinned || isUsed || point.isLastClean === true || guards.has(pointId);
    const isCounted = !isBesides || point === points.at(-1);
    if (isCounted && point.isDamaged) damagedCount++;
    else if (isCounted) goodCount++;
    const because = point.isPinned
      ? 'pinned'
      : (point.use ?? floorOf(point, guards, lastVerified) ?? inGrid.get(pointId) ?? '');
    // a damaged one stays as long as there are not enough good ones after it
    const isWanted = point.isDamaged
      ? goodCount < keptCount && damagedCount <= keptCount
      : goodCount <= keptCount;
    const isKept = because !== '' || isWanted;
    verdicts.push(isKept ? { pointId, isKept, because } : { pointId, isKept });
  }
  return verdicts.reverse();
}

/**
 * Why the point stays whatever anybody asks for, an operator included; undefined: it may go. Neither pins
 * nor uses are looked at.
 */
export function retentionFloor(
  point: RetentionPoint,
  input: Pick<RetentionInput, 'points' | 'nowMs' | 'isClockTrusted'>,
): string | undefined {
  const { points } = input;
  if (point === points.at(-1)) return points.length === 1 ? 'only point' : 'newest point';
  return floorOf(point, guardsOf(input), lastVerifiedOf(points));
}

function floorOf(
  point: RetentionPoint,
  guards: ReadonlySet<Guid>,
  lastVerified: RetentionPoint | undefined,
): string | undefined {
  if (point.isLastClean === true) return 'last clean point';
  if (guards.has(point.pointId)) return 'first point of its day';
  return point === lastVerified ? 'last verified point' : undefined;
}

function lastVerifiedOf(points: readonly RetentionPoint[]): RetentionPoint | undefined {
  return points.findLast((point) => point.verifiedAtMs > 0 && !point.isDamaged);
}

function guardsOf({
  points,
  nowMs,
  isClockTrusted,
}: Pick<RetentionInput, 'points' | 'nowMs' | 'isClockTrusted'>): Set<Guid> {
  const guards = new Set<Guid>();
  const days = new Set<number>();
  for (const { pointId, committedAtMs } of points) {
    const day = Math.floor(committedAtMs / DAY_MS);
    if (days.has(day)) continue;
    days.add(day);
    if (!isClockTrusted || nowMs - committedAtMs < GUARD_DAYS * DAY_MS) guards.add(pointId);
  }
  return guards;
}

/** The points that a grid keeps, each with the rule that does. */
function pointsOfGrid(
  grid: readonly GridRule[],
  { points, nowMs, isClockTrusted }: RetentionInput,
): Map<Guid, string> {
  const kept = new Map<Guid, string>();
  for (const { spanMs, stepMs, text } of grid) {
    const steps = new Map<number, { hasSound: boolean }>();
    for (const { pointId, committedAtMs, isDamaged } of points) {
      const step = Math.floor(committedAtMs / stepMs);
      if (isClockTrusted && (step + 1) * stepMs <= nowMs - spanMs) continue;
      const known = steps.get(step);
      if (known?.hasSound === true || (known !== undefined && isDamaged)) continue;
      steps.set(step, { hasSound: !isDamaged });
      if (!kept.has(pointId)) kept.set(pointId, `first point of its step, ${text}`);
    }
  }
  return kept;
}
