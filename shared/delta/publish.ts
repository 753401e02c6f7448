// A file that appears whole or not at all: written beside its name as NAME.part, flushed, renamed,
// folder flushed. A crash leaves at most the .part file, which the next run overwrites.

import { dirname } from 'node:path';

import type { BlockFile, FileSystem } from '../files/index.js';
import type { ByteSink } from './byte-source.js';

/**
 * Durable under `path` on return, replacing what had that name; on an error nothing has changed.
 * `produce` writes the content to the sink.
 * @throws DrError E_IO, E_CAPACITY, E_LOCKED (another process is writing the same file)
 */
export async function publishFile<T>(
  fs: FileSystem,
  path: string,
  produce: (sink: ByteSink) => Promise<T>,
): Promise<T> {
  const part = `${path}.part`;
  const file = await openFresh(fs, part);
  let isOpen = true;
  try {
    let position = 0;
    const result = await produce(async (chunk) => {
      await file.write(position, chunk);
      position += chunk.length;
    });
    await file.flush();
    isOpen = false;
    await file.close();
    await fs.rename(part, path);
    await fs.flushFolder(dirname(path));
    return result;
  } catch (error) {
    // The first error is the one to report; what cannot be tidied up here is overwritten next time.
    if (isOpen) await file.close().catch(() => undefined);
    await fs.remove(part).catch(() => undefined);
    throw error;
  }
}

/** An empty file for writing; the lock tells a leftover from a file that is being written now. */
async function openFresh(fs: FileSystem, path: string): Promise<BlockFile> {
  if ((await fs.status(path)) === undefined) return fs.open(path, { mode: 'create' });
  const file = await fs.open(path, { mode: 'write' });
  try {
    await file.truncate(0);
    return file;
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
}
