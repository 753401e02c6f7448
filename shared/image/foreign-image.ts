// Looks at a qcow2, VMDK or VHD image before any other program may: such a file can name others
// (backing file, data file, extents, parent), and the program that opens it would follow them
// anywhere, also over the network. Only images that are complete in themselves pass, and VMDK
// extents that are plain files in the image's own folder.
//
// Layouts: qcow2 docs/interop/qcow2.txt; VMDK Virtual Disk Format 5.0; VHD image format 1.0.

import path from 'node:path';
import { DrError } from '../errors.js';
import type { BlockFile, FileSystem } from '../files/index.js';
import type { ForeignFormat } from './image-format.js';

const SECTOR_BYTES = 512;
/** Real descriptors have a few hundred bytes, long ones of many extents a few thousand. */
const DESCRIPTOR_MAX_BYTES = 64 * 1024;
const EXTENTS_MAX = 1024;
const QCOW2_FEATURE_DATA_FILE = 4n;
const QCOW2_NOT_ENCRYPTED = 0;
const QCOW2_LUKS = 2;
const VHD_DIFFERENCING = 4;
const VMDK_NO_PARENT = 'ffffffff';

/**
 * Passes when the image refers to nothing outside its folder. Returns the files beside it that hold
 * its data: the extents of a VMDK descriptor, else none.
 * @throws DrError E_IMAGE_REFERENCE, E_IMAGE_FORMAT for what cannot be judged, E_IO
 */
export async function vetForeignImage(
  fs: FileSystem,
  image: string,
  format: ForeignFormat,
): Promise<string[]> {
  const file = await fs.open(image, { mode: 'read', lock: 'none' });
  try {
    if (format === 'qcow2') await vetQcow2(file);
    else if (format === 'vhd') await vetVhd(file);
    else return await vetVmdk(fs, file);
    return [];
  } finally {
    await file.close();
  }
}

function refers(image: string, what: string): DrError {
  return new DrError('E_IMAGE_REFERENCE', `${image} ${what}`, { context: { file: image } });
}

function unreadable(image: string, what: string): DrError {
  return new DrError('E_IMAGE_FORMAT', `${image} ${what}`, {
    context: { file: image },
    hint: 'Convert it to raw or VHDX with the program that made it.',
  });
}

function encrypted(image: string, how: string): DrError {
  return new DrError('E_IMAGE_FORMAT', `${image} is encrypted (${how}), and its key is not here`, {
    context: { file: image },
    hint: 'Make an image of it that is not encrypted where its key is, with `qemu-img convert` and a secret, then convert that one.',
  });
}

async function readBytes(file: BlockFile, position: number, lengthBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(lengthBytes);
  const got = await file.read(position, bytes);
  return bytes.subarray(0, got);
}

async function vetQcow2(file: BlockFile): Promise<void> {
  const header = await readBytes(file, 0, 104);
  if (header.length < 72) throw unreadable(file.path, 'is too short for a qcow2 header');
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    throw unreadable(file.path, `is a qcow image of version ${version}; 2 and 3 are known`);
  }
  if (header.readBigUInt64BE(8) !== 0n) throw refers(file.path, 'has a backing file');
  const encryption = header.readUInt32BE(32);
  if (encryption !== QCOW2_NOT_ENCRYPTED) {
    throw encrypted(file.path, encryption === QCOW2_LUKS ? 'LUKS' : 'AES');
  }
  if (version === 2) return;
  if (header.length < 104) throw unreadable(file.path, 'is too short for its qcow2 header');
  const features = header.readBigUInt64BE(72);
  if ((features & QCOW2_FEATURE_DATA_FILE) !== 0n) {
    throw refers(file.path, 'keeps its data in another file');
  }
}

async function vetVhd(file: BlockFile): Promise<void> {
  const sizeBytes = await file.size();
  const footer = await readBytes(file, Math.max(0, sizeBytes - SECTOR_BYTES), SECTOR_BYTES);
  const head = await readBytes(file, 0, SECTOR_BYTES);
  for (const copy of [footer, head]) {
    const isFooter = copy.length >= 64 && copy.toString('latin1', 0, 8) === 'conectix';
    if (isFooter && copy.readUInt32BE(60) === VHD_DIFFERENCING) {
      throw refers(file.path, 'is a differencing VHD and needs its parent');
    }
  }
}

async function vetVmdk(fs: FileSystem, file: BlockFile): Promise<string[]> {
  const magic = (await readBytes(file, 0, 4)).toString('latin1');
  if (magic === 'COWD') throw unreadable(file.path, 'is an ESX snapshot extent');
  if (magic === 'KDMV') {
    const descriptor = await embeddedDescriptor(file, 'alone');
    if (descriptor !== undefined) refuseVmdkParent(file.path, descriptor);
    return [];
  }
  const sizeBytes = await file.size();
  if (sizeBytes > DESCRIPTOR_MAX_BYTES) {
    throw unreadable(file.path, `has a VMDK descriptor of ${sizeBytes} bytes`);
  }
  const descriptor = (await readBytes(file, 0, sizeBytes)).toString('latin1');
  refuseVmdkParent(file.path, descriptor);
  const extents: string[] = [];
  for (const name of extentNames(file.path, descriptor)) {
    extents.push(await vetExtent(fs, file.path, name));
  }
  return extents;
}

/** The text inside a sparse extent; one without a capacity leads to other files and is refused. */
async function embeddedDescriptor(
  file: BlockFile,
  place: 'alone' | 'extent',
): Promise<string | undefined> {
  const header = await readBytes(file, 0, SECTOR_BYTES);
  if (header.length < SECTOR_BYTES) throw unreadable(file.path, 'is too short for a VMDK header');
  if (header.readBigUInt64LE(12) === 0n) {
    throw refers(file.path, `is a VMDK ${place === 'extent' ? 'extent ' : ''}without own capacity`);
  }
  const offset = header.readBigUInt64LE(28) * BigInt(SECTOR_BYTES);
  const lengthBytes = header.readBigUInt64LE(36) * BigInt(SECTOR_BYTES);
  if (offset === 0n || lengthBytes === 0n) return undefined;
  if (lengthBytes > BigInt(DESCRIPTOR_MAX_BYTES) || offset > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw unreadable(file.path, `has a VMDK descriptor of ${lengthBytes.toString()} bytes`);
  }
  return (await readBytes(file, Number(offset), Number(lengthBytes))).toString('latin1');
}

function refuseVmdkParent(image: string, descriptor: string): void {
  const parent = /^[ \t]*parentCID[ \t]*=[ \t]*"?([0-9a-z]+)/im.exec(descriptor)?.[1];
  const hasHint = /^[ \t]*parentFileNameHint[ \t]*=/im.test(descriptor);
  if (hasHint || (parent !== undefined && parent.toLowerCase() !== VMDK_NO_PARENT)) {
    throw refers(image, 'is a VMDK snapshot and needs its parent');
  }
}

/** File names of the extents that a descriptor lists. */
function extentNames(image: string, descriptor: string): string[] {
  const names: string[] = [];
  for (const line of descriptor.split(/\r?\n/)) {
    const extent = /^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+([A-Z0-9]+)(.*)$/i.exec(line);
    if (extent === null) continue;
    if (extent[1]?.toUpperCase() === 'ZERO') continue;
    const name = /"([^"]*)"/.exec(extent[2] ?? '')?.[1];
    if (name === undefined) throw unreadable(image, 'lists a VMDK extent without a file name');
    names.push(name);
    if (names.length > EXTENTS_MAX) {
      throw unreadable(image, `lists more than ${EXTENTS_MAX} VMDK extents`);
    }
  }
  return names;
}

/** The path of an extent that may be followed. */
async function vetExtent(fs: FileSystem, image: string, name: string): Promise<string> {
  const quoted = JSON.stringify(name);
  // A colon would let qemu read the name as a protocol, a slash leads to another folder.
  if (name === '' || name === '.' || name === '..' || /[/\\:\0]/.test(name)) {
    throw refers(image, `has an extent ${quoted} that is no plain name in its folder`);
  }
  const extent = path.join(path.dirname(image), name);
  const status = await fs.status(extent);
  if (status?.kind !== 'file') throw refers(image, `has an extent ${quoted} that is not there`);
  const folder = await fs.realPath(path.dirname(image));
  if (path.dirname(await fs.realPath(extent)) !== folder) {
    throw refers(image, `has an extent ${quoted} that is a link out of its folder`);
  }
  const file = await fs.open(extent, { mode: 'read', lock: 'none' });
  try {
    const magic = (await readBytes(file, 0, 4)).toString('latin1');
    if (magic === 'KDMV') await embeddedDescriptor(file, 'extent');
    return extent;
  } finally {
    await file.close();
  }
}
