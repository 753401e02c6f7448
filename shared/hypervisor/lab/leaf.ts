// Giving the guest a new leaf: the present one is frozen from then on. Files first, vm.json last.

import path from 'node:path';
import { createVhdx } from '../../vhdx/index.js';
import { childName, diskPath } from './layout.js';
import type { LabContext } from './context.js';
import type { DiskRecord, VmRecord } from './record.js';
import { checkedDisk, compactTracking, contentIdOf, nextGeneration } from './tracking.js';

/** Small blocks, as Hyper-V makes them: what the guest writes meanwhile is merged back. */
const LEAF_BLOCK_BYTES = 2 * 1024 * 1024;

export interface NewLeaf {
  /** In vm.json's form. */
  readonly file: string;
  readonly contentId: Awaited<ReturnType<typeof contentIdOf>>;
}

/** Makes an empty differencing file over `parent`. Durable on return; vm.json does not name it. */
export async function newLeaf(
  context: LabContext,
  vmId: VmRecord['id'],
  parent: string,
): Promise<NewLeaf> {
  const { fs, folder, random } = context;
  const file = childName(parent, vmId, random.fill(Buffer.alloc(4)).toString('hex'));
  const target = diskPath(folder, vmId, file);
  await createVhdx(
    target,
    {
      type: 'differencing',
      parentPath: diskPath(folder, vmId, parent),
      blockSizeBytes: LEAF_BLOCK_BYTES,
    },
    { fs, random },
  );
  return { file, contentId: await contentIdOf(context, target) };
}

/**
 * All disks of the VM with a new leaf and a new generation of tracking. Nothing has changed as long
 * as the result is not saved; a failure takes the new files away again.
 */
export async function withNewLeaves(context: LabContext, vm: VmRecord): Promise<VmRecord> {
  const made: string[] = [];
  try {
    const disks: DiskRecord[] = [];
    for (const before of vm.disks) {
      const disk = await compactTracking(context, vm, await checkedDisk(context, vm, before));
      const leaf = await newLeaf(context, vm.id, disk.leaf);
      made.push(leaf.file);
      disks.push({
        ...disk,
        leaf: leaf.file,
        files: [...disk.files, { file: leaf.file, parent: disk.leaf }],
        tracking: await nextGeneration(context, vm.id, disk, leaf.contentId),
      });
    }
    return { ...vm, disks };
  } catch (error) {
    await removeFiles(context, vm, made);
    throw error;
  }
}

/** What cannot be removed is a leftover that the next change of the VM takes away. */
export async function removeFiles(
  context: LabContext,
  vm: VmRecord,
  files: readonly string[],
): Promise<void> {
  const { fs, folder } = context;
  for (const file of files) {
    const target = diskPath(folder, vm.id, file);
    await fs.remove(target).catch(() => undefined);
    await fs.flushFolder(path.dirname(target)).catch(() => undefined);
  }
}
