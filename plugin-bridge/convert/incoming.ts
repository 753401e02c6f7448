// The folder in which a restore job lays the files of foreign VMs until they are all there. A lock file
// stands beside it from before its first moment to after its last; a folder whose lock is free was left by
// a killed run, and goes with the next.

import path from 'node:path';
import type { Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';

const LOCK = /^\.hvdr-incoming-\d+-[0-9a-f]{8}\.lock$/;
/** Deeper than what this file makes. */
const DEPTH_MAX = 4;

export class IncomingFolder {
  readonly path: string;
  readonly #fs: FileSystem;
  readonly #lock: BlockFile;

  private constructor(folder: string, fs: FileSystem, lock: BlockFile) {
    this.path = folder;
    this.#fs = fs;
    this.#lock = lock;
  }

  /** Below `root`, after what killed runs left there was removed. @throws DrError E_IO, E_CAPACITY */
  static async make(
    root: string,
    jobId: number,
    { fs, random }: { readonly fs: FileSystem; readonly random: Random },
  ): Promise<IncomingFolder> {
    await IncomingFolder.#removeAbandoned(fs, root);
    const unique = random.fill(Buffer.alloc(4)).toString('hex');
    const folder = path.join(root, `.hvdr-incoming-${jobId}-${unique}`);
    const lock = await fs.open(lockOf(folder), { mode: 'create', lock: 'exclusive' });
    try {
      await fs.makeFolder(folder);
    } catch (error) {
      await lock.close();
      throw error;
    }
    return new IncomingFolder(folder, fs, lock);
  }

  static async #removeAbandoned(fs: FileSystem, root: string): Promise<void> {
    for (const name of await fs.list(root)) {
      if (!LOCK.test(name)) continue;
      const lock = await freeLock(fs, path.join(root, name));
      if (lock === undefined) continue;
      const folder = path.join(root, name.replace(/\.lock$/, ''));
      await new IncomingFolder(folder, fs, lock).remove();
    }
  }

  /** With all that is in it. */
  async remove(): Promise<void> {
    try {
      await removeTree(this.#fs, this.path, DEPTH_MAX);
      await this.#fs.remove(lockOf(this.path));
    } finally {
      await this.#lock.close();
    }
  }
}

function lockOf(folder: string): string {
  return `${folder}.lock`;
}

/** undefined: somebody works under it, or it is gone. */
async function freeLock(fs: FileSystem, file: string): Promise<BlockFile | undefined> {
  try {
    return await fs.open(file, { mode: 'write', lock: 'exclusive' });
  } catch (error) {
    const isTheirs = error instanceof DrError && ['E_LOCKED', 'E_NOT_FOUND'].includes(error.code);
    if (isTheirs) return undefined;
    throw error;
  }
}

async function removeTree(fs: FileSystem, folder: string, depth: number): Promise<void> {
  if ((await fs.status(folder)) === undefined) return;
  for (const name of await fs.list(folder)) {
    const each = path.join(folder, name);
    const kind = (await fs.status(each))?.kind;
    if (kind === 'folder' && depth > 0) await removeTree(fs, each, depth - 1);
    else await fs.remove(each);
  }
  await fs.removeFolder(folder);
}
