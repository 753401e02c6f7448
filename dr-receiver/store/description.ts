// store.json: which store this is. Every source keeps a chain for the id, and every journal names it, so
// a store that forgot it could be used by nobody. It stands there twice, each with a checksum: one copy
// that rotted or was lost is made anew from the other, and an id is never guessed.

import { createHash } from 'node:crypto';
import { type Guid, parseGuid, randomGuid } from '../../shared/bytes/index.js';
import type { Clock, Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import {
  type FileSystem,
  type JsonFields,
  readJson,
  removeLeftovers,
  writeJsonDurably,
} from '../../shared/files/index.js';
import type { StoreLayout } from './layout.js';

const FORMAT = { name: 'store description', version: 1, limitBytes: 64 * 1024 };

export interface Description {
  readonly storeId: Guid;
  readonly createdAt: string;
}

/** What stands in one of the two files. */
type Copy =
  | { readonly kind: 'sound'; readonly description: Description }
  | { readonly kind: 'missing' }
  | { readonly kind: 'damaged'; readonly error: DrError };

interface DescriptionSeams {
  readonly fs: FileSystem;
  readonly random: Random;
}

/** Makes the description of a new store; durable on return. */
export async function createDescription(
  layout: StoreLayout,
  { fs, random, clock }: DescriptionSeams & { readonly clock: Clock },
): Promise<void> {
  const description = {
    storeId: randomGuid(random),
    createdAt: new Date(clock.now()).toISOString(),
  };
  for (const path of layout.descriptions) await write(path, description, { fs, random });
}

/** Whether a store was begun here. */
export async function hasDescription(layout: StoreLayout, fs: FileSystem): Promise<boolean> {
  for (const path of layout.descriptions) if ((await fs.status(path)) !== undefined) return true;
  return false;
}

/**
 * Which store this is; `unsound` are the files that do not say so.
 * @throws DrError E_NOT_FOUND (no file), E_FILE_DAMAGED (none can be used, or they contradict each
 *   other), E_FILE_VERSION, E_IO
 */
export async function readDescription(
  layout: StoreLayout,
  fs: FileSystem,
): Promise<{ readonly description: Description; readonly unsound: readonly string[] }> {
  let found: Description | undefined;
  let damage: DrError | undefined;
  const unsound: string[] = [];
  for (const path of layout.descriptions) {
    const copy = await readCopy(path, fs);
    if (copy.kind !== 'sound') {
      unsound.push(path);
      if (copy.kind === 'damaged') damage ??= copy.error;
      continue;
    }
    if (found !== undefined && found.storeId !== copy.description.storeId) {
      throw new DrError(
        'E_FILE_DAMAGED',
        `${layout.descriptions.join(' and ')} name different stores`,
        { hint: 'Remove the one that came from another store.' },
      );
    }
    found = copy.description;
  }
  if (found !== undefined) return { description: found, unsound };
  throw (
    damage ??
    new DrError('E_NOT_FOUND', `${layout.description} is missing, so ${layout.folder} is no store`)
  );
}

/** Makes the files anew that do not say which store this is. Durable on return. */
export async function mendDescription(
  description: Description,
  unsound: readonly string[],
  seams: DescriptionSeams,
): Promise<void> {
  for (const path of unsound) {
    await removeLeftovers(seams.fs, path);
    await write(path, description, seams);
  }
}

function write(path: string, description: Description, seams: DescriptionSeams): Promise<void> {
  const fields = { ...description, checksum: checksumOf(description) };
  return writeJsonDurably(seams.fs, path, FORMAT, fields, seams.random);
}

async function readCopy(path: string, fs: FileSystem): Promise<Copy> {
  let fields: JsonFields | undefined;
  try {
    fields = await readJson(fs, path, FORMAT);
  } catch (error) {
    // a release that writes another version writes it into both
    const isUnsound =
      error instanceof DrError &&
      (error.code === 'E_FILE_DAMAGED' || error.code === 'E_FILE_VERSION');
    if (isUnsound) return { kind: 'damaged', error };
    throw error;
  }
  if (fields === undefined) return { kind: 'missing' };
  const { storeId, createdAt = '', checksum } = fields;
  const parsed = typeof storeId === 'string' ? parseGuid(storeId) : undefined;
  if (parsed === undefined || typeof createdAt !== 'string') {
    return damaged(path, 'it names no store id');
  }
  const description = { storeId: parsed, createdAt };
  // former releases wrote none
  if (checksum !== undefined && checksum !== checksumOf(description)) {
    return damaged(path, 'its checksum is another one');
  }
  return { kind: 'sound', description };
}

function damaged(path: string, why: string): Copy {
  const error = new DrError('E_FILE_DAMAGED', `${path} cannot be used: ${why}`, {
    context: { path },
    hint: 'Restore it from a copy of the store.',
  });
  return { kind: 'damaged', error };
}

function checksumOf({ storeId, createdAt }: Description): string {
  return createHash('sha256').update(`${storeId}\n${createdAt}`).digest('hex');
}
