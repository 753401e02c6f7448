// Folders and names on the destination's volume: made below the folder of the restore and nowhere else,
// and the job's Replace kept for what stands there.

import path from 'node:path';
import type { ReplaceRule } from '../job-info.js';
import type { FileSystem } from '../../shared/files/index.js';
import { findChildren } from '../../shared/vhdx/index.js';
import { DrError } from '../../shared/errors.js';
import { isInside } from './destination.js';
import { pathError } from './names.js';

/**
 * Makes `root` and the folders below it, none of which leads out of `root` by a link, nor `root` out of
 * the restore roots. Absolute. @throws DrError E_RESTORE_PATH, E_IO
 */
export async function confinedFolder(
  fs: FileSystem,
  root: string,
  below: readonly string[],
  roots: readonly string[] | undefined,
): Promise<string> {
  await refuseLinkOut(fs, root, roots);
  await fs.makeFolder(root);
  const real = await fs.realPath(root);
  let folder = real;
  for (const segment of below) {
    folder = path.join(folder, segment);
    const status = await fs.status(folder);
    if (status === undefined) await fs.makeFolder(folder);
    else if (status.kind !== 'folder') throw pathError(`${folder} is no folder`);
    if (!isInside(await fs.realPath(folder), real, path)) {
      throw pathError(`${folder} is a link that leads out of ${root}`);
    }
  }
  return folder;
}

/** What exists of `root` already may be a link. */
async function refuseLinkOut(
  fs: FileSystem,
  root: string,
  roots: readonly string[] | undefined,
): Promise<void> {
  if (roots === undefined) return;
  let existing = root;
  while ((await fs.status(existing)) === undefined && path.dirname(existing) !== existing) {
    existing = path.dirname(existing);
  }
  const real = await fs.realPath(existing);
  for (const allowed of roots) {
    const realAllowed =
      (await fs.status(allowed)) === undefined ? allowed : await fs.realPath(allowed);
    // above an allowed folder that is not there yet is as good as in it
    if (isInside(real, realAllowed, path) || isInside(realAllowed, real, path)) return;
  }
  throw pathError(`${root} is a link that leads out of the restore roots of backend.conf`);
}

/** Whether what stands at `final` is to be replaced, or nothing stands there. */
export async function mayWrite(
  fs: FileSystem,
  final: string,
  rule: ReplaceRule | undefined,
  modifiedAtMs: number,
): Promise<boolean> {
  const status = await fs.status(final);
  if (status === undefined) return true;
  if (status.kind !== 'file') throw pathError(`${final} is there, and is no file`);
  const existing = status.modifiedAtMs ?? 0;
  switch (rule) {
    case 'n':
      return false;
    case 'w':
      return modifiedAtMs > existing;
    case 'o':
      return modifiedAtMs < existing;
    case 'a':
    case undefined:
      return true;
  }
}

/** @throws DrError E_RESTORE_VM when disks depend on the file */
export async function refuseWithChildren(fs: FileSystem, final: string): Promise<void> {
  if ((await fs.status(final)) === undefined) return;
  const [child] = await findChildren(fs, final);
  if (child === undefined) return;
  throw new DrError('E_RESTORE_VM', `${final} is the parent of ${child}`, {
    context: { file: final },
    done: 'it was not replaced',
    hint: 'Give another `restore_path`, or remove the checkpoints of the VM first.',
  });
}
