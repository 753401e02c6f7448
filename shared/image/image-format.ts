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

/** Marks of files that are surely meant as something else than a raw disk, and which nothing here reads. */
const OTHER_FORMATS: readonly { name: string; at: number; mark: Buffer }[] = [
  { name: 'VDI image', at: 64, mark: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
  { name: 'QED image', at: 0, mark: Buffer.from('QED\0', 'latin1') },
  { name: 'Parallels image', at: 0, mark: Buffer.from('WithoutFreeSpace', 'latin1') },
  { name: 'Parallels image', at: 0, mark: Buffer.from('WithouFreSpacExt', 'latin1') },
  { name: 'gzip file', at: 0, mark: Buffer.from([0x1f, 0x8b, 0x08]) },
  { name: 'xz file', at: 0, mark: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) },
  { name: 'zstd file', at: 0, mark: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
  { name: 'bzip2 file', at: 0, mark: Buffer.from('BZh', 'latin1') },
  { name: 'ZIP file', at: 0, mark: Buffer.from('PK\x03\x04', 'latin1') },
  { name: '7z file', at: 0, mark: Buffer.from([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]) },
  { name: 'PCBT delta', at: 0, mark: Buffer.from('PCBT', 'latin1') },
];

/** What a file is that would otherwise be taken for a raw disk, or undefined. */
export function otherFormatOf(head: Buffer): string | undefined {
  const found = OTHER_FORMATS.find(({ at, mark }) =>
    head.subarray(at, at + mark.length).equals(mark),
  );
  return found?.name;
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
