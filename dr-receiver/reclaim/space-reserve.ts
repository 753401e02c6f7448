// Room on the volume for what a fold writes, taken before the first cell: a file that holds it, made
// shorter before each batch. Where the system cannot set room aside, what is free is asked for. It
// keeps a fold from filling the volume half-way; were it filled all the same, the fold would only wait,
// because the deltas are still there.

import { dirname } from 'node:path';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import { type DiskFiles, reservePath } from '../store/layout.js';

/** For log, BAT and the ends of blocks. */
const MARGIN_BYTES = 4 * 1024 * 1024;

export class SpaceReserve {
  readonly #fs: FileSystem;
  readonly #file: BlockFile | undefined;
  #bytes: number;

  private constructor(fs: FileSystem, file: BlockFile | undefined, bytes: number) {
    this.#fs = fs;
    this.#file = file;
    this.#bytes = bytes;
  }

  /** @throws DrError E_CAPACITY when there is not so much room */
  static async take(
    { fs }: { readonly fs: FileSystem },
    files: DiskFiles,
    moreBytes: number,
  ): Promise<SpaceReserve> {
    const bytes = moreBytes + MARGIN_BYTES;
    const path = reservePath(files);
    const free = await fs.freeBytes(dirname(path));
    if (free !== undefined && free < bytes) {
      throw new DrError(
        'E_CAPACITY',
        `${bytes} bytes are needed in ${dirname(path)}, ${free} are free`,
        {
          context: { path, neededBytes: bytes, freeBytes: free },
          done: 'the base is as it was; deltas that are no longer needed stay until there is room',
        },
      );
    }
    await fs.remove(path);
    const file = await fs.open(path, { mode: 'create' });
    try {
      const isReserved = await file.reserve(bytes);
      if (isReserved) return new SpaceReserve(fs, file, bytes);
    } catch (error) {
      await file.close();
      await fs.remove(path);
      throw error;
    }
    await file.close();
    await fs.remove(path);
    return new SpaceReserve(fs, undefined, 0);
  }

  /** Sets as much free as the next batch may take. */
  async giveBackFor(batchBytes: number): Promise<void> {
    if (this.#file === undefined) return;
    this.#bytes = Math.max(0, this.#bytes - batchBytes - MARGIN_BYTES);
    await this.#file.truncate(this.#bytes);
  }

  /** Sets all of it free. A failure leaves a file that is removed later. */
  async giveBack(): Promise<void> {
    if (this.#file === undefined) return;
    await this.#file.close();
    await this.#fs.remove(this.#file.path).catch(() => undefined);
  }
}
