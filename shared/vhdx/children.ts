// Which differencing disks in a folder depend on a file. A parent that is written to makes each of
// them wrong, so writing and merging ask here first. Only the folder of the parent can be searched;
// a child that was moved elsewhere is found out when it is opened, by its linkage.

import path from 'node:path';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { findParent } from './parent-path.js';
import { loadHead } from './structures.js';
import { refusing, VhdxError } from './violation.js';

const DISK_NAME = /\.a?vhdx$/i;

/**
 * Names of the disks beside `file` whose locator leads to it. A link to a disk counts as the disk.
 * Their linkage is not compared: a child that no longer fits is found too, because somebody may
 * still bring the right parent back.
 */
export async function findChildren(fs: FileSystem, file: string): Promise<string[]> {
  const parent = await fs.status(file);
  if (parent === undefined) return [];
  const parentPath = await fs.realPath(file);
  const folder = path.dirname(parentPath);
  const children: string[] = [];
  for (const name of await fs.list(folder)) {
    const candidate = path.join(folder, name);
    if (!DISK_NAME.test(name) || path.basename(parentPath) === name) continue;
    if (await isChild(fs, candidate, parent.identity)) children.push(name);
  }
  return children;
}

async function isChild(fs: FileSystem, file: string, parentIdentity: string): Promise<boolean> {
  if ((await fs.status(file))?.kind !== 'file') return false;
  try {
    const handle = await fs.open(file, { mode: 'read', lock: 'none' });
    try {
      const head = await loadHead(handle, { report: refusing(file) });
      if (head?.locator === undefined) return false;
      const found = await findParent(fs, file, head.locator);
      return (await fs.status(found))?.identity === parentIdentity;
    } finally {
      await handle.close();
    }
  } catch (error) {
    // What is no differencing disk with a parent here depends on nobody. A file that could not be
    // read is another matter: it may well be a child.
    const isNoChild = error instanceof VhdxError;
    const hasGone = error instanceof DrError && error.code === 'E_NOT_FOUND';
    if (isNoChild || hasGone) return false;
    throw error;
  }
}
