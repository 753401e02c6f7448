// A protection that was given up: a mark in the folder of its VM says so, and from then on the folder
// holds nothing that anybody needs. Whoever opens the store next, or protects the VM anew, removes what
// is left of it first.
//
//   mark durable             the protection is forgotten; before that nothing was touched
//   journal, kept disks,
//   what is not ours         move to `forgotten/<vm-id>.<time>`: who did what, and what an operator kept
//   everything else          is removed, each folder durably, the mark as the last of it
//
// So a power cut leaves the protection as it was, or a folder with the mark; never a protection without
// some of its files.

import { basename, dirname, join } from 'node:path';
import { DrError } from '../../shared/errors.js';
import {
  type FileSystem,
  isLeftoverOf,
  type JsonFields,
  readJson,
  writeJsonDurably,
} from '../../shared/files/index.js';
import type { Random } from '../../shared/clock.js';
import type { VmLayout } from './layout.js';
import type { Actor } from './records.js';

const MARK = { name: 'mark of a forgotten protection', version: 1, limitBytes: 64 * 1024 };

export interface Forgotten extends Actor {
  readonly vmName: string;
  readonly owner: string;
  readonly atMs: number;
}

/** Durable on return: the protection is forgotten. @throws DrError E_IO, E_CAPACITY */
export async function markForgotten(
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
  layout: VmLayout,
  { vmName, owner, atMs, by, keyId }: Forgotten,
): Promise<void> {
  const fields = { vmName, owner, atMs, by, ...(keyId === undefined ? {} : { keyId }) };
  await writeJsonDurably(fs, layout.forgotten, MARK, fields, random);
}

export function isMarkedForgotten(layout: VmLayout, names: readonly string[]): boolean {
  return names.includes(basename(layout.forgotten));
}

/**
 * Removes what is left of a forgotten protection; done again it goes on. Nothing is done to a folder
 * without the mark. @throws DrError E_IO: some of it is left, and the mark with it
 */
export async function removeForgotten(
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
  layout: VmLayout,
): Promise<void> {
  if ((await fs.status(layout.forgotten)) === undefined) return;
  const fields = await readMark(fs, layout);
  const remains = layout.remains(Number(fields['atMs'] ?? 0));
  await fs.makeFolder(remains);
  await writeJsonDurably(fs, join(remains, 'forgotten.json'), MARK, fields, random);
  await moveRemains(fs, layout, remains);
  for (const name of await fs.list(layout.folder)) {
    const isOurs = isNeedless(layout, name) || name === basename(layout.kept);
    if (isOurs) await removeAll(fs, join(layout.folder, name));
  }
  await fs.flushFolder(layout.folder);
  await fs.remove(layout.forgotten);
  await fs.flushFolder(layout.folder);
  // a folder of somebody else's keeps it
  if ((await fs.list(layout.folder)).length === 0) await fs.removeFolder(layout.folder);
  await fs.flushFolder(dirname(layout.folder));
}

/** The mark counts by being there; what it says is for people. */
async function readMark(fs: FileSystem, layout: VmLayout): Promise<JsonFields> {
  try {
    return (await readJson(fs, layout.forgotten, MARK)) ?? {};
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_FILE_DAMAGED') throw error;
    return {};
  }
}

/** Names that only a protection needs; whatever else lies there is the journal's, or somebody else's. */
function isNeedless(layout: VmLayout, name: string): boolean {
  const files = [layout.snapshot, layout.scrub];
  const isFile = files.some(
    (path) => name === basename(path) || isLeftoverOf(basename(path), name),
  );
  const isFolder = name === basename(layout.disks) || name === basename(layout.cycles);
  return isFile || isFolder || isLeftoverOf(basename(layout.journal), name);
}

async function moveRemains(fs: FileSystem, layout: VmLayout, remains: string): Promise<void> {
  for (const name of await fs.list(layout.folder)) {
    const path = join(layout.folder, name);
    if (isNeedless(layout, name) || path === layout.forgotten) continue;
    if ((await fs.status(path))?.kind === 'file') await fs.rename(path, join(remains, name));
  }
  const kept = (await fs.status(layout.kept)) === undefined ? [] : await fs.list(layout.kept);
  for (const name of kept) await fs.rename(join(layout.kept, name), join(remains, name));
  // what is to stay is durable under its new name before anything is removed
  await fs.flushFolder(remains);
}

async function removeAll(fs: FileSystem, path: string): Promise<void> {
  const status = await fs.status(path);
  if (status?.kind !== 'folder') {
    await fs.remove(path);
    return;
  }
  for (const name of await fs.list(path)) await removeAll(fs, join(path, name));
  await fs.flushFolder(path);
  await fs.removeFolder(path);
}
