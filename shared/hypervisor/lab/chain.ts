// The files of a disk as a graph, and the merges that it calls for. Pure functions decide, settle()
// acts.
//
// A file is needed as long as it is the leaf or a checkpoint holds it. One that is not needed any
// more, and that one file depends on, is merged with that one; without dependants it is removed;
// with several it waits until one is left. So nobody has to remember which merges are due.
//
// A merge, for a parent P that nobody needs and its only child C:
//   1  vm.json names the merge                                          durable
//   2  mergeVhdx(C): P takes in what C holds and stands under C's name  resumes by itself
//   3  when C was the leaf, the file gets P's name back, or the first one that the disk had, so that
//      a disk keeps its path
//   4  vm.json has the new graph
// After a crash the files say where it stopped: P and C there: 2. C without P: 3. No C: 4.

import path from 'node:path';
import { defined } from '../../assert.js';
import { DrError } from '../../errors.js';
import { mergeVhdx } from '../../vhdx/index.js';
import type { LabContext } from './context.js';
import { diskPath, disksFolder, isChildName, isOwnDiskName } from './layout.js';
import { saveVm, type DiskRecord, type MergeRecord, type VmRecord } from './record.js';

export type Tidying =
  | { readonly kind: 'remove'; readonly file: string }
  | { readonly kind: 'merge'; readonly merge: MergeRecord };

/** Files of `disk` that a checkpoint froze. */
function frozenFiles(vm: VmRecord, disk: DiskRecord): Set<string> {
  const marks = [...vm.checkpoints, ...vm.userCheckpoints].flatMap((mark) => mark.disks);
  return new Set(marks.filter(({ diskId }) => diskId === disk.diskId).map((mark) => mark.file));
}

/** What is to be done next with the files of a disk; undefined when all are needed. */
export function nextTidying(vm: VmRecord, disk: DiskRecord): Tidying | undefined {
  if (disk.merge !== undefined) return { kind: 'merge', merge: disk.merge };
  const frozen = frozenFiles(vm, disk);
  const free = disk.files.filter(({ file }) => file !== disk.leaf && !frozen.has(file));
  const merges: MergeRecord[] = [];
  for (const { file } of free) {
    const children = disk.files.filter(({ parent }) => parent === file).map((child) => child.file);
    if (children.length === 0) return { kind: 'remove', file };
    const [child] = children;
    if (children.length > 1 || child === undefined) continue;
    merges.push({ parent: file, child, finalName: finalNameOf(disk, file, child) });
  }
  // From above: what the leaf is merged with can have any name, so that a disk keeps its path.
  const merge = merges.find(({ child }) => child === disk.leaf) ?? merges[0];
  return merge === undefined ? undefined : { kind: 'merge', merge };
}

/** Others know the child by its name, unless it is the leaf. */
function finalNameOf(disk: DiskRecord, parent: string, child: string): string {
  if (child !== disk.leaf) return child;
  return disk.files.length === 2 ? disk.home : parent;
}

export function hasDueTidying(vm: VmRecord): boolean {
  return vm.disks.some((disk) => nextTidying(vm, disk) !== undefined);
}

/** The graph after a merge. */
export function mergedDisk(disk: DiskRecord, merge: MergeRecord): DiskRecord {
  const { parent, child, finalName } = merge;
  const below = disk.files.find(({ file }) => file === parent)?.parent;
  const files = disk.files
    .filter(({ file }) => file !== parent)
    .map((item) => (item.file === child ? { file: finalName, parent: below } : item));
  return { ...disk, files, leaf: disk.leaf === child ? finalName : disk.leaf, merge: undefined };
}

export function withDisk(vm: VmRecord, disk: DiskRecord): VmRecord {
  const disks = vm.disks.map((other) => (other.diskId === disk.diskId ? disk : other));
  return { ...vm, disks };
}

/**
 * Removes and merges what nobody needs, under the VM's lock. Durable on return.
 * @param scope 'begun': finish what may have changed files already, nothing else
 * @throws DrError E_LOCKED: somebody reads a file that is to be merged. VhdxError, E_IO, E_CAPACITY
 */
export async function settle(
  context: LabContext,
  given: VmRecord,
  scope: 'begun' | 'all',
): Promise<VmRecord> {
  let vm = given;
  for (const { diskId } of given.disks) {
    for (;;) {
      const disk = defined(
        vm.disks.find((other) => other.diskId === diskId),
        'no disk goes while files are tidied',
      );
      const next = nextTidying(vm, disk);
      if (next === undefined || (scope === 'begun' && disk.merge === undefined)) break;
      vm =
        next.kind === 'remove'
          ? await removeFile(context, vm, disk, next.file)
          : await mergeFiles(context, vm, disk, next.merge);
    }
  }
  return vm;
}

async function removeFile(
  context: LabContext,
  vm: VmRecord,
  disk: DiskRecord,
  file: string,
): Promise<VmRecord> {
  const target = diskPath(context.folder, vm.id, file);
  await refuseInUse(context, target);
  await context.fs.remove(target);
  await context.fs.flushFolder(path.dirname(target));
  const files = disk.files.filter((other) => other.file !== file);
  const next = withDisk(vm, { ...disk, files });
  await saveVm(context, next);
  return next;
}

async function mergeFiles(
  context: LabContext,
  vm: VmRecord,
  disk: DiskRecord,
  merge: MergeRecord,
): Promise<VmRecord> {
  const { fs, random, folder } = context;
  const parent = diskPath(folder, vm.id, merge.parent);
  const child = diskPath(folder, vm.id, merge.child);
  let current = vm;
  if (disk.merge === undefined) {
    // Looked at first: a merge that has begun holds up the guest.
    await refuseInUse(context, parent);
    await refuseInUse(context, child);
    current = withDisk(vm, { ...disk, merge });
    await saveVm(context, current);
  }
  const hasChild = (await fs.status(child)) !== undefined;
  if (hasChild && (await isMergeDue(context, parent))) await mergeVhdx(child, { fs, random });
  if (merge.finalName !== merge.child && hasChild) {
    const final = diskPath(folder, vm.id, merge.finalName);
    if ((await fs.status(final)) !== undefined) {
      throw new DrError('E_EXISTS', `${final} is not a file of the lab, and bars a merged disk`, {
        context: { vmId: vm.id, file: final },
        done: 'the merged disk keeps its bytes under another name',
        hint: 'Move that file away; the next command on the VM goes on.',
      });
    }
    await fs.rename(child, final);
    await fs.flushFolder(path.dirname(child));
  }
  current = withDisk(current, mergedDisk(disk, merge));
  await saveVm(context, current);
  return current;
}

/** False when the parent stands under the child's name already, with nothing left to tidy up. */
async function isMergeDue({ fs }: LabContext, parent: string): Promise<boolean> {
  if ((await fs.status(parent)) !== undefined) return true;
  return (await fs.status(`${parent}.merge.json`)) !== undefined;
}

/** @throws DrError E_LOCKED */
async function refuseInUse({ fs }: LabContext, file: string): Promise<void> {
  try {
    const handle = await fs.open(file, { mode: 'read', lock: 'exclusive' });
    await handle.close();
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_NOT_FOUND') throw error;
  }
}

/**
 * Removes files that a crash left behind and that the record does not name, known by the names that
 * the lab gives: of its own disks in the VM's folder, and anywhere what bears the VM's id. Under the
 * VM's lock, so nobody is making them now. They must go: a stray child bars its parent from being
 * written to. What others put beside a disk, such as the protective disk of a failback, is theirs.
 */
export async function removeStrayFiles(context: LabContext, vm: VmRecord): Promise<void> {
  const { fs, folder } = context;
  const own = disksFolder(folder, vm.id);
  const named = new Set(
    vm.disks.flatMap(({ files, merge, former }) => {
      const names = [...files.map(({ file }) => file), ...former];
      // a merge that was cut off may have given the file its last name already
      if (merge !== undefined) names.push(merge.finalName);
      return names.map((file) => diskPath(folder, vm.id, file));
    }),
  );
  const folders = new Set([own, ...[...named].map((file) => path.dirname(file))]);
  for (const where of folders) {
    let count = 0;
    // somebody may have removed the folder of files that a disk was on formerly
    if ((await fs.status(where)) === undefined) continue;
    for (const name of await fs.list(where)) {
      const file = path.join(where, name);
      const isOurs = isChildName(name, vm.id) || (where === own && isOwnDiskName(name));
      if (!isOurs || named.has(file)) continue;
      await fs.remove(file);
      count++;
    }
    if (count > 0) await fs.flushFolder(where);
  }
}
