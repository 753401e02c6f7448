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
  const committed = new Set(protection.points.map((point) => point.cycleId));
  const ids: Guid[] = [];
  for (const name of await fs.list(layout.cycles)) {
    const id = guidOf(name);
    if (id !== undefined && !committed.has(id)) ids.push(id);
  }
  return ids;
}

async function removeFolderWithFiles(fs: FileSystem, folder: string): Promise<void> {
  if ((await fs.status(folder)) === undefined) return;
  // the progress first: without it nothing of the folder counts
  const names = (await fs.list(folder)).sort(
    (a, b) => Number(b === 'progress') - Number(a === 'progress'),
  );
  for (const name of names) await fs.remove(join(folder, name));
  await fs.removeFolder(folder);
}

/** Removes unfinished cycles, but for those in `kept`. */
export async function removeUnfinished(
  fs: FileSystem,
  layout: VmLayout,
  protection: Protection,
  kept: ReadonlySet<Guid>,
): Promise<void> {
  const ids = (await unfinishedCycleIds(fs, layout, protection)).filter((id) => !kept.has(id));
  for (const id of ids) await removeFolderWithFiles(fs, layout.cycle(id));
  const disks = join(layout.folder, 'disks');
  if (ids.length === 0 || (await fs.status(disks)) === undefined) return;
  const gone = new Set<string>(ids);
  for (const disk of await fs.list(disks)) {
    for (const name of await fs.list(join(disks, disk))) {
      if (gone.has(name)) await removeFolderWithFiles(fs, join(disks, disk, name));
    }
  }
}
