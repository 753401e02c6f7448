// Takes away what cycles left that will never be committed, and what a committed one needs no more.
// Everything here may be cut off at any point: what stays is found again at the next commit.
//
// A cycle folder that the journal does not name is ours to remove only when the folder itself says so:
//
//   progress    the cycle was never committed
//   removing    its removal has begun; made before anything goes, and the last file to go
//   neither     nothing with content: a cycle that had just begun. With content: the journal may be an
//               older copy that does not know a point. Such a cycle is unknown: told, never touched

import { join } from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { VmLayout } from '../store/layout.js';
import { markRemoving } from '../store/removing-mark.js';
import { vmIdOf as guidOf, type VmStore } from '../store/vm-store.js';

export type LeftoverKind = 'unfinished' | 'removing' | 'empty' | 'unknown';

export interface LeftoverCycle {
  readonly cycleId: Guid;
  readonly kind: LeftoverKind;
}

/**
 * All cycles that have a folder and no record, but for those that somebody works on. Not to be asked of
 * a VM that is halted.
 */
export async function leftoverCycles(fs: FileSystem, vm: VmStore): Promise<LeftoverCycle[]> {
  const { layout, protection, claimedCycleIds } = vm;
  const committed = protection.segments.cycleIds;
  const bases = await baseFolders(fs, layout);
  const ids = new Set<string>(bases.keys());
  if ((await fs.status(layout.cycles)) !== undefined) {
    for (const name of await fs.list(layout.cycles)) ids.add(name);
  }
  const found: LeftoverCycle[] = [];
  for (const name of [...ids].sort()) {
    const cycleId = guidOf(name);
    if (cycleId === undefined || committed.has(cycleId) || claimedCycleIds.has(cycleId)) continue;
    found.push({ cycleId, kind: await kindOf(fs, layout, cycleId, bases.get(name) ?? []) });
  }
  vm.unknownCycleIds = found.filter(({ kind }) => kind === 'unknown').map(({ cycleId }) => cycleId);
  return found;
}

async function kindOf(
  fs: FileSystem,
  layout: VmLayout,
  cycleId: Guid,
  bases: readonly string[],
): Promise<LeftoverKind> {
  if ((await fs.status(layout.removing(cycleId))) !== undefined) return 'removing';
  if ((await fs.status(layout.progress(cycleId))) !== undefined) return 'unfinished';
  for (const folder of [layout.cycle(cycleId), ...bases]) {
    if ((await fs.status(folder)) === undefined) continue;
    for (const name of await fs.list(folder)) {
      const status = await fs.status(join(folder, name));
      if (status !== undefined && (status.kind !== 'file' || status.sizeBytes > 0))
        return 'unknown';
    }
  }
  return 'empty';
}

/** The folders of bases, by the name of their cycle. */
async function baseFolders(fs: FileSystem, layout: VmLayout): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  const { disks } = layout;
  if ((await fs.status(disks)) === undefined) return found;
  for (const disk of await fs.list(disks)) {
    const folder = join(disks, disk);
    if ((await fs.status(folder))?.kind !== 'folder') continue;
    for (const name of await fs.list(folder)) {
      found.set(name, [...(found.get(name) ?? []), join(folder, name)]);
    }
  }
  return found;
}

/** Ids of the cycles that were begun and not committed. */
export async function unfinishedCycleIds(fs: FileSystem, vm: VmStore): Promise<Guid[]> {
  const found = await leftoverCycles(fs, vm);
  return found.filter(({ kind }) => kind === 'unfinished').map(({ cycleId }) => cycleId);
}

/** Removes what an unfinished cycle needs and a committed one does not, of all committed ones. */
export async function removeOldProgress(
  fs: FileSystem,
  { layout, protection }: VmStore,
): Promise<void> {
  for (const cycleId of protection.segments.cycleIds) {
    const path = layout.progress(cycleId);
    if ((await fs.status(path)) !== undefined) await fs.remove(path);
  }
}

/** Removes a folder; `last` goes when all other files are gone, durably. */
async function removeFolderWithFiles(fs: FileSystem, folder: string, last?: string): Promise<void> {
  if ((await fs.status(folder)) === undefined) return;
  for (const name of await fs.list(folder)) {
    const path = join(folder, name);
    if (path !== last) await fs.remove(path);
  }
  await fs.flushFolder(folder);
  if (last !== undefined) {
    await fs.remove(last);
    await fs.flushFolder(folder);
  }
  await fs.removeFolder(folder);
}

/**
 * Removes cycles that were not committed, but for those in `kept`. That it is being removed stands in
 * the folder first, durably; then the progress goes, for without it nothing of a cycle counts, and with
 * it all of its files have to be there. The folder of the cycle goes last.
 */
export async function removeUnfinished(
  fs: FileSystem,
  vm: VmStore,
  kept: ReadonlySet<Guid>,
): Promise<void> {
  const found = await leftoverCycles(fs, vm);
  // what reclaiming gave up may still be read
  const isRead = !vm.leases.watchReaders()();
  const going = found.filter(({ cycleId, kind }) => {
    if (kept.has(cycleId) || kind === 'unknown') return false;
    return kind !== 'removing' || !isRead;
  });
  await removeCycles(
    fs,
    vm.layout,
    going.map(({ cycleId }) => cycleId),
  );
}

/** Removes the folders of these cycles, which must be leftovers and not unknown. */
export async function removeCycles(
  fs: FileSystem,
  layout: VmLayout,
  ids: readonly Guid[],
): Promise<void> {
  if (ids.length === 0) return;
  for (const id of ids) {
    await fs.makeFolder(layout.cycle(id));
    await markRemoving(fs, layout, id);
    await fs.remove(layout.progress(id));
    await fs.flushFolder(layout.cycle(id));
  }
  const bases = await baseFolders(fs, layout);
  for (const id of ids) {
    for (const folder of bases.get(id) ?? []) await removeFolderWithFiles(fs, folder);
  }
  for (const id of ids) {
    await removeFolderWithFiles(fs, layout.cycle(id), layout.removing(id));
  }
}
