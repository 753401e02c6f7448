// A FAT16 file system as bytes, for the demo on machines without mke2fs: one root folder, files
// side by side. Pure. Layout: boot sector · two FATs · root folder · clusters.

import { assert } from '../shared/assert.js';

const SECTOR = 512;
const SECTORS_PER_CLUSTER = 4;
const CLUSTER = SECTOR * SECTORS_PER_CLUSTER;
const FAT_SECTORS = 128;
const ROOT_ENTRIES = 512;
const ENTRY_BYTES = 32;
const FIRST_CLUSTER = 2;
const END_OF_CHAIN = 0xffff;
/** 2026-01-01, in the format's own count; the demo makes the same image every day. */
const DATE = ((2026 - 1980) << 9) | (1 << 5) | 1;

export interface DemoFile {
  /** Capital letters and digits, at most eight, a dot, three. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

function bootSector(sectorCount: number): Buffer {
  const boot = Buffer.alloc(SECTOR);
  boot.set([0xeb, 0x3c, 0x90]); // jump over the parameters
  boot.write('HVDRDEMO', 3, 'latin1');
  boot.writeUInt16LE(SECTOR, 11);
  boot.writeUInt8(SECTORS_PER_CLUSTER, 13);
  boot.writeUInt16LE(1, 14); // reserved sectors: this one
  boot.writeUInt8(2, 16); // FATs
  boot.writeUInt16LE(ROOT_ENTRIES, 17);
  boot.writeUInt8(0xf8, 21); // a fixed disk
  boot.writeUInt16LE(FAT_SECTORS, 22);
  boot.writeUInt16LE(63, 24);
  boot.writeUInt16LE(255, 26);
  boot.writeUInt32LE(sectorCount, 32);
  boot.writeUInt8(0x80, 36);
  boot.writeUInt8(0x29, 38); // the next three fields are there
  boot.writeUInt32LE(0x48564452, 39);
  boot.write('HVDR DEMO  ', 43, 'latin1');
  boot.write('FAT16   ', 54, 'latin1');
  boot.writeUInt16LE(0xaa55, 510);
  return boot;
}

function folderEntry(file: DemoFile, cluster: number): Buffer {
  const [stem = '', extension = ''] = file.name.split('.');
  const entry = Buffer.alloc(ENTRY_BYTES);
  entry.write(stem.padEnd(8) + extension.padEnd(3), 0, 'latin1');
  entry.writeUInt8(0x20, 11); // an ordinary file
  entry.writeUInt16LE(DATE, 24);
  entry.writeUInt16LE(file.bytes.length === 0 ? 0 : cluster, 26);
  entry.writeUInt32LE(file.bytes.length, 28);
  return entry;
}

/** The parts of the image that are not zero, in ascending order of offset. */
export function fat16Image(
  sizeBytes: number,
  files: readonly DemoFile[],
): readonly { readonly offset: number; readonly bytes: Uint8Array }[] {
  const rootStart = SECTOR * (1 + 2 * FAT_SECTORS);
  const dataStart = rootStart + ROOT_ENTRIES * ENTRY_BYTES;
  const clusterCount = Math.floor((sizeBytes - dataStart) / CLUSTER);
  assert(clusterCount >= 4085, 'a FAT16 file system has at least 4085 clusters');
  assert(clusterCount + FIRST_CLUSTER <= (FAT_SECTORS * SECTOR) / 2, 'the FAT holds every cluster');
  assert(files.length < ROOT_ENTRIES, 'the root folder holds every file');

  const fat = Buffer.alloc(FAT_SECTORS * SECTOR);
  fat.writeUInt16LE(0xfff8, 0);
  fat.writeUInt16LE(END_OF_CHAIN, 2);
  const folder: Buffer[] = [];
  const data: { offset: number; bytes: Uint8Array }[] = [];
  let cluster = FIRST_CLUSTER;
  for (const file of files) {
    folder.push(folderEntry(file, cluster));
    const count = Math.ceil(file.bytes.length / CLUSTER);
    assert(cluster + count <= clusterCount + FIRST_CLUSTER, 'the files fit into the image');
    for (let index = 0; index < count; index += 1) {
      const isLast = index === count - 1;
      fat.writeUInt16LE(isLast ? END_OF_CHAIN : cluster + index + 1, (cluster + index) * 2);
    }
    data.push({
      offset: dataStart + (cluster - FIRST_CLUSTER) * CLUSTER,
      bytes: file.bytes,
    });
    cluster += count;
  }
  return [
    { offset: 0, bytes: bootSector(sizeBytes / SECTOR) },
    { offset: SECTOR, bytes: fat },
    { offset: SECTOR + fat.length, bytes: fat },
    { offset: rootStart, bytes: Buffer.concat(folder) },
    ...data,
  ];
}
