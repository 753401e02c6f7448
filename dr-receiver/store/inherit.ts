// A new point stands on the layers of the one before it, so it shows their damage, unless its own
// cycle brought the bad cells anew. This is asked right after its commit.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import {
  asPointFinding,
  changeHolding,
  exposed,
  knownFindings,
  type PointFinding,
} from './exposure.js';
import { markPoints } from './mark.js';
import type { ReadSeams } from './point-sources.js';
import type { Point } from './protection.js';
import type { VmStore } from './vm-store.js';

/**
 * Marks the head when it shows damage of points before it and is not marked yet: an earlier process may
 * have committed it and come no further. `before` is the head before the commit, which may be forgotten
 * by now. When nobody can tell, it counts as damaged. To be called outside of changes of the VM.
 * @throws DrError E_IO
 */
export async function markInherited(
  seams: ReadSeams,
  vm: VmStore,
  before: Point | undefined,
  atMs: number,
): Promise<void> {
  const { head } = vm.protection;
  if (head?.parentPointId === undefined || head.damage !== undefined) return;
  const { parentPointId } = head;
  const known = before?.pointId === parentPointId ? before : undefined;
  const parent = vm.protection.point(parentPointId) ?? known;
  if (vm.scrub.damage.size === 0 && parent?.damage === undefined) return;
  await changeHolding(vm, async () => {
    let found: PointFinding | undefined;
    try {
      found = (await firstFinding(seams, vm, head)) ?? (await unlocated(seams, vm, head, parent));
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      const message = `whether it shows the damage of older points is not known: ${error.message}`;
      const diskId = head.disks[0]?.diskId ?? vm.vmId;
      found = { pointId: head.pointId, diskId, offset: 0, code: error.code, message };
    }
    if (found === undefined) return;
    await markPoints(vm, atMs, [head], new Map([[head.pointId, found]]));
  });
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
  { pointId, disks }: Point,
  parent: Point | undefined,
): Promise<PointFinding | undefined> {
  if (parent?.damage === undefined || vm.scrub.repaired.has(parent.pointId)) return undefined;
  const standing = disks.find(({ transfer }) => transfer === 'delta');
  if (standing === undefined) return undefined;
  const isListed = vm.protection.point(parent.pointId) !== undefined;
  if (isListed && (await firstFinding(seams, vm, parent)) !== undefined) return undefined;
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
