// How far an unfinished cycle is durable, byte by byte (docs/on-disk.md "Progress"). Little-endian:
//
//   header, 64 bytes     0 magic "HVDRPROG"   8 version u32   12 request bytes u32
//                        16 CRC-32C of the request   20 reserved 40 bytes = 0   60 CRC-32C of 0..59
//   the request          the OpenRequest as it came (protobuf), padded with 0 to 64 bytes
//   records, 64 bytes    0 magic "PROG"   4 disk index u16   6 kind u16 (below)
//                        8 next cell u64   16 manifest records u64   24 data bytes u64
//                        32 first cell of the open zero run u64   40 its cells u64
//                        48 CRC-32C of manifest bytes (kind 2) u32   52 blocks of a base u32
//                        56 reserved u32 = 0   60 CRC-32C of bytes 0..59
//
//   kind 0   durable before the record was written: true whenever it can be read
//   kind 1   the same, and the end of the disk
//   kind 2   written together with what it tells: after a power cut it may be ahead of it. It counts
//            when what came since the disk's former record is found in the files (ahead-check.ts)
//   kind 3   nothing of the disk counts, it begins anew
//
// All records of one settle are written at once, after everything of the settle before was flushed.
// So of each disk the record before the last one is true, whatever its kind. A record is a part of
// one sector: there is no half of one.

import { assert } from '../../shared/assert.js';
import { crc32c } from '../../shared/bytes/index.js';
import { MAX_DISK_BYTES, MAX_DISKS } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile } from '../../shared/files/index.js';
import { writeAgain } from './write-again.js';

const UNIT = 64;
const VERSION = 1;
const MAGIC = Buffer.from('HVDRPROG', 'latin1');
const RECORD_MAGIC = Buffer.from('PROG', 'latin1');
const REQUEST_MAX = 1024 * 1024;

export interface DiskProgress {
  readonly diskIndex: number;
  readonly isComplete: boolean;
  /** All cells before this one are durable. */
  readonly nextCell: number;
  readonly recordCount: number;
  readonly dataBytes: number;
  readonly zeroCell: number;
  readonly zeroCount: number;
  /** Blocks of a base that hold one of its cells; 0 in a delta. */
  readonly blockCount: number;
}

/** How a record stands to what it tells. */
export type Standing =
  | { readonly kind: 'durable' }
  /** CRC-32C of the manifest's bytes since the disk's former record, or since their beginning. */
  | { readonly kind: 'ahead'; readonly manifestCrc: number }
  | { readonly kind: 'anew' };

export type ProgressRecord = DiskProgress & { readonly standing: Standing };

/** The last two records of a disk. */
export interface LastRecords {
  readonly last: ProgressRecord;
  /** True, whatever its standing. Undefined: the disk began with `last`. */
  readonly before: DiskProgress | undefined;
}

/** What is told of a disk that begins anew. */
export function beginsAnew(diskIndex: number): ProgressRecord {
  return {
    diskIndex,
    isComplete: false,
    nextCell: 0,
    recordCount: 0,
    dataBytes: 0,
    zeroCell: 0,
    zeroCount: 0,
    blockCount: 0,
    standing: { kind: 'anew' },
  };
}

const KIND_DURABLE = 0;
const KIND_COMPLETE = 1;
const KIND_AHEAD = 2;
const KIND_ANEW = 3;

function encodeHeader(request: Buffer): Buffer {
  const padded = Math.ceil(request.length / UNIT) * UNIT;
  const out = Buffer.alloc(UNIT + padded);
  MAGIC.copy(out);
  out.writeUInt32LE(VERSION, 8);
  out.writeUInt32LE(request.length, 12);
  out.writeUInt32LE(crc32c(request), 16);
  out.writeUInt32LE(crc32c(out.subarray(0, 60)), 60);
  request.copy(out, UNIT);
  return out;
}

function kindOf({ isComplete, standing }: ProgressRecord): number {
  switch (standing.kind) {
    case 'durable':
      return isComplete ? KIND_COMPLETE : KIND_DURABLE;
    case 'ahead':
      assert(!isComplete, 'the end of a disk is told when all of it is durable');
      return KIND_AHEAD;
    case 'anew':
      return KIND_ANEW;
  }
}

function standingOf(kind: number, manifestCrc: number): Standing {
  if (kind === KIND_AHEAD) return { kind: 'ahead', manifestCrc };
  return { kind: kind === KIND_ANEW ? 'anew' : 'durable' };
}

function encodeProgress(progress: ProgressRecord): Buffer {
  const out = Buffer.alloc(UNIT);
  RECORD_MAGIC.copy(out);
  out.writeUInt16LE(progress.diskIndex, 4);
  out.writeUInt16LE(kindOf(progress), 6);
  out.writeBigUInt64LE(BigInt(progress.nextCell), 8);
  out.writeBigUInt64LE(BigInt(progress.recordCount), 16);
  out.writeBigUInt64LE(BigInt(progress.dataBytes), 24);
  out.writeBigUInt64LE(BigInt(progress.zeroCell), 32);
  out.writeBigUInt64LE(BigInt(progress.zeroCount), 40);
  const { standing } = progress;
  out.writeUInt32LE(standing.kind === 'ahead' ? standing.manifestCrc : 0, 48);
  out.writeUInt32LE(progress.blockCount, 52);
  out.writeUInt32LE(crc32c(out.subarray(0, 60)), 60);
  return out;
}

function parseProgress(bytes: Buffer): ProgressRecord | undefined {
  if (!bytes.subarray(0, 4).equals(RECORD_MAGIC)) return undefined;
  if (bytes.readUInt32LE(60) !== crc32c(bytes.subarray(0, 60))) return undefined;
  const kind = bytes.readUInt16LE(6);
  const manifestCrc = bytes.readUInt32LE(48);
  if (kind > KIND_ANEW || bytes.readUInt32LE(56) !== 0) return undefined;
  if (kind !== KIND_AHEAD && manifestCrc !== 0) return undefined;
  const number = (at: number): number => {
    const value = bytes.readBigUInt64LE(at);
    return value <= BigInt(MAX_DISK_BYTES) ? Number(value) : Number.NaN;
  };
  const progress = {
    diskIndex: bytes.readUInt16LE(4),
    isComplete: kind === KIND_COMPLETE,
    nextCell: number(8),
    recordCount: number(16),
    dataBytes: number(24),
    zeroCell: number(32),
    zeroCount: number(40),
    blockCount: bytes.readUInt32LE(52),
  };
  const isSound = Object.values(progress).every((value) => !Number.isNaN(value));
  if (!isSound || progress.diskIndex >= MAX_DISKS) return undefined;
  return { ...progress, standing: standingOf(kind, manifestCrc) };
}

export class ProgressFile {
  readonly #file: BlockFile;
  /** Behind the last record. */
  #end: number;
  /** What is before it stays when a settle fails; 0 until this process has made anything durable. */
  #settledEnd = 0;
  #failure: { readonly error: unknown } | undefined;

  private constructor(file: BlockFile, end: number) {
    this.#file = file;
    this.#end = end;
  }

  /** Begins the file of a new cycle; durable with the first flush(). */
  static async create(file: BlockFile, request: Buffer): Promise<ProgressFile> {
    const header = encodeHeader(request);
    await file.write(0, header);
    return new ProgressFile(file, header.length);
  }

  /**
   * Reads what an earlier process left; undefined when nothing of it counts. With `isForWriting`,
   * whatever is behind the last good record is cut off, durably, and the rest is durable after the
   * next flush().
   * @throws DrError E_FILE_VERSION, E_IO
   */
  static async open(
    file: BlockFile,
    isForWriting: boolean,
  ): Promise<{ file: ProgressFile; request: Buffer; disks: Map<number, LastRecords> } | undefined> {
    const header = Buffer.alloc(UNIT);
    if ((await file.read(0, header)) < UNIT) return undefined;
    if (!header.subarray(0, 8).equals(MAGIC)) return undefined;
    if (header.readUInt32LE(60) !== crc32c(header.subarray(0, 60))) return undefined;
    const version = header.readUInt32LE(8);
    if (version !== VERSION) {
      throw new DrError('E_FILE_VERSION', `${file.path} has version ${version}, known is 1`, {
        context: { file: file.path, version },
      });
    }
    if (header.subarray(20, 60).some((byte) => byte !== 0)) return undefined;
    const requestBytes = header.readUInt32LE(12);
    if (requestBytes > REQUEST_MAX) return undefined;
    const request = Buffer.alloc(requestBytes);
    if ((await file.read(UNIT, request)) < requestBytes) return undefined;
    if (header.readUInt32LE(16) !== crc32c(request)) return undefined;
    let end = UNIT + Math.ceil(requestBytes / UNIT) * UNIT;
    const disks = new Map<number, LastRecords>();
    const buffer = Buffer.alloc(1024 * UNIT);
    reading: for (;;) {
      const count = await file.read(end, buffer);
      for (let at = 0; at + UNIT <= count; at += UNIT) {
        const progress = parseProgress(buffer.subarray(at, at + UNIT));
        if (progress === undefined) break reading;
        const { diskIndex, standing } = progress;
        if (standing.kind === 'anew') disks.delete(diskIndex);
        else disks.set(diskIndex, { last: progress, before: disks.get(diskIndex)?.last });
        end += UNIT;
      }
      if (count < buffer.length) break;
    }
    if (isForWriting) {
      if ((await file.size()) > end) {
        await file.truncate(end);
        await file.flush();
      }
      // the records of the last settle, and all that may have come with them
      await writeAgain(file, 0, UNIT + requestBytes);
      await writeAgain(file, Math.max(UNIT + requestBytes, end - MAX_DISKS * UNIT), end);
    }
    return { file: new ProgressFile(file, end), request, disks };
  }

  /** Writes the records of a settle, not flushed. @throws DrError E_IO, E_CAPACITY */
  async write(records: readonly ProgressRecord[]): Promise<void> {
    const bytes = Buffer.concat(records.map(encodeProgress));
    const position = this.#end;
    this.#end += bytes.length;
    await this.#guard(() => this.#file.write(position, bytes));
  }

  /** Makes durable what was written. @throws DrError E_IO */
  async flush(): Promise<void> {
    await this.#guard(() => this.#file.flush());
  }

  /** All that the records tell is durable, and they are too. */
  accept(): void {
    this.#settledEnd = this.#end;
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    try {
      await work();
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  /**
   * Takes back what was not accepted, which is all of the file when nothing was, because something
   * failed to become durable: the system may go on to show bytes that it has lost, so no later process
   * could tell from the files. After a power cut it can, so this need not be durable. Nothing can be
   * written any more.
   * @throws DrError E_IO
   */
  async retract(cause: unknown): Promise<void> {
    this.#failure ??= { error: cause };
    if (this.#settledEnd === this.#end) return;
    try {
      await this.#file.truncate(this.#settledEnd);
    } catch {
      throw new DrError('E_IO', `${this.#file.path} tells more than is durable`, {
        context: { file: this.#file.path },
        done: 'the cycle was given up',
        cause,
      });
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
