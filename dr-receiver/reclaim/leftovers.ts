// Takes away files that the journal does not name any more: what was merged, folded or dropped, and
// what a crash left of work that was not finished. A file that the journal names is never touched, nor
// one whose name is none of ours, nor an unfinished cycle (ingest/leftover-cycles.ts).
//
// Each file goes at once, and nobody looks for a file that no record names, so a removal that a crash
// cuts off leaves nothing that could be taken for something else; it is found here again.

import { join } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import {
  announcedPath,
  type DiskKey,
  diskName,
  reservePath,
  type VmLayout,
} from '../store/layout.js';
import type { VmStore } from '../store/vm-store.js';
import type { Step } from './reclaim.js';

const DELTA_FILE = /^([0-9a-f-]{36}\.\d{1,10})\.(delta|manifest)$/;

/** Removes the files of deltas, and folders that hold nothing else. Durable on return. */
export async function removeDeltaFiles(
  fs: FileSystem,
  layout: VmLayout,
  disk: DiskKey,
  layers: readonly { readonly cycleId: Guid }[],
): Promise<void> {
  for (const { cycleId } of layers) {
    const { folder, data, manifest } = layout.files(disk, cycleId, 'delta');
    if ((await fs.status(folder)) === undefined) continue;
    await fs.remove(data);
    await fs.remove(manifest);
    await fs.flushFolder(folder);
    await removeIfEmpty(fs, folder);
  }
  await fs.flushFolder(layout.cycles);
}

/** Removes a base and its folder, unless disks of others lie there. Durable on return. */
export async function removeBaseFiles(
  fs: FileSystem,
  layout: VmLayout,
  disk: DiskKey,
  baseCycleId: Guid,
): Promise<void> {
  const files = layout.files(disk, baseCycleId, 'base');
  const { folder } = files;
  if ((await fs.status(folder)) === undefined) return;
  for (const path of [files.data, files.manifest, announcedPath(files), reservePath(files)]) {
    await fs.remove(path);
  }
  await fs.flushFolder(folder);
  await removeIfEmpty(fs, folder);
}

async function removeIfEmpty(fs: FileSystem, folder: string): Promise<void> {
  if ((await fs.list(folder)).length === 0) await fs.removeFolder(folder);
}

interface Leftover {
  readonly folder: string;
  readonly names: readonly string[];
}

/**
 * Looks through a VM's folder for files that no record names, and removes them when nobody can read
 * them any more. @throws DrError E_IO
 */
export async function* sweep(fs: FileSystem, vm: VmStore): AsyncGenerator<Step> {
  // while nobody opens or commits a cycle, so that what is not named is not about to be
  const found = await vm.change(() => findLeftovers(fs, vm));
  if (found.length === 0) return;
  const haveLetGo = vm.leases.watchReaders();
  while (!haveLetGo()) yield { kind: 'waits', readerCount: 1 };
  for (const { folder, names } of found) {
    for (const name of names) await fs.remove(join(folder, name));
    await fs.flushFolder(folder);
    await removeIfEmpty(fs, folder);
    yield { kind: 'worked', bytes: 0 };
  }
}

async function findLeftovers(fs: FileSystem, vm: VmStore): Promise<Leftover[]> {
  const { layout, protection, claimedCycleIds } = vm;
  const { segments } = protection;
  const named = new Map<string, Set<string>>();
  for (const segment of segments.all) {
    for (const { cycleId, transfer } of segment.layers) {
      const { folder } = layout.files(segment, cycleId, transfer);
      const names = named.get(folder) ?? new Set();
      named.set(folder, names.add(diskName(segment)));
    }
  }
  const found: Leftover[] = [];
  const note = async (folder: string, isLeftover: (name: string) => boolean): Promise<void> => {
    const names = (await fs.list(folder)).filter(isLeftover);
    if (names.length > 0) found.push({ folder, names });
  };
  const known = segments.cycleIds;
  // a folder that no record names is an unfinished cycle's, unless a record named it once
  const isCycleOver = async (id: Guid): Promise<boolean> =>
    known.has(id) ||
    (!claimedCycleIds.has(id) && (await fs.status(layout.progress(id))) === undefined);
  for (const name of await listed(fs, layout.cycles)) {
    const id = parseGuid(name);
    if (id !== name || claimedCycleIds.has(id) || !(await isCycleOver(id))) continue;
    const folder = layout.cycle(id);
    const disks = named.get(folder);
    await note(folder, (file) => {
      const disk = DELTA_FILE.exec(file)?.[1];
      return disk !== undefined && disks?.has(disk) !== true;
    });
  }
  for (const disk of await listed(fs, join(layout.folder, 'disks'))) {
    for (const name of await listed(fs, join(layout.folder, 'disks', disk))) {
      const id = parseGuid(name);
      if (id !== name || !(await isCycleOver(id))) continue;
      const folder = join(layout.folder, 'disks', disk, name);
      const segment = segments.all.find(
        (each) => diskName(each) === disk && each.baseCycleId === id,
      );
      await note(folder, (file) => isBaseLeftover(file, segment));
    }
  }
  return found;
}

function isBaseLeftover(file: string, segment: { readonly folding: unknown } | undefined): boolean {
  if (file === 'base.vhdx' || file === 'base.manifest') return segment === undefined;
  if (file === 'base.manifest.applying') return segment?.folding === undefined;
  return file === 'base.vhdx.reserve' || /^\.base\.manifest\..*\.unfinished$/.test(file);
}

async function listed(fs: FileSystem, folder: string): Promise<string[]> {
  return (await fs.status(folder)) === undefined ? [] : fs.list(folder);
}
