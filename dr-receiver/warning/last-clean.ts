// Which point an operator is to start from when the newer ones may hold encrypted data: `last-clean`.

import type { Guid } from '../../shared/bytes/index.js';
import type { Point, Protection } from '../store/protection.js';

/**
 * The newest listed point that no verification found damaged, before the alarm or the suspicion when
 * there is one. Undefined: there is none.
 */
export function lastCleanPoint({ points, warning }: Protection): Point | undefined {
  const isGood = (point: Point): boolean => point.isListed && point.damage === undefined;
  if (!warning.isSuspicious) return points.findLast(isGood);
  const { cleanPointId } = warning;
  const clean = points.findIndex(({ pointId }) => pointId === cleanPointId);
  return points.slice(0, clean + 1).findLast(isGood);
}

/** Points that came after the last clean one; empty when there is neither alarm nor suspicion. */
export function doubtfulPoints({ points, warning }: Protection): ReadonlySet<Guid> {
  if (!warning.isSuspicious) return new Set();
  const clean = points.findIndex(({ pointId }) => pointId === warning.cleanPointId);
  return new Set(points.slice(clean + 1).map(({ pointId }) => pointId));
}
