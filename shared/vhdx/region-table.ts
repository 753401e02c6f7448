// The region table (§ 1.3): where the BAT and the metadata stand. Two identical copies.

import { crc32c, readGuid, writeGuid, type Guid } from '../bytes/index.js';
import {
  FIRST_STRUCTURE_OFFSET,
  METADATA_REGION_MAX_BYTES,
  MIB,
  REGION_BAT,
  REGION_ENTRIES_MAX,
  REGION_ENTRY_BYTES,
  REGION_METADATA,
  REGION_TABLE_BYTES,
  REGION_TABLE_OFFSETS,
  REGION_TABLE_SIGNATURE,
} from './format.js';
import type { Report } from './violation.js';

export interface Region {
  readonly id: Guid;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly isRequired: boolean;
}

export interface RegionTable {
  readonly bat: Region;
  readonly metadata: Region;
  /** Optional regions that we do not know: left alone, but their space is in use. */
  readonly others: readonly Region[];
}

/** True when the 64 KiB copy has a good signature and checksum. */
export function isRegionTableIntact(bytes: Buffer): boolean {
  if (bytes.length < REGION_TABLE_BYTES) return false;
  if (bytes.toString('latin1', 0, 4) !== REGION_TABLE_SIGNATURE) return false;
  const zeroed = Buffer.from(bytes.subarray(0, REGION_TABLE_BYTES));
  zeroed.writeUInt32LE(0, 4);
  return crc32c(zeroed) === bytes.readUInt32LE(4);
}

/** Parses an intact copy; checks § 9 point 3 but for overlaps, which the space map finds. */
export function parseRegionTable(
  bytes: Buffer,
  copy: 0 | 1,
  fileSizeBytes: number,
  report: Report,
): RegionTable | undefined {
  const base = REGION_TABLE_OFFSETS[copy];
  const structure = `region table ${copy + 1}`;
  const wrong = (offset: number, message: string): void =>
    report({ code: 'E_VHDX_REGION', structure, offset: base + offset, message });

  const entryCount = bytes.readUInt32LE(8);
  if (entryCount > REGION_ENTRIES_MAX) {
    wrong(8, `${entryCount} entries, at most ${REGION_ENTRIES_MAX} are legal`);
    return undefined;
  }
  const seen = new Map<Guid, Region>();
  let isTooLarge = false;
  for (let i = 0; i < entryCount; i++) {
    const at = 16 + i * REGION_ENTRY_BYTES;
    const id = readGuid(bytes, at);
    const offset = Number(bytes.readBigUInt64LE(at + 16));
    const lengthBytes = bytes.readUInt32LE(at + 24);
    const flags = bytes.readUInt32LE(at + 28);
    const region: Region = { id, offset, lengthBytes, isRequired: (flags & 1) !== 0 };
    if (seen.has(id)) wrong(at, `region ${id} is listed twice`);
    if (offset % MIB !== 0 || offset < FIRST_STRUCTURE_OFFSET) {
      wrong(at + 16, `region ${id} starts at ${offset}, not a multiple of 1 MiB from 1 MiB on`);
    } else if (lengthBytes === 0 || lengthBytes % MIB !== 0) {
      wrong(at + 24, `region ${id} is ${lengthBytes} bytes long, no positive multiple of 1 MiB`);
    } else if (offset + lengthBytes > fileSizeBytes) {
      report({
        code: 'E_VHDX_TRUNCATED',
        structure,
        offset: base + at + 16,
        message: `region ${id} ends at ${offset + lengthBytes}, the file at ${fileSizeBytes}`,
      });
    }
    if (id === REGION_METADATA && lengthBytes > METADATA_REGION_MAX_BYTES) {
      isTooLarge = true;
      report({
        code: 'E_VHDX_LIMIT',
        structure,
        offset: base + at + 24,
        message: `metadata region of ${lengthBytes} bytes is above ${METADATA_REGION_MAX_BYTES}`,
      });
    }
    if (flags > 1) wrong(at + 28, `region ${id} has reserved flag bits 0x${flags.toString(16)}`);
    const isKnown = id === REGION_BAT || id === REGION_METADATA;
    if (!isKnown && region.isRequired) {
      report({
        code: 'E_VHDX_UNSUPPORTED',
        structure,
        offset: base + at,
        message: `required region ${id} is unknown`,
      });
    }
    seen.set(id, region);
  }
  const bat = seen.get(REGION_BAT);
  const metadata = seen.get(REGION_METADATA);
  if (bat === undefined) wrong(16, 'there is no BAT region');
  if (metadata === undefined) wrong(16, 'there is no metadata region');
  if (bat === undefined || metadata === undefined || isTooLarge) return undefined;
  const others = [...seen.values()].filter((r) => r !== bat && r !== metadata);
  return { bat, metadata, others };
}

export function encodeRegionTable(regions: readonly Region[]): Buffer {
  const out = Buffer.alloc(REGION_TABLE_BYTES);
  out.write(REGION_TABLE_SIGNATURE, 0, 'latin1');
  out.writeUInt32LE(regions.length, 8);
  regions.forEach((region, i) => {
    const at = 16 + i * REGION_ENTRY_BYTES;
    writeGuid(out, at, region.id);
    out.writeBigUInt64LE(BigInt(region.offset), at + 16);
    out.writeUInt32LE(region.lengthBytes, at + 24);
    out.writeUInt32LE(region.isRequired ? 1 : 0, at + 28);
  });
  out.writeUInt32LE(crc32c(out), 4);
  return out;
}
