// A guest of 512 bytes: the boot sector of a disk that writes itself to a list of sectors by the BIOS and then
// halts. So a machine without an operating system makes writes that are known to the byte, while it runs and
// the host tracks it. Generation 1 only, from the first disk.
//
//   0     code (real mode, at 0x7C00; DL is the disk)
//   64    disk address packet of INT 13h, AH=43h: size 16, one sector, from 0000:7C00, its LBA in bytes 8 to 15
//   80    list of LBAs, 8 bytes each
//   510   55 AA
//
// The packet is part of what is written, so that each copy holds its own LBA.

import { assert } from '../assert.js';
import type { ReadableDisk } from '../disk/index.js';
import type { ByteRange } from '../hypervisor/index.js';

export const SECTOR_BYTES = 512;
const ORIGIN = 0x7c00;
const PACKET = 64;
const PACKET_LBA = PACKET + 8;
const LIST = 80;
const LIST_MAX = (510 - LIST) / 8;

/** The sector to begin a disk with. */
export function bootSector(lbas: readonly number[]): Buffer {
  assert(lbas.length > 0 && lbas.length <= LIST_MAX, 'the list fits into the sector');
  const word = (value: number): number[] => [value & 0xff, value >> 8];
  const head = [
    ...[0x31, 0xc0], // xor ax, ax
    ...[0x8e, 0xd8], // mov ds, ax
    ...[0x8e, 0xc0], // mov es, ax
    ...[0x8e, 0xd0], // mov ss, ax
    ...[0xbc, ...word(ORIGIN)], // mov sp, ORIGIN
    0xfb, // sti
    ...[0xbe, ...word(ORIGIN + PACKET)], // mov si, PACKET
    ...[0xbf, ...word(ORIGIN + LIST)], // mov di, LIST
    ...[0xb9, ...word(lbas.length)], // mov cx, count
  ];
  const body = [
    ...[0x66, 0x8b, 0x05], // mov eax, [di]
    ...[0x66, 0xa3, ...word(ORIGIN + PACKET_LBA)], // mov [PACKET_LBA], eax
    ...[0x66, 0x8b, 0x45, 0x04], // mov eax, [di + 4]
    ...[0x66, 0xa3, ...word(ORIGIN + PACKET_LBA + 4)], // mov [PACKET_LBA + 4], eax
    ...[0x83, 0xc7, 0x08], // add di, 8
    0x60, // pusha
    ...[0xb8, 0x00, 0x43], // mov ax, 4300h
    ...[0xcd, 0x13], // int 13h
    0x61, // popa
  ];
  const end = [
    ...[0xe2, -(body.length + 2) & 0xff], // loop body
    0xf4, // halt: hlt
    ...[0xeb, 0xfd], // jmp halt
  ];
  const code = [...head, ...body, ...end];
  assert(code.length <= PACKET, 'the code ends before the packet');
  const sector = Buffer.alloc(SECTOR_BYTES);
  Buffer.from(code).copy(sector);
  Buffer.from([0x10, 0, 1, 0, ...word(ORIGIN), 0, 0]).copy(sector, PACKET);
  for (const [index, lba] of lbas.entries()) {
    sector.writeBigUInt64LE(BigInt(lba), LIST + 8 * index);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** What stands at `lba` after the machine has run. */
export function writtenSector(boot: Buffer, lba: number): Buffer {
  const copy = Buffer.from(boot);
  copy.writeBigUInt64LE(BigInt(lba), PACKET_LBA);
  return copy;
}

/** Those of its writes that are on the disk. */
export async function writtenOf(
  disk: ReadableDisk,
  boot: Buffer,
  lbas: readonly number[],
): Promise<ByteRange[]> {
  const seen: ByteRange[] = [];
  for (const lba of lbas) {
    const start = lba * SECTOR_BYTES;
    // aligned as any disk wants it
    const page = Buffer.alloc(4096);
    const pageStart = start - (start % page.length);
    await disk.read(pageStart, page);
    const sector = page.subarray(start - pageStart, start - pageStart + SECTOR_BYTES);
    if (sector.equals(writtenSector(boot, lba))) seen.push({ start, end: start + SECTOR_BYTES });
  }
  return seen;
}
