// How much room the disk of an image takes as a dynamic VHDX, and what lies beside it while it is made. Asked
// before the first byte is written.

import type { ReadableDisk } from '../disk/index.js';
import type { ImageEnvironment } from './convert.js';
import { copyNonZero } from './copy-disk.js';
import { vetForeignImage } from './foreign-image.js';
import type { ImageFormat, OwnFormat } from './image-format.js';
import { openImage } from './open-image.js';
import { foreignDataBytes, foreignSize, runTool } from './qemu-img.js';

export interface ImageRoom {
  /** Of the VHDX. */
  readonly diskBytes: number;
  /** Of the VHDX if all of the disk were written. */
  readonly fullBytes: number;
  /** Of the raw copy beside it, which goes when the VHDX is complete; 0 when none is made. */
  readonly copyBytes: number;
}

export interface RoomOptions extends ImageEnvironment {
  /** Whether holes of a file take no room. Default: not on Windows. */
  readonly areHolesFree?: boolean | undefined;
}

/** What `buildTarget` makes when nothing else is asked for. */
const BLOCK_BYTES = 32 * 1024 * 1024;
const CELL_BYTES = 64 * 1024;
/** Heads, log and tables. */
const HEAD_BYTES = 8 * 1024 * 1024;

/**
 * What the conversion of an image takes at most, as far as its format tells: what it has allocated counts,
 * also where that holds zeros.
 * @throws DrError as convertImage, before it writes
 */
export async function roomOfImage(
  image: string,
  format: ImageFormat,
  options: RoomOptions,
): Promise<ImageRoom> {
  const { fs, run = runTool, areHolesFree = areHolesFreeHere() } = options;
  if (format === 'raw' || format === 'vhdx') {
    return roomOfDisk(image, format, options, async (disk, add) => {
      for await (const { start, end, kind } of disk.extents(0, disk.sizeBytes)) {
        if (kind !== 'zero') add(start, end);
      }
    });
  }
  await vetForeignImage(fs, image, format);
  const sizeBytes = await foreignSize(run, image, format);
  const dataBytes = await foreignDataBytes(run, image, format, sizeBytes);
  return {
    diskBytes: HEAD_BYTES + dataBytes,
    fullBytes: HEAD_BYTES + Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES,
    copyBytes: areHolesFree ? dataBytes : sizeBytes,
  };
}

/** The same of a raw disk that is read for it: zeros that take room there do not count. */
export function exactRoomOfRaw(
  image: string,
  options: RoomOptions & { readonly signal: AbortSignal },
): Promise<ImageRoom> {
  const { signal } = options;
  return roomOfDisk(image, 'raw', options, async (disk, add) => {
    const write = (offset: number, { length }: Uint8Array): Promise<void> => {
      add(offset, offset + length);
      return Promise.resolve();
    };
    await copyNonZero(disk, { write }, { signal });
  });
}

/** `walk` adds the ranges that take room: half-open, not empty, in ascending order. */
async function roomOfDisk(
  image: string,
  format: OwnFormat,
  { fs, random, areHolesFree = areHolesFreeHere() }: RoomOptions,
  walk: (disk: ReadableDisk, add: (start: number, end: number) => void) => Promise<void>,
): Promise<ImageRoom> {
  const unitBytes = areHolesFree ? CELL_BYTES : BLOCK_BYTES;
  let unitCount = 0;
  let nextUnit = 0;
  const disk = await openImage(fs, image, { random, format });
  try {
    await walk(disk, (start, end) => {
      const first = Math.max(nextUnit, Math.floor(start / unitBytes));
      nextUnit = Math.max(nextUnit, Math.ceil(end / unitBytes));
      unitCount += Math.max(0, nextUnit - first);
    });
    const fullBytes = HEAD_BYTES + Math.ceil(disk.sizeBytes / unitBytes) * unitBytes;
    return { diskBytes: HEAD_BYTES + unitCount * unitBytes, fullBytes, copyBytes: 0 };
  } finally {
    await disk.close();
  }
}

function areHolesFreeHere(): boolean {
  return process.platform !== 'win32';
}
