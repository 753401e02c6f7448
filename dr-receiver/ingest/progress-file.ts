// How far an unfinished cycle is durable, byte by byte (docs/on-disk.md "Progress"). Little-endian:
//
//   header, 64 bytes     0 magic "HVDRPROG"   8 version u32   12 request bytes u32
//                        16 CRC-32C of the request   20 reserved 40 bytes = 0   60 CRC-32C of 0..59
//   the request          the OpenRequest as it came (protobuf), padded with 0 to 64 bytes
//   records, 64 bytes    0 magic "PROG"   4 disk index u16   6 is complete u16 (0, 1)
//                        8 next cell u64   16 manifest records u64   24 data bytes u64
//                        32 first cell of the open zero run u64   40 its cells u64
//                        48 reserved 12 bytes = 0   60 CRC-32C of 0..59
//
// A record is appended when what it tells is durable, and flushed before anybody is told. So each
// record that can be read is true, and the last one of each disk is where it goes on. A record is a
// part of one sector: there is no half of one.

import { crc32c } from '../../shared/bytes/index.js';
import { MAX_DISK_BYTES, MAX_DISKS } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile } from '../../shared/files/index.js';

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
}

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

function encodeProgress(progress: DiskProgress): Buffer {
  const out = Buffer.alloc(UNIT);
  RECORD_MAGIC.copy(out);
  out.writeUInt16LE(progress.diskIndex, 4);
  out.writeUInt16LE(progress.isComplete ? 1 : 0, 6);
  out.writeBigUInt64LE(BigInt(progress.nextCell), 8);
  out.writeBigUInt64LE(BigInt(progress.recordCount), 16);
  out.writeBigUInt64LE(BigInt(progress.dataBytes), 24);
  out.writeBigUInt64LE(BigInt(progress.zeroCell), 32);
  out.writeBigUInt64LE(BigInt(progress.zeroCount), 40);
  out.writeUInt32LE(crc32c(out.subarray(0, 60)), 60);
  return out;
}

function parseProgress(bytes: Buffer): DiskProgress | undefined {
  if (!bytes.subarray(0, 4).equals(RECORD_MAGIC)) return undefined;
  if (bytes.readUInt32LE(60) !== crc32c(bytes.subarray(0, 60))) return undefined;
  if (bytes.readUInt16LE(6) > 1 || bytes.subarray(48, 60).some((byte) => byte !== 0)) {
    return undefined;
  }
  const number = (at: number): number => {
    const value = bytes.readBigUInt64LE(at);
    return value <= BigInt(MAX_DISK_BYTES) ? Number(value) : Number.NaN;
  };
  const progress = {
    diskIndex: bytes.readUInt16LE(4),
    isComplete: bytes.readUInt16LE(6) === 1,
    nextCell: number(8),
    recordCount: number(16),
    dataBytes: number(24),
    zeroCell: number(32),
    zeroCount: number(40),
  };
  const isSound = Object.values(progress).every((value) => !Number.isNaN(value));
  return isSound && progress.diskIndex < MAX_DISKS ? progress : undefined;
}

export class ProgressFile {
  readonly #file: BlockFile;
  #end: number;
  #failure: { readonly error: unknown } | undefined;

  private constructor(file: BlockFile, end: number) {
    this.#file = file;
    this.#end = end;
  }

  /** Begins the file of a new cycle; durable with the first append(). */
  static async create(file: BlockFile, request: Buffer): Promise<ProgressFile> {
    const header = encodeHeader(request);
    await file.write(0, header);
    return new ProgressFile(file, header.length);
  }

  /**
   * Reads what an earlier process left; undefined when nothing of it counts. With `isForWriting`,
   * whatever is behind the last good record is cut off, durably.
   * @throws DrError E_FILE_VERSION, E_IO
   */
  static async open(
    file: BlockFile,
    isForWriting: boolean,
  ): Promise<
    { file: ProgressFile; request: Buffer; disks: Map<number, DiskProgress> } | undefined
  > {
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
    const disks = new Map<number, DiskProgress>();
    const buffer = Buffer.alloc(1024 * UNIT);
    reading: for (;;) {
      const count = await file.read(end, buffer);
      for (let at = 0; at + UNIT <= count; at += UNIT) {
        const progress = parseProgress(buffer.subarray(at, at + UNIT));
        if (progress === undefined) break reading;
        disks.set(progress.diskIndex, progress);
        end += UNIT;
      }
      if (count < buffer.length) break;
    }
    if (isForWriting && (await file.size()) > end) {
      await file.truncate(end);
      await file.flush();
    }
    return { file: new ProgressFile(file, end), request, disks };
  }

  /** Tells what is durable; durable itself on return. One call at a time. @throws DrError E_IO */
  async append(progress: readonly DiskProgress[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const bytes = Buffer.concat(progress.map(encodeProgress));
    try {
      await this.#file.write(this.#end, bytes);
      await this.#file.flush();
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
    this.#end += bytes.length;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
