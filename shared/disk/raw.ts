// A raw file as a disk: byte n of the file is byte n of the guest. Holes of the file are known to be
// zero without reading them. Any size is accepted, also one that is no multiple of a sector: the
// disk has exactly the bytes of the file.

import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import type { BlockFile, FileSystem } from '../files/index.js';
import type { Extent, WritableDisk } from './disk.js';

export interface OpenRawOptions {
  readonly fs: FileSystem;
  /** Default: false. */
  readonly isWritable?: boolean | undefined;
}

const ZEROS = Buffer.alloc(1024 * 1024);

/**
 * Opens a raw disk; its size stays what it is now. Locked: shared, or exclusively when writable.
 * @throws DrError E_NOT_FOUND, E_LOCKED, E_IO
 */
export async function openRawDisk(
  file: string,
  { fs, isWritable = false }: OpenRawOptions,
): Promise<RawDisk> {
  const handle = await fs.open(file, { mode: isWritable ? 'write' : 'read' });
  try {
    return new RawDisk(handle, await handle.size());
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export class RawDisk implements WritableDisk {
  readonly sizeBytes: number;
  /** A raw file does not tell; what nearly every guest disk has. */
  readonly logicalSectorBytes = 512;
  readonly physicalSectorBytes = 4096;
  readonly #file: BlockFile;

  constructor(file: BlockFile, sizeBytes: number) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
  }

  /** @throws DrError E_IO, also when somebody cut the file short meanwhile */
  async read(offset: number, target: Uint8Array): Promise<void> {
    this.#assertInside(offset, target.length);
    const got = await this.#file.read(offset, target);
    if (got === target.length) return;
    throw new DrError('E_IO', `${this.#file.path} became shorter while it was open`, {
      context: { path: this.#file.path, position: offset + got, sizeBytes: this.sizeBytes },
      done: 'the read was refused',
    });
  }

  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    this.#assertInside(start, end - start);
    let position = start;
    while (position < end) {
      const data = await this.#file.nextData(position);
      const dataStart = Math.min(end, data?.start ?? end);
      if (position < dataStart) yield { start: position, end: dataStart, kind: 'zero' };
      if (data === undefined || dataStart === end) return;
      const dataEnd = Math.min(end, data.end);
      yield { start: dataStart, end: dataEnd, kind: 'data' };
      position = dataEnd;
    }
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.#assertInside(offset, source.length);
    await this.#file.write(offset, source);
  }

  /** Writes zeros where there may be data; holes stay holes. */
  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.#assertInside(offset, lengthBytes);
    for await (const { start, end, kind } of this.extents(offset, offset + lengthBytes)) {
      if (kind === 'zero') continue;
      for (let at = start; at < end; at += ZEROS.length) {
        await this.#file.write(at, ZEROS.subarray(0, Math.min(ZEROS.length, end - at)));
      }
    }
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #assertInside(offset: number, lengthBytes: number): void {
    assert(offset >= 0 && lengthBytes >= 0, 'ranges do not start before the disk');
    assert(offset + lengthBytes <= this.sizeBytes, 'ranges do not reach behind the disk');
  }
}
