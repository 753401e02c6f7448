// The two headers (§ 1.2). Which one counts: of those with a good signature and checksum, the one
// with the larger sequence number. Updates never touch the current one.

import { crc32c, readGuid, writeGuid, type Guid, ZERO_GUID } from '../bytes/index.js';
import {
  FIRST_STRUCTURE_OFFSET,
  HEADER_BYTES,
  HEADER_OFFSETS,
  HEADER_SIGNATURE,
  HEADER_VERSION,
  LOG_MAX_BYTES,
  LOG_VERSION,
  MIB,
} from './format.js';
import type { Report } from './violation.js';

export interface Header {
  /** Opaque 64-bit counter; never a number, real files start near 2^63. */
  readonly sequenceNumber: bigint;
  readonly fileWriteGuid: Guid;
  /** Identity of the content: what children store as their linkage. */
  readonly dataWriteGuid: Guid;
  /** Zero: nothing to replay. */
  readonly logGuid: Guid;
  readonly logVersion: number;
  readonly version: number;
  readonly logLengthBytes: number;
  readonly logOffset: number;
}

export type HeaderSlot = 0 | 1;

export interface CurrentHeader {
  readonly header: Header;
  readonly slot: HeaderSlot;
}

/** The header in `bytes` (4 KiB), or undefined when signature or checksum are wrong. */
export function parseHeader(bytes: Buffer): Header | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  if (bytes.toString('latin1', 0, 4) !== HEADER_SIGNATURE) return undefined;
  const stored = bytes.readUInt32LE(4);
  const zeroed = Buffer.from(bytes.subarray(0, HEADER_BYTES));
  zeroed.writeUInt32LE(0, 4);
  if (crc32c(zeroed) !== stored) return undefined;
  const logOffset = bytes.readBigUInt64LE(72);
  return {
    sequenceNumber: bytes.readBigUInt64LE(8),
    fileWriteGuid: readGuid(bytes, 16),
    dataWriteGuid: readGuid(bytes, 32),
    logGuid: readGuid(bytes, 48),
    logVersion: bytes.readUInt16LE(64),
    version: bytes.readUInt16LE(66),
    logLengthBytes: bytes.readUInt32LE(68),
    logOffset:
      logOffset > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(logOffset),
  };
}

export function encodeHeader(header: Header): Buffer {
  const out = Buffer.alloc(HEADER_BYTES);
  out.write(HEADER_SIGNATURE, 0, 'latin1');
  out.writeBigUInt64LE(header.sequenceNumber, 8);
  writeGuid(out, 16, header.fileWriteGuid);
  writeGuid(out, 32, header.dataWriteGuid);
  writeGuid(out, 48, header.logGuid);
  out.writeUInt16LE(header.logVersion, 64);
  out.writeUInt16LE(header.version, 66);
  out.writeUInt32LE(header.logLengthBytes, 68);
  out.writeBigUInt64LE(BigInt(header.logOffset), 72);
  out.writeUInt32LE(crc32c(out), 4);
  return out;
}

/**
 * The current header of the two 4 KiB slots. Equal sequence numbers are accepted only when both
 * slots are identical, as Disk2vhd writes them.
 */
export function chooseHeader(
  slots: readonly [Buffer, Buffer],
  report: Report,
): CurrentHeader | undefined {
  const first = parseHeader(slots[0]);
  const second = parseHeader(slots[1]);
  if (first === undefined && second === undefined) {
    report({
      code: 'E_VHDX_HEADER',
      structure: 'headers',
      offset: HEADER_OFFSETS[0],
      message: 'neither header has a good signature and checksum',
    });
    return undefined;
  }
  if (first === undefined || second === undefined) {
    return first !== undefined
      ? { header: first, slot: 0 }
      : second !== undefined
        ? { header: second, slot: 1 }
        : undefined;
  }
  if (first.sequenceNumber === second.sequenceNumber && !slots[0].equals(slots[1])) {
    report({
      code: 'E_VHDX_HEADER',
      structure: 'headers',
      offset: HEADER_OFFSETS[0],
      message: `both headers have sequence number ${first.sequenceNumber.toString()} but differ`,
    });
  }
  return second.sequenceNumber > first.sequenceNumber
    ? { header: second, slot: 1 }
    : { header: first, slot: 0 };
}

/** Checks the fields of the current header against the file (§ 9 points 1 and 2). */
export function checkHeader(
  { header, slot }: CurrentHeader,
  fileSizeBytes: number,
  report: Report,
): void {
  const structure = `header ${slot + 1}`;
  const base = HEADER_OFFSETS[slot];
  if (header.version !== HEADER_VERSION) {
    report({
      code: 'E_VHDX_VERSION',
      structure,
      offset: base + 66,
      message: `version ${header.version}, known is ${HEADER_VERSION}`,
    });
  }
  const isDirty = header.logGuid !== ZERO_GUID;
  if (isDirty && header.logVersion !== LOG_VERSION) {
    report({
      code: 'E_VHDX_VERSION',
      structure,
      offset: base + 64,
      message: `log version ${header.logVersion}, known is ${LOG_VERSION}`,
    });
  }
  const { logOffset, logLengthBytes } = header;
  if (logLengthBytes === 0 && !isDirty) return; // no log at all; refused only when written to
  if (logLengthBytes === 0 || logLengthBytes % MIB !== 0) {
    report({
      code: 'E_VHDX_HEADER',
      structure,
      offset: base + 68,
      message: `log length ${logLengthBytes} is no positive multiple of 1 MiB`,
    });
  }
  if (logLengthBytes > LOG_MAX_BYTES) {
    report({
      code: 'E_VHDX_LIMIT',
      structure,
      offset: base + 68,
      message: `log length ${logLengthBytes} is above ${LOG_MAX_BYTES}`,
    });
  }
  if (logOffset < FIRST_STRUCTURE_OFFSET || logOffset % MIB !== 0) {
    report({
      code: 'E_VHDX_HEADER',
      structure,
      offset: base + 72,
      message: `log offset ${logOffset} is not a multiple of 1 MiB from 1 MiB on`,
    });
  } else if (logOffset + logLengthBytes > fileSizeBytes) {
    report({
      code: 'E_VHDX_TRUNCATED',
      structure,
      offset: base + 72,
      message: `log ends at ${logOffset + logLengthBytes}, the file at ${fileSizeBytes}`,
    });
  }
}
