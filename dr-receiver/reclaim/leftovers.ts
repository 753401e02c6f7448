// Takes away files that the journal does not name any more: what was merged, folded or dropped, and
// what a crash left of work that was not finished. A file that the journal names is never touched, nor
// one whose name is none of ours, nor an unfinished cycle, nor one that nobody knows
// (ingest/leftover-cycles.ts).
//
// Each file goes at once, and nobody looks for a file that no record names, so a removal that a crash
// cuts off leaves nothing that could be taken for something else; it is found here again.

import { join } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { leftoverCycles } from '../ingest/leftover-cycles.js';
import {
  announcedPath,
  type DiskKey,
  diskName,
  reservePath,
  type VmLayout,
} from '../store/layout.js';
import { removeCycleFolder } from '../store/removing-mark.js';
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
    await unlessGone(async () => {
      await fs.remove(data);
      await fs.remove(manifest);
      await fs.flushFolder(folder);
      await removeCycleFolder(fs, layout, cycleId);
    });
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
  await unlessGone(async () => {
    for (const path of [files.data, files.manifest, announcedPath(files), reservePath(files)]) {
      await fs.remove(path);
    }
    await fs.flushFolder(folder);
    await removeIfEmpty(fs, folder);
  });
  await unlessGone(() => removeCycleFolder(fs, layout, baseCycleId));
}

/**
 * A commit tidies up as well (ingest/leftover-cycles.ts) and may take a folder away in the midst of this.
 * That it is gone is all that was wanted, and says nothing about any point.
 */
async function unlessGone(removal: () => Promise<void>): Promise<void> {
  try {
    await removal();
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_NOT_FOUND') throw error;
  }
}

async function removeIfEmpty(fs: FileSystem, folder: string): Promise<void> {
  if ((await fs.list(folder)).length === 0) await fs.removeFolder(folder);
}

/** Commits wait meanwhile. */
const FOLDERS_AT_ONCE = 16;

interface Leftover {
  readonly folder: string;
  readonly names: readonly string[];
  /** Of the cycle that has left it. */
  readonly cycleId: Guid;
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
  const old = new Map(found.map(({ folder, names }) => [folder, new Set(names)]));
  for (let isAtEnd = false; !isAtEnd;) {
    // a cycle may have been begun in a folder meanwhile: then it is none of these any more
    isAtEnd = await vm.change(async () => {
      const still = (await findLeftovers(fs, vm)).filter(({ folder }) => old.has(folder));
      for (const leftover of still.slice(0, FOLDERS_AT_ONCE)) {
        await removeLeftover(fs, vm, leftover, old.get(leftover.folder));
        old.delete(leftover.folder);
      }
      return still.length <= FOLDERS_AT_ONCE;
    });
    yield { kind: 'worked', bytes: 0 };
  }
}

async function removeLeftover(
  fs: FileSystem,
  { layout }: VmStore,
  { folder, names, cycleId }: Leftover,
  old: ReadonlySet<string> | undefined,
): Promise<void> {
  for (const name of names) if (old?.has(name) === true) await fs.remove(join(folder, name));
  await fs.flushFolder(folder);
  if (folder === layout.cycle(cycleId)) await removeCycleFolder(fs, layout, cycleId);
  else await removeIfEmpty(fs, folder);
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
  const known = segments.cycleIds;
  // a folder that no record names is one's that is over only when it says so itself
  const isCycleOver = async (id: Guid): Promise<boolean> =>
    !claimedCycleIds.has(id) &&
    (known.has(id) ||
      ((await fs.status(layout.progress(id))) === undefined &&
        (await fs.status(layout.removing(id))) !== undefined));
  // bases first: their mark is in the folder of their cycle
  for (const disk of await listed(fs, layout.disks)) {
    for (const name of await listed(fs, join(layout.disks, disk))) {
      const id = parseGuid(name);
      if (id !== name || !(await isCycleOver(id))) continue;
      const folder = join(layout.disks, disk, name);
      const segment = segments.all.find(
        (each) => diskName(each) === disk && each.baseCycleId === id,
      );
      const names = (await fs.list(folder)).filter((file) => isBaseLeftover(file, segment));
      if (names.length > 0) found.push({ folder, names, cycleId: id });
    }
  }
  for (const name of await listed(fs, layout.cycles)) {
    const id = parseGuid(name);
    if (id !== name || !(await isCycleOver(id))) continue;
    const folder = layout.cycle(id);
    const disks = named.get(folder);
    const isKnown = known.has(id);
    const names = (await fs.list(folder)).filter((file) => {
      const disk = DELTA_FILE.exec(file)?.[1];
      if (disk !== undefined) return disks?.has(disk) !== true;
      // the mark of a work that never came to its record
      return isKnown && join(folder, file) === layout.removing(id);
    });
    if (names.length > 0 || !isKnown) found.push({ folder, names, cycleId: id });
  }
  // so that the status can name what nobody knows
  await leftoverCycles(fs, vm);
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
