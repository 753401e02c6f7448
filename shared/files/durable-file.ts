// Small files that are whole at every moment: state, settings, manifests' heads. A write goes to a
// new file beside the target, is flushed, takes the target's name, and the folder is flushed. So
// after a crash the target holds the old content or the new, never a mix; after a successful return
// it holds the new.
//
// The new file is one of temporary-path.ts. One that a crash left behind holds nothing that anybody
// was promised; removeLeftovers() takes it away. Two writers of one target do not disturb each
// other's files, but the later rename wins: whoever owns a folder's state locks it.

import { dirname } from 'node:path';
import { assert } from '../assert.js';
import { systemRandom, type Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { BlockFile, FileSystem, OpenOptions } from './block-file.js';
import { temporaryPathBeside } from './temporary-path.js';

/**
 * Replaces or creates `path` with `bytes`. Durable on return.
 * @throws DrError E_IO, E_CAPACITY: the old content stands, unless the flush of the folder failed;
 * then the new content is in place and may be lost by a power cut
 */
export async function writeDurably(
  fileSystem: FileSystem,
  path: string,
  bytes: Uint8Array,
  random: Random = systemRandom,
  { isSecret = false }: Pick<OpenOptions, 'isSecret'> = {},
): Promise<void> {
  const folder = dirname(path);
  const temporary = temporaryPathBeside(path, random);
  const file = await fileSystem.open(temporary, { mode: 'create', isSecret });
  try {
    try {
      await file.write(0, bytes);
      await file.flush();
    } finally {
      await file.close();
    }
    await fileSystem.rename(temporary, path);
  } catch (error) {
    await removeQuietly(fileSystem, temporary);
    throw error;
  }
  await fileSystem.flushFolder(folder);
}

/**
 * The whole content of a small file, or undefined when there is none.
 * @throws DrError E_FILE_DAMAGED when it is larger than `limitBytes`; nothing of it is read then
 */
export async function readSmall(
  fileSystem: FileSystem,
  path: string,
  limitBytes: number,
): Promise<Buffer | undefined> {
  let file: BlockFile;
  try {
    // A writer replaces the file instead of changing it, so there is nothing to lock against.
    file = await fileSystem.open(path, { mode: 'read', lock: 'none' });
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return undefined;
    throw error;
  }
  try {
    const sizeBytes = await file.size();
    if (sizeBytes > limitBytes) {
      throw damaged(path, `it has ${sizeBytes} bytes, at most ${limitBytes} are legal`);
    }
    const bytes = Buffer.alloc(sizeBytes);
    const count = await file.read(0, bytes);
    if (count !== sizeBytes) throw damaged(path, 'it shrank while it was read');
    return bytes;
  } finally {
    await file.close();
  }
}

/** A JSON file of ours: `formatVersion` says how to read the rest. */
export interface JsonFormat {
  /** What the file is, for messages: "store description". */
  readonly name: string;
  readonly version: number;
  readonly limitBytes: number;
}

/** What readJson() returns: an object whose fields are the caller's to check. */
export type JsonFields = Readonly<Record<string, unknown>>;

/**
 * Writes an object with its format version, durable on return.
 * @throws DrError E_IO, E_CAPACITY
 */
export async function writeJsonDurably(
  fileSystem: FileSystem,
  path: string,
  format: JsonFormat,
  fields: JsonFields,
  random: Random = systemRandom,
): Promise<void> {
  assert(!('formatVersion' in fields), 'the format version is ours to write');
  const text = `${JSON.stringify({ formatVersion: format.version, ...fields }, undefined, 2)}\n`;
  const bytes = Buffer.from(text);
  assert(bytes.length <= format.limitBytes, `a ${format.name} can be read back`);
  await writeDurably(fileSystem, path, bytes, random);
}

/**
 * The fields of a JSON file, or undefined when there is none. They come from outside: the caller
 * checks each.
 * @throws DrError E_FILE_DAMAGED (not an object in UTF-8 JSON, or too large), E_FILE_VERSION
 */
export async function readJson(
  fileSystem: FileSystem,
  path: string,
  format: JsonFormat,
): Promise<JsonFields | undefined> {
  const bytes = await readSmall(fileSystem, path, format.limitBytes);
  return bytes === undefined ? undefined : parseJson(bytes, path, format);
}

/** The pure part of readJson(). `path` is for messages. */
export function parseJson(bytes: Uint8Array, path: string, format: JsonFormat): JsonFields {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw damaged(path, `it is no JSON text, so no ${format.name}`, error);
  }
  if (!isObject(value)) throw damaged(path, `it holds no object, so no ${format.name}`);
  const version = value['formatVersion'];
  if (typeof version !== 'number' || !Number.isSafeInteger(version)) {
    throw damaged(path, `it has no format version, so it is no ${format.name}`);
  }
  if (version !== format.version) {
    throw new DrError(
      'E_FILE_VERSION',
      `${path} is a ${format.name} of version ${version}; this program knows ${format.version}`,
      { context: { path, version, knownVersion: format.version } },
    );
  }
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== 'formatVersion'));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function damaged(path: string, why: string, cause?: unknown): DrError {
  return new DrError('E_FILE_DAMAGED', `${path} cannot be used: ${why}`, {
    context: { path },
    cause,
  });
}

async function removeQuietly(fileSystem: FileSystem, path: string): Promise<void> {
  try {
    await fileSystem.remove(path);
  } catch {
    // The first error says what is wrong; the leftover is recognised and removed later.
  }
}
