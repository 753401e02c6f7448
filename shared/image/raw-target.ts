// A raw disk file under construction: a temporary name, the final length from the start, holes where
// nothing is written, one flush, a rename. A crash leaves only the temporary file.

import path from 'node:path';
import type { Random } from '../clock.js';
import {
  temporaryPathBeside,
  WriteBehind,
  type BlockFile,
  type FileSystem,
} from '../files/index.js';

const IN_FLIGHT_BYTES = 8 * 1024 * 1024;
const FLUSH_EVERY_BYTES = 256 * 1024 * 1024;

export class RawTarget {
  readonly #fs: FileSystem;
  readonly #path: string;
  readonly #temporaryPath: string;
  readonly #file: BlockFile;
  readonly #output: WriteBehind;
  #isOpen = true;

  private constructor(fs: FileSystem, target: string, temporaryPath: string, file: BlockFile) {
    this.#fs = fs;
    this.#path = target;
    this.#temporaryPath = temporaryPath;
    this.#file = file;
    this.#output = new WriteBehind(file, IN_FLIGHT_BYTES, FLUSH_EVERY_BYTES);
  }

  static async create(
    target: string,
    sizeBytes: number,
    { fs, random }: { fs: FileSystem; random: Random },
  ): Promise<RawTarget> {
    const temporaryPath = temporaryPathBeside(target, random);
    const file = await fs.open(temporaryPath, { mode: 'create' });
    const raw = new RawTarget(fs, target, temporaryPath, file);
    try {
      await file.truncate(sizeBytes);
      return raw;
    } catch (error) {
      await raw.abort();
      throw error;
    }
  }

  /** Writes at any place. The buffer is the caller's again when the promise settled. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#output.throwFailure();
    const written = this.#output.write(offset, bytes);
    await this.#output.room();
    await written;
  }

  /** Durable under the final name on return; a file of that name is replaced. */
  async finish(): Promise<void> {
    await this.#output.drain();
    await this.#file.flush();
    await this.#file.close();
    await this.#fs.rename(this.#temporaryPath, this.#path);
    this.#isOpen = false;
    await this.#fs.flushFolder(path.dirname(this.#path));
  }

  /**
   * Removes what was written, unless it was finished. Never throws: what went wrong first is what
   * counts, and a file that cannot be removed tells by its name what it is.
   */
  async abort(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#output.settled();
    await this.#file.close().catch(() => undefined);
    await this.#fs.remove(this.#temporaryPath).catch(() => undefined);
  }
}
