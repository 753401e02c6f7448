// Gives a segment up on which no listed point stands: one `drop` record, then its files are removed.

import { markNeedless } from '../store/removing-mark.js';
import type { Segment } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';
import { removeBaseFiles, removeDeltaFiles } from './leftovers.js';
import { type ReclaimSeams, type Step, whenLetGo } from './reclaim.js';

/** @throws DrError E_IO, E_CAPACITY */
export async function* drop(
  { fs, clock }: ReclaimSeams,
  vm: VmStore,
  segment: Segment,
): AsyncGenerator<Step> {
  const { diskId, generation, baseCycleId } = segment;
  await vm.change(async () => {
    const atMs = clock.now();
    await markNeedless(fs, vm, segment, segment.layers);
    await vm.append({ kind: 'drop', atMs, diskId, generation, baseCycleId });
  });
  yield* whenLetGo(vm, segment);
  await removeDeltaFiles(fs, vm.layout, segment, segment.layers.slice(1));
  await removeBaseFiles(fs, vm.layout, segment, baseCycleId);
}
