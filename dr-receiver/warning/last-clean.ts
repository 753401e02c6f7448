// Which point an operator is to start from when the newer ones may hold encrypted data: `last-clean`.

import type { Point, Protection } from '../store/protection.js';

/** It came after the last clean point, and an alarm or a suspicion stands. */
export function isDoubtful({ warning }: Protection, point: Point): boolean {
  return warning.isSuspicious && point.isDoubtful;
}

/** The newest point without doubt that no verification found damaged. Undefined: there is none. */
export function lastCleanPoint(protection: Protection): Point | undefined {
  return protection.listed.findLast(
    (point) => point.damage === undefined && !isDoubtful(protection, point),
  );
}
