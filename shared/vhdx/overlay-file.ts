// A BlockFile with the pages of a replayed log laid over it, in memory. Reading a dirty file goes
// through it, so that nothing is written to a file that is only read, and so that a file is
// checked as it will be after replay before the first byte of it is changed.

import { DrError } from '../errors.js';
import type { BlockFile } from '../files/index.js';
import { LOG_SECTOR_BYTES } from './format.js';
import type { LogRecord } from './log-entry.js';

export class OverlayFile implements BlockFile {
  readonly #file: BlockFile;
  readonly #pages = new Map<number, Buffer>();
  /** Always older than every page that lies in them. */
  readonly #zeros: { readonly start: number; readonly end: number }[] = [];
  readonly #minimumSizeBytes: number;

  constructor(file: BlockFile, minimumSizeBytes: number) {
    this.#file = file;
    this.#minimumSizeBytes = minimumSizeBytes;
  }

  get path(): string {
    return this.#file.path;
  }

  /** Lays a record over all earlier ones. */
  apply(record: LogRecord): void {
    if (record.kind === 'page') {
      this.#pages.set(record.offset, record.bytes);
      return;
    }
    const end = record.offset + record.lengthBytes;
    if (record.lengthBytes === 0) return;
    for (const offset of this.#pages.keys()) {
      if (offset >= record.offset && offset < end) this.#pages.delete(offset);
    }
    this.#zeros.push({ start: record.offset, end });
  }

  async size(): Promise<number> {
    return Math.max(await this.#file.size(), this.#minimumSizeBytes);
  }

  async read(position: number, target: Uint8Array): Promise<number> {
    const sizeBytes = await this.size();
    const length = Math.max(0, Math.min(target.length, sizeBytes - position));
    const view = target.subarray(0, length);
    const got = await this.#file.read(position, view);
    view.fill(0, got);
    for (const zero of this.#zeros) {
      const start = Math.max(zero.start, position);
      const end = Math.min(zero.end, position + length);
      if (start < end) view.fill(0, start - position, end - position);
    }
    if (this.#pages.size === 0) return length;
    const firstPage = position - (position % LOG_SECTOR_BYTES);
    for (let at = firstPage; at < position + length; at += LOG_SECTOR_BYTES) {
      const page = this.#pages.get(at);
      if (page === undefined) continue;
      const start = Math.max(at, position);
      const end = Math.min(at + LOG_SECTOR_BYTES, position + length);
      view.set(page.subarray(start - at, end - at), start - position);
    }
    return length;
  }

  /** Holes of the file are not trusted here: a logged page may stand in one. */
  async nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    const end = await this.size();
    return position < end ? { start: position, end } : undefined;
  }

  write(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  truncate(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  reserve(): Promise<boolean> {
    return Promise.reject(this.#readOnly());
  }

  flush(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #readOnly(): DrError {
    return new DrError(
      'E_VHDX_READ_ONLY',
      `${this.path} is open for reading with its log replayed in memory`,
    );
  }
}
