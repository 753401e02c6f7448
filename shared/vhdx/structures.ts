// Reads and checks everything but the payload: identifier, headers, log, region tables, metadata,
// parent locator, BAT. Used by open (a violation throws), by check (violations are collected) and
// by info. Nothing is written here.

import { ZERO_GUID } from '../bytes/index.js';
import type { BlockFile } from '../files/index.js';
import { scanBat, type BatCounts } from './bat-scan.js';
import {
  BAT_ENTRY_BYTES,
  CREATOR_BYTES,
  CREATOR_OFFSET,
  FILE_IDENTIFIER_SIGNATURE,
  FILE_SIZE_MAX,
  FIRST_STRUCTURE_OFFSET,
  HEADER_BYTES,
  HEADER_OFFSETS,
  ITEM_PARENT_LOCATOR,
  METADATA_TABLE_BYTES,
  MIB,
  REGION_TABLE_BYTES,
  REGION_TABLE_OFFSETS,
} from './format.js';
import { geometryOf, type Geometry } from './geometry.js';
import { checkHeader, chooseHeader, type CurrentHeader } from './header.js';
import { overlayReplay, planReplay, type ReplayPlan } from './log-replay.js';
import {
  checkMetadataItems,
  parseMetadataTable,
  readDiskParameters,
  type DiskParameters,
  type MetadataEntry,
} from './metadata.js';
import { parseParentLocator, type ParentLocator } from './parent-locator.js';
import { isRegionTableIntact, parseRegionTable, type RegionTable } from './region-table.js';
import { SpaceMap } from './space.js';
import type { Report, Violation } from './violation.js';

/** Everything in front of the BAT: enough to know what a file is and who its parent is. */
export interface Head {
  readonly creator: string;
  readonly current: CurrentHeader;
  /** What the dirty log says must be written; undefined when the log is clean. */
  readonly replay: ReplayPlan | undefined;
  /** The file with the replay laid over it: what all other structures were read from. */
  readonly view: BlockFile;
  readonly regions: RegionTable;
  /** The copy of the region table that is damaged and should be rewritten from the other. */
  readonly damagedRegionCopy: 0 | 1 | undefined;
  readonly metadata: readonly MetadataEntry[];
  readonly disk: DiskParameters;
  readonly locator: ParentLocator | undefined;
  readonly geometry: Geometry;
  /** Structures marked so far. */
  readonly space: SpaceMap;
  readonly warnings: string[];
}

export interface Structures extends Head {
  readonly counts: BatCounts;
}

export interface LoadOptions {
  readonly report: Report;
  /** For writing, a file that ends inside its last block is refused. */
  readonly isForWriting: boolean;
}

/**
 * The structures of a file. With a collecting report: undefined when what follows cannot be read.
 */
export async function loadStructures(
  file: BlockFile,
  options: LoadOptions,
): Promise<Structures | undefined> {
  const { report, isForWriting } = options;
  const head = await loadHead(file, options);
  if (head === undefined) return undefined;
  const { view, geometry, regions, space, warnings } = head;
  const batBytes = geometry.batEntryCount * BAT_ENTRY_BYTES;
  if (regions.bat.lengthBytes < batBytes) {
    report({
      code: 'E_VHDX_BAT',
      structure: 'BAT',
      offset: regions.bat.offset,
      message: `the region has ${regions.bat.lengthBytes} bytes, the disk needs ${batBytes}`,
    });
    return undefined;
  }
  const counts = await scanBat({
    file: view,
    fileSizeBytes: await view.size(),
    geometry,
    batOffset: regions.bat.offset,
    space,
    isShortLastBlockTolerated: !isForWriting,
    report,
    warn: (message) => void warnings.push(message),
  });
  return { ...head, counts };
}

/** All but the BAT; for info and for finding out who depends on whom. */
export async function loadHead(
  file: BlockFile,
  { report }: Pick<LoadOptions, 'report'>,
): Promise<Head | undefined> {
  const warnings: string[] = [];
  const sizeBytes = await file.size();
  const creator = await readIdentifier(file, sizeBytes, report);
  if (creator === undefined) return undefined;
  const current = await readHeaders(file, sizeBytes, report);
  if (current === undefined) return undefined;

  const { header } = current;
  let replay: ReplayPlan | undefined;
  let view = file;
  if (header.logGuid !== ZERO_GUID) {
    replay = await planReplay(file, header, report);
    if (replay === undefined) return undefined;
    view = overlayReplay(file, replay);
    const changes = replay.records.length;
    // A session that ended before its first commit leaves a log that changes nothing.
    if (changes > 0) warnings.push(`the log is dirty: ${changes} changes are replayed from it`);
  }
  const viewSizeBytes = await view.size();
  const table = await readRegions(view, viewSizeBytes, report, warnings);
  if (table === undefined) return undefined;
  const { regions, damagedCopy } = table;

  const space = new SpaceMap(viewSizeBytes);
  space.claim(0, FIRST_STRUCTURE_OFFSET);
  // A header without a log may say anything about its place.
  const log = { name: 'log', offset: header.logOffset, lengthBytes: header.logLengthBytes };
  const areas = [
    ...(log.lengthBytes === 0 ? [] : [log]),
    ...[regions.bat, regions.metadata, ...regions.others].map((region) => ({
      name: `region ${region.id}`,
      offset: region.offset,
      lengthBytes: region.lengthBytes,
    })),
  ];
  let areAreasUsable = true;
  for (const { name, offset, lengthBytes } of areas) {
    if (offset % MIB !== 0 || offset + lengthBytes > viewSizeBytes) {
      areAreasUsable = false; // reported where it was parsed
      continue;
    }
    if (lengthBytes > 0 && !space.claim(offset, lengthBytes)) {
      const message = `the ${name} overlaps another structure`;
      report({ code: 'E_VHDX_OVERLAP', structure: 'region table', offset, message });
    }
  }
  if (!areAreasUsable) return undefined;

  const metadata = await readMetadata(view, regions, report);
  if (metadata === undefined) return undefined;
  const { entries, disk, locator } = metadata;
  return {
    creator,
    current,
    replay,
    view,
    regions,
    damagedRegionCopy: damagedCopy,
    metadata: entries,
    disk,
    locator,
    geometry: geometryOf(disk),
    space,
    warnings,
  };
}

async function readIdentifier(
  file: BlockFile,
  sizeBytes: number,
  report: Report,
): Promise<string | undefined> {
  const head = Buffer.alloc(CREATOR_OFFSET + CREATOR_BYTES);
  await file.read(0, head);
  const wrong = (message: string): undefined =>
    report({ code: 'E_VHDX_SIGNATURE', structure: 'file identifier', offset: 0, message });
  if (head.toString('latin1', 0, 8) !== FILE_IDENTIFIER_SIGNATURE) {
    return wrong('the file does not begin with "vhdxfile"');
  }
  if (sizeBytes < MIB)
    return wrong(`the file is ${sizeBytes} bytes long, at least 1 MiB is needed`);
  if (sizeBytes > FILE_SIZE_MAX) {
    return report({
      code: 'E_VHDX_LIMIT',
      structure: 'file',
      offset: 0,
      message: `the file is ${sizeBytes} bytes long, more than ${FILE_SIZE_MAX}`,
    });
  }
  const creator = head.toString('utf16le', CREATOR_OFFSET);
  const end = creator.indexOf('\0');
  return end < 0 ? creator : creator.slice(0, end);
}

async function readHeaders(
  file: BlockFile,
  sizeBytes: number,
  report: Report,
): Promise<CurrentHeader | undefined> {
  const slots: [Buffer, Buffer] = [Buffer.alloc(HEADER_BYTES), Buffer.alloc(HEADER_BYTES)];
  await file.read(HEADER_OFFSETS[0], slots[0]);
  await file.read(HEADER_OFFSETS[1], slots[1]);
  const current = chooseHeader(slots, report);
  if (current === undefined) return undefined;
  const found: Violation[] = [];
  checkHeader(current, sizeBytes, (violation) => {
    found.push(violation);
    return report(violation);
  });
  return found.length === 0 ? current : undefined;
}

async function readRegions(
  view: BlockFile,
  sizeBytes: number,
  report: Report,
  warnings: string[],
): Promise<{ regions: RegionTable; damagedCopy: 0 | 1 | undefined } | undefined> {
  const copies: [Buffer, Buffer] = [
    Buffer.alloc(REGION_TABLE_BYTES),
    Buffer.alloc(REGION_TABLE_BYTES),
  ];
  await view.read(REGION_TABLE_OFFSETS[0], copies[0]);
  await view.read(REGION_TABLE_OFFSETS[1], copies[1]);
  const intact = [isRegionTableIntact(copies[0]), isRegionTableIntact(copies[1])] as const;
  if (!intact[0] && !intact[1]) {
    return report({
      code: 'E_VHDX_REGION',
      structure: 'region tables',
      offset: REGION_TABLE_OFFSETS[0],
      message: 'neither copy has a good signature and checksum',
    });
  }
  const chosen = intact[0] ? 0 : 1;
  const damagedCopy = !intact[0] ? 0 : !intact[1] ? 1 : undefined;
  if (damagedCopy !== undefined) {
    warnings.push(`region table ${damagedCopy + 1} is damaged, the other copy is used`);
  }
  const regions = parseRegionTable(copies[chosen], chosen, sizeBytes, report);
  return regions === undefined ? undefined : { regions, damagedCopy };
}

async function readMetadata(
  view: BlockFile,
  regions: RegionTable,
  report: Report,
): Promise<
  { entries: MetadataEntry[]; disk: DiskParameters; locator: ParentLocator | undefined } | undefined
> {
  const base = regions.metadata.offset;
  const table = Buffer.alloc(METADATA_TABLE_BYTES);
  await view.read(base, table);
  const entries = parseMetadataTable(table, base, regions.metadata.lengthBytes, report);
  if (entries === undefined) return undefined;
  checkMetadataItems(entries, base, report);
  const readItem = async (entry: MetadataEntry): Promise<Buffer> => {
    // At most 1 MiB: a collecting caller may come here with a length that was reported as too large.
    const bytes = Buffer.alloc(Math.min(entry.lengthBytes, MIB));
    await view.read(base + entry.offset, bytes);
    return bytes;
  };
  const disk = await readDiskParameters(entries, base, readItem, report);
  if (disk === undefined) return undefined;
  if (disk.type !== 'differencing') return { entries, disk, locator: undefined };
  const entry = entries.find((e) => e.id === ITEM_PARENT_LOCATOR && !e.isUser);
  if (entry === undefined) {
    return report({
      code: 'E_VHDX_LOCATOR',
      structure: 'metadata table',
      offset: base,
      message: 'a differencing disk without a parent locator',
    });
  }
  const locator = parseParentLocator(await readItem(entry), base + entry.offset, report);
  return locator === undefined ? undefined : { entries, disk, locator };
}
