// From one disk image to another: raw or VHDX out; raw, VHDX and, with the help of qemu-img, qcow2,
// VMDK and VHD in. The target appears under its name when it is complete and durable, or not at all.

import type { Random } from '../clock.js';
import type { ReadableDisk } from '../disk/index.js';
import { DrError } from '../errors.js';
import { temporaryPathBeside, type FileSystem } from '../files/index.js';
import { buildTarget, type TargetOptions } from './build-target.js';
import { checkTarget } from './check-target.js';
import { copyNonZero, type CopyOptions } from './copy-disk.js';
import { vetForeignImage } from './foreign-image.js';
import type { ForeignFormat, ImageFormat, OwnFormat } from './image-format.js';
import { knownImageFormat, openImage } from './open-image.js';
import { foreignSize, foreignToRaw, runTool, type RunTool } from './qemu-img.js';

export interface ImageEnvironment {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Default: the real one. */
  readonly run?: RunTool | undefined;
}

export interface ConvertOptions extends TargetOptions, CopyOptions {
  /** Take the source as a raw disk, whatever its first bytes look like. */
  readonly from?: 'raw' | undefined;
}

export interface ConvertResult {
  readonly sourceFormat: ImageFormat;
  /** Guest-visible size of the target. */
  readonly sizeBytes: number;
  /** Guest bytes that are not zero on the 64 KiB grid, which were written. */
  readonly writtenBytes: number;
}

/**
 * Converts the file `source` to the file `target`.
 * @throws DrError E_EXISTS, E_USAGE, E_TOOL_MISSING, E_TOOL_FAILED, E_IMAGE_REFERENCE, E_CAPACITY,
 * E_IO, VhdxError
 */
export async function convertImage(
  source: string,
  target: string,
  options: ConvertOptions,
  environment: ImageEnvironment,
): Promise<ConvertResult> {
  const { isReplacing = false } = options;
  await checkTarget(target, { isReplacing, inputs: [source] }, environment);
  const { from } = options;
  return withSource(source, target, { ...environment, from }, async (disk, sourceFormat) => {
    const { sizeBytes, writtenBytes } = await writeImage(disk, target, options, environment);
    return { sourceFormat, sizeBytes, writtenBytes };
  });
}

/**
 * Opens any image that can be read, for the time of `use`. A foreign one is first turned into a
 * temporary raw file beside `near`, which needs room for its data there.
 */
export async function withSource<T>(
  source: string,
  near: string,
  environment: ImageEnvironment & { readonly from?: 'raw' | undefined },
  use: (disk: ReadableDisk, format: ImageFormat) => Promise<T>,
): Promise<T> {
  const { fs, random, from } = environment;
  const format = from ?? (await knownImageFormat(fs, source));
  const isOwn = format === 'raw' || format === 'vhdx';
  const opened = isOwn ? source : await toTemporaryRaw(source, format, near, environment);
  const withDisk = async (): Promise<T> => {
    const own = format === 'vhdx' ? format : 'raw';
    const disk = await openImage(fs, opened, { random, format: own });
    return thenTidy(
      () => use(disk, format),
      () => disk.close(),
    );
  };
  return isOwn ? withDisk() : thenTidy(withDisk, () => fs.remove(opened));
}

/** Tidies up in any case. When the work failed, that is the error, whatever tidying up says. */
async function thenTidy<T>(work: () => Promise<T>, tidy: () => Promise<void>): Promise<T> {
  let result: T;
  try {
    result = await work();
  } catch (error) {
    await tidy().catch(() => undefined);
    throw error;
  }
  await tidy();
  return result;
}

async function toTemporaryRaw(
  source: string,
  format: ForeignFormat,
  near: string,
  { fs, random, run = runTool }: ImageEnvironment,
): Promise<string> {
  await vetForeignImage(fs, source, format);
  const sizeBytes = await foreignSize(run, source, format);
  const temporary = temporaryPathBeside(near, random);
  // Made by us, because only then nobody else may read it.
  const file = await fs.open(temporary, { mode: 'create' });
  try {
    await thenTidy(
      () => file.truncate(sizeBytes),
      () => file.close(),
    );
    await foreignToRaw(run, source, format, temporary);
    return temporary;
  } catch (error) {
    await fs.remove(temporary).catch(() => undefined);
    throw error;
  }
}

/**
 * Writes a disk to a new image file, durable under its name on return; what goes wrong leaves
 * nothing behind. An existing file of that name must have been dealt with.
 */
export async function writeImage(
  disk: ReadableDisk,
  target: string,
  options: ConvertOptions,
  { fs, random }: ImageEnvironment,
): Promise<{ sizeBytes: number; writtenBytes: number }> {
  const sizeBytes = targetSize(disk, options.to);
  const { logicalSectorBytes, physicalSectorBytes } = disk;
  const geometry = { sizeBytes, logicalSectorBytes, physicalSectorBytes };
  const writtenBytes = await buildTarget(target, options, geometry, { fs, random }, (writer) =>
    copyNonZero(disk, writer, options),
  );
  return { sizeBytes, writtenBytes };
}

/** A VHDX holds whole sectors; the end of an odd raw file is filled up with zeros. */
function targetSize(disk: ReadableDisk, to: OwnFormat): number {
  if (to === 'raw') return disk.sizeBytes;
  const sector = disk.logicalSectorBytes;
  if (disk.sizeBytes === 0) {
    throw new DrError('E_USAGE', 'the source is empty, and a VHDX of no size is not legal');
  }
  return Math.ceil(disk.sizeBytes / sector) * sector;
}
