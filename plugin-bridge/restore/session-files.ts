// The files of a session: reading its records, and removing what it staged, whoever left it.

import { dirname, join } from 'node:path';
import { DrError } from '../../shared/errors.js';
import {
  type BlockFile,
  type FileSystem,
  readJson,
  removeLeftovers,
} from '../../shared/files/index.js';
import { type Item, ITEM_FORMAT, itemOf } from './items.js';

const FOLDER = /^restore-\d{1,15}$/;

export async function readItems(fs: FileSystem, folder: string): Promise<Map<string, Item>> {
  const items = new Map<string, Item>();
  for (const name of await fs.list(join(folder, 'items'))) {
    const item = await readItem(fs, join(folder, 'items', name));
    if (item !== undefined) items.set(item.file.path, item);
  }
  return items;
}

/** undefined: it is no record. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION, E_RESTORE_PATH */
async function readItem(fs: FileSystem, file: string): Promise<Item | undefined> {
  if (!/[/\\][0-9a-f]{32}\.json$/.test(file)) return undefined;
  const fields = await readJson(fs, file, ITEM_FORMAT);
  return fields === undefined ? undefined : itemOf(fields, file);
}

/** A record that rotted says nothing of what is staged, and keeps no session from being removed. */
export function asUnreadable(error: unknown): undefined {
  const codes = ['E_FILE_DAMAGED', 'E_FILE_VERSION', 'E_RESTORE_PATH'];
  if (!(error instanceof DrError) || !codes.includes(error.code)) throw error;
}

export async function removeStaged(fs: FileSystem, { staged }: Item): Promise<void> {
  if ((await fs.status(dirname(staged))) === undefined) return;
  await removeLeftovers(fs, staged);
  await fs.remove(staged);
  // what says of an unfinished apply that it is one
  await fs.remove(`${staged}.applying`);
  await fs.flushFolder(dirname(staged));
}

/** Staged bytes go before the record that names them. */
export async function removeItems(fs: FileSystem, folder: string): Promise<void> {
  const items = join(folder, 'items');
  if ((await fs.status(items)) === undefined) return;
  for (const name of await fs.list(items)) {
    const item = await readItem(fs, join(items, name)).catch(asUnreadable);
    if (item === undefined) continue;
    await removeStaged(fs, item);
    await fs.remove(join(items, name));
  }
  for (const name of await fs.list(items)) await fs.remove(join(items, name));
  await fs.flushFolder(items);
}

/** False when a backend keeps the session alive. */
export async function ifNobodyLives(
  fs: FileSystem,
  folder: string,
  action: () => Promise<void>,
): Promise<boolean> {
  let alive: BlockFile;
  try {
    alive = await fs.open(join(folder, 'alive'), { mode: 'read', lock: 'exclusive' });
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    if (error.code === 'E_LOCKED') return false;
    if (error.code !== 'E_NOT_FOUND') throw error;
    await action();
    return true;
  }
  try {
    await action();
    return true;
  } finally {
    await alive.close();
  }
}

export async function removeSession(fs: FileSystem, folder: string): Promise<boolean> {
  return ifNobodyLives(fs, folder, async () => {
    await removeItems(fs, folder);
    await fs.removeFolder(join(folder, 'items'));
    for (const name of await fs.list(folder)) await fs.remove(join(folder, name));
    await fs.removeFolder(folder);
    await fs.flushFolder(dirname(folder));
  });
}

/** A session that no backend keeps alive: its job was cancelled, or died. */
export interface LeftSession {
  readonly folder: string;
  readonly isRemoved: boolean;
}

/** Whether a name in the state folder is the one of a session. */
export function isSessionName(name: string): boolean {
  return FOLDER.test(name);
}

/** Sessions that nobody goes on with, removed unless `isPlan`. @throws DrError E_IO */
export async function collectRestoreSessions(
  fs: FileSystem,
  stateFolder: string,
  { isPlan }: { readonly isPlan: boolean },
): Promise<LeftSession[]> {
  if ((await fs.status(stateFolder)) === undefined) return [];
  const left: LeftSession[] = [];
  for (const name of await fs.list(stateFolder)) {
    if (!isSessionName(name)) continue;
    const folder = join(stateFolder, name);
    const isLeft = isPlan
      ? await ifNobodyLives(fs, folder, () => Promise.resolve())
      : await removeSession(fs, folder);
    if (isLeft) left.push({ folder, isRemoved: !isPlan });
  }
  return left;
}
