// What a work of reclaiming does about files that do not say what they should: nothing is merged or
// folded, the points that show the damage are marked in the journal, and an operator decides.

import { CELL_BYTES, DeltaError, ManifestFile } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { VhdxError } from '../../shared/vhdx/index.js';
import type { Segment, StoredLayer } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';
import type { ReclaimSeams } from './reclaim.js';

/** They say nothing about the bytes of a file, whatever class of error they come in. */
const NO_DAMAGE: readonly string[] = [
  ...['E_IO', 'E_CAPACITY', 'E_LOCKED', 'E_EXISTS'],
  ...['E_VHDX_POISONED', 'E_VHDX_HAS_CHILDREN', 'E_VHDX_LIMIT'],
];

/** Whether an error tells of a damaged or missing file, and not of a device that does not answer. */
export function isFileDamage(error: unknown): error is DrError {
  if (!(error instanceof DrError) || NO_DAMAGE.includes(error.code)) return false;
  if (error instanceof DeltaError || error instanceof VhdxError) return true;
  return ['E_POINT_CORRUPT', 'E_NOT_FOUND'].includes(error.code);
}

/**
 * Marks the listed points that show what was found while the layers up to `last` were read. Returns
 * how many. @throws DrError E_IO, E_CAPACITY
 */
export async function markDamage(
  { fs, clock }: ReclaimSeams,
  vm: VmStore,
  segment: Segment,
  last: StoredLayer,
  error: DrError,
): Promise<number> {
  const { offset } = error.context;
  const isOneCell = error.code === 'E_DELTA_HASH' && typeof offset === 'number';
  const shown: StoredLayer[] = [];
  for (const layer of segment.layers.slice(segment.layers.indexOf(last))) {
    if (isOneCell && layer !== last && (await hides(layer, offset / CELL_BYTES))) break;
    shown.push(layer);
  }
  return vm.change(async () => {
    const finding = `disk ${segment.diskId}: ${error.message}`;
    const points = shown
      .flatMap(({ pointId }) => vm.protection.point(pointId) ?? [])
      .filter(({ damage }) => damage === undefined)
      .map(({ pointId }) => ({ pointId, isDamaged: true, finding }));
    if (points.length > 0) await vm.append({ kind: 'verify', atMs: clock.now(), points });
    return points.length;
  });

  async function hides({ cycleId }: StoredLayer, cell: number): Promise<boolean> {
    const { manifest } = vm.layout.files(segment, cycleId, 'delta');
    const file = await fs.open(manifest, { mode: 'read' });
    try {
      return (await (await ManifestFile.open(file)).find(cell)) !== undefined;
    } finally {
      await file.close();
    }
  }
}
