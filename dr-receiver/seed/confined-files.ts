// A folder as a file system that is read only and never left: no `..`, no symbolic link that leads
// out, wherever the path comes from (the operator's request, the parent locator of a VHDX). Whoever
// may write into the folder itself can still put any file there, which is what it is for.

import path from 'node:path';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileStatus, FileSystem, OpenOptions } from '../../shared/files/index.js';

function outside(name: string): DrError {
  return new DrError('E_SEED_PATH', `${name} is not in the seed folder of the receiver`, {
    context: { path: name },
    done: 'nothing was read',
  });
}

export class ConfinedFiles implements FileSystem {
  readonly #fs: FileSystem;
  /** Without symbolic links. */
  readonly #root: string;
  /** As it was given. */
  readonly #given: string;

  private constructor(fs: FileSystem, root: string, given: string) {
    this.#fs = fs;
    this.#root = root;
    this.#given = given;
  }

  /** @throws DrError E_NOT_FOUND */
  static async of(fs: FileSystem, folder: string): Promise<ConfinedFiles> {
    const status = await fs.status(folder);
    if (status?.kind !== 'folder') {
      throw new DrError('E_NOT_FOUND', `the seed folder ${folder} is not there`, {
        context: { path: folder },
      });
    }
    return new ConfinedFiles(fs, await fs.realPath(folder), folder);
  }

  /** The path that a request means: relative to the folder, or below it. @throws DrError E_SEED_PATH */
  resolve(name: string): string {
    if (name.includes('\0') || name.split(/[\\/]/).includes('..')) throw outside(name);
    if (!path.isAbsolute(name)) return path.join(this.#root, name);
    for (const root of [this.#given, this.#root]) {
      const relative = path.relative(root, name);
      const isBelow = relative !== '..' && !relative.startsWith(`..${path.sep}`);
      if (isBelow && !path.isAbsolute(relative)) return path.join(this.#root, relative);
    }
    throw outside(name);
  }

  #requireInside(name: string): void {
    if (name !== this.#root && !name.startsWith(this.#root + path.sep)) throw outside(name);
  }

  /** @throws DrError E_SEED_PATH, E_NOT_FOUND */
  async realPath(name: string): Promise<string> {
    this.#requireInside(path.resolve(name));
    const real = await this.#fs.realPath(name);
    this.#requireInside(real);
    return real;
  }

  async open(name: string, options: OpenOptions): Promise<BlockFile> {
    if (options.mode !== 'read') this.#refuse();
    return this.#fs.open(await this.realPath(name), options);
  }

  async status(name: string): Promise<FileStatus | undefined> {
    try {
      return await this.#fs.status(await this.realPath(name));
    } catch (error) {
      if (error instanceof DrError && error.code === 'E_NOT_FOUND') return undefined;
      throw error;
    }
  }

  async list(folder: string): Promise<string[]> {
    return this.#fs.list(await this.realPath(folder));
  }

  freeBytes(folder: string): Promise<number | undefined> {
    return this.#fs.freeBytes(folder);
  }

  rename(): Promise<void> {
    this.#refuse();
  }

  remove(): Promise<void> {
    this.#refuse();
  }

  flushFolder(): Promise<void> {
    this.#refuse();
  }

  makeFolder(): Promise<void> {
    this.#refuse();
  }

  removeFolder(): Promise<void> {
    this.#refuse();
  }

  #refuse(): never {
    throw new DrError('E_SEED_PATH', `nothing is written to the seed folder ${this.#given}`);
  }
}
