// Reads points back against their manifests, base included. Each layer is read once, however many of
// the points stand on it; a cell that is not what its manifest says damages those points that show it,
// and not those in which a newer delta hides it.

import {
  CELL_BYTES,
  cellOffset,
  type DataEntry,
  type DeltaSource,
  readVerified,
  verifyBase,
} from '../../shared/delta/index.js';
import { type Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
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

export type VerifyStep =
  | { readonly kind: 'progress'; readonly checkedBytes: number; readonly totalBytes: number }
  | { readonly kind: 'finding'; readonly finding: PointFinding };

/** Findings of one layer that are told one by one; with more, the whole layer counts as damaged. */
const FINDINGS_TOLD = 100;
const BATCH_CELLS = 16;

interface LayerFinding {
  /** undefined: the whole layer. */
  readonly cell: number | undefined;
  readonly code: string;
  readonly message: string;
}

/**
 * Checks `points`, the oldest first; one that is forgotten before its files are named is left out.
 * Changes nothing.
 */
export async function* verifyPoints(
  seams: ReadSeams,
  vm: VmStore,
  points: readonly Point[],
): AsyncGenerator<VerifyStep> {
  const isListed = ({ pointId }: Point): boolean => vm.protection.point(pointId) !== undefined;
  const lease = await vm.leases.read(
    points
      .filter(isListed)
      .flatMap((point) => point.disks.map((disk) => segmentOf(vm, point, disk))),
  );
  try {
    yield* verifyListed(seams, vm, points.filter(isListed));
  } finally {
    lease.release();
  }
}

async function* verifyListed(
  seams: ReadSeams,
  vm: VmStore,
  points: readonly Point[],
): AsyncGenerator<VerifyStep> {
  const layers = new Map<string, { layer: Layer; findings: LayerFinding[] }>();
  const chains: { point: Point; diskId: Guid; chain: Layer[] }[] = [];
  for (const point of points) {
    for (const disk of point.disks) {
      const chain = layersOf(vm, point, disk);
      chains.push({ point, diskId: disk.diskId, chain });
      for (const layer of chain) layers.set(layer.files.data, { layer, findings: [] });
    }
  }
  let totalBytes = 0;
  for (const { layer } of layers.values()) totalBytes += layer.disk.dataBytes;
  let checkedBytes = 0;
  yield { kind: 'progress', checkedBytes, totalBytes };
  for (const entry of layers.values()) {
    for await (const step of checkLayer(seams, entry.layer)) {
      if (typeof step === 'number') {
        checkedBytes = Math.min(totalBytes, checkedBytes + step);
        yield { kind: 'progress', checkedBytes, totalBytes };
      } else if (entry.findings.length < FINDINGS_TOLD) {
        entry.findings.push(step);
      } else if (entry.findings.length === FINDINGS_TOLD) {
        // which of them newer deltas hide is not known any more
        const message = `more than ${FINDINGS_TOLD} cells of ${entry.layer.files.data} are damaged`;
        entry.findings.push({ cell: undefined, code: step.code, message });
      }
    }
  }
  const coverage = new Coverage(seams);
  for (const { point, diskId, chain } of chains) {
    for (const [index, layer] of chain.entries()) {
      const found = layers.get(layer.files.data)?.findings ?? [];
      const hidden = await coverage.of(layer, found, chain.slice(index + 1));
      for (const { cell, code, message } of found) {
        if (cell !== undefined && hidden.has(cell)) continue;
        const offset = cell === undefined ? 0 : cell * CELL_BYTES;
        const { pointId } = point;
        yield { kind: 'finding', finding: { pointId, diskId, offset, code, message } };
      }
    }
  }
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
    if (findings.length === 0) return hidden;
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

/** Yields bytes as they are checked, and findings. */
async function* checkLayer(seams: ReadSeams, layer: Layer): AsyncGenerator<number | LayerFinding> {
  let open: OpenLayer | undefined;
  try {
    open = await openLayer(seams, layer);
    yield* open.base === undefined
      ? checkDelta(open.source, layer.files.data)
      : checkBase(open.base, open, layer);
  } catch (error) {
    // somebody else holds the file, which says nothing about its bytes
    if (!(error instanceof DrError) || error.code === 'E_LOCKED') throw error;
    yield { cell: undefined, code: error.code, message: error.message };
  } finally {
    await open?.close();
  }
}

async function* checkBase(
  base: NonNullable<OpenLayer['base']>,
  { manifest, announced }: OpenLayer,
  { disk, files }: Layer,
): AsyncGenerator<number | LayerFinding> {
  const manifests = announced === undefined ? [manifest] : [manifest, announced];
  for await (const { cell, offset } of verifyBase(base, manifests)) {
    const message = `the bytes at guest offset ${offset} in ${files.data} are not those of its manifest`;
    yield { cell, code: 'E_DELTA_HASH', message };
  }
  yield disk.dataBytes;
}

async function* checkDelta(
  source: DeltaSource,
  path: string,
): AsyncGenerator<number | LayerFinding> {
  const { diskSizeBytes } = source.header;
  const buffer = Buffer.alloc(BATCH_CELLS * CELL_BYTES);
  let batch: DataEntry[] = [];
  const lengthOf = (entries: readonly DataEntry[]): number =>
    entries.reduce(
      (sum, { cell }) => sum + cellOffset(cell + 1, diskSizeBytes) - cell * CELL_BYTES,
      0,
    );
  const check = async function* (): AsyncGenerator<number | LayerFinding> {
    const lengthBytes = lengthOf(batch);
    try {
      await readVerified(source, batch, buffer.subarray(0, lengthBytes));
    } catch (error) {
      if (!(error instanceof DrError) || error.code !== 'E_DELTA_HASH') throw error;
      for (const entry of batch) {
        const bytes = buffer.subarray(0, lengthOf([entry]));
        try {
          await readVerified(source, [entry], bytes);
        } catch (cause) {
          if (!(cause instanceof DrError) || cause.code !== 'E_DELTA_HASH') throw cause;
          yield { cell: entry.cell, code: cause.code, message: `${path}: ${cause.message}` };
        }
      }
    }
    yield lengthBytes;
    batch = [];
  };
  for await (const entry of source.entries()) {
    if (entry.kind === 'zero') continue;
    batch.push(entry);
    if (batch.length === BATCH_CELLS) yield* check();
  }
  if (batch.length > 0) yield* check();
}
