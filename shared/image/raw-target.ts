// A raw disk file under construction: a temporary name, the final length from the start, holes where
// nothing is written, one flush, a rename. A crash leaves only the temporary file.

import path from 'node:path';
import type { Random } from '../clock.js';
import {
  refuseExisting,
  createBeside,
  WriteBehind,
  type BlockFile,
  type FileSystem,
} from '../files/index.js';

const IN_FLIGHT_BYTES = 8 * 1024 * 1024;
const FLUSH_EVERY_BYTES = 256 * 1024 * 1024;

export interface RawTargetOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Final name. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Replace a file that has the final name (default: refuse with E_EXISTS). */
  readonly isReplacing?: boolean | undefined;
}

export class RawTarget {
  readonly #options: RawTargetOptions;
  readonly #temporaryPath: string;
  readonly #file: BlockFile;
  readonly #output: WriteBehind;
  #isOpen = true;

  private constructor(options: RawTargetOptions, temporaryPath: string, file: BlockFile) {
    this.#options = options;
    this.#temporaryPath = temporaryPath;
    this.#file = file;
    this.#output = new WriteBehind(file, IN_FLIGHT_BYTES, FLUSH_EVERY_BYTES);
  }

  /**
   * Begins a file under a temporary name in the folder of `path`.
   * @throws DrError E_EXISTS, E_NOT_FOUND (folder), E_IO, E_CAPACITY
   */
  static async create(options: RawTargetOptions): Promise<RawTarget> {
    const { fs, path: target, random, sizeBytes, isReplacing = false } = options;
    await refuseExisting(fs, target, isReplacing);
    const { temporaryPath, file } = await createBeside(fs, target, random);
    const raw = new RawTarget(options, temporaryPath, file);
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

  /** Durable under the final name on return. @throws DrError E_EXISTS, E_IO, E_CAPACITY */
  async finish(): Promise<void> {
    const { fs, path: target, isReplacing = false } = this.#options;
    await this.#output.drain();
    await this.#file.flush();
    await this.#file.close();
    await refuseExisting(fs, target, isReplacing);
    await fs.rename(this.#temporaryPath, target);
    this.#isOpen = false;
    await fs.flushFolder(path.dirname(target));
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
    await this.#options.fs.remove(this.#temporaryPath).catch(() => undefined);
  }
}
