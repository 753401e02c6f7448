// A file of any length that appears whole or not at all: written under a temporary name beside its
// target, flushed, renamed, folder flushed. (Small files in one piece: shared/files/durable-file.ts.)

import { dirname } from 'node:path';

import type { Random } from '../clock.js';
import { type FileSystem, temporaryPathBeside } from '../files/index.js';
import type { ByteSink } from './byte-source.js';

/**
 * Durable under `path` on return, replacing what had that name; on an error nothing has changed
 * under it. `produce` writes the content to the sink.
 * @throws DrError E_IO, E_CAPACITY, and what `produce` throws
 */
export async function publishFile<T>(
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
  path: string,
  produce: (sink: ByteSink) => Promise<T>,
): Promise<T> {
  const temporary = temporaryPathBeside(path, random);
  const file = await fs.open(temporary, { mode: 'create' });
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
    await fs.rename(temporary, path);
    await fs.flushFolder(dirname(path));
    return result;
  } catch (error) {
    // The first error is the one to report; a leftover is known by its name.
    if (isOpen) await file.close().catch(() => undefined);
    await fs.remove(temporary).catch(() => undefined);
    throw error;
  }
}
