// Tells the format of a disk image by its content, never by its name. Raw is what is left: any
// bytes are a legal raw disk.

import type { BlockFile } from '../files/index.js';

/** What we read and write by ourselves. */
export type OwnFormat = 'raw' | 'vhdx';
/** What only qemu-img reads for us. */
export type ForeignFormat = 'qcow2' | 'vmdk' | 'vhd';
export type ImageFormat = OwnFormat | ForeignFormat;

export const FORMAT_HEAD_BYTES = 512;
/** The footer of a fixed VHD is its only mark. */
export const FORMAT_TAIL_BYTES = 512;

const VMDK_DESCRIPTOR = '# Disk DescriptorFile';

/**
 * The format that the first and last 512 bytes of a file show (shorter when the file is). A file
 * that is empty or too short for any format is raw.
 */
export function formatOf(head: Buffer, tail: Buffer): ImageFormat {
  const magic = head.toString('latin1', 0, 8);
  if (magic === 'vhdxfile') return 'vhdx';
  if (magic.startsWith('QFI\xfb')) return 'qcow2';
  if (magic.startsWith('KDMV') || magic.startsWith('COWD')) return 'vmdk';
  if (head.toString('latin1').trimStart().startsWith(VMDK_DESCRIPTOR)) return 'vmdk';
  if (magic === 'conectix') return 'vhd';
  if (tail.toString('latin1', 0, 8) === 'conectix') return 'vhd';
  return 'raw';
}

/** Reads the two ends of an open file and tells its format. */
export async function formatOfFile(file: BlockFile): Promise<ImageFormat> {
  const sizeBytes = await file.size();
  const head = Buffer.alloc(Math.min(FORMAT_HEAD_BYTES, sizeBytes));
  const tail = Buffer.alloc(Math.min(FORMAT_TAIL_BYTES, sizeBytes));
  await file.read(0, head);
  await file.read(sizeBytes - tail.length, tail);
  return formatOf(head, tail);
}
