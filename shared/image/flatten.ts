// A chain of VHDX files as one that stands alone: dynamic, with the identity of the disk and of the
// content, so whoever knows the disk knows it again, also what tracks its changes.

import path from 'node:path';
import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { openVhdx, SealedVhdxWriter, type VhdxDisk, VhdxFile, VhdxError } from '../vhdx/index.js';
import { copyNonZero, type CopyOptions } from './copy-disk.js';

export interface FlattenSeams extends CopyOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Whether holes of a file take no room. Default: not on Windows. */
  readonly areHolesFree?: boolean | undefined;
}

const BLOCK_BYTES = 32 * 1024 * 1024;
const HEAD_BYTES = 8 * 1024 * 1024;

/**
 * Writes the disk of `from`, which nobody writes to now, to `to`, or puts it in its own place when they
 * are the same file. Complete and durable under its name on return, or not there at all; a call that is
 * repeated keeps what is there. The files below are only read.
 * @throws DrError E_EXISTS (`to` is another disk, or has another content), E_CAPACITY (nothing was
 *   written), E_LOCKED, E_IO, VhdxError
 */
export async function flattenVhdx(from: string, to: string, seams: FlattenSeams): Promise<void> {
  const { fs, random } = seams;
  const isInPlace = path.resolve(from) === path.resolve(to);
  const built = isInPlace ? besideOf(to) : to;
  const disk = await openVhdx(from, { fs, random });
  try {
    if (disk.layers.length === 1 && isInPlace) return;
    if (!(await isFlatCopy(built, disk, seams))) {
      if (isInPlace) await fs.remove(built);
      await requireRoom(disk, built, seams);
      await build(disk, built, seams);
    }
  } finally {
    // Windows replaces no file that is open
    await disk.close();
  }
  if (!isInPlace) return;
  await fs.rename(built, to);
  await fs.flushFolder(path.dirname(to));
}

function besideOf(file: string): string {
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}.flat${ext}`);
}

/** @throws DrError E_EXISTS when another file has the name, unless it is a leftover of ours */
async function isFlatCopy(
  file: string,
  of: VhdxDisk,
  { fs, random }: FlattenSeams,
): Promise<boolean> {
  if ((await fs.status(file)) === undefined) return false;
  let isSame = false;
  try {
    const found = await VhdxFile.open(file, { fs, random, isWritable: false });
    isSame =
      found.structures.locator === undefined &&
      found.structures.disk.diskId === of.top.structures.disk.diskId &&
      found.header.dataWriteGuid === of.top.header.dataWriteGuid;
    await found.close();
  } catch (error) {
    if (!(error instanceof VhdxError)) throw error;
  }
  if (isSame || file === besideOf(of.top.path)) return isSame;
  throw new DrError('E_EXISTS', `${file} is there already, and not the disk of ${of.top.path}`, {
    context: { file },
    done: 'nothing was written',
    hint: 'Name another file, or move that one away.',
  });
}

async function requireRoom(
  disk: VhdxDisk,
  file: string,
  { fs, areHolesFree = process.platform !== 'win32' }: FlattenSeams,
): Promise<void> {
  const freeBytes = await fs.freeBytes(path.dirname(file));
  if (freeBytes === undefined) return;
  let neededBytes = HEAD_BYTES;
  let lastBlock = -1;
  for await (const { start, end, kind } of disk.extents(0, disk.sizeBytes)) {
    if (kind === 'zero') continue;
    if (areHolesFree) {
      neededBytes += end - start;
      continue;
    }
    const first = Math.max(lastBlock + 1, Math.floor(start / BLOCK_BYTES));
    lastBlock = Math.max(lastBlock, Math.ceil(end / BLOCK_BYTES) - 1);
    neededBytes += Math.max(0, lastBlock + 1 - first) * BLOCK_BYTES;
  }
  if (freeBytes >= neededBytes) return;
  throw new DrError(
    'E_CAPACITY',
    `${file} needs up to ${neededBytes} bytes, ${freeBytes} are free there`,
    { context: { file, neededBytes, freeBytes }, done: 'nothing was written' },
  );
}

async function build(disk: VhdxDisk, file: string, seams: FlattenSeams): Promise<void> {
  const { fs, random, onProgress, signal } = seams;
  const { diskId } = disk.top.structures.disk;
  const writer = await SealedVhdxWriter.create({
    ...{ fs, random, path: file, type: 'dynamic', blockSizeBytes: BLOCK_BYTES },
    sizeBytes: disk.sizeBytes,
    logicalSectorBytes: disk.logicalSectorBytes,
    physicalSectorBytes: disk.physicalSectorBytes,
    diskId,
    dataWriteGuid: disk.top.header.dataWriteGuid,
  });
  try {
    await copyNonZero(disk, writer, { onProgress, signal });
    await writer.finish();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}
