// A VMware or Proxmox VM becomes files of a Hyper-V VM in a folder of its own, and then a VM over them.

import path from 'node:path';
import { parseGuid, ZERO_GUID } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import { applyDelta } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { type FileSystem, readSmall } from '../../shared/files/index.js';
import {
  convertImage,
  detectImageFormat,
  roomOfImage,
  type RunTool,
} from '../../shared/image/index.js';
import { describeVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { vmFolder } from '../../shared/catalog/index.js';
import { ClaimedFolder, refuseOccupied } from './claimed-folder.js';
import { type ConvertedDisk, definitionOf } from './definition.js';
import {
  findConfiguration,
  findImages,
  type FoundImage,
  parseConfiguration,
} from './find-images.js';
import { CONFIGURATION_MAX_BYTES, type ForeignVm } from './foreign-vm.js';
import { deltaBytesOf, type ImageNeed, neededBytesOf, requireSpace } from './space.js';

export interface ConversionSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Default: the real one. */
  readonly run?: RunTool | undefined;
}

export interface ConversionRequest {
  /** A configuration file, or the folder that holds one; absolute. */
  readonly from: string;
  /** The folder in which the VM gets a folder of its own; absolute. */
  readonly outFolder: string;
  /** Default: the name that it has. */
  readonly newName?: string | undefined;
  /** VHDX files in `from` are ours: they are moved, not copied. */
  readonly isConsuming?: boolean | undefined;
}

export interface PlannedImage extends FoundImage, ImageNeed {
  readonly target: string;
  readonly isMoved: boolean;
}

export interface ConversionPlan {
  readonly foreign: ForeignVm;
  readonly name: string;
  readonly folder: string;
  readonly images: readonly PlannedImage[];
  /** For a time: what the images have allocated counts, also where that holds zeros. */
  readonly neededBytes: number;
}

/**
 * What would be done; nothing is written.
 * @throws DrError E_CONVERT_CONFIG, E_NOT_FOUND, E_EXISTS, E_IMAGE_REFERENCE, E_IMAGE_FORMAT, E_TOOL_MISSING,
 * E_TOOL_FAILED, E_IO, DeltaError
 */
export async function planConversion(
  { from, outFolder, newName, isConsuming = false }: ConversionRequest,
  seams: ConversionSeams,
): Promise<ConversionPlan> {
  const { fs } = seams;
  const isFolder = (await fs.status(from))?.kind === 'folder';
  const configuration = isFolder ? await findConfiguration(fs, from) : from;
  const bytes = await readSmall(fs, configuration, CONFIGURATION_MAX_BYTES);
  if (bytes === undefined) {
    throw new DrError('E_NOT_FOUND', `${configuration} is not there`, {
      context: { file: configuration },
    });
  }
  const foreign = parseConfiguration(configuration, bytes);
  const name = newName ?? foreign.name;
  // as a backup names the folder of a VM; whose id it is does not matter here
  const safeName = vmFolder({ id: ZERO_GUID, name }, []);
  const folder = path.join(outFolder, safeName);
  await refuseOccupied(fs, folder);
  const images: PlannedImage[] = [];
  for (const [index, image] of (await findImages(fs, configuration, foreign.disks)).entries()) {
    const format = await detectImageFormat(fs, image.file);
    const target = path.join(folder, `${safeName}-${index}.vhdx`);
    const isMoved = isConsuming && format === 'vhdx';
    const deltaBytes = await deltaBytesOf(fs, image.deltas);
    const room = await roomOfImage(image.file, format, seams);
    images.push({
      ...{ ...image, format, target, isMoved, deltaBytes },
      // it is there already, and can grow
      room: isMoved ? { ...room, diskBytes: 0 } : room,
    });
  }
  return { foreign, name, folder, images, neededBytes: neededBytesOf(images) };
}

/** The VM before its disks are there: its network and its places are what counts. */
export function previewOf(
  { foreign, name, images }: ConversionPlan,
  generation?: 1 | 2,
): ReturnType<typeof definitionOf> {
  const disks = images.map(({ target }) => ({
    diskId: ZERO_GUID,
    path: target,
    sizeBytes: 0,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
  }));
  return definitionOf(foreign, disks, { name, generation, newGuid: () => ZERO_GUID });
}

/**
 * Makes the disks, durable on return. What goes wrong leaves nothing behind.
 * @throws DrError E_EXISTS, E_LOCKED, E_CAPACITY, E_IMAGE_REFERENCE, E_TOOL_MISSING, E_TOOL_FAILED, E_IO,
 * DeltaError; the reason of the signal
 */
export async function makeDisks(
  plan: ConversionPlan,
  seams: ConversionSeams,
  options: {
    readonly signal: AbortSignal;
    readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  },
): Promise<ConvertedDisk[]> {
  const { fs } = seams;
  const { signal } = options;
  const isAnew = (await fs.status(plan.folder)) !== undefined;
  if (!isAnew) await requireSpace(plan, seams, signal);
  const claimed = await ClaimedFolder.take(fs, plan.folder);
  try {
    // what a killed run left took room until now
    if (isAnew) await requireSpace(plan, seams, signal);
    const disks: ConvertedDisk[] = [];
    for (const image of plan.images) disks.push(await makeDisk(image, seams, options));
    await claimed.publish();
    return disks;
  } catch (error) {
    // the first error is the one to report; the marker stands as long as anything is left
    await claimed.discard().catch(() => undefined);
    throw error;
  }
}

async function makeDisk(
  image: PlannedImage,
  { fs, random, run }: ConversionSeams,
  { signal, onProgress }: Parameters<typeof makeDisks>[2],
): Promise<ConvertedDisk> {
  const { file, target, deltas } = image;
  if (image.isMoved) {
    await fs.rename(file, target);
    await fs.flushFolder(path.dirname(target));
  } else {
    await convertImage(
      file,
      target,
      {
        to: 'vhdx',
        signal,
        onProgress: ({ position, sizeBytes }) => {
          onProgress?.(position, sizeBytes);
        },
      },
      { fs, random, run },
    );
  }
  for (const delta of deltas) {
    signal.throwIfAborted();
    await applyOnto(fs, random, target, delta);
  }
  const { diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes } = await describeVhdx(
    target,
    {
      fs,
    },
  );
  const id = parseGuid(diskId);
  if (id === undefined) throw new Error(`${target} was made without an id`);
  return { diskId: id, path: target, sizeBytes, logicalSectorBytes, physicalSectorBytes };
}

async function applyOnto(
  fs: FileSystem,
  random: Random,
  target: string,
  delta: string,
): Promise<void> {
  const disk = await openVhdx(target, { fs, random, isWritable: true });
  try {
    const file = await fs.open(delta, { mode: 'read' });
    try {
      await applyDelta({ kind: 'file', file }, disk);
    } finally {
      await file.close();
    }
  } finally {
    await disk.close();
  }
}
