// What all unfinished cycles of a VM have of a disk, for a source that names cells instead of sending
// them. A cell that several have is told as a source's own cycle has it, which is newer than any seed;
// so a first cycle that broke off over a seed goes on from both.

import type { ManifestRecord } from '../../shared/delta/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { VmLayout } from '../store/layout.js';
import { isDamaged } from './damage.js';
import { stagedDisk, type UnfinishedCycle } from './incoming-cycle.js';
import { type StagedDisk, stagedRecords } from './staged-cells.js';

type DataRecord = ManifestRecord & { readonly kind: 'data' };

/**
 * The staged parts of a disk, the one that counts most first; all are of the size that Describe tells of
 * the disk, which is that of the first cycle that has it, whether anything of it is staged or not.
 */
export function stagedParts(
  layout: VmLayout,
  cycles: readonly UnfinishedCycle[],
  disk: Parameters<typeof stagedDisk>[2],
): StagedDisk[] {
  const own = cycles.filter(({ request }) => request.seededFrom === '');
  const seeds = cycles.filter(({ request }) => request.seededFrom !== '');
  const all = [...own, ...seeds];
  const found = all.flatMap((cycle) => stagedDisk(layout, cycle, disk) ?? []);
  const [told] = all.flatMap(({ request }) =>
    request.disks.filter(({ diskId }) => diskId === disk.diskId),
  );
  const sizeBytes = told?.sizeBytes;
  return found.filter(({ header }) => header.diskSizeBytes === sizeBytes);
}

/** The data cells of all parts in ascending order, each once. What is damaged of a part is left out. */
export async function* unionRecords(
  fs: FileSystem,
  parts: readonly StagedDisk[],
): AsyncGenerator<DataRecord> {
  const cursors = parts.map((part) => dataRecords(fs, part));
  try {
    const heads: (DataRecord | undefined)[] = [];
    for (const cursor of cursors) heads.push(await nextOf(cursor));
    for (;;) {
      const cell = heads.reduce((least, head) => Math.min(least, head?.cell ?? Infinity), Infinity);
      const first = heads.find((head) => head?.cell === cell);
      if (first === undefined) return;
      yield first;
      for (const [index, cursor] of cursors.entries()) {
        if (heads[index]?.cell === cell) heads[index] = await nextOf(cursor);
      }
    }
  } finally {
    for (const cursor of cursors) await cursor.return(undefined);
  }
}

async function nextOf(cursor: AsyncGenerator<DataRecord>): Promise<DataRecord | undefined> {
  const next = await cursor.next();
  return next.done === true ? undefined : next.value;
}

/** As far as they can be read: an unfinished cycle is of use, never needed. */
async function* dataRecords(fs: FileSystem, part: StagedDisk): AsyncGenerator<DataRecord> {
  try {
    for await (const record of stagedRecords(fs, part)) if (record.kind === 'data') yield record;
  } catch (error) {
    if (!isDamaged(error)) throw error;
  }
}
