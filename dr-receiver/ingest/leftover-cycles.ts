// Takes away what cycles left that will never be committed, and what a committed one needs no more.
// Everything here may be cut off at any point: what stays is found again at the next commit.

import type { Guid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { join } from 'node:path';
import type { VmLayout } from '../store/layout.js';
import type { Protection } from '../store/protection.js';
import { vmIdOf as guidOf } from '../store/vm-store.js';

/** Ids of the cycles that have a folder and no point. */
export async function unfinishedCycleIds(
  fs: FileSystem,
  layout: VmLayout,
  protection: Protection,
): Promise<Guid[]> {
  if ((await fs.status(layout.cycles)) === undefined) return [];
  const committed = protection.segments.cycleIds;
  const ids: Guid[] = [];
  for (const name of await fs.list(layout.cycles)) {
    const id = guidOf(name);
    if (id !== undefined && !committed.has(id)) ids.push(id);
  }
  return ids;
}

/** Removes what an unfinished cycle needs and a committed one does not, of all committed ones. */
export async function removeOldProgress(
  fs: FileSystem,
  layout: VmLayout,
  protection: Protection,
): Promise<void> {
  for (const cycleId of protection.segments.cycleIds) {
    const path = layout.progress(cycleId);
    if ((await fs.status(path)) !== undefined) await fs.remove(path);
  }
}

async function removeFolderWithFiles(fs: FileSystem, folder: string): Promise<void> {
  if ((await fs.status(folder)) === undefined) return;
  for (const name of await fs.list(folder)) await fs.remove(join(folder, name));
  await fs.flushFolder(folder);
  await fs.removeFolder(folder);
}

/**
 * Removes unfinished cycles, but for those in `kept`. The progress goes first, durably: without it
 * nothing of a cycle counts, and with it all of its files have to be there. The folder of the cycle
 * goes last, so that what a crash leaves behind is found again.
 */
export async function removeUnfinished(
  fs: FileSystem,
  layout: VmLayout,
  protection: Protection,
  kept: ReadonlySet<Guid>,
): Promise<void> {
  const ids = (await unfinishedCycleIds(fs, layout, protection)).filter((id) => !kept.has(id));
  if (ids.length === 0) return;
  for (const id of ids) {
    await fs.remove(layout.progress(id));
    await fs.flushFolder(layout.cycle(id));
  }
  const disks = join(layout.folder, 'disks');
  const gone = new Set<string>(ids);
  const hasBases = (await fs.status(disks)) !== undefined;
  for (const disk of hasBases ? await fs.list(disks) : []) {
    for (const name of await fs.list(join(disks, disk))) {
      if (gone.has(name)) await removeFolderWithFiles(fs, join(disks, disk, name));
    }
  }
  for (const id of ids) await removeFolderWithFiles(fs, layout.cycle(id));
}
