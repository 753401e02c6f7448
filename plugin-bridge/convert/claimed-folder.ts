// The folder in which a VM is made. While it is incomplete it holds a marker, locked by whoever works on
// it. One whose marker is free was left by a killed run and is begun anew; one without a marker is
// somebody's, and nothing in it is touched.

import path from 'node:path';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';

const MARKER = '.hvdr-converting';
/** What an unfinished folder can hold at most: disks, their temporary files, the marker. */
const ENTRIES_MAX = 2000;

/** Nothing is there, or what a killed run left. @throws DrError E_EXISTS */
export async function refuseOccupied(fs: FileSystem, folder: string): Promise<void> {
  if ((await fs.status(folder)) === undefined) return;
  if ((await fs.status(path.join(folder, MARKER))) === undefined) throw occupied(folder);
}

function occupied(folder: string): DrError {
  return new DrError('E_EXISTS', `${folder} is there already`, {
    context: { folder },
    hint: 'Give another name (--new-vm-name) or another folder (--restore-path).',
  });
}

export class ClaimedFolder {
  readonly #fs: FileSystem;
  readonly #folder: string;
  readonly #marker: BlockFile;

  private constructor(fs: FileSystem, folder: string, marker: BlockFile) {
    this.#fs = fs;
    this.#folder = folder;
    this.#marker = marker;
  }

  /** Empty, and ours alone. @throws DrError E_EXISTS, E_LOCKED (another process works on it), E_IO */
  static async take(fs: FileSystem, folder: string): Promise<ClaimedFolder> {
    const isNew = (await fs.status(folder)) === undefined;
    await fs.makeFolder(folder);
    const marker = isNew ? await created(fs, folder) : await found(fs, folder);
    const claimed = new ClaimedFolder(fs, folder, marker);
    try {
      await claimed.#begin(isNew);
      return claimed;
    } catch (error) {
      await marker.close();
      throw error;
    }
  }

  async #begin(isNew: boolean): Promise<void> {
    const names = await this.#fs.list(this.#folder);
    // whoever held the marker until now may have finished with it, and removed its name
    if (!names.includes(MARKER)) throw occupied(this.#folder);
    if (isNew && names.length > 1) {
      await this.#fs.remove(path.join(this.#folder, MARKER));
      throw occupied(this.#folder);
    }
    if (names.length > ENTRIES_MAX) throw occupied(this.#folder);
    await this.#empty(names);
    await this.#marker.flush();
    await this.#fs.flushFolder(this.#folder);
  }

  async #empty(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if (name !== MARKER) await this.#fs.remove(path.join(this.#folder, name));
    }
  }

  /** The folder is complete and durable: it is the VM's from then on. */
  async publish(): Promise<void> {
    // the name goes before the lock, so that nobody takes it for a leftover
    await this.#fs.remove(path.join(this.#folder, MARKER));
    await this.#fs.flushFolder(this.#folder);
    await this.#marker.close();
  }

  /** Removes the folder with all that was made in it; what cannot be removed stays marked. */
  async discard(): Promise<void> {
    try {
      await this.#empty(await this.#fs.list(this.#folder));
      await this.#fs.flushFolder(this.#folder);
      await this.#fs.remove(path.join(this.#folder, MARKER));
      await this.#fs.removeFolder(this.#folder);
      await this.#fs.flushFolder(path.dirname(this.#folder));
    } finally {
      await this.#marker.close();
    }
  }
}

async function created(fs: FileSystem, folder: string): Promise<BlockFile> {
  try {
    const file = path.join(folder, MARKER);
    return await fs.open(file, { mode: 'create', lock: 'exclusive' });
  } catch (error) {
    // somebody made it in the same moment
    if (error instanceof DrError && error.code === 'E_EXISTS') return found(fs, folder);
    throw error;
  }
}

async function found(fs: FileSystem, folder: string): Promise<BlockFile> {
  try {
    const file = path.join(folder, MARKER);
    return await fs.open(file, { mode: 'write', lock: 'exclusive' });
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    if (error.code === 'E_NOT_FOUND') throw occupied(folder);
    if (error.code !== 'E_LOCKED') throw error;
    throw new DrError('E_LOCKED', `another process makes a VM in ${folder}`, {
      context: { folder },
      cause: error,
    });
  }
}
