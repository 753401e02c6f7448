// The metadata region (§ 3): a table of items, then the items. Unknown optional items are left
// where they are; an unknown required one makes the file unusable for us.

import { readGuid, writeGuid, type Guid } from '../bytes/index.js';
import {
  BLOCK_SIZE_MAX,
  BLOCK_SIZE_MIN,
  FILE_PARAMETER_HAS_PARENT,
  FILE_PARAMETER_LEAVE_ALLOCATED,
  ITEM_FILE_PARAMETERS,
  ITEM_INCOMPLETE_FILE,
  ITEM_LOGICAL_SECTOR_SIZE,
  ITEM_PARENT_LOCATOR,
  ITEM_PHYSICAL_SECTOR_SIZE,
  ITEM_VIRTUAL_DISK_ID,
  ITEM_VIRTUAL_DISK_SIZE,
  ITEMS_TOLERATED,
  METADATA_ENTRIES_MAX,
  METADATA_ENTRY_BYTES,
  METADATA_FLAG_REQUIRED,
  METADATA_FLAG_USER,
  METADATA_FLAG_VIRTUAL_DISK,
  METADATA_ITEM_MAX_BYTES,
  METADATA_SIGNATURE,
  METADATA_TABLE_BYTES,
  METADATA_USER_ENTRIES_MAX,
  VIRTUAL_SIZE_MAX,
} from './format.js';
import type { VhdxType } from './geometry.js';
import { encodeParentLocator, type ParentLocator } from './parent-locator.js';
import type { Report } from './violation.js';

export interface MetadataEntry {
  readonly id: Guid;
  /** Relative to the start of the region. */
  readonly offset: number;
  readonly lengthBytes: number;
  readonly isUser: boolean;
  readonly isVirtualDisk: boolean;
  readonly isRequired: boolean;
}

/** The disk that the metadata describes. */
export interface DiskParameters {
  readonly type: VhdxType;
  readonly blockSizeBytes: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** SCSI page 83 identity; the same in a child and its parent. */
  readonly diskId: Guid;
}

/** Parses the 64 KiB table; `base` is the region's place in the file. */
export function parseMetadataTable(
  table: Buffer,
  base: number,
  regionBytes: number,
  report: Report,
): MetadataEntry[] | undefined {
  const wrong = (at: number, message: string): undefined => {
    report({ code: 'E_VHDX_METADATA', structure: 'metadata table', offset: base + at, message });
    return undefined;
  };
  if (table.toString('latin1', 0, 8) !== METADATA_SIGNATURE) return wrong(0, 'no signature');
  const count = table.readUInt16LE(10);
  if (count > METADATA_ENTRIES_MAX) {
    return wrong(10, `${count} entries, at most ${METADATA_ENTRIES_MAX} are legal`);
  }
  const entries: MetadataEntry[] = [];
  const keys = new Set<string>();
  for (let i = 0; i < count; i++) {
    const at = METADATA_TABLE_HEADER_BYTES + i * METADATA_ENTRY_BYTES;
    const flags = table.readUInt32LE(at + 24);
    const entry: MetadataEntry = {
      id: readGuid(table, at),
      offset: table.readUInt32LE(at + 16),
      lengthBytes: table.readUInt32LE(at + 20),
      isUser: (flags & METADATA_FLAG_USER) !== 0,
      isVirtualDisk: (flags & METADATA_FLAG_VIRTUAL_DISK) !== 0,
      isRequired: (flags & METADATA_FLAG_REQUIRED) !== 0,
    };
    const key = `${entry.id}/${entry.isUser}`;
    if (keys.has(key)) wrong(at, `item ${entry.id} is listed twice`);
    keys.add(key);
    if (flags >= 8) wrong(at + 24, `item ${entry.id} has reserved flag bits`);
    if (entry.isUser && entry.isRequired) wrong(at + 24, `user item ${entry.id} is required`);
    if (entry.lengthBytes > METADATA_ITEM_MAX_BYTES) {
      wrong(at + 20, `item ${entry.id} is ${entry.lengthBytes} bytes long, at most 1 MiB is legal`);
    } else if (entry.lengthBytes > 0) {
      if (entry.offset < METADATA_TABLE_BYTES || entry.offset + entry.lengthBytes > regionBytes) {
        wrong(at + 16, `item ${entry.id} is not inside the region`);
      }
    }
    entries.push(entry);
  }
  const users = entries.filter((entry) => entry.isUser).length;
  if (users > METADATA_USER_ENTRIES_MAX) wrong(10, `${users} user items, at most 1024 are legal`);
  const placed = entries.filter((e) => e.lengthBytes > 0).sort((a, b) => a.offset - b.offset);
  placed.reduce((end, entry) => {
    if (entry.offset < end) {
      report({
        code: 'E_VHDX_OVERLAP',
        structure: 'metadata table',
        offset: base + entry.offset,
        message: `item ${entry.id} overlaps another item`,
      });
    }
    return Math.max(end, entry.offset + entry.lengthBytes);
  }, 0);
  return entries;
}

const METADATA_TABLE_HEADER_BYTES = 32;

const KNOWN_ITEMS: readonly Guid[] = [
  ITEM_FILE_PARAMETERS,
  ITEM_VIRTUAL_DISK_SIZE,
  ITEM_LOGICAL_SECTOR_SIZE,
  ITEM_PHYSICAL_SECTOR_SIZE,
  ITEM_VIRTUAL_DISK_ID,
  ITEM_PARENT_LOCATOR,
  ...ITEMS_TOLERATED,
];

/** Refuses what we must not open: required items that we do not know, unfinished files. */
export function checkMetadataItems(
  entries: readonly MetadataEntry[],
  base: number,
  report: Report,
): void {
  for (const [index, entry] of entries.entries()) {
    if (entry.isUser) continue;
    const offset = base + METADATA_TABLE_HEADER_BYTES + index * METADATA_ENTRY_BYTES;
    if (entry.id === ITEM_INCOMPLETE_FILE) {
      report({
        code: 'E_VHDX_INCOMPLETE',
        structure: 'metadata table',
        offset,
        message: 'the file carries the marker of an unfinished creation',
      });
    } else if (entry.isRequired && !KNOWN_ITEMS.includes(entry.id)) {
      report({
        code: 'E_VHDX_UNSUPPORTED',
        structure: 'metadata table',
        offset,
        message: `required item ${entry.id} is unknown`,
      });
    }
  }
}

/** Reads the bytes of an item, given the entry; used so that this file does no I/O. */
export type ReadItem = (entry: MetadataEntry) => Promise<Buffer>;

/** The disk's parameters out of the fixed-size items (§ 9 points 4 and 5). */
export async function readDiskParameters(
  entries: readonly MetadataEntry[],
  base: number,
  readItem: ReadItem,
  report: Report,
): Promise<DiskParameters | undefined> {
  const wrong = (offset: number, message: string): undefined => {
    report({ code: 'E_VHDX_METADATA', structure: 'metadata item', offset, message });
    return undefined;
  };
  const item = async (id: Guid, name: string, bytes: number): Promise<Buffer | undefined> => {
    const entry = entries.find((e) => e.id === id && !e.isUser);
    if (entry === undefined) return wrong(base, `${name} is missing`);
    if (entry.lengthBytes !== bytes) {
      return wrong(base + entry.offset, `${name} is ${entry.lengthBytes} bytes long, not ${bytes}`);
    }
    return readItem(entry);
  };
  const parameters = await item(ITEM_FILE_PARAMETERS, 'file parameters', 8);
  const size = await item(ITEM_VIRTUAL_DISK_SIZE, 'virtual disk size', 8);
  const logical = await item(ITEM_LOGICAL_SECTOR_SIZE, 'logical sector size', 4);
  const physical = await item(ITEM_PHYSICAL_SECTOR_SIZE, 'physical sector size', 4);
  const diskId = await item(ITEM_VIRTUAL_DISK_ID, 'virtual disk id', 16);
  if (!parameters || !size || !logical || !physical || !diskId) return undefined;

  const placeOf = (id: Guid): number =>
    base + (entries.find((e) => e.id === id && !e.isUser)?.offset ?? 0);
  const blockSizeBytes = parameters.readUInt32LE(0);
  const flags = parameters.readUInt32LE(4);
  const isPowerOfTwo = (blockSizeBytes & (blockSizeBytes - 1)) === 0;
  if (!isPowerOfTwo || blockSizeBytes < BLOCK_SIZE_MIN || blockSizeBytes > BLOCK_SIZE_MAX) {
    const at = placeOf(ITEM_FILE_PARAMETERS);
    return wrong(at, `block size ${blockSizeBytes} is no power of two from 1 to 256 MiB`);
  }
  if (flags > 3) {
    const at = placeOf(ITEM_FILE_PARAMETERS) + 4;
    wrong(at, `file parameters have reserved bits 0x${flags.toString(16)}`);
  }
  const sectors = { logical: logical.readUInt32LE(0), physical: physical.readUInt32LE(0) };
  for (const [name, value] of Object.entries(sectors)) {
    if (value !== 512 && value !== 4096) {
      const id = name === 'logical' ? ITEM_LOGICAL_SECTOR_SIZE : ITEM_PHYSICAL_SECTOR_SIZE;
      return wrong(placeOf(id), `${name} sector size ${value} is neither 512 nor 4096`);
    }
  }
  const wide = size.readBigUInt64LE(0);
  if (wide === 0n || wide > BigInt(VIRTUAL_SIZE_MAX)) {
    const at = placeOf(ITEM_VIRTUAL_DISK_SIZE);
    return wrong(at, `virtual size ${wide.toString()} is not within 1 byte to 64 TiB`);
  }
  const sizeBytes = Number(wide);
  if (sizeBytes % sectors.logical !== 0) {
    const at = placeOf(ITEM_VIRTUAL_DISK_SIZE);
    return wrong(at, `virtual size ${sizeBytes} is no multiple of the sector ${sectors.logical}`);
  }
  const type: VhdxType =
    (flags & FILE_PARAMETER_HAS_PARENT) !== 0
      ? 'differencing'
      : (flags & FILE_PARAMETER_LEAVE_ALLOCATED) !== 0
        ? 'fixed'
        : 'dynamic';
  return {
    type,
    blockSizeBytes,
    sizeBytes,
    logicalSectorBytes: sectors.logical,
    physicalSectorBytes: sectors.physical,
    diskId: readGuid(diskId, 0),
  };
}

/** The whole 1 MiB metadata region of a new file, items packed as Windows packs them (§ 3). */
export function encodeMetadataRegion(disk: DiskParameters, locator?: ParentLocator): Buffer {
  const u32 = (value: number): Buffer => {
    const out = Buffer.alloc(4);
    out.writeUInt32LE(value);
    return out;
  };
  const parameters = Buffer.alloc(8);
  parameters.writeUInt32LE(disk.blockSizeBytes, 0);
  const flags = {
    fixed: FILE_PARAMETER_LEAVE_ALLOCATED,
    dynamic: 0,
    differencing: FILE_PARAMETER_HAS_PARENT,
  };
  parameters.writeUInt32LE(flags[disk.type], 4);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(disk.sizeBytes));
  const id = Buffer.alloc(16);
  writeGuid(id, 0, disk.diskId);
  const ofDisk = METADATA_FLAG_REQUIRED | METADATA_FLAG_VIRTUAL_DISK;
  const items: { id: Guid; flags: number; bytes: Buffer }[] = [
    { id: ITEM_FILE_PARAMETERS, flags: METADATA_FLAG_REQUIRED, bytes: parameters },
    { id: ITEM_VIRTUAL_DISK_SIZE, flags: ofDisk, bytes: size },
    { id: ITEM_LOGICAL_SECTOR_SIZE, flags: ofDisk, bytes: u32(disk.logicalSectorBytes) },
    { id: ITEM_PHYSICAL_SECTOR_SIZE, flags: ofDisk, bytes: u32(disk.physicalSectorBytes) },
    { id: ITEM_VIRTUAL_DISK_ID, flags: ofDisk, bytes: id },
  ];
  if (locator !== undefined) {
    const bytes = encodeParentLocator(locator);
    items.push({ id: ITEM_PARENT_LOCATOR, flags: METADATA_FLAG_REQUIRED, bytes });
  }
  const out = Buffer.alloc(1024 * 1024);
  out.write(METADATA_SIGNATURE, 0, 'latin1');
  out.writeUInt16LE(items.length, 10);
  let position = METADATA_TABLE_BYTES;
  items.forEach((item, i) => {
    const at = 32 + i * METADATA_ENTRY_BYTES;
    writeGuid(out, at, item.id);
    out.writeUInt32LE(position, at + 16);
    out.writeUInt32LE(item.bytes.length, at + 20);
    out.writeUInt32LE(item.flags, at + 24);
    item.bytes.copy(out, position);
    position += item.bytes.length;
  });
  return out;
}
