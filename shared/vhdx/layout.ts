// Where the structures of a file of ours stand, and the bytes of its first megabytes. One layout
// for all three ways to make a file (create, sealed, stream), the one that Windows uses (§ 8):
//
//   0 MiB  identifier, headers, region tables
//   1 MiB  log (1 MiB, empty)
//   2 MiB  metadata region (1 MiB)
//   3 MiB  BAT region
//   then   payload and sector-bitmap blocks

import { randomGuid, type Guid, ZERO_GUID } from '../bytes/index.js';
import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import {
  BLOCK_SIZE_MAX,
  BLOCK_SIZE_MIN,
  CREATOR_OFFSET,
  DEFAULT_BLOCK_BYTES,
  DEFAULT_DIFFERENCING_BLOCK_BYTES,
  DEFAULT_LOG_BYTES,
  DEFAULT_LOGICAL_SECTOR_BYTES,
  DEFAULT_PHYSICAL_SECTOR_BYTES,
  FILE_IDENTIFIER_SIGNATURE,
  fileOffset,
  HEADER_OFFSETS,
  HEADER_VERSION,
  LOG_VERSION,
  MIB,
  REGION_BAT,
  REGION_METADATA,
  REGION_TABLE_OFFSETS,
  VIRTUAL_SIZE_MAX,
  type FileOffset,
} from './format.js';
import { geometryOf, type Geometry, type VhdxType } from './geometry.js';
import { encodeHeader } from './header.js';
import { encodeMetadataRegion, type DiskParameters } from './metadata.js';
import type { ParentLocator } from './parent-locator.js';
import { encodeRegionTable } from './region-table.js';

const CREATOR = 'PodHeitor hvdr';
const LOG_OFFSET = MIB;
const METADATA_OFFSET = 2 * MIB;
const BAT_OFFSET = 3 * MIB;

/** What a caller says about a disk to be made; the rest are the defaults of Hyper-V (§ 8). */
export interface NewDisk {
  readonly type: VhdxType;
  /** Guest-visible bytes: a multiple of the logical sector, up to 64 TiB. */
  readonly sizeBytes: number;
  readonly blockSizeBytes?: number | undefined;
  readonly logicalSectorBytes?: number | undefined;
  readonly physicalSectorBytes?: number | undefined;
  /** Default: random; a child takes its parent's. */
  readonly diskId?: Guid | undefined;
  /** Default: random. */
  readonly dataWriteGuid?: Guid | undefined;
  /** Required for a differencing disk, refused for others. */
  readonly locator?: ParentLocator | undefined;
}

export interface NewFileLayout {
  readonly geometry: Geometry;
  readonly disk: DiskParameters;
  readonly dataWriteGuid: Guid;
  readonly batOffset: FileOffset;
  /** Where the first block goes. */
  readonly firstBlockOffset: FileOffset;
  /** The bytes from 0 up to the BAT region. */
  readonly head: Buffer;
}

/** Plans a new file. @throws DrError E_USAGE for values that the format does not allow */
export function planNewFile(request: NewDisk, random: Random): NewFileLayout {
  const disk: DiskParameters = {
    type: request.type,
    sizeBytes: request.sizeBytes,
    blockSizeBytes:
      request.blockSizeBytes ??
      (request.type === 'differencing' ? DEFAULT_DIFFERENCING_BLOCK_BYTES : DEFAULT_BLOCK_BYTES),
    logicalSectorBytes: request.logicalSectorBytes ?? DEFAULT_LOGICAL_SECTOR_BYTES,
    physicalSectorBytes: request.physicalSectorBytes ?? DEFAULT_PHYSICAL_SECTOR_BYTES,
    diskId: request.diskId ?? randomGuid(random),
  };
  checkParameters(disk, request.locator !== undefined);
  const geometry = geometryOf(disk);
  const dataWriteGuid = request.dataWriteGuid ?? randomGuid(random);
  const head = encodeHead(disk, geometry, dataWriteGuid, request.locator, random);
  return {
    geometry,
    disk,
    dataWriteGuid,
    batOffset: fileOffset(BAT_OFFSET),
    firstBlockOffset: firstBlockOffsetOf(geometry),
    head,
  };
}

/** Where the first block of a file of ours goes. */
export function firstBlockOffsetOf(geometry: Geometry): FileOffset {
  return fileOffset(BAT_OFFSET + geometry.batRegionBytes);
}

function checkParameters(disk: DiskParameters, hasLocator: boolean): void {
  const refuse = (what: string): never => {
    throw new DrError('E_USAGE', `cannot make a VHDX: ${what}`);
  };
  for (const [name, bytes] of [
    ['logical', disk.logicalSectorBytes],
    ['physical', disk.physicalSectorBytes],
  ] as const) {
    if (bytes !== 512 && bytes !== 4096)
      refuse(`${name} sector size ${bytes}, legal are 512 and 4096`);
  }
  const block = disk.blockSizeBytes;
  if (block < BLOCK_SIZE_MIN || block > BLOCK_SIZE_MAX || !Number.isInteger(Math.log2(block))) {
    refuse(`block size ${block}, legal are powers of two from 1 MiB to 256 MiB`);
  }
  const size = disk.sizeBytes;
  if (!Number.isSafeInteger(size) || size <= 0 || size > VIRTUAL_SIZE_MAX) {
    refuse(`size ${size}, legal is up to 64 TiB`);
  }
  if (size % disk.logicalSectorBytes !== 0) {
    refuse(`size ${size} is no multiple of the logical sector size ${disk.logicalSectorBytes}`);
  }
  if (disk.logicalSectorBytes > disk.physicalSectorBytes) {
    refuse('the physical sector is smaller than the logical one');
  }
  if (hasLocator !== (disk.type === 'differencing')) {
    refuse('a differencing disk needs a parent, other types have none');
  }
}

function encodeHead(
  disk: DiskParameters,
  geometry: Geometry,
  dataWriteGuid: Guid,
  locator: ParentLocator | undefined,
  random: Random,
): Buffer {
  const head = Buffer.alloc(BAT_OFFSET);
  head.write(FILE_IDENTIFIER_SIGNATURE, 0, 'latin1');
  head.write(CREATOR, CREATOR_OFFSET, 'utf16le');
  const header = {
    sequenceNumber: 1n,
    fileWriteGuid: randomGuid(random),
    dataWriteGuid,
    logGuid: ZERO_GUID,
    logVersion: LOG_VERSION,
    version: HEADER_VERSION,
    logLengthBytes: DEFAULT_LOG_BYTES,
    logOffset: LOG_OFFSET,
  };
  encodeHeader(header).copy(head, HEADER_OFFSETS[0]);
  encodeHeader({ ...header, sequenceNumber: 2n }).copy(head, HEADER_OFFSETS[1]);
  const regions = encodeRegionTable([
    { id: REGION_BAT, offset: BAT_OFFSET, lengthBytes: geometry.batRegionBytes, isRequired: true },
    { id: REGION_METADATA, offset: METADATA_OFFSET, lengthBytes: MIB, isRequired: true },
  ]);
  for (const offset of REGION_TABLE_OFFSETS) regions.copy(head, offset);
  encodeMetadataRegion(disk, locator).copy(head, METADATA_OFFSET);
  return head;
}
