// A new point stands on the layers of the one before it, so it shows their damage, unless its own
// cycle brought the bad cells anew. This is asked right after its commit.

import type { Guid } from '../../shared/bytes/index.js';
import { asPointFinding, exposed, knownFindings, type PointFinding } from './exposure.js';
import { markPoints } from './mark.js';
import type { ReadSeams } from './point-sources.js';
import type { Point } from './protection.js';
import type { VmStore } from './vm-store.js';

/**
 * Marks a point that shows damage of those before it. To be called inside a change of the VM.
 * @throws DrError E_IO
 */
export async function markInherited(
  seams: ReadSeams,
  vm: VmStore,
  point: Point,
  atMs: number,
): Promise<void> {
  const found = (await firstFinding(seams, vm, point)) ?? (await unlocated(seams, vm, point));
  if (found === undefined) return;
  await markPoints(vm, atMs, [point], new Map([[point.pointId, found]]));
}

async function firstFinding(
  seams: ReadSeams,
  vm: VmStore,
  point: Point,
): Promise<PointFinding | undefined> {
  if (vm.scrub.damage.size === 0) return undefined;
  for await (const found of exposed(seams, vm, [point], knownFindings(vm))) {
    return asPointFinding(found);
  }
  return undefined;
}

/** The parent is marked and nobody knows which cells are bad: whatever stands on it may show them. */
async function unlocated(
  seams: ReadSeams,
  vm: VmStore,
  point: Point,
): Promise<PointFinding | undefined> {
  const { parentPointId, pointId } = point;
  const parent = parentPointId === undefined ? undefined : vm.protection.point(parentPointId);
  if (parent?.damage === undefined || vm.scrub.repaired.has(parent.pointId)) return undefined;
  const standing = point.disks.find(({ transfer }) => transfer === 'delta');
  if (standing === undefined) return undefined;
  if ((await firstFinding(seams, vm, parent)) !== undefined) return undefined;
  return {
    pointId,
    diskId: standing.diskId,
    offset: 0,
    code: 'E_POINT_CORRUPT',
    message: `it stands on the damaged point ${parent.pointId}, whose bad cells are not known; verify it`,
  };
}

/** Points that show known damage. */
export async function exposedPoints(seams: ReadSeams, vm: VmStore): Promise<Set<Guid>> {
  const ids = new Set<Guid>();
  if (vm.scrub.damage.size === 0) return ids;
  for await (const { point } of exposed(seams, vm, vm.protection.listed, knownFindings(vm))) {
    ids.add(point.pointId);
  }
  return ids;
}
