// Enters in the journal of a VM what was found of its points. One record for many points.

import type { Guid } from '../../shared/bytes/index.js';
import type { PointFinding } from './exposure.js';
import type { Point } from './protection.js';
import { VERIFIED_POINTS_MAX, type VerifiedPoint } from './records.js';
import type { VmStore } from './vm-store.js';

const FINDING_MAX = 500;

export function findingText({ diskId, offset, message }: PointFinding): string {
  return `disk ${diskId}, offset ${offset}: ${message}`.slice(0, FINDING_MAX);
}

/**
 * Marks `points` by their first findings: those without one are good. To be called inside a change of
 * the VM; nothing is entered for one that is halted or read-only.
 */
export async function markPoints(
  vm: VmStore,
  atMs: number,
  points: readonly Point[],
  findings: ReadonlyMap<Guid, PointFinding>,
): Promise<void> {
  if (vm.halt !== undefined || vm.isReadOnly || points.length === 0) return;
  const verdicts = points.map(({ pointId }): VerifiedPoint => {
    const found = findings.get(pointId);
    const finding = found === undefined ? '' : findingText(found);
    return { pointId, isDamaged: found !== undefined, finding };
  });
  for (let at = 0; at < verdicts.length; at += VERIFIED_POINTS_MAX) {
    const part = verdicts.slice(at, at + VERIFIED_POINTS_MAX);
    await vm.append({ kind: 'verify', atMs, points: part });
  }
  const marked = new Set(points.map(({ pointId }) => pointId));
  const { scrub } = vm;
  if (![...scrub.repaired].some((id) => marked.has(id))) return;
  scrub.repaired = new Set([...scrub.repaired].filter((id) => !marked.has(id)));
  await scrub.save();
}
