// Deltas in a row become one. The new one is a cycle folder of its own:
//
//   cycles/<new id>/ marked (removing-mark.ts), written, flushed, its name too ─▶ one `compact` record ─▶ the parts' files removed
//
// Until the record is durable the parts count and the new folder is nobody's; from then on it is the
// other way round. What a crash leaves of either is found by leftovers.ts.

import { randomGuid } from '../../shared/bytes/index.js';
import {
  CELL_BYTES,
  CellDeltaWriter,
  type ManifestTrailer,
  mergedHeader,
  readUnion,
} from '../../shared/delta/index.js';
import type { BlockFile } from '../../shared/files/index.js';
import { closeLayers, layerIn, openLayers } from '../store/point-sources.js';
import type { Content } from '../store/records.js';
import { markNeedless, markRemoving } from '../store/removing-mark.js';
import type { Segment, StoredLayer } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';
import { removeDeltaFiles } from './leftovers.js';
import { contentOf, LayersChanged, type ReclaimSeams, type Step, whenLetGo } from './reclaim.js';

/** Between two steps. */
const STEP_BYTES = 16 * 1024 * 1024;

/** @throws DrError E_IO, E_CAPACITY, …; DeltaError when a part is damaged: nothing has changed then */
export async function* compact(
  seams: ReclaimSeams,
  vm: VmStore,
  segment: Segment,
  parts: readonly StoredLayer[],
): AsyncGenerator<Step> {
  const { fs } = seams;
  const cycleId = randomGuid(seams.random);
  const files = vm.layout.files(segment, cycleId, 'delta');
  vm.claimedCycleIds.add(cycleId);
  let mayBeNamed = false as boolean;
  try {
    await fs.makeFolder(files.folder);
    await markRemoving(fs, vm.layout, cycleId);
    const data = await fs.open(files.data, { mode: 'create', isDirect: true });
    let manifest: BlockFile | undefined;
    let content: Content;
    try {
      manifest = await fs.open(files.manifest, { mode: 'create' });
      const trailer = yield* write(seams, vm, { segment, parts }, data, manifest);
      await data.flush();
      await manifest.flush();
      await manifest.close();
      content = await contentOf(fs, files.manifest, trailer);
    } finally {
      await manifest?.close();
      await data.close();
    }
    await fs.flushFolder(files.folder);
    await fs.flushFolder(vm.layout.cycles);
    const isStillSo = await vm.change(async () => {
      const now = vm.protection.segments.find(segment);
      const pointIds = parts.map(({ pointId }) => pointId);
      const isSame = parts.every((part) => now?.layers.includes(part) === true);
      const hidden = pointIds.slice(0, -1);
      if (!isSame || hidden.some((id) => vm.protection.point(id) !== undefined)) return false;
      const { diskId, generation, baseCycleId } = segment;
      const atMs = seams.clock.now();
      await markNeedless(fs, vm, segment, parts);
      // from here on the record may be there even when append() fails: the folder stays claimed
      mayBeNamed = true;
      try {
        await vm.append({
          kind: 'compact',
          ...{ atMs, diskId, generation, baseCycleId, cycleId, pointIds, ...content },
        });
      } catch (error) {
        // a journal that goes on has taken the record back
        mayBeNamed = vm.halt !== undefined;
        throw error;
      }
      // when this is lost, sweep() finds it
      await fs.remove(vm.layout.removing(cycleId)).catch(() => undefined);
      vm.claimedCycleIds.delete(cycleId);
      return true;
    });
    if (!isStillSo) throw new LayersChanged(`the deltas of disk ${segment.diskId} changed`);
  } finally {
    if (!mayBeNamed) {
      await removeDeltaFiles(fs, vm.layout, segment, [{ cycleId }]).catch(() => undefined);
      vm.claimedCycleIds.delete(cycleId);
    }
  }
  yield* whenLetGo(vm, segment);
  await removeDeltaFiles(fs, vm.layout, segment, parts);
}

/** Writes the union of the parts; returns what its manifest says. */
async function* write(
  seams: ReclaimSeams,
  vm: VmStore,
  { segment, parts }: { readonly segment: Segment; readonly parts: readonly StoredLayer[] },
  data: BlockFile,
  manifest: BlockFile,
): AsyncGenerator<Step, ManifestTrailer> {
  const layers = parts.map((part) => layerIn(vm.layout, segment, part));
  const ends = { data: 0, manifest: 0 };
  const sinkTo =
    (file: BlockFile, name: 'data' | 'manifest') =>
    async (chunk: Uint8Array): Promise<void> => {
      await file.write(ends[name], chunk);
      ends[name] += chunk.length;
    };
  const open = await openLayers(seams, layers);
  try {
    const sources = open.map(({ source }) => source);
    const header = mergedHeader(sources.map((source) => source.header));
    const writer = new CellDeltaWriter(header, sinkTo(data, 'data'), sinkTo(manifest, 'manifest'));
    let bytes = 0;
    for await (const batch of readUnion(sources)) {
      if (batch.kind === 'zero') {
        await writer.addZero(batch.cell, batch.count);
        continue;
      }
      for (const [index, { cell, hash }] of batch.entries.entries()) {
        const start = index * CELL_BYTES;
        await writer.add(cell, batch.bytes.subarray(start, start + CELL_BYTES), hash);
      }
      bytes += batch.bytes.length;
      if (bytes < STEP_BYTES) continue;
      yield { kind: 'worked', bytes };
      bytes = 0;
    }
    const trailer = await writer.finish();
    yield { kind: 'worked', bytes };
    return trailer;
  } finally {
    await closeLayers(open);
  }
}
