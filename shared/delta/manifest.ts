// Streaming writer and reader of manifests (format and rules: manifest-format.ts), and random
// access to a manifest that lies in a file. The writer asserts what the reader refuses. Memory is a
// buffer of 64 KiB, whatever the number of cells.

import { createHash } from 'node:crypto';

import { assert } from '../assert.js';
import type { BlockFile } from '../files/index.js';
import { type ByteSink, ByteReader, type Chunks, fileChunks } from './byte-source.js';
import {
  encodeManifestHeader,
  encodeManifestRecord,
  encodeManifestTrailer,
  encodeTrailerCounts,
  MANIFEST_HEADER_BYTES,
  MANIFEST_MAGIC,
  MANIFEST_RECORD_BYTES,
  MANIFEST_TRAILER_BYTES,
  manifestError,
  type ManifestHeader,
  type ManifestRecord,
  ManifestRules,
  type ManifestTrailer,
  parseManifestHeader,
  parseManifestRecord,
  parseManifestTrailer,
} from './manifest-format.js';

const BUFFER_BYTES = 1600 * MANIFEST_RECORD_BYTES;

/**
 * The root hash, cell by cell. Both ends of a transfer feed it the same cells in ascending order
 * and compare the result; neither needs a file.
 */
export class ManifestRoot {
  readonly #hash = createHash('sha256');
  readonly #rules: ManifestRules;
  readonly #bytes = Buffer.alloc(MANIFEST_RECORD_BYTES);

  constructor(header: ManifestHeader) {
    this.#rules = new ManifestRules(header);
    this.#hash.update(encodeManifestHeader(header).subarray(0, 124));
  }

  /** What is wrong with `record` as the next one, or undefined. */
  check(record: ManifestRecord): string | undefined {
    const wrong = this.#rules.check(record);
    if (wrong !== undefined) return wrong;
    encodeManifestRecord(record, this.#bytes, 0);
    this.#hash.update(this.#bytes);
    return undefined;
  }

  /** To be called once, after the last record. */
  finish(): ManifestTrailer {
    const counts = this.#rules.counts;
    this.#hash.update(encodeTrailerCounts(counts));
    return { ...counts, root: this.#hash.digest() };
  }
}

/** Writes a manifest to a sink in one pass; adjacent zero cells are joined to one record. */
export class ManifestWriter {
  readonly #sink: ByteSink;
  readonly #root: ManifestRoot;
  readonly #buffer = Buffer.alloc(BUFFER_BYTES);
  #filled: number;
  #zeroCell = 0;
  #zeroCount = 0;

  constructor(header: ManifestHeader, sink: ByteSink) {
    this.#sink = sink;
    this.#root = new ManifestRoot(header);
    this.#filled = encodeManifestHeader(header).copy(this.#buffer);
  }

  /** Adds a cell that is not all zeros. */
  async addData(cell: number, hash: Buffer): Promise<void> {
    await this.#endRun();
    await this.#put({ kind: 'data', cell, hash });
  }

  /** Adds `count` cells of zeros from `cell` on. */
  async addZero(cell: number, count = 1): Promise<void> {
    if (this.#zeroCount > 0 && cell === this.#zeroCell + this.#zeroCount) {
      this.#zeroCount += count;
      return;
    }
    await this.#endRun();
    this.#zeroCell = cell;
    this.#zeroCount = count;
  }

  async add(record: ManifestRecord): Promise<void> {
    if (record.kind === 'data') await this.addData(record.cell, record.hash);
    else await this.addZero(record.cell, record.count);
  }

  /** Writes the trailer and returns it; the sink has all bytes then, durable or not. */
  async finish(): Promise<ManifestTrailer> {
    await this.#endRun();
    const trailer = this.#root.finish();
    await this.#flush();
    await this.#sink(encodeManifestTrailer(trailer));
    return trailer;
  }

  async #endRun(): Promise<void> {
    if (this.#zeroCount === 0) return;
    const run = { kind: 'zero', cell: this.#zeroCell, count: this.#zeroCount } as const;
    this.#zeroCount = 0;
    await this.#put(run);
  }

  async #put(record: ManifestRecord): Promise<void> {
    const wrong = this.#root.check(record);
    assert(wrong === undefined, `legal records only: ${wrong ?? ''}`);
    if (this.#filled + MANIFEST_RECORD_BYTES > this.#buffer.length) await this.#flush();
    encodeManifestRecord(record, this.#buffer, this.#filled);
    this.#filled += MANIFEST_RECORD_BYTES;
  }

  async #flush(): Promise<void> {
    await this.#sink(this.#buffer.subarray(0, this.#filled));
    this.#filled = 0;
  }
}

/** Reads a manifest from chunks of any size. */
export class ManifestReader {
  readonly header: ManifestHeader;
  readonly #bytes: ByteReader;
  #trailer: ManifestTrailer | undefined;

  private constructor(header: ManifestHeader, bytes: ByteReader) {
    this.header = header;
    this.#bytes = bytes;
  }

  /** @throws DeltaError E_DELTA_MANIFEST, E_DELTA_VERSION */
  static async open(chunks: Chunks): Promise<ManifestReader> {
    const bytes = new ByteReader(chunks);
    try {
      const first = Buffer.alloc(MANIFEST_HEADER_BYTES);
      const lengthBytes = await bytes.read(first);
      return new ManifestReader(parseManifestHeader(first.subarray(0, lengthBytes)), bytes);
    } catch (error) {
      await bytes.close();
      throw error;
    }
  }

  /** Set when `records` has come to its end: only then the root is known to be right. */
  get trailer(): ManifestTrailer | undefined {
    return this.#trailer;
  }

  /** All records in order, to be iterated once. @throws DeltaError E_DELTA_MANIFEST */
  async *records(): AsyncGenerator<ManifestRecord> {
    const bytes = this.#bytes;
    const root = new ManifestRoot(this.header);
    const buffer = Buffer.alloc(MANIFEST_TRAILER_BYTES);
    const head = buffer.subarray(0, MANIFEST_RECORD_BYTES);
    try {
      for (;;) {
        const position = bytes.position;
        if ((await bytes.read(head)) < head.length) {
          throw manifestError('E_DELTA_MANIFEST', 'the file is torn: it has no trailer', position);
        }
        const record = parseManifestRecord(buffer, 0, position);
        if (record === 'trailer') {
          const more = await bytes.read(buffer.subarray(head.length));
          const trailer = parseManifestTrailer(buffer.subarray(0, head.length + more), position);
          checkTrailer(trailer, root.finish(), position);
          if (!(await bytes.isAtEnd())) {
            const at = bytes.position;
            throw manifestError('E_DELTA_MANIFEST', 'bytes follow the trailer', at);
          }
          this.#trailer = trailer;
          return;
        }
        const wrong = root.check(record);
        if (wrong !== undefined) throw manifestError('E_DELTA_MANIFEST', wrong, position);
        yield record;
      }
    } finally {
      await bytes.close();
    }
  }
}

function checkTrailer(stated: ManifestTrailer, found: ManifestTrailer, position: number): void {
  const { recordCount, cellCount, dataCellCount } = found;
  if (
    stated.recordCount !== recordCount ||
    stated.cellCount !== cellCount ||
    stated.dataCellCount !== dataCellCount
  ) {
    const message = `the trailer counts ${stated.recordCount} records, the file has ${recordCount}`;
    throw manifestError('E_DELTA_MANIFEST', message, position + 8);
  }
  if (!stated.root.equals(found.root)) {
    throw manifestError('E_DELTA_MANIFEST', 'the root hash is wrong', position + 32);
  }
}

/** Whether a file begins like a manifest, so that a command can take either kind of file. */
export async function isManifest(file: BlockFile): Promise<boolean> {
  const magic = Buffer.alloc(MANIFEST_MAGIC.length);
  return (await file.read(0, magic)) === magic.length && magic.equals(MANIFEST_MAGIC);
}

/**
 * A manifest in a file. `open` checks header, trailer and length; `verify` checks every record and
 * the root, which `records` does as well on its way.
 */
export class ManifestFile {
  readonly header: ManifestHeader;
  /** As stated by the file. */
  readonly trailer: ManifestTrailer;
  readonly #file: BlockFile;

  private constructor(file: BlockFile, header: ManifestHeader, trailer: ManifestTrailer) {
    this.#file = file;
    this.header = header;
    this.trailer = trailer;
  }

  /** Does not take the file over: the caller closes it. @throws DeltaError E_DELTA_MANIFEST, … */
  static async open(file: BlockFile): Promise<ManifestFile> {
    const first = Buffer.alloc(MANIFEST_HEADER_BYTES);
    const firstLength = await file.read(0, first);
    const header = parseManifestHeader(first.subarray(0, firstLength));
    const sizeBytes = await file.size();
    const position = Math.max(MANIFEST_HEADER_BYTES, sizeBytes - MANIFEST_TRAILER_BYTES);
    const last = Buffer.alloc(MANIFEST_TRAILER_BYTES);
    const lastLength = await file.read(position, last);
    const trailer = parseManifestTrailer(last.subarray(0, lastLength), position);
    const expected =
      MANIFEST_HEADER_BYTES + trailer.recordCount * MANIFEST_RECORD_BYTES + MANIFEST_TRAILER_BYTES;
    if (expected !== sizeBytes) {
      const message = `${trailer.recordCount} records make ${expected} bytes, the file has ${sizeBytes}`;
      throw manifestError('E_DELTA_MANIFEST', message, position + 8);
    }
    return new ManifestFile(file, header, trailer);
  }

  /** All records in order; may be called again. @throws DeltaError E_DELTA_MANIFEST */
  async *records(): AsyncGenerator<ManifestRecord> {
    const chunks = fileChunks(this.#file, 0, Number.MAX_SAFE_INTEGER, 128 * 1024);
    const reader = await ManifestReader.open(chunks);
    yield* reader.records();
  }

  /** Reads the whole file once. @throws DeltaError E_DELTA_MANIFEST, E_DELTA_VERSION */
  async verify(): Promise<void> {
    const records = this.records();
    while ((await records.next()).done !== true) {
      // Reading to the end is the check.
    }
  }

  /**
   * At most `count` records from number `index` on, checked one by one; what only the whole shows (the
   * order, the root) is verify()'s affair. @throws DeltaError E_DELTA_MANIFEST
   */
  async recordsAt(index: number, count: number): Promise<ManifestRecord[]> {
    const wanted = Math.min(count, this.trailer.recordCount - index);
    const start = MANIFEST_HEADER_BYTES + index * MANIFEST_RECORD_BYTES;
    const bytes = Buffer.alloc(Math.max(0, wanted) * MANIFEST_RECORD_BYTES);
    if ((await this.#file.read(start, bytes)) < bytes.length) {
      throw manifestError('E_DELTA_MANIFEST', 'the file ends among its records', start);
    }
    const records: ManifestRecord[] = [];
    for (let at = 0; at < bytes.length; at += MANIFEST_RECORD_BYTES) {
      const record = parseManifestRecord(bytes, at, start + at);
      if (record === 'trailer') {
        throw manifestError('E_DELTA_MANIFEST', 'a trailer stands among the records', start + at);
      }
      records.push(record);
    }
    return records;
  }

  /** The record that covers `cell`, by binary search; undefined when the manifest has none. */
  async find(cell: number): Promise<ManifestRecord | undefined> {
    const bytes = Buffer.alloc(MANIFEST_RECORD_BYTES);
    let low = 0;
    let high = this.trailer.recordCount;
    let best: ManifestRecord | undefined;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const position = MANIFEST_HEADER_BYTES + middle * MANIFEST_RECORD_BYTES;
      await this.#file.read(position, bytes);
      const record = parseManifestRecord(bytes, 0, position);
      if (record === 'trailer') {
        throw manifestError('E_DELTA_MANIFEST', 'a trailer stands among the records', position);
      }
      if (record.cell <= cell) {
        best = record;
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (best === undefined) return undefined;
    const end = best.cell + (best.kind === 'data' ? 1 : best.count);
    return cell < end ? best : undefined;
  }
}
