// The messages of the push stream (docs/replication.md "Push"), framed by hand because they carry the
// bulk of the bytes. Little-endian:
//
//   0 kind u8 (1 cells, 2 end of disk, 3 begin)   1 flags u8 (1: payload is zstd)   2 disk index u16
//   4 entry count u32   8 payload bytes u32   12 stored bytes u32
//   16 entries, 40 bytes each: records of the manifest (manifest-format.ts); kind 3 besides: the
//      cell has this SHA-256 and the receiver has its bytes already (reuse of an unfinished cycle)
//   then the stored payload: the bytes of the data cells in order, compressed as one zstd frame
//
// Entries of a disk are in ascending order over the whole stream; zero runs may touch, the receiver
// joins them. An end-of-disk message has neither entries nor payload. The first message of a stream,
// and no other, is begin: a head of zeros but for its kind, then VM id and cycle id, 16 bytes each as
// they stand in the protobuf messages; it names the open cycle that the stream belongs to.

import { zstdCompressSync, zstdDecompressSync, constants as zlib } from 'node:zlib';
import { assert } from '../assert.js';
import { type Guid, guidFromWire, guidToWire } from '../bytes/index.js';
import { CELL_BYTES, HASH_BYTES, MAX_DISK_BYTES } from './cell.js';
import { DeltaError } from './delta-error.js';
import {
  encodeManifestRecord,
  MANIFEST_RECORD_BYTES,
  type ManifestRecord,
  parseManifestRecord,
} from './manifest-format.js';

export const BATCH_HEADER_BYTES = 16;
/** Data cells of one message: 1 MiB of payload. */
export const BATCH_DATA_CELLS = 16;
export const BATCH_PAYLOAD_BYTES = BATCH_DATA_CELLS * CELL_BYTES;
/** Entries of one message, zero runs and reused cells included: 40 KiB. */
export const BATCH_ENTRIES = 1024;
/** Disks of one VM that the protocol can name. */
export const MAX_DISKS = 260;

const KIND_CELLS = 1;
const KIND_END = 2;
const KIND_BEGIN = 3;
const BEGIN_BYTES = BATCH_HEADER_BYTES + 32;
const FLAG_ZSTD = 1;
const RECORD_REUSE = 3;
/** zstd windows beyond this are refused, so that a frame cannot ask for much memory. */
const WINDOW_LOG_MAX = 20;

export type BatchEntry =
  | ManifestRecord
  /** The receiver has these bytes in an unfinished cycle of the same disk. */
  | { readonly kind: 'reuse'; readonly cell: number; readonly hash: Buffer };

export type BatchMessage =
  | {
      readonly kind: 'cells';
      readonly diskIndex: number;
      readonly entries: readonly BatchEntry[];
      /** Bytes of the data cells, in order. Valid as long as the encoded message is. */
      readonly payload: Buffer;
    }
  | { readonly kind: 'end'; readonly diskIndex: number }
  | { readonly kind: 'begin'; readonly vmId: Guid; readonly cycleId: Guid };

/** Bytes of an encoded message, or of its head when the payload is written in place. */
export function batchHeadBytes(entryCount: number): number {
  return BATCH_HEADER_BYTES + entryCount * MANIFEST_RECORD_BYTES;
}

/**
 * Writes head and entries to the beginning of `out`; the payload follows at batchHeadBytes().
 * `storedBytes` differs from `payloadBytes` only when the payload is compressed.
 */
export function encodeBatchHead(
  out: Buffer,
  diskIndex: number,
  entries: readonly BatchEntry[],
  payloadBytes: number,
  storedBytes = payloadBytes,
  isCompressed = false,
): void {
  assert(entries.length <= BATCH_ENTRIES, 'a batch has at most 1024 entries');
  assert(payloadBytes <= BATCH_PAYLOAD_BYTES, 'a batch has at most 1 MiB of payload');
  out.writeUInt8(KIND_CELLS, 0);
  out.writeUInt8(isCompressed ? FLAG_ZSTD : 0, 1);
  out.writeUInt16LE(diskIndex, 2);
  out.writeUInt32LE(entries.length, 4);
  out.writeUInt32LE(payloadBytes, 8);
  out.writeUInt32LE(storedBytes, 12);
  for (const [index, entry] of entries.entries()) {
    const at = BATCH_HEADER_BYTES + index * MANIFEST_RECORD_BYTES;
    if (entry.kind === 'reuse') {
      encodeManifestRecord({ ...entry, kind: 'data' }, out, at);
      out.writeUInt8(RECORD_REUSE, at + 6);
    } else {
      encodeManifestRecord(entry, out, at);
    }
  }
}

/**
 * A whole message. With `compressionLevel`, the payload is compressed when that saves an eighth or
 * more.
 */
export function encodeBatch(message: BatchMessage, compressionLevel?: number): Buffer {
  if (message.kind === 'end') return encodeEndOfDisk(message.diskIndex);
  if (message.kind === 'begin') return encodeBegin(message.vmId, message.cycleId);
  const { diskIndex, entries, payload } = message;
  const headBytes = batchHeadBytes(entries.length);
  let stored = payload;
  let isCompressed = false;
  if (compressionLevel !== undefined && payload.length > 0) {
    const packed = compressPayload(payload, compressionLevel);
    if (packed.length <= payload.length - (payload.length >>> 3)) {
      stored = packed;
      isCompressed = true;
    }
  }
  const out = Buffer.allocUnsafeSlow(headBytes + stored.length);
  encodeBatchHead(out, diskIndex, entries, payload.length, stored.length, isCompressed);
  stored.copy(out, headBytes);
  return out;
}

/** One zstd frame that every receiver accepts. */
export function compressPayload(payload: Buffer, level: number): Buffer {
  return zstdCompressSync(payload, {
    params: {
      [zlib.ZSTD_c_compressionLevel]: level,
      [zlib.ZSTD_c_windowLog]: WINDOW_LOG_MAX,
    },
  });
}

export function encodeEndOfDisk(diskIndex: number): Buffer {
  const out = Buffer.alloc(BATCH_HEADER_BYTES);
  out.writeUInt8(KIND_END, 0);
  out.writeUInt16LE(diskIndex, 2);
  return out;
}

/** The first message of a push stream. */
export function encodeBegin(vmId: Guid, cycleId: Guid): Buffer {
  const out = Buffer.alloc(BEGIN_BYTES);
  out.writeUInt8(KIND_BEGIN, 0);
  guidToWire(vmId).copy(out, BATCH_HEADER_BYTES);
  guidToWire(cycleId).copy(out, BATCH_HEADER_BYTES + 16);
  return out;
}

function parseBegin(bytes: Buffer): BatchMessage {
  if (bytes.length !== BEGIN_BYTES) throw bad('a begin has another length', bytes.length);
  if (!bytes.subarray(1, BATCH_HEADER_BYTES).equals(Buffer.alloc(BATCH_HEADER_BYTES - 1))) {
    throw bad('the head of a begin carries something', 1);
  }
  const vmId = guidFromWire(bytes.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + 16));
  const cycleId = guidFromWire(bytes.subarray(BATCH_HEADER_BYTES + 16));
  assert(vmId !== undefined && cycleId !== undefined, '16 bytes are a GUID');
  return { kind: 'begin', vmId, cycleId };
}

function bad(message: string, position: number): DeltaError {
  return new DeltaError('E_PROTOCOL', `${message}, at byte ${position} of a push message`, {
    context: { position },
    done: 'the message was refused',
  });
}

/**
 * The message in `bytes`, with every length checked before it is used. Order and place on the disk
 * are the receiver's to check, hashes as well. @throws DeltaError E_PROTOCOL
 */
export function parseBatch(bytes: Buffer): BatchMessage {
  if (bytes.length < BATCH_HEADER_BYTES) throw bad('the message ends in its header', bytes.length);
  const kind = bytes.readUInt8(0);
  if (kind === KIND_BEGIN) return parseBegin(bytes);
  const flags = bytes.readUInt8(1);
  const diskIndex = bytes.readUInt16LE(2);
  const entryCount = bytes.readUInt32LE(4);
  const payloadBytes = bytes.readUInt32LE(8);
  const storedBytes = bytes.readUInt32LE(12);
  if (diskIndex >= MAX_DISKS) throw bad(`no VM has a disk ${diskIndex}`, 2);
  if (kind === KIND_END) {
    if (flags !== 0 || bytes.length !== BATCH_HEADER_BYTES || entryCount + payloadBytes > 0) {
      throw bad('an end of disk carries something', 1);
    }
    return { kind: 'end', diskIndex };
  }
  if (kind !== KIND_CELLS) throw bad(`no message has the kind ${kind}`, 0);
  if (flags > FLAG_ZSTD) throw bad(`unknown flags ${flags}`, 1);
  if (entryCount < 1 || entryCount > BATCH_ENTRIES) throw bad(`${entryCount} entries`, 4);
  if (payloadBytes > BATCH_PAYLOAD_BYTES) throw bad(`${payloadBytes} bytes of payload`, 8);
  const headBytes = batchHeadBytes(entryCount);
  if (bytes.length !== headBytes + storedBytes) {
    throw bad(`the message has ${bytes.length} bytes, its header says otherwise`, 12);
  }
  const entries = parseEntries(bytes, entryCount);
  const stored = bytes.subarray(headBytes);
  const payload = flags === FLAG_ZSTD ? unpack(stored, payloadBytes) : stored;
  if (payload.length !== payloadBytes) {
    throw bad(`the payload has ${payload.length} bytes, not ${payloadBytes}`, 8);
  }
  return { kind: 'cells', diskIndex, entries, payload };
}

function parseEntries(bytes: Buffer, entryCount: number): BatchEntry[] {
  const entries: BatchEntry[] = [];
  const lastCell = MAX_DISK_BYTES / CELL_BYTES;
  for (let index = 0; index < entryCount; index++) {
    const at = BATCH_HEADER_BYTES + index * MANIFEST_RECORD_BYTES;
    const entry = parseEntry(bytes, at);
    const end = entry.cell + (entry.kind === 'zero' ? entry.count : 1);
    if (end > lastCell || end === entry.cell) throw bad('an entry names no cell of a disk', at);
    entries.push(entry);
  }
  return entries;
}

function parseEntry(bytes: Buffer, at: number): BatchEntry {
  if (bytes.readUInt8(at + 6) === RECORD_REUSE && bytes.readUInt8(at + 7) === 0) {
    const hash = Buffer.from(bytes.subarray(at + 8, at + 8 + HASH_BYTES));
    return { kind: 'reuse', cell: bytes.readUIntLE(at, 6), hash };
  }
  let record: ManifestRecord | 'trailer';
  try {
    record = parseManifestRecord(bytes, at, at);
  } catch (error) {
    throw bad(error instanceof Error ? error.message : 'an entry is not legal', at);
  }
  if (record === 'trailer') throw bad('a trailer stands among the entries', at);
  return record;
}

function unpack(stored: Buffer, payloadBytes: number): Buffer {
  if (payloadBytes === 0) throw bad('a compressed payload is empty', 8);
  try {
    return zstdDecompressSync(stored, {
      maxOutputLength: payloadBytes,
      params: { [zlib.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
    });
  } catch {
    throw bad('the payload is no zstd frame of the stated length', BATCH_HEADER_BYTES);
  }
}
