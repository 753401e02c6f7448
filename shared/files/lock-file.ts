// Turns between processes: an empty file whose lock is held by whoever is at work. Who dies gives its turn
// back with its lock.

import path from 'node:path';
import type { Clock } from '../clock.js';
import { DrError } from '../errors.js';
import type { BlockFile, FileSystem } from './block-file.js';

const RETRY_MS = 10;

/**
 * The file, open and locked; closing it gives the turn back.
 * @throws DrError E_LOCKED when it is not free within `timeoutMs`; E_NOT_FOUND
 */
export async function lockedFile(
  { fs, clock }: { readonly fs: FileSystem; readonly clock: Clock },
  lockFile: string,
  timeoutMs: number,
): Promise<BlockFile> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    try {
      return await fs.open(lockFile, { mode: 'write', lock: 'exclusive' });
    } catch (error) {
      if (!(error instanceof DrError) || error.code !== 'E_LOCKED') throw error;
      if (clock.monotonic() >= deadline) {
        throw new DrError(
          'E_LOCKED',
          `${path.dirname(lockFile)} is being worked on by another process`,
          {
            context: { lockFile, timeoutMs },
            done: `gave up after ${timeoutMs} ms, nothing was changed`,
            cause: error,
          },
        );
      }
    }
    await clock.sleep(RETRY_MS);
  }
}

/** Makes the empty file that locks are held on; no error when it is there. */
export async function makeLockFile(fs: FileSystem, lockFile: string): Promise<void> {
  if ((await fs.status(lockFile)) !== undefined) return;
  try {
    const file = await fs.open(lockFile, { mode: 'create', lock: 'none' });
    await file.close();
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_EXISTS') throw error;
  }
  await fs.flushFolder(path.dirname(lockFile));
}
