// What a VM's folder keeps of its disks: segments, each a base with the deltas that stand on it. A
// segment begins whenever a cycle brings a disk whole; the layers behind its base lead from point to
// point. Reclaiming merges layers whose points are forgotten (compact), takes the oldest ones into
// the base (fold), or gives a segment up (drop); the journal tells each of it, so this is a pure
// fold over records as well.
//
// Law: of every listed point and each of its disks there is exactly one layer that leads to it.

import type { Guid } from '../../shared/bytes/index.js';
import { type DiskKey, diskName } from './layout.js';
import type {
  CommitRecord,
  CompactRecord,
  Content,
  DiskGeometry,
  DiskRecord,
  DropRecord,
  FoldBeginRecord,
  FoldEndRecord,
  SegmentKey,
  Transfer,
} from './records.js';

/** The base of a segment, or a delta behind it. */
export interface StoredLayer extends Content {
  /** The point to which it leads. */
  readonly pointId: Guid;
  /** Names the folder of its files. */
  readonly cycleId: Guid;
  readonly transfer: Transfer;
}

/** What the base will be when the fold under way has ended. */
export interface Folding extends Content {
  readonly pointId: Guid;
}

export interface Segment extends DiskGeometry {
  readonly baseCycleId: Guid;
  /** The base first. */
  readonly layers: readonly StoredLayer[];
  readonly folding: Folding | undefined;
}

export type SegmentRecord =
  CommitRecord | CompactRecord | FoldBeginRecord | FoldEndRecord | DropRecord;

export class Segments {
  /** By the cycle that brought the base, and the disk. */
  readonly #segments = new Map<string, Segment>();
  #storedBytes = 0;

  get all(): Segment[] {
    return [...this.#segments.values()];
  }

  /** Bytes of the data cells of all layers. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  find(key: SegmentKey): Segment | undefined {
    return this.#segments.get(nameOf(key));
  }

  /** The segment in which a layer of this disk leads to the point. */
  holding(pointId: Guid, diskId: Guid, generation: number): Segment | undefined {
    // the newest first: most questions are about the head
    return this.all.findLast(
      (segment) =>
        segment.diskId === diskId &&
        segment.generation === generation &&
        segment.layers.findLastIndex((layer) => layer.pointId === pointId) >= 0,
    );
  }

  /** Cycles of which at least one file is needed. */
  get cycleIds(): Set<Guid> {
    const ids = new Set<Guid>();
    for (const { layers } of this.#segments.values()) {
      for (const { cycleId } of layers) ids.add(cycleId);
    }
    return ids;
  }

  /** Takes the next record. Returns why it contradicts the ones before, or undefined. */
  apply(record: SegmentRecord, isListed: (pointId: Guid) => boolean): string | undefined {
    switch (record.kind) {
      case 'commit':
        return this.#commit(record);
      case 'compact':
        return this.#compact(record, isListed);
      case 'fold-begin':
        return this.#beginFold(record, isListed);
      case 'fold-end':
        return this.#endFold(record);
      case 'drop':
        return this.#drop(record, isListed);
    }
  }

  /** For a journal that begins with the state of an older one. Returns why it cannot be. */
  restore(segments: readonly Segment[]): string | undefined {
    for (const segment of segments) {
      if (this.find(segment) !== undefined) return `the segment ${nameOf(segment)} is there twice`;
      const [base, ...deltas] = segment.layers;
      if (base?.transfer !== 'base') return `${nameOf(segment)} has no base`;
      if (deltas.some(({ transfer }) => transfer === 'base')) {
        return `${nameOf(segment)} has two bases`;
      }
      const { folding } = segment;
      if (folding !== undefined && !deltas.some(({ pointId }) => pointId === folding.pointId)) {
        return `${nameOf(segment)} has no delta that leads to point ${folding.pointId}`;
      }
      this.#put(segment);
    }
    return undefined;
  }

  /** Which disk of the points breaks the law above; undefined: none does. */
  missing(
    points: readonly { readonly pointId: Guid; readonly disks: readonly DiskKey[] }[],
  ): string | undefined {
    const layers = new Set<string>();
    const name = (pointId: Guid, disk: DiskKey): string =>
      `disk ${diskName(disk)} of point ${pointId}`;
    for (const segment of this.#segments.values()) {
      for (const { pointId } of segment.layers) {
        const layer = name(pointId, segment);
        if (layers.has(layer)) return `${layer} is there twice`;
        layers.add(layer);
      }
    }
    for (const { pointId, disks } of points) {
      for (const disk of disks) {
        if (!layers.has(name(pointId, disk))) return `${name(pointId, disk)} has no layer`;
      }
    }
    return undefined;
  }

  #put(segment: Segment): void {
    const name = nameOf(segment);
    this.#storedBytes += bytesOf(segment) - bytesOf(this.#segments.get(name));
    this.#segments.set(name, segment);
  }

  #commit({ disks, parentPointId, pointId, cycleId }: CommitRecord): string | undefined {
    for (const disk of disks) {
      const layer = layerOf(disk, pointId, cycleId);
      if (disk.transfer === 'base') {
        const { diskId, generation, sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
        const geometry = {
          diskId,
          generation,
          sizeBytes,
          logicalSectorBytes,
          physicalSectorBytes,
        };
        this.#put({ ...geometry, baseCycleId: cycleId, layers: [layer], folding: undefined });
        continue;
      }
      const parent =
        parentPointId === null
          ? undefined
          : this.holding(parentPointId, disk.diskId, disk.generation);
      if (parent === undefined || parent.layers.at(-1)?.pointId !== parentPointId) {
        return `disk ${disk.diskId}.${disk.generation} of point ${pointId} has no base`;
      }
      // the sum goes up by this layer: all of them are not counted again for each cycle
      this.#segments.set(nameOf(parent), { ...parent, layers: [...parent.layers, layer] });
      this.#storedBytes += layer.dataBytes;
    }
    return undefined;
  }

  #compact(record: CompactRecord, isListed: (pointId: Guid) => boolean): string | undefined {
    const segment = this.find(record);
    if (segment === undefined) return `there is no segment ${nameOf(record)}`;
    const { pointIds } = record;
    const start = segment.layers.findIndex((layer) => layer.pointId === pointIds[0]);
    const parts = segment.layers.slice(start, start + pointIds.length);
    const isRow =
      start >= 1 &&
      pointIds.length >= 2 &&
      parts.length === pointIds.length &&
      parts.every((layer, index) => layer.pointId === pointIds[index]);
    if (!isRow) return `the parts of ${record.cycleId} do not lie in a row`;
    if (pointIds.slice(0, -1).some(isListed)) return `a part of ${record.cycleId} is listed`;
    const { folding } = segment;
    if (folding !== undefined && pointIds.slice(0, -1).includes(folding.pointId)) {
      return `${record.cycleId} hides the point to which the base is folded`;
    }
    const last = parts.at(-1);
    if (last === undefined) return 'a compacted delta has parts';
    const { root, cellCount, dataCellCount, dataBytes, cycleId } = record;
    const merged: StoredLayer = {
      pointId: last.pointId,
      cycleId,
      transfer: 'delta',
      ...{ root, cellCount, dataCellCount, dataBytes },
    };
    this.#put({ ...segment, layers: segment.layers.toSpliced(start, parts.length, merged) });
    return undefined;
  }

  #beginFold(record: FoldBeginRecord, isListed: (pointId: Guid) => boolean): string | undefined {
    const segment = this.find(record);
    if (segment === undefined) return `there is no segment ${nameOf(record)}`;
    const { pointId, root, cellCount, dataCellCount, dataBytes } = record;
    if (segment.folding !== undefined && segment.folding.pointId !== pointId) {
      return `a fold of ${nameOf(record)} is under way`;
    }
    const index = segment.layers.findIndex((layer) => layer.pointId === pointId);
    if (index < 1) return `${nameOf(record)} has no delta that leads to point ${pointId}`;
    if (segment.layers.slice(0, index).some((layer) => isListed(layer.pointId))) {
      return `a listed point needs the base of ${nameOf(record)} as it is`;
    }
    const folding = { pointId, root, cellCount, dataCellCount, dataBytes };
    this.#put({ ...segment, folding });
    return undefined;
  }

  #endFold(record: FoldEndRecord): string | undefined {
    const segment = this.find(record);
    const { folding } = segment ?? {};
    if (segment === undefined || folding?.pointId !== record.pointId) {
      return `no fold of ${nameOf(record)} to point ${record.pointId} is under way`;
    }
    const index = segment.layers.findIndex((layer) => layer.pointId === record.pointId);
    const base: StoredLayer = { ...folding, cycleId: segment.baseCycleId, transfer: 'base' };
    const layers = [base, ...segment.layers.slice(index + 1)];
    this.#put({ ...segment, layers, folding: undefined });
    return undefined;
  }

  #drop(record: DropRecord, isListed: (pointId: Guid) => boolean): string | undefined {
    const segment = this.find(record);
    if (segment === undefined) return `there is no segment ${nameOf(record)}`;
    if (segment.layers.some((layer) => isListed(layer.pointId))) {
      return `a listed point stands on ${nameOf(record)}`;
    }
    this.#storedBytes -= bytesOf(segment);
    this.#segments.delete(nameOf(segment));
    return undefined;
  }
}

/** Tells segments of one VM apart. */
export function nameOf({ diskId, generation, baseCycleId }: SegmentKey): string {
  return `${diskId}.${generation}/${baseCycleId}`;
}

function bytesOf(segment: Segment | undefined): number {
  let sum = 0;
  for (const { dataBytes } of segment?.layers ?? []) sum += dataBytes;
  return sum;
}

function layerOf(disk: DiskRecord, pointId: Guid, cycleId: Guid): StoredLayer {
  const { transfer, root, cellCount, dataCellCount, dataBytes } = disk;
  return { pointId, cycleId, transfer, root, cellCount, dataCellCount, dataBytes };
}
