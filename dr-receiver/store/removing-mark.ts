// The mark in the folder of a cycle that what lies there, and in the folders of its bases, may go as
// soon as no record of the journal names it. A folder with content that no record names and that has
// neither this mark nor a progress is never removed: the journal may be an older copy.
//
// The mark is durable before the record that makes files needless, and goes after the last of them.

import { basename } from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { VmLayout } from './layout.js';
import type { Segment, StoredLayer } from './segments.js';
import type { VmStore } from './vm-store.js';

/** Marks the folder of a cycle, which must be there; durable on return. */
export async function markRemoving(fs: FileSystem, layout: VmLayout, cycleId: Guid): Promise<void> {
  const path = layout.removing(cycleId);
  if ((await fs.status(path)) === undefined) {
    await (await fs.open(path, { mode: 'create' })).close();
  }
  await fs.flushFolder(layout.cycle(cycleId));
}

/** Marks the cycles of which no record names anything once `layers` of `segment` are given up. */
export async function markNeedless(
  fs: FileSystem,
  { layout, protection }: VmStore,
  segment: Segment,
  layers: readonly StoredLayer[],
): Promise<void> {
  const going = new Set(layers.map(({ pointId }) => pointId));
  const needed = new Set<Guid>();
  const own = protection.segments.find(segment);
  for (const each of protection.segments.all) {
    for (const { pointId, cycleId } of each.layers) {
      if (each !== own || !going.has(pointId)) needed.add(cycleId);
    }
  }
  for (const { cycleId } of layers) {
    if (needed.has(cycleId)) continue;
    await fs.makeFolder(layout.cycle(cycleId));
    await markRemoving(fs, layout, cycleId);
  }
}

/** Removes the folder of a cycle when it is empty, or holds nothing but its mark. */
export async function removeCycleFolder(
  fs: FileSystem,
  layout: VmLayout,
  cycleId: Guid,
): Promise<void> {
  const folder = layout.cycle(cycleId);
  if ((await fs.status(folder)) === undefined) return;
  const mark = layout.removing(cycleId);
  const names = await fs.list(folder);
  if (names.some((name) => name !== basename(mark))) return;
  if (names.length > 0) {
    // what it spoke of is gone for good before it goes
    await fs.flushFolder(folder);
    await fs.remove(mark);
    await fs.flushFolder(folder);
  }
  await fs.removeFolder(folder);
}
