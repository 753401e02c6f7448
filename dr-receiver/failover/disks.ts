// Disks for a VM that is to run at this site: of each disk of a point one new file over the base, which
// holds the union of all deltas up to the point, and a protective file over that, which the VM writes to
// (design.md § 7, spec/vhdx.md § 7.1). Costs what has changed since the base, whatever the disk's size.
//
// - The base is only read. As long as such files stand on it, it stays as it is (store/base-holds.ts);
//   a fold that was under way stops at its next batch. The deltas cover all that it may have written.
// - A file has its name when it is complete and durable. Its content identity follows from operation,
//   point and base, so one that is there is known for what it is, and a call that is repeated keeps it.
// - Every cell of the deltas is checked against its hash while it is read.

import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { type Guid, readGuid } from '../../shared/bytes/index.js';
import { materialise } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { removeLeftovers } from '../../shared/files/index.js';
import { createVhdx, openVhdx, type VhdxDisk, VhdxFile } from '../../shared/vhdx/index.js';
import { isDamage } from '../store/damage.js';
import type { Point } from '../store/point.js';
import { listedPoint } from '../store/point-sources.js';
import type { VmStore } from '../store/vm-store.js';
import { instanceDiskPaths } from './instance-files.js';
import { type DiskSeams, plannedDisks, withDeltas } from './instance-plan.js';
import { MATERIALISED_BLOCK_BYTES, requireRoom } from './instance-space.js';
import type { InstanceDisk } from './model.js';

/** How long those are waited for who read the base, when its log has to be cleaned. */
const PATIENCE_MS = 5 * 60 * 1000;
const RETRY_MS = 50;

/**
 * Makes the disks of a point, in the order of its disks; durable on return. Again with the same operation
 * it keeps what is complete. Their bases are held from now on, until removeInstanceDisks(), or the record
 * of a VM that stood on them goes. What a failed call has made is gone.
 * @throws DrError E_CAPACITY (before anything was made), E_POINT_CORRUPT, E_NO_POINT, E_LOCKED, E_STATE
 *   (a protective file has data of a guest and stands on another point), E_IO
 */
export async function materialisePoint(
  vm: VmStore,
  point: Point,
  operationId: Guid,
  seams: DiskSeams,
): Promise<InstanceDisk[]> {
  const disks = plannedDisks(vm, point, operationId);
  vm.baseHolds.take(operationId, disks);
  const made: string[] = [];
  let isAnyKept = false;
  try {
    for (const disk of disks) await cleanLog(seams, vm, disk);
    const lease = await vm.leases.read(disks);
    try {
      const missing: { readonly disk: InstanceDisk; readonly identity: Guid }[] = [];
      for (const disk of disks) {
        const identity = await identityOf(seams, vm, point.pointId, operationId, disk);
        if (!(await isComplete(seams, vm, disk, identity))) missing.push({ disk, identity });
      }
      isAnyKept = missing.length < disks.length;
      if (missing.length > 0) {
        const listed = listedPoint(vm, point.pointId);
        const todo = missing.map(({ disk }) => disk);
        await requireRoom(seams, vm, listed, todo);
        for (const { disk, identity } of missing) {
          await makeDisk(seams, vm, listed, disk, identity, made);
        }
      }
    } finally {
      lease.release();
    }
    return disks;
  } catch (error) {
    // what went wrong first is what counts; what cannot be removed keeps its base held
    const isGone = await removeMade(seams, made);
    if (isGone && !isAnyKept) vm.baseHolds.release(operationId);
    throw asCorruptPoint(error, vm, point);
  }
}

async function removeMade({ fs }: DiskSeams, made: readonly string[]): Promise<boolean> {
  try {
    for (const file of made.toReversed()) {
      await fs.remove(file);
      await fs.flushFolder(dirname(file));
    }
    return true;
  } catch {
    return false;
  }
}

function asCorruptPoint(error: unknown, { protection }: VmStore, { pointId }: Point): unknown {
  if (!isDamage(error) || error.code === 'E_POINT_CORRUPT') return error;
  return new DrError(
    'E_POINT_CORRUPT',
    `point ${pointId} of ${protection.vmName} does not read back: ${error.message}`,
    { context: { ...error.context, pointId }, cause: error },
  );
}

/** The content identity of a point's file: another point, or a base that was written to, has another. */
async function identityOf(
  { fs, random }: DiskSeams,
  { layout }: VmStore,
  pointId: Guid,
  operationId: Guid,
  disk: InstanceDisk,
): Promise<Guid> {
  const { base } = instanceDiskPaths(layout, disk);
  const file = await VhdxFile.open(base, { fs, random, isWritable: false });
  const linkage = file.header.dataWriteGuid;
  await file.close();
  const { diskId, generation, baseCycleId } = disk;
  const text = [operationId, pointId, diskId, generation, baseCycleId, linkage].join(' ');
  return readGuid(createHash('sha256').update(text).digest(), 0);
}

/**
 * Whether both files of a disk are there and whole. Takes away what has to be made anew.
 * @throws DrError E_STATE when that would cost data of a guest
 */
async function isComplete(
  seams: DiskSeams,
  { layout }: VmStore,
  disk: InstanceDisk,
  identity: Guid,
): Promise<boolean> {
  const { fs, random } = seams;
  const { materialised, protective } = instanceDiskPaths(layout, disk);
  const isThere = async (file: string): Promise<boolean> => (await fs.status(file)) !== undefined;
  const isPoint = await isFileOf(seams, materialised, identity);
  const hasProtective = await isThere(protective);
  if (isPoint && hasProtective) {
    try {
      await (await openVhdx(protective, { fs, random })).close();
      return true;
    } catch (error) {
      // whoever writes to it has it open, so it is whole
      if (error instanceof DrError && error.code === 'E_LOCKED') return true;
      if (!isDamage(error)) throw error;
    }
  }
  if (hasProtective) await removeUnused(seams, protective);
  if (!isPoint && (await isThere(materialised))) {
    await fs.remove(materialised);
    await fs.flushFolder(dirname(materialised));
  }
  return false;
}

async function isFileOf({ fs, random }: DiskSeams, path: string, identity: Guid): Promise<boolean> {
  if ((await fs.status(path)) === undefined) return false;
  try {
    const file = await VhdxFile.open(path, { fs, random, isWritable: false });
    const isIt = file.header.dataWriteGuid === identity;
    await file.close();
    return isIt;
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
}

async function removeUnused({ fs, random }: DiskSeams, protective: string): Promise<void> {
  const file = await VhdxFile.open(protective, { fs, random, isWritable: false });
  let isUsed = false;
  for await (const { kind } of file.extents(0, file.geometry.sizeBytes)) {
    isUsed ||= kind !== 'parent';
    if (isUsed) break;
  }
  await file.close();
  if (isUsed) {
    throw new DrError('E_STATE', `${protective} has data of a guest, but not over this point`, {
      context: { path: protective },
      done: 'it was left as it is',
      hint: 'Undo the operation that made it first.',
    });
  }
  await fs.remove(protective);
  await fs.flushFolder(dirname(protective));
}

async function makeDisk(
  seams: DiskSeams,
  vm: VmStore,
  point: Point,
  disk: InstanceDisk,
  identity: Guid,
  made: string[],
): Promise<void> {
  const { fs, random } = seams;
  const { base, materialised, protective } = instanceDiskPaths(vm.layout, disk);
  for (const file of [materialised, protective]) await removeLeftovers(fs, file);
  if ((await fs.status(materialised)) === undefined) {
    // beforehand: it has its name before its folder is flushed
    made.push(materialised);
    await withBase(seams, base, (open) =>
      withDeltas(seams, vm, point, disk, async (sources) => {
        const options = { blockSizeBytes: MATERIALISED_BLOCK_BYTES, dataWriteGuid: identity };
        await materialise(materialised, open, sources, seams, options);
      }),
    );
  }
  made.push(protective);
  await createVhdx(protective, { type: 'differencing', parentPath: materialised }, { fs, random });
}

async function withBase<T>(
  { fs, random }: DiskSeams,
  path: string,
  use: (base: VhdxDisk) => Promise<T>,
): Promise<T> {
  const base = await openVhdx(path, { fs, random });
  try {
    return await use(base);
  } finally {
    await base.close();
  }
}

/**
 * A power cut in the middle of a fold leaves a log that has to be replayed. We do that while reading; the
 * hypervisor, which opens the base for reading, may not be able to.
 */
async function cleanLog(seams: DiskSeams, vm: VmStore, disk: InstanceDisk): Promise<void> {
  const { fs, random, clock } = seams;
  const { base } = instanceDiskPaths(vm.layout, disk);
  const untilMs = clock.monotonic() + PATIENCE_MS;
  while (await hasDirtyLog(seams, base)) {
    const patience = (): Promise<void> => clock.sleep(Math.max(0, untilMs - clock.monotonic()));
    const lease = await vm.leases.change(disk, patience);
    if (lease !== undefined) {
      try {
        await (await openVhdx(base, { fs, random, isWritable: true })).close();
      } finally {
        lease.release();
      }
      return;
    }
    if (clock.monotonic() >= untilMs) {
      throw new DrError('E_LOCKED', `${base} is in use, and its log has to be replayed first`, {
        context: { path: base },
        done: 'nothing was changed',
      });
    }
    await clock.sleep(RETRY_MS);
  }
}

async function hasDirtyLog({ fs, random }: DiskSeams, path: string): Promise<boolean> {
  try {
    const file = await VhdxFile.open(path, { fs, random, isWritable: false });
    const isDirty = file.structures.replay !== undefined;
    await file.close();
    return isDirty;
  } catch (error) {
    // a fold writes its last batch
    if (error instanceof DrError && error.code === 'E_LOCKED') return true;
    throw error;
  }
}
