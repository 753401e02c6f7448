// The room that the disks of a point take: known before anything is made, from the lists of the deltas'
// cells alone. Where holes of a file cost nothing it is the bytes of the changed cells; where they do
// (NTFS, where Hyper-V opens no sparse file), each block with a changed cell costs all of it.

import { dirname } from 'node:path';
import { CELL_BYTES, cellLength, type DeltaSource, unionOf } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { Point } from '../store/point.js';
import { layersOf } from '../store/point-sources.js';
import type { VmStore } from '../store/vm-store.js';
import { instanceDiskPaths } from './instance-files.js';
import { type DiskSeams, plannedDisks, withDeltas } from './instance-plan.js';
import type { InstanceDisk } from './model.js';

const MIB = 1024 * 1024;
/** The smallest there is: changes are scattered, and each of them costs a block. */
export const MATERIALISED_BLOCK_BYTES = MIB;
const PAGE_BYTES = 4096;
const SECTORS_PER_CHUNK = 2 ** 23;
/** Head, log and metadata of both files. */
const HEADS_BYTES = 8 * MIB;

export interface InstanceSpace {
  readonly neededBytes: number;
  /** On the volume of the store; undefined when nobody can tell. */
  readonly freeBytes: number | undefined;
}

/** For a plan: what materialisePoint() would need now. @throws DrError E_POINT_CORRUPT, E_IO */
export async function instanceSpace(
  seams: DiskSeams,
  vm: VmStore,
  point: Point,
  operationId: InstanceDisk['diskId'],
): Promise<InstanceSpace> {
  const disks = plannedDisks(vm, point, operationId);
  const lease = await vm.leases.read(disks);
  try {
    return await spaceOf(seams, vm, point, disks);
  } finally {
    lease.release();
  }
}

/** The segments are held for reading. @throws DrError E_CAPACITY */
export async function requireRoom(
  seams: DiskSeams,
  vm: VmStore,
  point: Point,
  disks: readonly InstanceDisk[],
): Promise<void> {
  if (await isRoomForAll(seams, vm, point, disks)) return;
  const { neededBytes, freeBytes } = await spaceOf(seams, vm, point, disks);
  if (freeBytes === undefined || freeBytes >= neededBytes) return;
  throw new DrError(
    'E_CAPACITY',
    `the disks of point ${point.pointId} of ${vm.protection.vmName} need ${neededBytes} bytes, ${freeBytes} are free in ${vm.layout.disks}`,
    {
      context: { path: vm.layout.disks, neededBytes, freeBytes },
      done: 'nothing was made',
      hint: 'Free space on the volume of the store, or end a test: `hvdr failover-test VM --stop OPERATION`.',
    },
  );
}

/**
 * Whether there is room were no cell in two deltas, and each in a block of its own: what the journal tells
 * is enough then, and the lists of cells are read but once, when the disks are made. The segments are held
 * for reading.
 */
async function isRoomForAll(
  { fs, areHolesFree = process.platform !== 'win32' }: DiskSeams,
  vm: VmStore,
  point: Point,
  disks: readonly InstanceDisk[],
): Promise<boolean> {
  let neededBytes = 0;
  let freeBytes: number | undefined;
  for (const disk of disks) {
    const { sizeBytes } = geometryIn(point, disk);
    const [, ...deltas] = layersOf(vm, point, disk);
    let dataBytes = 0;
    let cells = 0;
    for (const layer of deltas) {
      dataBytes += layer.disk.dataBytes;
      cells += layer.disk.cellCount;
    }
    // a run of zeros leaves at most as many blocks in part as it has cells
    const count = { dataBytes, blockCount: cells, chunkCount: cells };
    neededBytes += bytesFor(count, sizeBytes, areHolesFree);
    freeBytes ??= await fs.freeBytes(dirname(instanceDiskPaths(vm.layout, disk).base));
  }
  return freeBytes === undefined || freeBytes >= neededBytes;
}

async function spaceOf(
  seams: DiskSeams,
  vm: VmStore,
  point: Point,
  disks: readonly InstanceDisk[],
): Promise<InstanceSpace> {
  const { areHolesFree = process.platform !== 'win32' } = seams;
  let neededBytes = 0;
  let freeBytes: number | undefined;
  for (const disk of disks) {
    const { sizeBytes, logicalSectorBytes } = geometryIn(point, disk);
    const count = await withDeltas(seams, vm, point, disk, (sources) =>
      countUnion(sources, sizeBytes, logicalSectorBytes),
    );
    neededBytes += bytesFor(count, sizeBytes, areHolesFree);
    const folder = dirname(instanceDiskPaths(vm.layout, disk).base);
    freeBytes ??= await seams.fs.freeBytes(folder);
  }
  return { neededBytes, freeBytes };
}

const NO_DISK = { sizeBytes: 0, logicalSectorBytes: 512 };

function geometryIn(point: Point, { diskId }: InstanceDisk): typeof NO_DISK {
  return point.disks.find((disk) => disk.diskId === diskId) ?? NO_DISK;
}

/** Both files of a disk. */
function bytesFor(
  { dataBytes, blockCount, chunkCount }: UnionCount,
  sizeBytes: number,
  areHolesFree: boolean,
): number {
  if (areHolesFree) return dataBytes + 2 * blockCount * PAGE_BYTES + HEADS_BYTES;
  const tableBytes = 2 * Math.ceil((8 * sizeBytes) / MATERIALISED_BLOCK_BYTES);
  return blockCount * MATERIALISED_BLOCK_BYTES + chunkCount * MIB + tableBytes + HEADS_BYTES;
}

export interface UnionCount {
  readonly dataBytes: number;
  /** Blocks of the materialised file that take room. */
  readonly blockCount: number;
  /** Stretches of the disk with a sector bitmap, which takes 1 MiB of the file. */
  readonly chunkCount: number;
}

/** Reads the lists of cells only. */
export async function countUnion(
  sources: readonly DeltaSource[],
  sizeBytes: number,
  logicalSectorBytes: number,
): Promise<UnionCount> {
  const blocksPerChunk = (SECTORS_PER_CHUNK * logicalSectorBytes) / MATERIALISED_BLOCK_BYTES;
  const cellsPerBlock = MATERIALISED_BLOCK_BYTES / CELL_BYTES;
  let dataBytes = 0;
  let blockCount = 0;
  let chunkCount = 0;
  let lastBlock = -1;
  let lastChunk = -1;
  const touch = (block: number): void => {
    if (block === lastBlock) return;
    lastBlock = block;
    blockCount++;
    const chunk = Math.floor(block / blocksPerChunk);
    if (chunk !== lastChunk) chunkCount++;
    lastChunk = chunk;
  };
  for await (const { entry } of unionOf(sources)) {
    const block = Math.floor(entry.cell / cellsPerBlock);
    if (entry.kind === 'data') {
      dataBytes += cellLength(entry.cell, sizeBytes);
      touch(block);
      continue;
    }
    // whole blocks of zeros take no room
    const end = entry.cell + entry.count;
    if (entry.cell % cellsPerBlock !== 0) touch(block);
    const endBlock = Math.floor(end / cellsPerBlock);
    if (end % cellsPerBlock !== 0) touch(endBlock);
  }
  return { dataBytes, blockCount, chunkCount };
}
