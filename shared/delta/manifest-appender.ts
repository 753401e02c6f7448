// A manifest that is written over hours, with interruptions: the DR receiver's side of a cycle. It
// can be made durable at any record and taken up again there. Records come from outside, so a record
// that breaks a rule is an answer and not an assertion.
//
// A run of zero cells is written when it has ended, because a manifest has one record for it. Until
// then it is a part of the position that the caller keeps.

import { assert } from '../assert.js';
import { crc32c } from '../bytes/index.js';
import type { BlockFile } from '../files/index.js';
import { fileChunks, ByteReader } from './byte-source.js';
import { ManifestRoot } from './manifest.js';
import {
  encodeManifestHeader,
  encodeManifestRecord,
  encodeManifestTrailer,
  MANIFEST_HEADER_BYTES,
  MANIFEST_RECORD_BYTES,
  manifestError,
  type ManifestHeader,
  type ManifestRecord,
  type ManifestTrailer,
  parseManifestRecord,
} from './manifest-format.js';

/** How much of a manifest there is. */
export interface ManifestPosition {
  readonly recordCount: number;
  /** The run of zero cells that may still go on; a count of 0: none. */
  readonly zeroCell: number;
  readonly zeroCount: number;
}

/** A part of a manifest on its way into the file. */
export interface ManifestPart {
  /** CRC-32C of its bytes. */
  readonly crc: number;
  /** Settles when they are written; not a flush. */
  readonly written: Promise<void>;
}

const BUFFER_RECORDS = 1600;

/** Where in the file of a manifest its first `recordCount` records end. */
export function manifestEnd(recordCount: number): number {
  return MANIFEST_HEADER_BYTES + recordCount * MANIFEST_RECORD_BYTES;
}

export class ManifestAppender {
  readonly #file: BlockFile;
  readonly #root: ManifestRoot;
  #full: Buffer[] = [];
  #buffer = Buffer.alloc(BUFFER_RECORDS * MANIFEST_RECORD_BYTES);
  #filled = 0;
  /** Where the next bytes go in the file. */
  #end: number;
  #recordCount = 0;
  #zeroCell = 0;
  #zeroCount = 0;

  private constructor(header: ManifestHeader, file: BlockFile, end: number) {
    this.#root = new ManifestRoot(header);
    this.#file = file;
    this.#end = end;
  }

  /** A manifest in an empty file. Nothing is written before write(). */
  static create(header: ManifestHeader, file: BlockFile): ManifestAppender {
    const appender = new ManifestAppender(header, file, 0);
    appender.#filled = encodeManifestHeader(header).copy(appender.#buffer);
    return appender;
  }

  /**
   * Goes on at `position`, which was durable; what the file has behind it is cut off. Each record
   * before it is read and shown to `onRecord`.
   * @throws DeltaError E_DELTA_MANIFEST when the file does not hold what the position says
   */
  static async resume(
    header: ManifestHeader,
    file: BlockFile,
    position: ManifestPosition,
    onRecord: (record: ManifestRecord) => Promise<void> | void,
  ): Promise<ManifestAppender> {
    const end = manifestEnd(position.recordCount);
    const appender = new ManifestAppender(header, file, end);
    for await (const record of readManifestRecords(header, file, position.recordCount)) {
      const wrong = appender.#root.check(record);
      if (wrong !== undefined) throw manifestError('E_DELTA_MANIFEST', wrong, end);
      await onRecord(record);
    }
    await file.truncate(end);
    appender.#recordCount = position.recordCount;
    appender.#zeroCell = position.zeroCell;
    appender.#zeroCount = position.zeroCount;
    return appender;
  }

  get position(): ManifestPosition {
    return {
      recordCount: this.#recordCount,
      zeroCell: this.#zeroCell,
      zeroCount: this.#zeroCount,
    };
  }

  /** Bytes that wait for write(). */
  get pendingBytes(): number {
    return this.#full.length * this.#buffer.length + this.#filled;
  }

  /** Takes the next record. Returns what is wrong with it, or undefined. */
  add(record: ManifestRecord): string | undefined {
    if (record.kind === 'data') return this.#endRun() ?? this.#put(record);
    if (this.#zeroCount > 0 && record.cell === this.#zeroCell + this.#zeroCount) {
      this.#zeroCount += record.count;
      return undefined;
    }
    const wrong = this.#endRun();
    this.#zeroCell = record.cell;
    this.#zeroCount = record.count;
    return wrong;
  }

  /** Writes what was added; not a flush. One call at a time. */
  async write(): Promise<void> {
    await this.beginWrite().written;
  }

  /** Begins to write what was added before this call. The next one waits until it is written. */
  beginWrite(): ManifestPart {
    const chunks = [...this.#full, Buffer.from(this.#buffer.subarray(0, this.#filled))];
    this.#full = [];
    this.#filled = 0;
    let crc = 0;
    for (const chunk of chunks) crc = crc32c(chunk, crc);
    return { crc, written: this.#write(chunks) };
  }

  async #write(chunks: readonly Buffer[]): Promise<void> {
    for (const chunk of chunks) {
      if (chunk.length === 0) continue;
      await this.#file.write(this.#end, chunk);
      this.#end += chunk.length;
    }
  }

  /** Ends the manifest: all of it is in the file then, not flushed. @throws DeltaError */
  async finish(): Promise<ManifestTrailer> {
    const wrong = this.#endRun();
    if (wrong !== undefined) throw manifestError('E_DELTA_MANIFEST', wrong, this.#end);
    await this.write();
    const trailer = this.#root.finish();
    const bytes = encodeManifestTrailer(trailer);
    await this.#file.write(this.#end, bytes);
    this.#end += bytes.length;
    return trailer;
  }

  #endRun(): string | undefined {
    if (this.#zeroCount === 0) return undefined;
    const run = { kind: 'zero', cell: this.#zeroCell, count: this.#zeroCount } as const;
    this.#zeroCount = 0;
    return this.#put(run);
  }

  #put(record: ManifestRecord): string | undefined {
    const wrong = this.#root.check(record);
    if (wrong !== undefined) return wrong;
    if (this.#filled + MANIFEST_RECORD_BYTES > this.#buffer.length) {
      this.#full.push(this.#buffer.subarray(0, this.#filled));
      this.#buffer = Buffer.alloc(this.#buffer.length);
      this.#filled = 0;
    }
    encodeManifestRecord(record, this.#buffer, this.#filled);
    this.#filled += MANIFEST_RECORD_BYTES;
    this.#recordCount++;
    assert(this.#filled <= this.#buffer.length, 'a record fits its buffer');
    return undefined;
  }
}

/**
 * The first `recordCount` records of a manifest that is still being written. Order and rules are not
 * checked. @throws DeltaError E_DELTA_MANIFEST when the file does not hold them
 */
export async function* readManifestRecords(
  header: ManifestHeader,
  file: BlockFile,
  recordCount: number,
): AsyncGenerator<ManifestRecord> {
  const bytes = new ByteReader(fileChunks(file, 0, manifestEnd(recordCount), 128 * 1024));
  try {
    const first = Buffer.alloc(MANIFEST_HEADER_BYTES);
    await bytes.read(first);
    if (!first.equals(encodeManifestHeader(header))) {
      throw manifestError('E_DELTA_MANIFEST', 'the header is not the one of this cycle', 0);
    }
    const one = Buffer.alloc(MANIFEST_RECORD_BYTES);
    for (let index = 0; index < recordCount; index++) {
      const at = bytes.position;
      if ((await bytes.read(one)) < one.length) {
        throw manifestError('E_DELTA_MANIFEST', 'the file ends before its durable position', at);
      }
      const record = parseManifestRecord(one, 0, at);
      if (record === 'trailer') {
        throw manifestError('E_DELTA_MANIFEST', 'a trailer stands among the records', at);
      }
      yield record;
    }
  } finally {
    await bytes.close();
  }
}

/**
 * Records of a manifest whose bytes were written, perhaps, and of which the CRC is known. Returns it
 * for comparing. @throws DeltaError E_DELTA_MANIFEST when the bytes are no records, or end too early
 */
export async function readManifestPart(
  header: ManifestHeader,
  file: BlockFile,
  /** `from` undefined: nothing was written before, so the header is a part of it. */
  { from, to }: { readonly from: number | undefined; readonly to: number },
  onRecord: (record: ManifestRecord) => Promise<void> | void,
): Promise<number> {
  const start = from === undefined ? 0 : manifestEnd(from);
  const bytes = new ByteReader(fileChunks(file, start, manifestEnd(to), 128 * 1024));
  let crc = 0;
  try {
    if (from === undefined) {
      const first = Buffer.alloc(MANIFEST_HEADER_BYTES);
      await bytes.read(first);
      if (!first.equals(encodeManifestHeader(header))) {
        throw manifestError('E_DELTA_MANIFEST', 'the header is not the one of this cycle', 0);
      }
      crc = crc32c(first);
    }
    const one = Buffer.alloc(MANIFEST_RECORD_BYTES);
    for (let index = from ?? 0; index < to; index++) {
      const at = manifestEnd(index);
      if ((await bytes.read(one)) < one.length) {
        throw manifestError('E_DELTA_MANIFEST', 'the file ends before its position', at);
      }
      crc = crc32c(one, crc);
      const record = parseManifestRecord(one, 0, at);
      if (record === 'trailer') {
        throw manifestError('E_DELTA_MANIFEST', 'a trailer stands among the records', at);
      }
      await onRecord(record);
    }
  } finally {
    await bytes.close();
  }
  return crc;
}
