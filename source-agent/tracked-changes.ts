// What change tracking knows: what changed on each disk since the reference point, and the next one.

import type { Guid } from '../shared/bytes/index.js';
import { cellsOfRanges } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type {
  CheckpointDisk,
  ReferencePoint,
  SourceHypervisor,
} from '../shared/hypervisor/index.js';
import {
  type DiskChanges,
  type Geometry,
  isSameGeometry,
  type Reference,
  type TrackedDisk,
} from './ledger.js';

/** A frozen VM whose changes are asked for. */
export interface FrozenVm {
  readonly hypervisor: SourceHypervisor;
  readonly vmId: Guid;
  readonly checkpointId: string;
}

/** What changed on each disk since the reference point; 'all' where nobody knows, and why. */
export async function changesSince(
  vm: FrozenVm,
  disks: readonly CheckpointDisk[],
  reference: Reference | undefined,
): Promise<DiskChanges[]> {
  const changes: DiskChanges[] = [];
  for (const disk of disks) {
    const { diskId } = disk;
    const geometry = geometryOf(disk);
    const known = reference?.disks.find((other) => other.diskId === diskId);
    if (known === undefined) {
      const because =
        reference === undefined
          ? 'there is no reference point'
          : 'the reference point does not know the disk';
      changes.push({ diskId, geometry, changed: 'all', because });
    } else if (!isSameGeometry(known.geometry, geometry)) {
      changes.push({ diskId, geometry, changed: 'all', because: 'the disk was resized' });
    } else {
      changes.push({ diskId, geometry, ...(await changesOf(vm, disk, known.trackingId)) });
    }
  }
  return changes;
}

async function changesOf(
  { hypervisor, vmId, checkpointId }: FrozenVm,
  { diskId, sizeBytes }: CheckpointDisk,
  trackingId: string,
): Promise<Pick<DiskChanges, 'changed' | 'because'>> {
  try {
    const ranges = hypervisor.changedRanges(vmId, checkpointId, diskId, trackingId);
    return { changed: await cellsOfRanges(ranges, sizeBytes), because: '' };
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_TRACKING_INVALID') throw error;
    return { changed: 'all', because: `change tracking is not valid: ${error.message}` };
  }
}

export function geometryOf(disk: CheckpointDisk): Geometry {
  const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
  return { sizeBytes, logicalSectorBytes, physicalSectorBytes };
}

/** Tracking ids by disk; a disk without one is compared next time. */
export function referenceOf(point: ReferencePoint, disks: readonly CheckpointDisk[]): Reference {
  const tracked: TrackedDisk[] = [];
  for (const disk of disks) {
    const found = point.disks.find(({ diskId }) => diskId === disk.diskId);
    if (found === undefined || found.trackingId === '') continue;
    const { diskId, trackingId } = found;
    tracked.push({ diskId, trackingId, geometry: geometryOf(disk) });
  }
  const createdAtMs = Math.max(0, Math.round(point.createdAtMs));
  return { id: point.id, createdAtMs, disks: tracked };
}
