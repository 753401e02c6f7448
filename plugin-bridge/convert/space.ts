// Whether the disks of a VM have room where they are made. Images are converted one after another, so the
// raw copy of one counts once, beside what came before it.

import path from 'node:path';
import type { Random } from '../../shared/clock.js';
import {
  CELL_BYTES,
  cellsOfRanges,
  CellSet,
  indexPcbt,
  MAX_DISK_BYTES,
  unionOfCells,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { exactRoomOfRaw, type ImageFormat, type ImageRoom } from '../../shared/image/index.js';

export interface ImageNeed {
  readonly file: string;
  readonly format: ImageFormat;
  readonly room: ImageRoom;
  /** What the deltas can add to the disk once it is complete. */
  readonly deltaBytes: number;
}

export interface VmNeed {
  readonly name: string;
  /** Where its disks are made; it need not be there yet. */
  readonly folder: string;
  readonly images: readonly ImageNeed[];
}

type Need = Pick<ImageNeed, 'room' | 'deltaBytes'>;

/** The most that lies there at one time. */
export function neededBytesOf(needs: readonly Need[]): number {
  let madeBytes = 0;
  let neededBytes = 0;
  for (const { room, deltaBytes } of needs) {
    const grownBytes = Math.min(room.diskBytes + deltaBytes, room.fullBytes);
    const atWorkBytes = Math.max(room.diskBytes + room.copyBytes, grownBytes);
    neededBytes = Math.max(neededBytes, madeBytes + atWorkBytes);
    madeBytes += grownBytes;
  }
  return neededBytes;
}

/** Cells that PCBT files name, each once. @throws DeltaError E_PCBT_…, DrError E_IO */
export async function deltaBytesOf(fs: FileSystem, deltas: readonly string[]): Promise<number> {
  let all = new CellSet();
  for (const delta of deltas) {
    const file = await fs.open(delta, { mode: 'read', lock: 'none' });
    try {
      const ranges = rangesOf(indexPcbt(file, { diskSizeBytes: MAX_DISK_BYTES }));
      all = unionOfCells(all, await cellsOfRanges(ranges, MAX_DISK_BYTES));
    } finally {
      await file.close();
    }
  }
  return all.count * CELL_BYTES;
}

async function* rangesOf(
  blocks: AsyncIterable<{ readonly offset: number; readonly lengthBytes: number }>,
): AsyncGenerator<{ start: number; end: number }> {
  for await (const { offset, lengthBytes } of blocks) {
    yield { start: offset, end: offset + lengthBytes };
  }
}

/**
 * No error where the file system does not tell its room. A raw image may hold zeros that take room there and none
 * in a VHDX, so one that is in the way is read for it.
 * @throws DrError E_CAPACITY, E_IO; the reason of the signal
 */
export async function requireSpace(
  { name, folder, images }: VmNeed,
  seams: { readonly fs: FileSystem; readonly random: Random },
  signal: AbortSignal,
): Promise<void> {
  const freeBytes = await seams.fs.freeBytes(await standingFolder(seams.fs, folder));
  if (freeBytes === undefined || freeBytes >= neededBytesOf(images)) return;
  const exact: Need[] = [];
  for (const image of images) {
    const { file, format, deltaBytes } = image;
    const isRaw = format === 'raw';
    const room = isRaw ? await exactRoomOfRaw(file, { ...seams, signal }) : image.room;
    exact.push({ room, deltaBytes });
  }
  const neededBytes = neededBytesOf(exact);
  if (freeBytes >= neededBytes) return;
  throw new DrError(
    'E_CAPACITY',
    `${folder} has ${freeBytes} bytes free, ${name} needs about ${neededBytes}`,
    {
      context: { folder, freeBytes, neededBytes },
      done: 'no disk was made',
      hint: 'Free space there, or give another folder (restore_path). What an image has allocated counts, also where that holds zeros: `qemu-img convert` makes a thin one of it.',
    },
  );
}

/** The folder itself, or the nearest one above it that is there. */
async function standingFolder(fs: FileSystem, folder: string): Promise<string> {
  const above = path.dirname(folder);
  const isThere = (await fs.status(folder)) !== undefined;
  return isThere || above === folder ? folder : standingFolder(fs, above);
}
