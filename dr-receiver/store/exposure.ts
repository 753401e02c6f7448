// Which points show which damage. A bad cell damages the points that read it, and not those in which
// a newer layer hides it; a layer that cannot be used damages every point that stands on it.

import { type Guid } from '../../shared/bytes/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { Lease } from './leases.js';
import {
  type Layer,
  layersOf,
  openLayer,
  type OpenLayer,
  type ReadSeams,
  segmentOf,
} from './point-sources.js';
import type { Point } from './protection.js';
import type { VmStore } from './vm-store.js';

export interface PointFinding {
  readonly pointId: Guid;
  readonly diskId: Guid;
  /** Guest offset; 0 when a whole file is concerned. */
  readonly offset: number;
  readonly code: string;
  readonly message: string;
}

export interface LayerFinding {
  /** undefined: the whole layer. */
  readonly cell: number | undefined;
  readonly code: string;
  readonly message: string;
}

/** What a point shows of a layer's damage. */
export interface Exposed {
  readonly point: Point;
  readonly layer: Layer;
  readonly finding: LayerFinding;
}

/** Findings of a layer, by its key. */
export type FindingsOf = (key: string) => readonly LayerFinding[];

/**
 * Holds for reading whatever listed points stand on. To be taken before a change of the VM is asked
 * for, never inside one: a fold that waits for its turn there holds what is waited for here.
 */
export function holdPoints(vm: VmStore, points: readonly Point[]): Promise<Lease> {
  const listed = points.filter(({ pointId }) => vm.protection.point(pointId) !== undefined);
  return vm.leases.read(
    listed.flatMap((point) => point.disks.map((disk) => segmentOf(vm, point, disk))),
  );
}

/** Runs `work` as a change of the VM, with all of its listed points held for reading. */
export async function changeHolding<T>(vm: VmStore, work: () => Promise<T>): Promise<T> {
  const lease = await holdPoints(vm, vm.protection.listed);
  try {
    return await vm.change(work);
  } finally {
    lease.release();
  }
}

/**
 * Every finding for every point that shows it, the oldest point first. Opens newer layers only. The
 * points must be held.
 */
export async function* exposed(
  seams: ReadSeams,
  vm: VmStore,
  points: readonly Point[],
  findingsOf: FindingsOf,
): AsyncGenerator<Exposed> {
  const coverage = new Coverage(seams);
  for (const point of points) {
    for (const disk of point.disks) {
      const chain = layersOf(vm, point, disk);
      for (const [index, layer] of chain.entries()) {
        const found = findingsOf(vm.layout.keyOf(layer.files));
        if (found.length === 0) continue;
        const hidden = await coverage.of(layer, found, chain.slice(index + 1));
        for (const finding of found) {
          if (finding.cell !== undefined && hidden.has(finding.cell)) continue;
          yield { point, layer, finding };
        }
      }
    }
  }
}

export function asPointFinding({ point, layer, finding }: Exposed): PointFinding {
  const { cell, code, message } = finding;
  const offset = cell === undefined ? 0 : cell * CELL_BYTES;
  return { pointId: point.pointId, diskId: layer.disk.diskId, offset, code, message };
}

/** What is known of a VM's damage, as findings. */
export function knownFindings(vm: VmStore): FindingsOf {
  const { damage } = vm.scrub;
  return (key) => {
    const known = damage.get(key);
    if (known === undefined) return [];
    const { cells, because } = known;
    if (cells === 'all') return [{ cell: undefined, code: 'E_POINT_CORRUPT', message: because }];
    return cells.map((cell) => ({
      cell,
      code: 'E_DELTA_HASH',
      message: `cell ${cell} of ${key} does not read back: ${because}`,
    }));
  };
}

/** Which damaged cells of a layer newer ones hide. Points share layers, so each pair is asked once. */
class Coverage {
  readonly #seams: ReadSeams;
  readonly #known = new Map<string, ReadonlySet<number>>();

  constructor(seams: ReadSeams) {
    this.#seams = seams;
  }

  async of(
    damaged: Layer,
    findings: readonly LayerFinding[],
    newer: readonly Layer[],
  ): Promise<ReadonlySet<number>> {
    const hidden = new Set<number>();
    if (findings.every(({ cell }) => cell === undefined)) return hidden;
    for (const layer of newer) {
      const pair = `${damaged.files.data}\n${layer.files.data}`;
      let cells = this.#known.get(pair);
      if (cells === undefined) {
        cells = await this.#cellsIn(layer, findings);
        this.#known.set(pair, cells);
      }
      for (const cell of cells) hidden.add(cell);
    }
    return hidden;
  }

  /** A layer that cannot be read hides nothing. */
  async #cellsIn(layer: Layer, findings: readonly LayerFinding[]): Promise<Set<number>> {
    const cells = new Set<number>();
    let open: OpenLayer | undefined;
    try {
      open = await openLayer(this.#seams, layer);
      for (const { cell } of findings) {
        if (cell !== undefined && (await open.manifest.find(cell)) !== undefined) cells.add(cell);
      }
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      cells.clear();
    } finally {
      await open?.close();
    }
    return cells;
  }
}
