// The journal of one VM, byte by byte (docs/on-disk.md "Journal"). Little-endian:
//
//   header, 64 bytes    0 magic "HVDRJRNL"   8 version u32   12 reserved u32 = 0
//                       16 VM id   32 store id   48 reserved 12 bytes = 0   60 CRC-32C of 0..59
//   then records        0 magic "JREC"   4 payload bytes u32   8 sequence u64, from 1
//                       16 chain SHA-256   48 CRC-32C of the payload   52 reserved 8 bytes = 0
//                       60 CRC-32C of 0..59   64 payload: a JSON object in UTF-8
//
//   chain of a record = SHA-256( chain of the record before · sequence u64 · payload )
//   chain before the first record = SHA-256( header )
//
// One record is appended and flushed at a time, so what a power cut leaves behind the last good
// record is a part of one record. Everything else that is not right is damage.

import { hash } from 'node:crypto';
import { assert } from '../../shared/assert.js';
import { crc32c, type Guid, readGuid, writeGuid } from '../../shared/bytes/index.js';

export const JOURNAL_HEADER_BYTES = 64;
export const RECORD_HEAD_BYTES = 64;
export const JOURNAL_VERSION = 1;
/** A record with 260 disks and a VM definition at its bounds stays well below. */
export const RECORD_PAYLOAD_MAX = 1024 * 1024;

const MAGIC = Buffer.from('HVDRJRNL', 'latin1');
const RECORD_MAGIC = Buffer.from('JREC', 'latin1');
const CHECKED_BYTES = 60;

export interface JournalHeader {
  readonly vmId: Guid;
  readonly storeId: Guid;
}

export interface RecordHead {
  readonly payloadBytes: number;
  readonly sequence: number;
  readonly chain: Buffer;
  readonly payloadChecksum: number;
}

export function encodeJournalHeader({ vmId, storeId }: JournalHeader): Buffer {
  const out = Buffer.alloc(JOURNAL_HEADER_BYTES);
  MAGIC.copy(out);
  out.writeUInt32LE(JOURNAL_VERSION, 8);
  writeGuid(out, 16, vmId);
  writeGuid(out, 32, storeId);
  out.writeUInt32LE(crc32c(out.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
  return out;
}

/** The header in the first bytes of a file, or what is wrong with it. */
export function parseJournalHeader(
  bytes: Buffer,
): JournalHeader | { readonly wrong: string; readonly isVersion: boolean } {
  const wrong = (what: string, isVersion = false): { wrong: string; isVersion: boolean } => ({
    wrong: what,
    isVersion,
  });
  if (bytes.length < JOURNAL_HEADER_BYTES) return wrong('the file ends inside its header');
  if (!bytes.subarray(0, 8).equals(MAGIC)) return wrong('it does not begin with "HVDRJRNL"');
  const version = bytes.readUInt32LE(8);
  if (bytes.readUInt32LE(CHECKED_BYTES) !== crc32c(bytes.subarray(0, CHECKED_BYTES))) {
    return wrong('the checksum of the header is wrong');
  }
  if (version !== JOURNAL_VERSION) {
    return wrong(`it has version ${version}, known is ${JOURNAL_VERSION}`, true);
  }
  if (bytes.readUInt32LE(12) !== 0 || bytes.subarray(48, 60).some((byte) => byte !== 0)) {
    return wrong('reserved bytes of the header are not 0');
  }
  return { vmId: readGuid(bytes, 16), storeId: readGuid(bytes, 32) };
}

export function firstChain(header: Buffer): Buffer {
  return hash('sha256', header, 'buffer');
}

export function nextChain(previous: Buffer, sequence: number, payload: Buffer): Buffer {
  const number = Buffer.alloc(8);
  number.writeBigUInt64LE(BigInt(sequence));
  return hash('sha256', Buffer.concat([previous, number, payload]), 'buffer');
}

export function encodeRecord(sequence: number, chain: Buffer, payload: Buffer): Buffer {
  assert(payload.length <= RECORD_PAYLOAD_MAX, 'a journal record can be read back');
  const out = Buffer.alloc(RECORD_HEAD_BYTES + payload.length);
  RECORD_MAGIC.copy(out);
  out.writeUInt32LE(payload.length, 4);
  out.writeBigUInt64LE(BigInt(sequence), 8);
  chain.copy(out, 16);
  out.writeUInt32LE(crc32c(payload), 48);
  out.writeUInt32LE(crc32c(out.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
  payload.copy(out, RECORD_HEAD_BYTES);
  return out;
}

/** The head of a record at `at`, or undefined when none stands there. */
export function parseRecordHead(bytes: Buffer, at: number): RecordHead | undefined {
  if (bytes.length - at < RECORD_HEAD_BYTES) return undefined;
  if (bytes.compare(RECORD_MAGIC, 0, 4, at, at + 4) !== 0) return undefined;
  const checksum = crc32c(bytes.subarray(at, at + CHECKED_BYTES));
  if (bytes.readUInt32LE(at + CHECKED_BYTES) !== checksum) return undefined;
  if (bytes.subarray(at + 52, at + CHECKED_BYTES).some((byte) => byte !== 0)) return undefined;
  const payloadBytes = bytes.readUInt32LE(at + 4);
  const sequence = bytes.readBigUInt64LE(at + 8);
  if (payloadBytes > RECORD_PAYLOAD_MAX || sequence > BigInt(Number.MAX_SAFE_INTEGER)) {
    return undefined;
  }
  return {
    payloadBytes,
    sequence: Number(sequence),
    chain: Buffer.from(bytes.subarray(at + 16, at + 48)),
    payloadChecksum: bytes.readUInt32LE(at + 48),
  };
}

/** Position of the next record head behind `from`, or undefined. */
export function findRecordHead(bytes: Buffer, from: number): number | undefined {
  for (
    let at = bytes.indexOf(RECORD_MAGIC, from);
    at >= 0;
    at = bytes.indexOf(RECORD_MAGIC, at + 1)
  ) {
    if (parseRecordHead(bytes, at) !== undefined) return at;
  }
  return undefined;
}
