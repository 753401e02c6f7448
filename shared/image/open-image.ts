// Opens a disk image of a format of our own, raw or VHDX, told by its content.

import type { Random } from '../clock.js';
import { openRawDisk, type ReadableDisk, type WritableDisk } from '../disk/index.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { openVhdx } from '../vhdx/index.js';
import {
  FORMAT_HEAD_BYTES,
  formatOfFile,
  otherFormatOf,
  type ImageFormat,
  type OwnFormat,
} from './image-format.js';

export interface OpenImageOptions {
  readonly random: Random;
  /** Default: found by content. Say 'raw' for a raw disk whose first bytes imitate a format. */
  readonly format?: OwnFormat | undefined;
}

/** The format of the file `image`. @throws DrError E_NOT_FOUND, E_IO */
export async function detectImageFormat(fs: FileSystem, image: string): Promise<ImageFormat> {
  const file = await fs.open(image, { mode: 'read', lock: 'none' });
  try {
    return await formatOfFile(file);
  } finally {
    await file.close();
  }
}

/**
 * The format of a file that is to be read as a disk. Any bytes are a legal raw disk; but what is
 * surely something else would silently become a wrong one.
 * @throws DrError E_IMAGE_FORMAT, E_NOT_FOUND, E_IO
 */
export async function knownImageFormat(fs: FileSystem, image: string): Promise<ImageFormat> {
  const format = await detectImageFormat(fs, image);
  if (format !== 'raw') return format;
  const file = await fs.open(image, { mode: 'read', lock: 'none' });
  try {
    const head = Buffer.alloc(FORMAT_HEAD_BYTES);
    const other = otherFormatOf(head.subarray(0, await file.read(0, head)));
    if (other === undefined) return format;
    throw new DrError('E_IMAGE_FORMAT', `${image} is a ${other}, not a raw disk`, {
      context: { file: image, format: other },
      hint:
        'Convert or unpack it to a raw disk first. If its bytes are a raw disk all the same, say so: ' +
        '`hvdr vhdx convert --from raw SRC DST.vhdx`.',
    });
  } finally {
    await file.close();
  }
}

/**
 * The disk in the file `image`, for a VHDX with all of its parents; the caller closes it. Locked:
 * shared for reading, exclusively for writing.
 * @throws DrError E_IMAGE_FORMAT for what only qemu-img reads, E_NOT_FOUND, E_LOCKED, VhdxError
 */
export async function openImage(
  fs: FileSystem,
  image: string,
  options: OpenImageOptions & { readonly writable: true },
): Promise<WritableDisk>;
export async function openImage(
  fs: FileSystem,
  image: string,
  options: OpenImageOptions & { readonly writable?: false },
): Promise<ReadableDisk>;
export async function openImage(
  fs: FileSystem,
  image: string,
  options: OpenImageOptions & { readonly writable?: boolean },
): Promise<WritableDisk> {
  const { random, writable = false } = options;
  const format = options.format ?? (await knownImageFormat(fs, image));
  switch (format) {
    case 'raw':
      return openRawDisk(image, { fs, isWritable: writable });
    case 'vhdx':
      return openVhdx(image, { fs, random, isWritable: writable });
    case 'qcow2':
    case 'vmdk':
    case 'vhd':
      throw new DrError('E_IMAGE_FORMAT', `${image} is a ${format} image`, {
        context: { file: image, format },
      });
  }
}
