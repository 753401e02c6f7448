// Pure arithmetic of § 4: how many BAT entries a disk has and which one belongs to a block. The
// interleaved bitmap slots exist in all disk types, one after each full group of chunkRatio.

import { BAT_ENTRY_BYTES, KIB, LOG_SECTOR_BYTES, MIB, SECTORS_PER_CHUNK } from './format.js';

export type VhdxType = 'fixed' | 'dynamic' | 'differencing';

export interface GeometryInput {
  readonly type: VhdxType;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly logicalSectorBytes: number;
}

export interface Geometry extends GeometryInput {
  /** Payload blocks per sector-bitmap block. */
  readonly chunkRatio: number;
  /** Guest bytes that one sector-bitmap block describes. */
  readonly chunkSizeBytes: number;
  readonly payloadBlockCount: number;
  readonly bitmapBlockCount: number;
  readonly batEntryCount: number;
  /** BAT region, rounded up to 1 MiB. */
  readonly batRegionBytes: number;
  /** Bytes of sector bitmap that describe one payload block. */
  readonly bitmapBytesPerBlock: number;
  /** 4 KiB pages of sector bitmap that one payload block touches. */
  readonly bitmapPagesPerBlock: number;
}

export function geometryOf(input: GeometryInput): Geometry {
  const chunkSizeBytes = SECTORS_PER_CHUNK * input.logicalSectorBytes;
  const chunkRatio = chunkSizeBytes / input.blockSizeBytes;
  const payloadBlockCount = Math.ceil(input.sizeBytes / input.blockSizeBytes);
  const bitmapBlockCount = Math.ceil(payloadBlockCount / chunkRatio);
  const batEntryCount =
    input.type === 'differencing'
      ? bitmapBlockCount * (chunkRatio + 1)
      : payloadBlockCount + Math.floor((payloadBlockCount - 1) / chunkRatio);
  const bitmapBytesPerBlock = input.blockSizeBytes / input.logicalSectorBytes / 8;
  return {
    ...input,
    chunkRatio,
    chunkSizeBytes,
    payloadBlockCount,
    bitmapBlockCount,
    batEntryCount,
    batRegionBytes: Math.ceil((batEntryCount * BAT_ENTRY_BYTES) / MIB) * MIB,
    bitmapBytesPerBlock,
    bitmapPagesPerBlock: Math.max(1, bitmapBytesPerBlock / LOG_SECTOR_BYTES),
  };
}

/** BAT index of payload block `block`. */
export function payloadEntryIndex(geometry: Geometry, block: number): number {
  return block + Math.floor(block / geometry.chunkRatio);
}

/** BAT index of the sector-bitmap block of chunk `chunk`. */
export function bitmapEntryIndex(geometry: Geometry, chunk: number): number {
  return (chunk + 1) * geometry.chunkRatio + chunk;
}

/** What BAT index `index` belongs to. */
export function entryOwner(
  geometry: Geometry,
  index: number,
): { kind: 'payload'; block: number } | { kind: 'bitmap'; chunk: number } {
  const group = geometry.chunkRatio + 1;
  const chunk = Math.floor(index / group);
  const within = index % group;
  return within === geometry.chunkRatio
    ? { kind: 'bitmap', chunk }
    : { kind: 'payload', block: chunk * geometry.chunkRatio + within };
}

/** Smallest unit in which space and structures are placed in the file. */
export const ALIGNMENT_BYTES = MIB;
/** Unit of the page cache; every structure is aligned to it. */
export const CACHE_CHUNK_BYTES = 64 * KIB;
