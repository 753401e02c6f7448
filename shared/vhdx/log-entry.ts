// One entry of the log (§ 6): a header, descriptors, and one 4 KiB sector for each data descriptor.
//
//   sector 0          header (64 bytes), up to 126 descriptors of 32 bytes
//   sectors 1..k      128 descriptors each
//   then              data sectors: "data", sequence high, page bytes 8..4091, sequence low
//
// The first 8 and last 4 bytes of a page live in its descriptor; the sequence number at both ends
// of a data sector makes a torn write visible, the checksum over all of it proves the entry.

import { assert } from '../assert.js';
import { crc32c, readGuid, writeGuid, type Guid } from '../bytes/index.js';
import {
  LOG_DATA_DESCRIPTOR_SIGNATURE,
  LOG_DATA_SECTOR_SIGNATURE,
  LOG_DESCRIPTOR_BYTES,
  LOG_ENTRY_HEADER_BYTES,
  LOG_ENTRY_SIGNATURE,
  LOG_SECTOR_BYTES,
  LOG_ZERO_DESCRIPTOR_SIGNATURE,
} from './format.js';

/** A change that an entry carries. */
export type LogRecord =
  | { readonly kind: 'page'; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'zero'; readonly offset: number; readonly lengthBytes: number };

export interface LogEntryHeader {
  readonly entryLengthBytes: number;
  /** Byte offset within the log of the oldest entry still needed. */
  readonly tail: number;
  readonly sequenceNumber: bigint;
  readonly descriptorCount: number;
  readonly logGuid: Guid;
  readonly flushedFileOffset: bigint;
  readonly lastFileOffset: bigint;
}

/** Reads the 4 KiB sector at `offset` of a log; offsets wrap at its end. */
export type SectorAt = (offset: number) => Buffer;

const SEQUENCE_LOW_MASK = 0xffff_ffffn;

/** Bytes that `descriptorCount` descriptors take, header included. */
export function descriptorAreaBytes(descriptorCount: number): number {
  const bytes = LOG_ENTRY_HEADER_BYTES + descriptorCount * LOG_DESCRIPTOR_BYTES;
  return Math.ceil(bytes / LOG_SECTOR_BYTES) * LOG_SECTOR_BYTES;
}

/** Length of an entry that logs `pageCount` pages and nothing else. */
export function entryBytesForPages(pageCount: number): number {
  return descriptorAreaBytes(pageCount) + pageCount * LOG_SECTOR_BYTES;
}

/**
 * The header of the entry that starts at `offset`, or undefined when there is no valid entry of
 * this log. Cheap structure first, checksum last: a sector belongs to at most one entry that
 * passes the structure, so a whole scan stays linear in the size of the log.
 */
export function validateLogEntry(
  sectorAt: SectorAt,
  offset: number,
  logLengthBytes: number,
  logGuid: Guid,
): LogEntryHeader | undefined {
  const first = sectorAt(offset);
  if (first.toString('latin1', 0, 4) !== LOG_ENTRY_SIGNATURE) return undefined;
  const header: LogEntryHeader = {
    entryLengthBytes: first.readUInt32LE(8),
    tail: first.readUInt32LE(12),
    sequenceNumber: first.readBigUInt64LE(16),
    descriptorCount: first.readUInt32LE(24),
    logGuid: readGuid(first, 32),
    flushedFileOffset: first.readBigUInt64LE(48),
    lastFileOffset: first.readBigUInt64LE(56),
  };
  const { entryLengthBytes, tail, sequenceNumber, descriptorCount } = header;
  if (header.logGuid !== logGuid || sequenceNumber === 0n) return undefined;
  if (entryLengthBytes % LOG_SECTOR_BYTES !== 0 || entryLengthBytes < LOG_SECTOR_BYTES) {
    return undefined;
  }
  if (entryLengthBytes >= logLengthBytes) return undefined;
  if (tail % LOG_SECTOR_BYTES !== 0 || tail >= logLengthBytes) return undefined;
  const descriptorBytes = descriptorAreaBytes(descriptorCount);
  if (descriptorBytes > entryLengthBytes) return undefined;

  let dataSectors = 0;
  for (let i = 0; i < descriptorCount; i++) {
    const { sector, at } = descriptorPlace(sectorAt, offset, logLengthBytes, i);
    const signature = sector.toString('latin1', at, at + 4);
    if (sector.readBigUInt64LE(at + 24) !== sequenceNumber) return undefined;
    if (sector.readBigUInt64LE(at + 16) % BigInt(LOG_SECTOR_BYTES) !== 0n) return undefined;
    if (signature === LOG_DATA_DESCRIPTOR_SIGNATURE) dataSectors++;
    else if (signature !== LOG_ZERO_DESCRIPTOR_SIGNATURE) return undefined;
    else if (sector.readBigUInt64LE(at + 8) % BigInt(LOG_SECTOR_BYTES) !== 0n) return undefined;
  }
  if (entryLengthBytes !== descriptorBytes + dataSectors * LOG_SECTOR_BYTES) return undefined;
  const high = Number(sequenceNumber >> 32n);
  const low = Number(sequenceNumber & SEQUENCE_LOW_MASK);
  for (let i = 0; i < dataSectors; i++) {
    const sector = sectorAt((offset + descriptorBytes + i * LOG_SECTOR_BYTES) % logLengthBytes);
    if (sector.toString('latin1', 0, 4) !== LOG_DATA_SECTOR_SIGNATURE) return undefined;
    if (sector.readUInt32LE(4) !== high || sector.readUInt32LE(4092) !== low) return undefined;
  }

  const stored = first.readUInt32LE(4);
  const zeroed = Buffer.from(first);
  zeroed.writeUInt32LE(0, 4);
  let crc = crc32c(zeroed);
  for (let at = LOG_SECTOR_BYTES; at < entryLengthBytes; at += LOG_SECTOR_BYTES) {
    crc = crc32c(sectorAt((offset + at) % logLengthBytes), crc);
  }
  return crc === stored ? header : undefined;
}

/** The records of a validated entry, in order. */
export function* logRecords(
  sectorAt: SectorAt,
  offset: number,
  logLengthBytes: number,
  header: LogEntryHeader,
): Generator<{ record: LogRecord; wideOffset: bigint; wideLength: bigint }> {
  let dataAt = offset + descriptorAreaBytes(header.descriptorCount);
  for (let i = 0; i < header.descriptorCount; i++) {
    const { sector, at } = descriptorPlace(sectorAt, offset, logLengthBytes, i);
    const wideOffset = sector.readBigUInt64LE(at + 16);
    const target = Number(wideOffset);
    if (sector.toString('latin1', at, at + 4) === LOG_ZERO_DESCRIPTOR_SIGNATURE) {
      const wideLength = sector.readBigUInt64LE(at + 8);
      const lengthBytes = Number(wideLength);
      yield { record: { kind: 'zero', offset: target, lengthBytes }, wideOffset, wideLength };
      continue;
    }
    const bytes = Buffer.from(sectorAt(dataAt % logLengthBytes));
    sector.copy(bytes, 0, at + 8, at + 16);
    sector.copy(bytes, LOG_SECTOR_BYTES - 4, at + 4, at + 8);
    dataAt += LOG_SECTOR_BYTES;
    const wideLength = BigInt(LOG_SECTOR_BYTES);
    yield { record: { kind: 'page', offset: target, bytes }, wideOffset, wideLength };
  }
}

function descriptorPlace(
  sectorAt: SectorAt,
  offset: number,
  logLengthBytes: number,
  index: number,
): { sector: Buffer; at: number } {
  const position = LOG_ENTRY_HEADER_BYTES + index * LOG_DESCRIPTOR_BYTES;
  const at = position % LOG_SECTOR_BYTES;
  return { sector: sectorAt((offset + position - at) % logLengthBytes), at };
}

export interface NewLogEntry {
  readonly tail: number;
  readonly sequenceNumber: bigint;
  readonly logGuid: Guid;
  readonly flushedFileOffset: number;
  readonly lastFileOffset: number;
  /** Whole 4 KiB pages with their place in the file. */
  readonly pages: readonly { readonly offset: number; readonly bytes: Buffer }[];
}

export function encodeLogEntry(entry: NewLogEntry): Buffer {
  const descriptorBytes = descriptorAreaBytes(entry.pages.length);
  const out = Buffer.alloc(descriptorBytes + entry.pages.length * LOG_SECTOR_BYTES);
  out.write(LOG_ENTRY_SIGNATURE, 0, 'latin1');
  out.writeUInt32LE(out.length, 8);
  out.writeUInt32LE(entry.tail, 12);
  out.writeBigUInt64LE(entry.sequenceNumber, 16);
  out.writeUInt32LE(entry.pages.length, 24);
  writeGuid(out, 32, entry.logGuid);
  out.writeBigUInt64LE(BigInt(entry.flushedFileOffset), 48);
  out.writeBigUInt64LE(BigInt(entry.lastFileOffset), 56);
  const high = Number(entry.sequenceNumber >> 32n);
  const low = Number(entry.sequenceNumber & SEQUENCE_LOW_MASK);
  entry.pages.forEach(({ offset, bytes }, i) => {
    assert(offset % LOG_SECTOR_BYTES === 0, 'logged pages are aligned');
    assert(bytes.length === LOG_SECTOR_BYTES, 'logged pages are whole');
    const at = LOG_ENTRY_HEADER_BYTES + i * LOG_DESCRIPTOR_BYTES;
    out.write(LOG_DATA_DESCRIPTOR_SIGNATURE, at, 'latin1');
    bytes.copy(out, at + 4, LOG_SECTOR_BYTES - 4);
    bytes.copy(out, at + 8, 0, 8);
    out.writeBigUInt64LE(BigInt(offset), at + 16);
    out.writeBigUInt64LE(entry.sequenceNumber, at + 24);
    const data = descriptorBytes + i * LOG_SECTOR_BYTES;
    bytes.copy(out, data);
    out.write(LOG_DATA_SECTOR_SIGNATURE, data, 'latin1');
    out.writeUInt32LE(high, data + 4);
    out.writeUInt32LE(low, data + 4092);
  });
  out.writeUInt32LE(crc32c(out), 4);
  return out;
}
