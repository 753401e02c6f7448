// One disk of a point as files of a backup: the whole as a sealed VHDX, or its changed cells as PCBT,
// and the manifest of what was read. Nothing is staged but the manifest.

import { type Guid, ZERO_GUID } from '../shared/bytes/index.js';
import type { CatalogNames, RctDisk } from '../shared/catalog/index.js';
import type { Random } from '../shared/clock.js';
import {
  type CellSet,
  encodeDelta,
  GatheredHashes,
  type ManifestHeader,
  type ManifestWriter,
  planDelta,
} from '../shared/delta/index.js';
import type { ReadableDisk } from '../shared/disk/index.js';
import type { FileSystem } from '../shared/files/index.js';
import { streamVhdx } from '../shared/vhdx/index.js';
import type { Geometry } from './ledger.js';
import { withManifestSpool } from './manifest-spool.js';

export interface FileDisk {
  readonly diskId: Guid;
  readonly geometry: Geometry;
  readonly generation: number;
  /** undefined: the whole disk. */
  readonly cells: CellSet | undefined;
  /** For reports. */
  readonly because: string;
}

/** What all disks of a point share. */
export interface FilePoint {
  readonly vmId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid | undefined;
  readonly seq: number;
  readonly names: CatalogNames;
}

/** Hands one file on. */
export type SendFile = (
  path: string,
  sizeBytes: number,
  content: AsyncIterable<Buffer>,
) => Promise<void>;

export interface FileDiskSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  readonly stateFolder: string;
  readonly send: SendFile;
}

/** Sends the data, then its manifest. @throws what reading and sending throw; DrError E_IO, E_CAPACITY */
export async function sendDisk(
  disk: FileDisk,
  opened: ReadableDisk,
  point: FilePoint,
  seams: FileDiskSeams,
): Promise<RctDisk> {
  const { diskId, geometry, generation, cells } = disk;
  const { names, seq } = point;
  const isBase = cells === undefined;
  const file = isBase ? names.base(diskId) : names.delta(diskId, seq);
  const manifest = isBase ? names.baseManifest(diskId) : names.deltaManifest(diskId, seq);
  const header = headerOf(disk, point);
  const root = await withManifestSpool(seams, point.vmId, header, async (spool) => {
    const data = isBase
      ? await wholeDisk(disk, opened, spool.writer, seams.random)
      : changedCells(opened, cells, spool.writer);
    await seams.send(file, data.sizeBytes, data.content);
    const trailer = await spool.writer.finish();
    await seams.send(manifest, spool.sizeBytes(), spool.content());
    return trailer.root;
  });
  return {
    diskId,
    generation,
    sizeBytes: geometry.sizeBytes,
    sectors: {
      logicalBytes: geometry.logicalSectorBytes,
      physicalBytes: geometry.physicalSectorBytes,
    },
    kind: isBase ? 'base' : 'delta',
    file,
    manifest,
    root: root.toString('hex'),
  };
}

interface FileData {
  readonly sizeBytes: number;
  readonly content: AsyncIterable<Buffer>;
}

async function wholeDisk(
  { diskId, geometry }: FileDisk,
  opened: ReadableDisk,
  writer: ManifestWriter,
  random: Random,
): Promise<FileData> {
  const hashes = new GatheredHashes(geometry.sizeBytes, (cell, hash) => writer.addData(cell, hash));
  const onData = (offset: number, bytes: Buffer): Promise<void> => hashes.add(offset, bytes);
  const stream = await streamVhdx(opened, { random, diskId, onData });
  async function* content(): AsyncGenerator<Buffer> {
    try {
      yield* stream.chunks;
      await hashes.finish();
    } finally {
      await hashes.close();
    }
  }
  return { sizeBytes: stream.lengthBytes, content: content() };
}

function changedCells(opened: ReadableDisk, cells: CellSet, manifest: ManifestWriter): FileData {
  const plan = { cells, checksum: undefined };
  return {
    sizeBytes: planDelta(opened, plan).fileBytes,
    content: encodeDelta(opened, plan, { manifest }),
  };
}

function headerOf(
  { diskId, geometry, generation, cells }: FileDisk,
  { vmId, pointId, parentPointId }: FilePoint,
): ManifestHeader {
  const isBase = cells === undefined;
  return {
    kind: isBase ? 'base' : 'delta',
    point: pointId,
    parentPoint: isBase ? ZERO_GUID : (parentPointId ?? ZERO_GUID),
    vmId,
    diskId,
    diskGeneration: generation,
    diskSizeBytes: geometry.sizeBytes,
    logicalSectorBytes: geometry.logicalSectorBytes,
    physicalSectorBytes: geometry.physicalSectorBytes,
    epoch: 0n,
  };
}
