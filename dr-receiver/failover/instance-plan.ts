// Which disks an operation is to have for a point, and what they are made of. Nothing is done here.

import type { Guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import type { DeltaSource } from '../../shared/delta/index.js';
import { instancesOf } from '../store/base-holds.js';
import type { Point } from '../store/point.js';
import { layersOf, type ReadSeams, segmentOf, withLayers } from '../store/point-sources.js';
import type { VmStore } from '../store/vm-store.js';
import { materialisedName, protectiveName } from './instance-files.js';
import type { InstanceDisk } from './model.js';

export interface DiskSeams extends ReadSeams {
  readonly clock: Clock;
  /** Whether holes of a file take no room on the volume of the store. Default: not on Windows. */
  readonly areHolesFree?: boolean | undefined;
}

/** The disks that an operation has, or will have, for a point; nothing is done. @throws E_POINT_CORRUPT */
export function plannedDisks(vm: VmStore, point: Point, operationId: Guid): InstanceDisk[] {
  const known = instancesOf(vm.protection).find((each) => each.operationId === operationId);
  if (known !== undefined && known.disks.length > 0) return [...known.disks];
  return point.disks.map((disk, index) => ({
    diskId: disk.diskId,
    generation: disk.generation,
    baseCycleId: segmentOf(vm, point, disk).baseCycleId,
    materialised: materialisedName(operationId, index),
    protective: protectiveName(operationId, index),
  }));
}

/** The deltas of a point over its base, the oldest first, open. The segment is held for reading. */
export function withDeltas<T>(
  seams: ReadSeams,
  vm: VmStore,
  point: Point,
  disk: InstanceDisk,
  use: (sources: readonly DeltaSource[]) => Promise<T>,
): Promise<T> {
  const [, ...deltas] = layersOf(vm, point, disk);
  return withLayers(seams, deltas, (open) => use(open.map(({ source }) => source)));
}
