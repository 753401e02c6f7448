// Files of any length that appear whole or not at all: each is written under a temporary name beside
// its target, flushed and closed; when all are, each is renamed and the folders are flushed. (Small
// files in one piece: shared/files/durable-file.ts.)
//
// One file is there whole or not at all, at any moment. Several are not one atom:
// - A crash between two renames leaves the earlier files new and the later ones as they were.
// - Until the folder is flushed, a power cut may undo any of the renames and keep the others.
// Callers rename what stands on its own first. A delta with a missing manifest is a sound delta; with
// an older manifest it is refused by its hashes, and is made again.

import { dirname } from 'node:path';

import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import { type BlockFile, type FileSystem, createBeside } from '../files/index.js';
import type { ByteSink } from './byte-source.js';
import { DeltaError } from './delta-error.js';

export interface PublishSeams {
  readonly fs: FileSystem;
  readonly random: Random;
}

export interface PublishOptions {
  /**
   * Whether a file under a target's name is replaced. Else E_EXISTS is thrown when there is one right
   * before the renames. That is a check and not a lock: a file that appears between it and the rename
   * is replaced.
   */
  readonly isReplacing: boolean;
  /** The device is set to work each time so many bytes were written, so that the flush that counts is short. */
  readonly flushEveryBytes?: number;
  /** For files that nobody reads soon: see OpenOptions. */
  readonly isDirect?: boolean;
}

/** Begins a file that is to appear under `path`, and gives its sink. */
export type CreateFile = (path: string) => Promise<ByteSink>;

interface Unfinished {
  readonly path: string;
  readonly temporary: string;
  readonly file: BlockFile;
  isOpen: boolean;
  /** Flushes in the background. */
  flushing: Promise<void>;
}

/**
 * Durable on return: every file that `produce` created, renamed in the order of creation. On an
 * error before the first rename nothing has changed under any of the names; on a later one `done` of
 * the error says which files have their names.
 * @throws DrError E_IO, E_CAPACITY, E_EXISTS, and what `produce` throws
 */
export async function publishTogether<T>(
  { fs, random }: PublishSeams,
  { isReplacing, flushEveryBytes = Infinity, isDirect = false }: PublishOptions,
  produce: (create: CreateFile) => Promise<T>,
): Promise<T> {
  const files: Unfinished[] = [];
  const create: CreateFile = async (path) => {
    const { temporaryPath: temporary, file } = await createBeside(fs, path, random, { isDirect });
    const unfinished = { path, temporary, file, isOpen: true, flushing: Promise.resolve() };
    files.push(unfinished);
    let position = 0;
    let sinceFlush = 0;
    return async (chunk) => {
      await file.write(position, chunk);
      position += chunk.length;
      sinceFlush += chunk.length;
      if (sinceFlush < flushEveryBytes) return;
      sinceFlush = 0;
      unfinished.flushing = unfinished.flushing.then(() => file.flush());
      unfinished.flushing.catch(() => undefined); // awaited before the flush that counts
    };
  };
  const renamed: string[] = [];
  try {
    const result = await produce(create);
    for (const each of files) {
      await each.flushing;
      await each.file.flush();
      each.isOpen = false;
      await each.file.close();
    }
    if (!isReplacing) for (const { path } of files) await refuseExisting(fs, path);
    for (const { temporary, path } of files) {
      await fs.rename(temporary, path);
      renamed.push(path);
    }
    for (const folder of new Set(renamed.map((path) => dirname(path)))) {
      await fs.flushFolder(folder);
    }
    return result;
  } catch (error) {
    // The first error is the one to report; a leftover is known by its name.
    for (const { file, isOpen, temporary, path } of files) {
      if (isOpen) await file.close().catch(() => undefined);
      if (!renamed.includes(path)) await fs.remove(temporary).catch(() => undefined);
    }
    throw renamed.length === 0 ? error : asPublished(error, renamed);
  }
}

/** publishTogether() for one file: `produce` writes its content to the sink. */
export async function publishFile<T>(
  seams: PublishSeams,
  path: string,
  options: PublishOptions,
  produce: (sink: ByteSink) => Promise<T>,
): Promise<T> {
  return publishTogether(seams, options, async (create) => produce(await create(path)));
}

async function refuseExisting(fs: FileSystem, path: string): Promise<void> {
  if ((await fs.status(path)) === undefined) return;
  throw new DeltaError('E_EXISTS', `${path} has appeared while its new content was written`, {
    context: { file: path },
  });
}

/** The same error, saying that files have their names already. */
function asPublished(error: unknown, renamed: readonly string[]): unknown {
  if (!(error instanceof DrError)) return error;
  const { code, message, context, hint } = error;
  const done = `in place, but not known to be durable: ${renamed.join(', ')}`;
  return new DeltaError(code, message, { context, hint, done, cause: error });
}
