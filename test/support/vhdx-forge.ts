// Opens a VHDX in memory at byte level, so that a test can damage one field and mend the checksums
// around it: what is left is a file that only a real check refuses. Works on sparse bytes, so a
// forged copy costs the pages that differ. Knows the format by its own numbers where that is short,
// and never calls the reading side of the engine.

import { crc32c, readGuid, writeGuid, type Guid } from '../../shared/bytes/index.js';
import { MemoryFileSystem } from './memory-file.js';
import type { SparseBytes } from './sparse-bytes.js';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const HEADERS = [64 * KIB, 128 * KIB] as const;
export const REGION_TABLES = [192 * KIB, 256 * KIB] as const;
export const BAT_REGION = '2dc27766-f623-4200-9d64-115e9bfd4a08' as Guid;
export const METADATA_REGION = '8b7ca206-4790-4b9a-b8fe-575f050f886e' as Guid;
export const ITEMS = {
  parameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b' as Guid,
  size: '2fa54224-cd1b-4876-b211-5dbed83bf4b8' as Guid,
  logical: '8141bf1d-a96f-4709-ba47-f233a8faab5f' as Guid,
  physical: 'cda348c7-445d-4471-9cc9-e9885251c556' as Guid,
  diskId: 'beca12ab-b2e6-4523-93ef-c309e000c746' as Guid,
  locator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c' as Guid,
  incomplete: '71cc85f0-1b69-4e28-9558-c3bf83ae75d3' as Guid,
} as const;

/** Places of header fields, from the start of a header. */
export const HEADER_FIELD = {
  checksum: 4,
  sequence: 8,
  fileWriteGuid: 16,
  dataWriteGuid: 32,
  logGuid: 48,
  logVersion: 64,
  version: 66,
  logLength: 68,
  logOffset: 72,
} as const;

export interface ForgedItem {
  /** Place of the table entry in the file. */
  readonly entryAt: number;
  /** Place of the item's bytes in the file. */
  readonly at: number;
  readonly lengthBytes: number;
}

export interface ForgedRegion {
  /** Place of the entry, from the start of a region table. */
  readonly entry: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

export class VhdxForge {
  readonly fs: MemoryFileSystem;
  readonly path: string;

  /** Forges `path` in place; clone the file system first to keep the original. */
  constructor(fs: MemoryFileSystem, path: string) {
    this.fs = fs;
    this.path = path;
  }

  get bytes(): SparseBytes {
    const node = this.fs.nodeAt(this.path);
    if (node === undefined) throw new Error(`${this.path} is not there`);
    return node.bytes;
  }

  get sizeBytes(): number {
    return this.bytes.sizeBytes;
  }

  truncate(sizeBytes: number): this {
    this.bytes.truncate(sizeBytes);
    return this;
  }

  read(at: number, lengthBytes: number): Buffer {
    const out = Buffer.alloc(lengthBytes);
    this.bytes.read(at, out);
    return out;
  }

  write(at: number, bytes: Uint8Array): this {
    this.bytes.write(at, bytes);
    return this;
  }

  writeText(at: number, text: string): this {
    return this.write(at, Buffer.from(text, 'latin1'));
  }

  u16(at: number, value: number): this {
    const out = Buffer.alloc(2);
    out.writeUInt16LE(value);
    return this.write(at, out);
  }

  u32(at: number, value: number): this {
    const out = Buffer.alloc(4);
    out.writeUInt32LE(value >>> 0);
    return this.write(at, out);
  }

  u64(at: number, value: bigint | number): this {
    const out = Buffer.alloc(8);
    out.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
    return this.write(at, out);
  }

  guid(at: number, value: Guid): this {
    const out = Buffer.alloc(16);
    writeGuid(out, 0, value);
    return this.write(at, out);
  }

  readU32(at: number): number {
    return this.read(at, 4).readUInt32LE();
  }

  readU64(at: number): bigint {
    return this.read(at, 8).readBigUInt64LE();
  }

  readGuid(at: number): Guid {
    return readGuid(this.read(at, 16), 0);
  }

  // ---- checksums --------------------------------------------------------------------------------

  /** Mends the checksum at `at` + 4 over `lengthBytes` from `at`. */
  mend(at: number, lengthBytes: number): this {
    this.u32(at + 4, 0);
    return this.u32(at + 4, crc32c(this.read(at, lengthBytes)));
  }

  mendHeaders(): this {
    for (const at of HEADERS) this.mend(at, 4 * KIB);
    return this;
  }

  mendRegionTables(): this {
    for (const at of REGION_TABLES) this.mend(at, 64 * KIB);
    return this;
  }

  // ---- headers ----------------------------------------------------------------------------------

  /** The slot with the larger sequence number. */
  get currentSlot(): 0 | 1 {
    const [first, second] = HEADERS.map((at) => this.readU64(at + HEADER_FIELD.sequence));
    return (second ?? 0n) > (first ?? 0n) ? 1 : 0;
  }

  get currentHeader(): number {
    return HEADERS[this.currentSlot];
  }

  /** Patches both headers and mends them. */
  headers(patch: (at: number, slot: 0 | 1) => void): this {
    patch(HEADERS[0], 0);
    patch(HEADERS[1], 1);
    return this.mendHeaders();
  }

  get log(): { readonly offset: number; readonly lengthBytes: number } {
    const at = this.currentHeader;
    return {
      offset: Number(this.readU64(at + HEADER_FIELD.logOffset)),
      lengthBytes: this.readU32(at + HEADER_FIELD.logLength),
    };
  }

  // ---- regions ----------------------------------------------------------------------------------

  /** Patches both region tables and mends them. */
  regionTables(patch: (at: number) => void): this {
    for (const at of REGION_TABLES) patch(at);
    return this.mendRegionTables();
  }

  region(id: Guid): ForgedRegion {
    const table = REGION_TABLES[0];
    const count = this.readU32(table + 8);
    for (let i = 0; i < count; i++) {
      const entry = 16 + i * 32;
      if (this.readGuid(table + entry) !== id) continue;
      return {
        entry,
        offset: Number(this.readU64(table + entry + 16)),
        lengthBytes: this.readU32(table + entry + 24),
      };
    }
    throw new Error(`there is no region ${id}`);
  }

  /** Adds an entry to both region tables; returns its place from the start of a table. */
  addRegion(id: Guid, offset: number, lengthBytes: number, flags: number): number {
    const entry = 16 + this.readU32(REGION_TABLES[0] + 8) * 32;
    this.regionTables((table) => {
      this.u32(table + 8, this.readU32(table + 8) + 1);
      this.guid(table + entry, id);
      this.u64(table + entry + 16, offset);
      this.u32(table + entry + 24, lengthBytes);
      this.u32(table + entry + 28, flags);
    });
    return entry;
  }

  // ---- metadata ---------------------------------------------------------------------------------

  get metadataAt(): number {
    return this.region(METADATA_REGION).offset;
  }

  item(id: Guid): ForgedItem {
    const base = this.metadataAt;
    const count = this.read(base + 10, 2).readUInt16LE();
    for (let i = 0; i < count; i++) {
      const entryAt = base + 32 + i * 32;
      if (this.readGuid(entryAt) !== id) continue;
      return {
        entryAt,
        at: base + this.readU32(entryAt + 16),
        lengthBytes: this.readU32(entryAt + 20),
      };
    }
    throw new Error(`there is no item ${id}`);
  }

  /** Adds an item, its bytes at `offset` from the start of the region; returns its entry's place. */
  addItem(id: Guid, offset: number, bytes: Uint8Array, flags: number): number {
    const base = this.metadataAt;
    const count = this.read(base + 10, 2).readUInt16LE();
    const entryAt = base + 32 + count * 32;
    this.u16(base + 10, count + 1);
    this.guid(entryAt, id);
    this.u32(entryAt + 16, bytes.length === 0 ? 0 : offset);
    this.u32(entryAt + 20, bytes.length);
    this.u32(entryAt + 24, flags);
    if (bytes.length > 0) this.write(base + offset, bytes);
    return entryAt;
  }

  /** Puts other bytes in the place of the parent locator; there is room behind it. */
  locator(bytes: Uint8Array): this {
    const { entryAt, at } = this.item(ITEMS.locator);
    this.u32(entryAt + 20, bytes.length);
    return this.write(at, bytes);
  }

  // ---- BAT --------------------------------------------------------------------------------------

  batEntryAt(index: number): number {
    return this.region(BAT_REGION).offset + index * 8;
  }

  batEntry(index: number): { readonly state: number; readonly offset: number } {
    const value = this.readU64(this.batEntryAt(index));
    return { state: Number(value & 7n), offset: Number((value >> 20n) << 20n) };
  }

  /** Sets an entry; returns its place in the file. */
  setBat(index: number, state: number, offset: number, reserved = 0): number {
    const at = this.batEntryAt(index);
    this.u64(at, BigInt(offset) | (BigInt(reserved) << 3n) | BigInt(state));
    return at;
  }
}

export interface LocatorEntry {
  readonly key: string | Buffer;
  readonly value: string | Buffer;
}

/** A locator item with any entries, legal or not. */
export function forgeLocator(
  entries: readonly LocatorEntry[],
  type = 'b04aefb7-d19e-4a81-b789-25b8e9445913' as Guid,
): Buffer {
  const bytesOf = (text: string | Buffer): Buffer =>
    typeof text === 'string' ? Buffer.from(text, 'utf16le') : text;
  const head = Buffer.alloc(20 + entries.length * 12);
  writeGuid(head, 0, type);
  head.writeUInt16LE(entries.length, 18);
  const strings: Buffer[] = [];
  let position = head.length;
  entries.forEach((entry, i) => {
    const at = 20 + i * 12;
    const [key, value] = [bytesOf(entry.key), bytesOf(entry.value)];
    head.writeUInt32LE(position, at);
    head.writeUInt32LE(position + key.length, at + 4);
    head.writeUInt16LE(key.length, at + 8);
    head.writeUInt16LE(value.length, at + 10);
    strings.push(key, value);
    position += key.length + value.length;
  });
  return Buffer.concat([head, ...strings]);
}

// ---- log ----------------------------------------------------------------------------------------

export type ForgedRecord =
  | { readonly kind: 'page'; readonly offset: bigint | number; readonly fill: number | Buffer }
  | {
      readonly kind: 'zero';
      readonly offset: bigint | number;
      readonly lengthBytes: bigint | number;
    };

export interface ForgedEntry {
  readonly sequence: bigint;
  readonly tail: number;
  readonly logGuid: Guid;
  readonly records?: readonly ForgedRecord[];
  readonly flushedFileOffset?: bigint | number;
  readonly lastFileOffset?: bigint | number;
}

/** A log entry with a good checksum, whatever its fields say; written from § 6, not with the engine. */
export function forgeLogEntry(entry: ForgedEntry): Buffer {
  const records = entry.records ?? [];
  const area = Math.ceil((64 + records.length * 32) / 4096) * 4096;
  const pages = records.filter((record) => record.kind === 'page');
  const out = Buffer.alloc(area + pages.length * 4096);
  out.write('loge', 0, 'latin1');
  out.writeUInt32LE(out.length, 8);
  out.writeUInt32LE(entry.tail, 12);
  out.writeBigUInt64LE(entry.sequence, 16);
  out.writeUInt32LE(records.length, 24);
  writeGuid(out, 32, entry.logGuid);
  out.writeBigUInt64LE(BigInt(entry.flushedFileOffset ?? 0), 48);
  out.writeBigUInt64LE(BigInt(entry.lastFileOffset ?? 0), 56);
  let data = area;
  records.forEach((record, i) => {
    const at = 64 + i * 32;
    out.writeBigUInt64LE(BigInt(record.offset), at + 16);
    out.writeBigUInt64LE(entry.sequence, at + 24);
    if (record.kind === 'zero') {
      out.write('zero', at, 'latin1');
      out.writeBigUInt64LE(BigInt(record.lengthBytes), at + 8);
      return;
    }
    const page =
      typeof record.fill === 'number' ? Buffer.alloc(4096, record.fill) : Buffer.from(record.fill);
    out.write('desc', at, 'latin1');
    page.copy(out, at + 4, 4092, 4096);
    page.copy(out, at + 8, 0, 8);
    page.copy(out, data + 8, 8, 4092);
    out.write('data', data, 'latin1');
    out.writeUInt32LE(Number(entry.sequence >> 32n), data + 4);
    out.writeUInt32LE(Number(entry.sequence & 0xffffffffn), data + 4092);
    data += 4096;
  });
  mendLogEntry(out);
  return out;
}

/** Mends the checksum of an entry after a field was changed. */
export function mendLogEntry(entry: Buffer): void {
  entry.writeUInt32LE(0, 4);
  entry.writeUInt32LE(crc32c(entry), 4);
}

/** Writes `entry` into `log` at `position`, wrapping at its end. */
export function placeInLog(log: Buffer, position: number, entry: Buffer): void {
  const first = Math.min(entry.length, log.length - position);
  entry.copy(log, position, 0, first);
  entry.copy(log, 0, first);
}

/** Makes a file dirty: these bytes are its log, and both headers carry `logGuid`. */
export function installLog(forge: VhdxForge, logGuid: Guid, log: Buffer): void {
  forge.write(forge.log.offset, log);
  forge.headers((at) => {
    forge.guid(at + HEADER_FIELD.logGuid, logGuid);
  });
}
