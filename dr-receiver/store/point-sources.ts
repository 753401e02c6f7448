// A restore point as what it is made of: the base of each disk and the deltas up to the point, the
// oldest first. Everything is opened for reading and closed together.

import type { Guid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import {
  CELL_BYTES,
  CellDelta,
  type DeltaEntry,
  type DeltaSource,
  ManifestFile,
  type ManifestHeader,
  type ManifestRecord,
  unionOf,
} from '../../shared/delta/index.js';
import type { ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import { announcedPath, type DiskFiles, type DiskKey, type VmLayout } from './layout.js';
import type { Point } from './protection.js';
import type { DiskRecord } from './records.js';
import type { Folding, Segment, StoredLayer } from './segments.js';
import type { VmStore } from './vm-store.js';

export interface ReadSeams {
  readonly fs: FileSystem;
  readonly random: Random;
}

/** A base, or a delta behind it. */
export interface Layer {
  /** The point to which it leads. */
  readonly pointId: Guid;
  readonly disk: DiskRecord;
  readonly files: DiskFiles;
  /** Of a base into which deltas are being folded: what its manifest will say. */
  readonly folding: Folding | undefined;
}

/** The segment in which a disk of a point stands. @throws DrError E_NO_POINT, E_POINT_CORRUPT */
export function segmentOf(vm: VmStore, point: Point, { diskId, generation }: DiskKey): Segment {
  const { pointId } = point;
  const isThere = point.disks.some(
    (disk) => disk.diskId === diskId && disk.generation === generation,
  );
  if (!isThere) {
    throw new DrError('E_NO_POINT', `point ${pointId} has no disk ${diskId}.${generation}`);
  }
  const segment = vm.protection.segments.holding(pointId, diskId, generation);
  if (segment !== undefined) return segment;
  throw new DrError('E_POINT_CORRUPT', `disk ${diskId} of point ${pointId} has no base`);
}

/**
 * The layers of a disk as of a point, the base first. Their files stay there as long as the segment is
 * held for reading (leases.ts). @throws DrError E_NO_POINT, E_POINT_CORRUPT
 */
export function layersOf(vm: VmStore, point: Point, disk: DiskKey): Layer[] {
  const segment = segmentOf(vm, point, disk);
  const count = segment.layers.findIndex((layer) => layer.pointId === point.pointId) + 1;
  return segment.layers.slice(0, count).map((stored) => layerIn(vm.layout, segment, stored));
}

export function layerIn(layout: VmLayout, segment: Segment, stored: StoredLayer): Layer {
  const { transfer, cycleId, pointId } = stored;
  return {
    pointId,
    disk: { ...segment, ...stored },
    files: layout.files(segment, cycleId, transfer),
    folding: transfer === 'base' ? segment.folding : undefined,
  };
}

/** An open layer: a source of cells, whatever its form. */
export interface OpenLayer extends Layer {
  readonly manifest: ManifestFile;
  /** Of a base that is being changed: each of its cells may have the hash of this one instead. */
  readonly announced: ManifestFile | undefined;
  readonly source: DeltaSource;
  /** Of a base. */
  readonly base: ReadableDisk | undefined;
  close(): Promise<void>;
}

/** The data cells of a base, as its manifest lists them, read from its VHDX. */
class BaseSource implements DeltaSource {
  readonly header: ManifestHeader;
  readonly #manifest: ManifestFile;
  readonly #disk: ReadableDisk;

  constructor(manifest: ManifestFile, disk: ReadableDisk) {
    this.header = manifest.header;
    this.#manifest = manifest;
    this.#disk = disk;
  }

  async *entries(): AsyncGenerator<DeltaEntry> {
    for await (const record of this.#manifest.records()) {
      yield record.kind === 'zero' ? record : { ...record, position: record.cell * CELL_BYTES };
    }
  }

  read(position: number, target: Uint8Array): Promise<void> {
    return this.#disk.read(position, target);
  }
}

/** Opens a layer and checks that its manifest is the one that the journal knows. */
export async function openLayer({ fs, random }: ReadSeams, layer: Layer): Promise<OpenLayer> {
  const { disk, files, pointId } = layer;
  const manifestFile = await fs.open(files.manifest, { mode: 'read' });
  let data: BlockFile | undefined;
  let announcedFile: BlockFile | undefined;
  let announced: ManifestFile | undefined;
  let base: ReadableDisk | undefined;
  try {
    const manifest = await ManifestFile.open(manifestFile);
    const { header, trailer } = manifest;
    const root = trailer.root.toString('hex');
    const isKnown = [{ pointId, root: disk.root }, layer.folding].some(
      (known) => header.point === known?.pointId && root === known.root,
    );
    if (!isKnown) {
      throw new DrError('E_POINT_CORRUPT', `${files.manifest} is not the manifest of its point`, {
        context: { file: files.manifest, point: pointId },
      });
    }
    let source: DeltaSource;
    if (disk.transfer === 'base') {
      base = await openVhdx(files.data, { fs, random });
      if (base.sizeBytes !== disk.sizeBytes) {
        throw new DrError('E_POINT_CORRUPT', `${files.data} is a disk of another size`, {
          context: { file: files.data },
        });
      }
      source = new BaseSource(manifest, base);
      if (layer.folding !== undefined && header.point !== layer.folding.pointId) {
        announcedFile = await fs.open(announcedPath(files), { mode: 'read' });
        announced = await ManifestFile.open(announcedFile);
      }
    } else {
      data = await fs.open(files.data, { mode: 'read' });
      source = await CellDelta.open(manifest, data);
    }
    const close = async (): Promise<void> => {
      await base?.close();
      await data?.close();
      await announcedFile?.close();
      await manifestFile.close();
    };
    return { ...layer, manifest, announced, source, base, close };
  } catch (error) {
    await base?.close();
    await data?.close();
    await announcedFile?.close();
    await manifestFile.close();
    throw error;
  }
}

/** All of `layers`, or none when one cannot be opened. */
export async function openLayers(
  seams: ReadSeams,
  layers: readonly Layer[],
): Promise<readonly OpenLayer[]> {
  const open: OpenLayer[] = [];
  try {
    for (const layer of layers) open.push(await openLayer(seams, layer));
    return open;
  } catch (error) {
    await closeLayers(open);
    throw error;
  }
}

export async function closeLayers(open: readonly OpenLayer[]): Promise<void> {
  for (const layer of open) await layer.close();
}

/** Runs `use` with all layers open. */
export async function withLayers<T>(
  seams: ReadSeams,
  layers: readonly Layer[],
  use: (open: readonly OpenLayer[]) => Promise<T>,
): Promise<T> {
  const open = await openLayers(seams, layers);
  try {
    return await use(open);
  } finally {
    await closeLayers(open);
  }
}

/** A listed point. @throws DrError E_NO_POINT */
export function listedPoint(vm: VmStore, pointId: Guid): Point {
  const point = vm.protection.point(pointId);
  if (point !== undefined) return point;
  throw new DrError('E_NO_POINT', `${vm.protection.vmName} has no point ${pointId}`, {
    context: { vmId: vm.vmId, pointId },
  });
}

/** The hashes of all cells of a disk that are not zero as of a point, in ascending order. */
export async function* pointRecords(
  seams: ReadSeams,
  vm: VmStore,
  pointId: Guid,
  disk: DiskKey,
): AsyncGenerator<ManifestRecord> {
  const lease = await vm.leases.read([segmentOf(vm, listedPoint(vm, pointId), disk)]);
  let open: readonly OpenLayer[] = [];
  try {
    // the point may have been forgotten meanwhile, and its layers be others
    open = await openLayers(seams, layersOf(vm, listedPoint(vm, pointId), disk));
    for await (const { entry } of unionOf(open.map(({ source }) => source))) {
      if (entry.kind === 'data') yield { kind: 'data', cell: entry.cell, hash: entry.hash };
    }
  } finally {
    await closeLayers(open);
    lease.release();
  }
}
