// Reads points back against their manifests, base included. Each layer is read once, however many of
// the points stand on it; a cell that is not what its manifest says damages those points that show it,
// and not those in which a newer delta hides it.

import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { checkPart } from './check-layer.js';
import { isDamage } from './damage.js';
import {
  asPointFinding,
  exposed,
  holdPoints,
  type LayerFinding,
  type PointFinding,
} from './exposure.js';
import {
  type Layer,
  layersOf,
  openLayer,
  type OpenLayer,
  type ReadSeams,
} from './point-sources.js';
import type { Point } from './protection.js';
import { CELLS_MAX, LAYER_START, type LayerDamage, type LayerPosition } from './scrub-state.js';
import type { VmStore } from './vm-store.js';

export type VerifyStep =
  | { readonly kind: 'progress'; readonly checkedBytes: number; readonly totalBytes: number }
  /** A layer was checked to its end; undefined: nothing is wrong with it. */
  | { readonly kind: 'layer'; readonly key: string; readonly damage: LayerDamage | undefined }
  | { readonly kind: 'finding'; readonly finding: PointFinding };

/** What is read between two words of progress. */
const PART_BYTES = 16 * 1024 * 1024;

interface LayerResult {
  readonly layer: Layer;
  readonly findings: LayerFinding[];
  /** A device that fails says nothing about what it holds. */
  isUnreadable: boolean;
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
  const lease = await holdPoints(vm, points);
  try {
    const isListed = ({ pointId }: Point): boolean => vm.protection.point(pointId) !== undefined;
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
  const layers = new Map<string, LayerResult>();
  for (const point of points) {
    for (const disk of point.disks) {
      for (const layer of layersOf(vm, point, disk)) {
        layers.set(vm.layout.keyOf(layer.files), { layer, findings: [], isUnreadable: false });
      }
    }
  }
  let totalBytes = 0;
  for (const { layer } of layers.values()) totalBytes += layer.disk.dataBytes;
  let checkedBytes = 0;
  yield { kind: 'progress', checkedBytes, totalBytes };
  for (const [key, result] of layers) {
    for await (const bytes of checkLayer(seams, result)) {
      checkedBytes = Math.min(totalBytes, checkedBytes + bytes);
      yield { kind: 'progress', checkedBytes, totalBytes };
    }
    if (!result.isUnreadable) yield { kind: 'layer', key, damage: damageOf(result) };
  }
  const findingsOf = (key: string): readonly LayerFinding[] => layers.get(key)?.findings ?? [];
  for await (const found of exposed(seams, vm, points, findingsOf)) {
    yield { kind: 'finding', finding: asPointFinding(found) };
  }
}

function damageOf({ findings }: LayerResult): LayerDamage | undefined {
  const whole = findings.find(({ cell }) => cell === undefined);
  if (whole !== undefined) return { cells: 'all', because: whole.message };
  const cells = findings.flatMap(({ cell }) => (cell === undefined ? [] : [cell]));
  return cells.length === 0 ? undefined : { cells, because: 'found by a verification' };
}

/** Yields bytes as they are checked; what is wrong goes into `result`. */
async function* checkLayer(seams: ReadSeams, result: LayerResult): AsyncGenerator<number> {
  const { layer, findings } = result;
  const { data } = layer.files;
  let open: OpenLayer | undefined;
  try {
    open = await openLayer(seams, layer);
    await open.manifest.verify();
    let position: LayerPosition | undefined = LAYER_START;
    while (position !== undefined && findings.length <= CELLS_MAX) {
      const part = await checkPart(open, position, PART_BYTES);
      for (const { cell } of part.bad) findings.push(badCell(cell, data));
      if (part.failure !== undefined) throw part.failure;
      ({ position } = part);
      yield part.checkedBytes;
    }
    if (findings.length > CELLS_MAX) {
      // which of them newer deltas hide is not asked any more
      const message = `more than ${CELLS_MAX} cells of ${data} are damaged`;
      findings.push({ cell: undefined, code: 'E_DELTA_HASH', message });
    }
  } catch (error) {
    // somebody else holds the file, which says nothing about its bytes
    if (!(error instanceof DrError) || error.code === 'E_LOCKED') throw error;
    result.isUnreadable = !isDamage(error);
    findings.push({ cell: undefined, code: error.code, message: error.message });
  } finally {
    await open?.close();
  }
}

export function badCell(cell: number, path: string): LayerFinding {
  const message = `the bytes of cell ${cell} (guest offset ${cell * CELL_BYTES}) in ${path} are not those of its manifest`;
  return { cell, code: 'E_DELTA_HASH', message };
}
