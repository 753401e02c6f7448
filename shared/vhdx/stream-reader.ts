// Reads a VHDX from a pipe, front to back, where its layout allows: head, clean log, metadata and BAT
// in front of all payload. Files of ours, of Hyper-V and of qemu that were not moved about are such.
// Where it does not, the error says that the file must be read from a seekable place.
//
// Memory: the head (1 MiB), the small items of the metadata region, and the BAT in a compact form
// (streamed-bat.ts states the bound). Payload passes through as it comes.

import { assert } from '../assert.js';
import { ZERO_GUID, type Guid } from '../bytes/index.js';
import {
  BAT_ENTRY_BYTES,
  FILE_IDENTIFIER_SIGNATURE,
  FILE_SIZE_MAX,
  FIRST_STRUCTURE_OFFSET,
  HEADER_BYTES,
  HEADER_OFFSETS,
  METADATA_TABLE_BYTES,
  MIB,
  REGION_TABLE_BYTES,
  REGION_TABLE_OFFSETS,
} from './format.js';
import { geometryOf, type Geometry } from './geometry.js';
import { checkHeader, chooseHeader, type Header } from './header.js';
import {
  checkMetadataItems,
  parseMetadataTable,
  readDiskParameters,
  type DiskParameters,
} from './metadata.js';
import {
  isRegionTableIntact,
  parseRegionTable,
  type Region,
  type RegionTable,
} from './region-table.js';
import { needsSeeking, refuse, StreamInput } from './stream-input.js';
import { BLOCKS_MAX, StreamedBat, type Area, type StreamedBlock } from './streamed-bat.js';
import { refusing, type Report } from './violation.js';

/** Guest bytes that the stream held; the buffer may be looked at until the next is asked for. */
export interface StreamedRange {
  readonly offset: number;
  readonly data: Buffer;
}

export interface VhdxStreamReader {
  readonly disk: DiskParameters;
  readonly dataWriteGuid: Guid;
  /** True when the ranges come in ascending order of guest offsets. */
  readonly isAscending: boolean;
  /**
   * What is stored, in the order of the file; everything else of the disk is zero. Ends when the
   * stream has ended. To be iterated once. @throws VhdxError E_VHDX_TRUNCATED
   */
  readonly ranges: AsyncGenerator<StreamedRange, void, void>;
}

/**
 * Reads everything up to the first block from `source`; `name` stands in messages.
 * @throws VhdxError for what is damaged, and E_VHDX_UNSUPPORTED for a layout that needs a seekable
 * file: a dirty log, payload in front of the BAT or the metadata, a differencing disk
 */
export async function readVhdxStream(
  source: AsyncIterable<Uint8Array>,
  name: string,
): Promise<VhdxStreamReader> {
  const input = new StreamInput(source, name);
  const report = refusing(name);
  const head = Buffer.alloc(FIRST_STRUCTURE_OFFSET);
  await input.fill(head, 'head');
  const { header, regions } = parseHead(head, name, report);

  const structures = [regions.bat, regions.metadata].sort((a, b) => a.offset - b.offset);
  const blocks = new StreamedBat();
  let disk: DiskParameters | undefined;
  for (const region of structures) {
    if (region.offset < input.position) {
      refuse(name, 'E_VHDX_OVERLAP', 'region table', region.offset, 'BAT and metadata overlap');
    }
    await input.skipTo(region.offset, 'regions');
    if (region === regions.bat) await collectEntries(input, region, blocks, name);
    else disk = await readMetadata(input, region, report);
  }
  assert(disk !== undefined, 'the metadata region is one of the two');
  if (disk.type === 'differencing') {
    needsSeeking(name, 'metadata', regions.metadata.offset, 'a differencing disk');
  }
  const areas = occupied(header, regions);
  const geometry = geometryOf(disk);
  const order = blocks.check(geometry, regions.bat, areas, input.position, name);
  return {
    disk,
    dataWriteGuid: header.dataWriteGuid,
    isAscending: order.isAscending,
    ranges: payload(input, geometry, order.blocks, areas.at(-1)?.end ?? 0),
  };
}

function parseHead(
  head: Buffer,
  name: string,
  report: Report,
): { header: Header; regions: RegionTable } {
  if (head.toString('latin1', 0, 8) !== FILE_IDENTIFIER_SIGNATURE) {
    const message = 'the stream does not begin with "vhdxfile"';
    refuse(name, 'E_VHDX_SIGNATURE', 'file identifier', 0, message);
  }
  const slot = (offset: number): Buffer => head.subarray(offset, offset + HEADER_BYTES);
  const current = chooseHeader([slot(HEADER_OFFSETS[0]), slot(HEADER_OFFSETS[1])], report);
  assert(current !== undefined, 'a refusing report throws or there is a header');
  checkHeader(current, FILE_SIZE_MAX, report);
  const { header } = current;
  if (header.logGuid !== ZERO_GUID) {
    needsSeeking(name, 'log', header.logOffset, 'a file whose log must be replayed');
  }
  const copy = (index: 0 | 1): Buffer => {
    const at = REGION_TABLE_OFFSETS[index];
    return head.subarray(at, at + REGION_TABLE_BYTES);
  };
  const index = isRegionTableIntact(copy(0)) ? 0 : 1;
  if (!isRegionTableIntact(copy(index))) {
    const message = 'neither copy has a good signature and checksum';
    refuse(name, 'E_VHDX_REGION', 'region tables', REGION_TABLE_OFFSETS[0], message);
  }
  const regions = parseRegionTable(copy(index), index, FILE_SIZE_MAX, report);
  assert(regions !== undefined, 'a refusing report throws or there are regions');
  return { header, regions };
}

/** The log and all regions, ascending and proven disjoint by the caller of `check`. */
function occupied(header: Header, regions: RegionTable): Area[] {
  const areas = [regions.bat, regions.metadata, ...regions.others].map((region) => ({
    start: region.offset,
    end: region.offset + region.lengthBytes,
  }));
  if (header.logLengthBytes > 0) {
    areas.push({ start: header.logOffset, end: header.logOffset + header.logLengthBytes });
  }
  return areas.sort((a, b) => a.start - b.start);
}

async function readMetadata(
  input: StreamInput,
  region: Region,
  report: Report,
): Promise<DiskParameters> {
  const base = region.offset;
  const table = Buffer.alloc(METADATA_TABLE_BYTES);
  await input.fill(table, 'metadata');
  const entries = parseMetadataTable(table, base, region.lengthBytes, report);
  assert(entries !== undefined, 'a refusing report throws or there are entries');
  checkMetadataItems(entries, base, report);
  // Only the small fixed-size items are kept; they come in any order and are asked for in another.
  const items = new Map<number, Buffer>();
  const placed = entries
    .filter((entry) => entry.lengthBytes > 0 && entry.lengthBytes <= SMALL_ITEM_BYTES)
    .sort((a, b) => a.offset - b.offset);
  for (const entry of placed) {
    const bytes = Buffer.alloc(entry.lengthBytes);
    await input.skipTo(base + entry.offset, 'metadata');
    await input.fill(bytes, 'metadata');
    items.set(entry.offset, bytes);
  }
  await input.skipTo(base + region.lengthBytes, 'metadata');
  const disk = await readDiskParameters(
    entries,
    base,
    (entry) => {
      const bytes = items.get(entry.offset);
      assert(bytes !== undefined, 'an item of the length that the reader checked is small');
      return Promise.resolve(bytes);
    },
    report,
  );
  assert(disk !== undefined, 'a refusing report throws or there is a disk');
  return disk;
}

const SMALL_ITEM_BYTES = 16;

async function collectEntries(
  input: StreamInput,
  region: Region,
  blocks: StreamedBat,
  name: string,
): Promise<void> {
  const end = region.offset + region.lengthBytes;
  const page = Buffer.alloc(MIB);
  let index = 0;
  while (input.position < end) {
    await input.fill(page, 'BAT');
    for (let at = 0; at < page.length; at += BAT_ENTRY_BYTES, index++) {
      const low = page.readUInt32LE(at);
      const high = page.readUInt32LE(at + 4);
      if (low === 0 && high === 0) continue;
      if (!blocks.add(index, low, high)) {
        const offset = region.offset + index * BAT_ENTRY_BYTES;
        needsSeeking(name, 'BAT', offset, `a disk with more than ${BLOCKS_MAX} blocks present`);
      }
    }
  }
}

async function* payload(
  input: StreamInput,
  geometry: Geometry,
  blocks: Iterable<StreamedBlock>,
  areasEnd: number,
): AsyncGenerator<StreamedRange, void, void> {
  for (const { block, place } of blocks) {
    await input.skipTo(place, `block ${block}`);
    let offset = block * geometry.blockSizeBytes;
    const end = Math.min(offset + geometry.blockSizeBytes, geometry.sizeBytes);
    while (offset < end) {
      const data = await input.take(end - offset, `block ${block}`);
      yield { offset, data };
      offset += data.length;
    }
  }
  // The log and other regions may stand behind all payload; they must be there.
  await input.skipTo(areasEnd, 'regions');
  await input.skipRest();
}
