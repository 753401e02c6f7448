// The manifest, byte by byte (docs/on-disk.md "Manifest"). Little-endian:
//
//   header, 128 bytes      who, when, where; CRC-32C at 124
//   records, 40 bytes each 0 first cell u48   6 kind u8 (1 data, 2 zero)   7 reserved u8 = 0
//                          8 data: SHA-256 · zero: number of cells u64, then 24 bytes 0
//   trailer, 80 bytes      0 zero u48   6 kind u8 = 255   7 reserved u8 = 0   8 record count u64
//                          16 cell count u64   24 data cell count u64   32 root SHA-256
//                          64 reserved 12 bytes = 0   76 CRC-32C of bytes 0..75
//
// Records have one size, so a file can be searched by cell without an index; a run of zero cells is
// one record, so a trimmed terabyte costs 40 bytes. The counts stand behind the records, so a
// manifest is written in one pass; a file without a whole trailer is torn. There is one way to
// write a given set of cells: zero runs are as long as they can be, and a cell of zeros is never a
// data record. So the root is the same whichever side computes it.
//
//   root = SHA-256( header bytes 0..123 · all records · trailer bytes 0..31 )

import { assert } from '../assert.js';
import { crc32c, type Guid, readGuid, writeGuid, ZERO_GUID } from '../bytes/index.js';
import type { ErrorCode } from '../errors.js';
import { CELL_BYTES, cellCount, cellLength, HASH_BYTES, MAX_DISK_BYTES, zeroHash } from './cell.js';
import { DeltaError } from './delta-error.js';

export const MANIFEST_HEADER_BYTES = 128;
export const MANIFEST_RECORD_BYTES = 40;
export const MANIFEST_TRAILER_BYTES = 80;
export const MANIFEST_MAGIC = Buffer.from('HVDRMFST', 'latin1');
export const MANIFEST_VERSION = 1;

const FLAG_BASE = 1;
const KIND_DATA = 1;
const KIND_ZERO = 2;
const KIND_TRAILER = 255;

export interface ManifestHeader {
  /** delta: what changed since the parent point. base: every cell that is not zero. */
  readonly kind: 'delta' | 'base';
  readonly point: Guid;
  /** ZERO_GUID: there is none, the delta stands on a disk of zeros. Always in a base. */
  readonly parentPoint: Guid;
  readonly vmId: Guid;
  readonly diskId: Guid;
  /** Rises when the disk is resized. */
  readonly diskGeneration: number;
  readonly diskSizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly epoch: bigint;
}

export type ManifestRecord =
  | { readonly kind: 'data'; readonly cell: number; readonly hash: Buffer }
  /** The cells [cell, cell + count) read as zeros. */
  | { readonly kind: 'zero'; readonly cell: number; readonly count: number };

export interface ManifestTrailer {
  readonly recordCount: number;
  /** Number of cells, those of zero runs included. */
  readonly cellCount: number;
  readonly dataCellCount: number;
  readonly root: Buffer;
}

export function manifestError(
  code: ErrorCode,
  message: string,
  position: number,
  done?: string,
): DeltaError {
  return new DeltaError(code, `${message}, at byte ${position} of the manifest`, {
    context: { position },
    ...(done === undefined ? {} : { done }),
  });
}

/**
 * Refuses the manifest of a base where the one of a delta belongs, and the other way.
 * @throws DeltaError E_DELTA_COVERAGE
 */
export function checkKind(header: ManifestHeader, expected: ManifestHeader['kind']): void {
  if (header.kind === expected) return;
  const [found, wanted] =
    expected === 'base' ? ['of a delta', 'of a base'] : ['of a base', 'of a delta'];
  throw new DeltaError(
    'E_DELTA_COVERAGE',
    `the manifest of point ${header.point} is the one ${found}, where the one ${wanted} is needed`,
    {
      context: { position: 12, kind: header.kind, point: header.point },
      hint: `give the manifest ${wanted}; \`hvdr pcbt info FILE\` tells which kind a file is`,
    },
  );
}

/** Number of cells that a record stands for. */
export function recordCells(record: ManifestRecord): number {
  return record.kind === 'data' ? 1 : record.count;
}

export function encodeManifestHeader(header: ManifestHeader): Buffer {
  assert(header.kind === 'delta' || header.parentPoint === ZERO_GUID, 'a base has no parent');
  const out = Buffer.alloc(MANIFEST_HEADER_BYTES);
  MANIFEST_MAGIC.copy(out, 0);
  out.writeUInt32LE(MANIFEST_VERSION, 8);
  out.writeUInt32LE(header.kind === 'base' ? FLAG_BASE : 0, 12);
  writeGuid(out, 16, header.point);
  writeGuid(out, 32, header.parentPoint);
  writeGuid(out, 48, header.vmId);
  writeGuid(out, 64, header.diskId);
  out.writeUInt32LE(header.diskGeneration, 80);
  out.writeUInt32LE(CELL_BYTES, 84);
  out.writeUInt32LE(header.logicalSectorBytes, 88);
  out.writeUInt32LE(header.physicalSectorBytes, 92);
  out.writeBigUInt64LE(BigInt(header.diskSizeBytes), 96);
  out.writeBigUInt64LE(header.epoch, 104);
  out.writeUInt32LE(crc32c(out.subarray(0, 124)), 124);
  return out;
}

/**
 * Decodes the first bytes of a file, fewer than 128 when it ends there.
 * @throws DeltaError E_DELTA_MANIFEST, E_DELTA_VERSION
 */
export function parseManifestHeader(bytes: Buffer): ManifestHeader {
  const bad = (position: number, message: string): DeltaError =>
    manifestError('E_DELTA_MANIFEST', message, position);
  const magic = bytes.subarray(0, MANIFEST_MAGIC.length);
  if (!magic.equals(MANIFEST_MAGIC.subarray(0, magic.length))) {
    throw bad(0, 'the file is no manifest: it does not begin with "HVDRMFST"');
  }
  if (bytes.length < MANIFEST_HEADER_BYTES) {
    throw bad(bytes.length, 'the file ends inside the header');
  }
  const version = bytes.readUInt32LE(8);
  if (version !== MANIFEST_VERSION) {
    const message = `the version is ${version}, known is ${MANIFEST_VERSION}`;
    throw manifestError('E_DELTA_VERSION', message, 8);
  }
  if (bytes.readUInt32LE(124) !== crc32c(bytes.subarray(0, 124))) {
    throw bad(124, 'the checksum of the header is wrong');
  }
  // The checksum has held, so what follows was written on purpose; it is checked nevertheless,
  // because anybody can compute a checksum.
  const flags = bytes.readUInt32LE(12);
  if (flags > FLAG_BASE) throw bad(12, `unknown flags ${flags.toString(16)}`);
  if (flags === FLAG_BASE && !isAllZero(bytes, 32, 48)) {
    throw bad(32, 'the manifest of a base names a parent point');
  }
  const cellBytes = bytes.readUInt32LE(84);
  if (cellBytes !== CELL_BYTES) throw bad(84, `the cell size is ${cellBytes}, not ${CELL_BYTES}`);
  const logicalSectorBytes = sectorSize(bytes, 88);
  const physicalSectorBytes = sectorSize(bytes, 92);
  const size = bytes.readBigUInt64LE(96);
  if (size > BigInt(MAX_DISK_BYTES)) throw bad(96, `no disk has ${size.toString()} bytes`);
  if (!isAllZero(bytes, 112, 124)) throw bad(112, 'reserved bytes of the header are not 0');
  return {
    kind: flags === FLAG_BASE ? 'base' : 'delta',
    point: readGuid(bytes, 16),
    parentPoint: readGuid(bytes, 32),
    vmId: readGuid(bytes, 48),
    diskId: readGuid(bytes, 64),
    diskGeneration: bytes.readUInt32LE(80),
    diskSizeBytes: Number(size),
    logicalSectorBytes,
    physicalSectorBytes,
    epoch: bytes.readBigUInt64LE(104),
  };
}

function sectorSize(bytes: Buffer, position: number): number {
  const value = bytes.readUInt32LE(position);
  if (value === 512 || value === 4096) return value;
  throw manifestError('E_DELTA_MANIFEST', `the sector size ${value} is not legal`, position);
}

function isAllZero(bytes: Buffer, start: number, end: number): boolean {
  for (let position = start; position < end; position++) if (bytes[position] !== 0) return false;
  return true;
}

export function encodeManifestRecord(record: ManifestRecord, out: Buffer, position: number): void {
  out.writeUIntLE(record.cell, position, 6);
  out.writeUInt8(record.kind === 'data' ? KIND_DATA : KIND_ZERO, position + 6);
  out.writeUInt8(0, position + 7);
  if (record.kind === 'data') {
    assert(record.hash.length === HASH_BYTES, 'a cell hash is a SHA-256');
    record.hash.copy(out, position + 8);
  } else {
    out.fill(0, position + 8, position + MANIFEST_RECORD_BYTES);
    out.writeUIntLE(record.count, position + 8, 6);
  }
}

/**
 * The record at `at` of `bytes`, with its own hash buffer, or 'trailer' when the trailer begins
 * there; `position` is the place in the file, for messages.
 * @throws DeltaError E_DELTA_MANIFEST
 */
export function parseManifestRecord(
  bytes: Buffer,
  at: number,
  position: number,
): ManifestRecord | 'trailer' {
  const cell = bytes.readUIntLE(at, 6);
  const kind = bytes.readUInt8(at + 6);
  if (bytes.readUInt8(at + 7) !== 0) {
    throw manifestError('E_DELTA_MANIFEST', 'a reserved byte is not 0', position + 7);
  }
  switch (kind) {
    case KIND_DATA: {
      const hash = Buffer.from(bytes.subarray(at + 8, at + MANIFEST_RECORD_BYTES));
      return { kind: 'data', cell, hash };
    }
    case KIND_ZERO: {
      if (!isAllZero(bytes, at + 14, at + MANIFEST_RECORD_BYTES)) {
        throw manifestError('E_DELTA_MANIFEST', 'reserved bytes are not 0', position + 14);
      }
      return { kind: 'zero', cell, count: bytes.readUIntLE(at + 8, 6) };
    }
    case KIND_TRAILER:
      return 'trailer';
    default:
      throw manifestError('E_DELTA_MANIFEST', `no record has the kind ${kind}`, position + 6);
  }
}

/** The first 32 bytes of the trailer, which the root covers. */
export function encodeTrailerCounts(counts: Omit<ManifestTrailer, 'root'>): Buffer {
  const out = Buffer.alloc(32);
  out.writeUInt8(KIND_TRAILER, 6);
  out.writeBigUInt64LE(BigInt(counts.recordCount), 8);
  out.writeBigUInt64LE(BigInt(counts.cellCount), 16);
  out.writeBigUInt64LE(BigInt(counts.dataCellCount), 24);
  return out;
}

export function encodeManifestTrailer(trailer: ManifestTrailer): Buffer {
  assert(trailer.root.length === HASH_BYTES, 'the root is a SHA-256');
  const out = Buffer.alloc(MANIFEST_TRAILER_BYTES);
  encodeTrailerCounts(trailer).copy(out, 0);
  trailer.root.copy(out, 32);
  out.writeUInt32LE(crc32c(out.subarray(0, 76)), 76);
  return out;
}

/** @throws DeltaError E_DELTA_MANIFEST */
export function parseManifestTrailer(bytes: Buffer, position: number): ManifestTrailer {
  const bad = (at: number, message: string): DeltaError =>
    manifestError('E_DELTA_MANIFEST', message, position + at);
  if (bytes.length < MANIFEST_TRAILER_BYTES)
    throw bad(bytes.length, 'the file ends in its trailer');
  if (bytes.readUInt32LE(76) !== crc32c(bytes.subarray(0, 76))) {
    throw bad(76, 'the trailer is missing or its checksum is wrong');
  }
  if (bytes.readUInt8(6) !== KIND_TRAILER) throw bad(6, 'the file does not end with a trailer');
  if (bytes.readUIntLE(0, 6) !== 0 || !isAllZero(bytes, 7, 8) || !isAllZero(bytes, 64, 76)) {
    throw bad(0, 'reserved bytes of the trailer are not 0');
  }
  return {
    recordCount: count(bytes, 8, position),
    cellCount: count(bytes, 16, position),
    dataCellCount: count(bytes, 24, position),
    root: Buffer.from(bytes.subarray(32, 64)),
  };
}

function count(bytes: Buffer, at: number, position: number): number {
  const value = bytes.readBigUInt64LE(at);
  if (value <= BigInt(MAX_DISK_BYTES / CELL_BYTES)) return Number(value);
  throw manifestError('E_DELTA_MANIFEST', `no disk has ${value.toString()} cells`, position + at);
}

/** The rules over all records of one manifest. Writer, reader and check ask the same object. */
export class ManifestRules {
  readonly #header: ManifestHeader;
  readonly #lastCell: number;
  #nextCell = 0;
  #isAfterZero = false;
  #recordCount = 0;
  #cellCount = 0;
  #dataCellCount = 0;

  constructor(header: ManifestHeader) {
    this.#header = header;
    this.#lastCell = cellCount(header.diskSizeBytes) - 1;
  }

  get counts(): Omit<ManifestTrailer, 'root'> {
    return {
      recordCount: this.#recordCount,
      cellCount: this.#cellCount,
      dataCellCount: this.#dataCellCount,
    };
  }

  /** What is wrong with `record` as the next one, or undefined. */
  check(record: ManifestRecord): string | undefined {
    const cells = recordCells(record);
    const { cell } = record;
    if (cells < 1) return `the zero run at cell ${cell} is empty`;
    if (cell < this.#nextCell) return `cell ${cell} is not in ascending order`;
    if (cell + cells - 1 > this.#lastCell) {
      return `cell ${cell} with ${cells} in a row reaches beyond the end of the disk`;
    }
    if (record.kind === 'zero') {
      if (this.#header.kind === 'base')
        return `a base lists no zero cells, but cell ${cell} is one`;
      if (this.#isAfterZero && cell === this.#nextCell) {
        return `the zero run at cell ${cell} continues the one before it`;
      }
    } else if (record.hash.equals(zeroHash(cellLength(cell, this.#header.diskSizeBytes)))) {
      return `cell ${cell} holds zeros and is not listed as a zero cell`;
    }
    this.#nextCell = cell + cells;
    this.#isAfterZero = record.kind === 'zero';
    this.#recordCount++;
    this.#cellCount += cells;
    if (record.kind === 'data') this.#dataCellCount++;
    return undefined;
  }
}
