// Retention for a protection as it is: with the point that a commit brings, or without one, when only
// time has passed or a pin was taken away. Pure; whoever calls it enters the result in the journal.

import type { Guid } from '../../shared/bytes/index.js';
import { type GridRule, parseRetentionGrid } from '../../shared/params/index.js';
import type { Point } from './point.js';
import type { Protection } from './protection.js';
import {
  decideRetention,
  retentionFloor,
  type RetentionPoint,
  type RetentionPolicy,
  type Verdict,
} from './retention.js';

export interface RetentionTime {
  readonly policy: RetentionPolicy;
  readonly nowMs: number;
  /** False after a jump of the clock. */
  readonly isClockTrusted: boolean;
}

const HOUR_MS = 60 * 60 * 1000;

/** Nor is a clock that is far behind the newest point. */
export function isTimeTrusted(
  protection: Protection,
  { nowMs, isClockTrusted }: Omit<RetentionTime, 'policy'>,
): boolean {
  return isClockTrusted && nowMs >= (protection.head?.committedAtMs ?? 0) - HOUR_MS;
}

/** Why a VM of ours needs the point; undefined: none does. */
export function useOf(
  { failover, tests }: Pick<Protection, 'failover' | 'tests'>,
  pointId: Guid,
): string | undefined {
  if (failover.instance?.pointId === pointId) return 'the VM runs on it';
  if (failover.replacement?.pointId === pointId) return 'a VM that comes up stands on it';
  if (failover.operation?.pointId === pointId) return 'a failover wants it';
  const isTested = [...tests.values()].some(({ instance }) => instance.pointId === pointId);
  return isTested ? 'a test runs on it' : undefined;
}

export function retentionPoint(protection: Protection, point: Point): RetentionPoint {
  const { pointId } = point;
  return {
    use: useOf(protection, pointId),
    pointId,
    committedAtMs: point.committedAtMs,
    isPinned: point.pinReason !== undefined,
    isLastClean: pointId === protection.warning.cleanPointId,
    verifiedAtMs: point.verifiedAtMs,
    isDamaged: point.damage !== undefined,
  };
}

/** The rules of a grid that was checked when it came; empty: none. */
export function gridRules(grid: string): readonly GridRule[] {
  const rules = grid === '' ? [] : parseRetentionGrid(grid);
  return 'wrong' in rules ? [] : rules;
}

/** One verdict for each listed point, the oldest first. */
export function verdictsOf(protection: Protection, time: RetentionTime): Verdict[] {
  return decideRetention({
    points: protection.listed.map((point) => retentionPoint(protection, point)),
    requestedPoints: protection.maxRestorePoints,
    requestedGrid: gridRules(protection.retentionGrid),
    policy: time.policy,
    nowMs: time.nowMs,
    isClockTrusted: isTimeTrusted(protection, time),
  });
}

/** The points to delist now, without a commit. None while the clock is not trusted. */
export function pointsToForget(protection: Protection, time: RetentionTime): Guid[] {
  if (!isTimeTrusted(protection, time)) return [];
  return verdictsOf(protection, time)
    .filter(({ isKept }) => !isKept)
    .map(({ pointId }) => pointId);
}

/** Why an operator may not remove a listed point either; undefined: retention has nothing against it. */
export function floorOf(
  protection: Protection,
  pointId: Guid,
  time: Omit<RetentionTime, 'policy'>,
): string | undefined {
  const points = protection.listed.map((point) => retentionPoint(protection, point));
  const point = points.find((each) => each.pointId === pointId);
  if (point === undefined) return undefined;
  const isClockTrusted = isTimeTrusted(protection, time);
  return retentionFloor(point, { points, nowMs: time.nowMs, isClockTrusted });
}
