// What a work of reclaiming does about files that do not say what they should: nothing is merged or
// folded, the points that show the damage are marked in the journal, and an operator decides.

import { CELL_BYTES, ManifestFile } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { markPoints } from '../store/mark.js';
import type { Segment, StoredLayer } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';
import type { ReclaimSeams } from './reclaim.js';

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
  const { offset, point } = error.context;
  const isOneCell = error.code === 'E_DELTA_HASH' && typeof offset === 'number';
  const shown: StoredLayer[] = [];
  for (const layer of segment.layers.slice(segment.layers.indexOf(last))) {
    if (isOneCell && layer !== last && (await hides(layer, offset / CELL_BYTES))) break;
    shown.push(layer);
  }
  const damaged = segment.layers.find(({ pointId }) => pointId === point);
  return vm.change(async () => {
    if (isOneCell && damaged !== undefined) {
      // else a round of the scrub that has read the layer before would take the mark away
      const files = vm.layout.files(segment, damaged.cycleId, damaged.transfer);
      const cells = [offset / CELL_BYTES];
      vm.scrub.addDamage(vm.layout.keyOf(files), cells, 'found while deltas were merged or folded');
      await vm.scrub.save();
    }
    const points = shown
      .flatMap(({ pointId }) => vm.protection.point(pointId) ?? [])
      .filter(({ damage }) => damage === undefined);
    const { diskId } = segment;
    const { code, message } = error;
    const finding = { diskId, offset: isOneCell ? offset : 0, code, message };
    const findings = new Map(points.map(({ pointId }) => [pointId, { pointId, ...finding }]));
    await markPoints(vm, clock.now(), points, findings);
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
