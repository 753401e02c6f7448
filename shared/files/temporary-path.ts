// Files under construction. They stand beside their target, so that the final rename stays on one
// volume, and their names carry a random part, so that two writers never meet. A process that was
// killed leaves its file behind; the next writer of the same target takes it away.

import path from 'node:path';
import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { BlockFile, FileSystem, OpenOptions } from './block-file.js';

/** Ends every name that temporaryPathBeside() makes; such a file may be deleted when no one has it open. */
export const TEMPORARY_SUFFIX = '.unfinished';

/** A new name in the folder of `target`: `.NAME.1f2e3d4c.unfinished`. */
export function temporaryPathBeside(target: string, random: Random): string {
  const tag = random.fill(Buffer.alloc(4)).toString('hex');
  const name = `.${path.basename(target)}.${tag}${TEMPORARY_SUFFIX}`;
  return path.join(path.dirname(target), name);
}

/** True when `name` was the new file of a write to `targetName` that never finished. */
export function isLeftoverOf(targetName: string, name: string): boolean {
  const start = `.${targetName}.`;
  if (!name.startsWith(start) || !name.endsWith(TEMPORARY_SUFFIX)) return false;
  return /^[0-9a-f]{8}$/.test(name.slice(start.length, -TEMPORARY_SUFFIX.length));
}

/**
 * Removes what crashes left behind of writes to `target`; returns how many. A file that somebody
 * still writes is locked, and stays.
 */
export async function removeLeftovers(fs: FileSystem, target: string): Promise<number> {
  const folder = path.dirname(target);
  let count = 0;
  for (const name of await fs.list(folder)) {
    if (!isLeftoverOf(path.basename(target), name)) continue;
    const leftover = path.join(folder, name);
    if (await isInUse(fs, leftover)) continue;
    await fs.remove(leftover);
    count++;
  }
  if (count > 0) await fs.flushFolder(folder);
  return count;
}

async function isInUse(fs: FileSystem, file: string): Promise<boolean> {
  try {
    const handle = await fs.open(file, { mode: 'read', lock: 'exclusive' });
    await handle.close();
    return false;
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return false;
    if (error instanceof DrError && error.code === 'E_LOCKED') return true;
    throw error;
  }
}

/**
 * A new, empty file beside `target`, open and locked, and what earlier writers of the same target
 * left behind is gone. The caller renames it or removes it.
 * @throws DrError E_NOT_FOUND (folder), E_IO, E_CAPACITY
 */
export async function createBeside(
  fs: FileSystem,
  target: string,
  random: Random,
  options: Pick<OpenOptions, 'isDirect'> = {},
): Promise<{ temporaryPath: string; file: BlockFile }> {
  const temporaryPath = temporaryPathBeside(target, random);
  const file = await fs.open(temporaryPath, { ...options, mode: 'create' });
  try {
    await removeLeftovers(fs, target);
    return { temporaryPath, file };
  } catch (error) {
    await file.close().catch(() => undefined);
    await fs.remove(temporaryPath).catch(() => undefined);
    throw error;
  }
}
