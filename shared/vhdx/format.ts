// Every number of the VHDX format, with the section of the reference it comes from (MS-VHDX v4.0;
// "§" in this folder means our own reference, chapters 1-10). All integers are little-endian.
//
//   0        file identifier       64 KiB
//   64 KiB   header 1              4 KiB used
//   128 KiB  header 2              4 KiB used
//   192 KiB  region table 1        64 KiB
//   256 KiB  region table 2        64 KiB
//   1 MiB    log, metadata region, BAT region, payload and sector-bitmap blocks: any order, each
//            1 MiB aligned, never overlapping

import { guid } from '../bytes/index.js';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** A byte position in the .vhdx file. Guest offsets are plain numbers and do not convert by accident. */
export type FileOffset = number & { readonly fileOffset: unique symbol };

/** Marks `value` as a position in the file; the only place where a number becomes one. */
export function fileOffset(value: number): FileOffset {
  return value as FileOffset;
}

// § 1 file map
export const FILE_IDENTIFIER_OFFSET = 0;
export const FILE_IDENTIFIER_SIGNATURE = 'vhdxfile';
export const CREATOR_OFFSET = 8;
export const CREATOR_BYTES = 512;
export const HEADER_OFFSETS = [64 * KIB, 128 * KIB] as const;
export const HEADER_BYTES = 4 * KIB;
export const REGION_TABLE_OFFSETS = [192 * KIB, 256 * KIB] as const;
export const REGION_TABLE_BYTES = 64 * KIB;
/** Logs, regions and blocks start here. */
export const FIRST_STRUCTURE_OFFSET = MIB;

// § 1.2 header
export const HEADER_SIGNATURE = 'head';
export const HEADER_VERSION = 1;
export const LOG_VERSION = 0;

// § 1.3 region table
export const REGION_TABLE_SIGNATURE = 'regi';
export const REGION_ENTRIES_MAX = 2047;
export const REGION_ENTRY_BYTES = 32;
export const REGION_BAT = guid('2dc27766-f623-4200-9d64-115e9bfd4a08');
export const REGION_METADATA = guid('8b7ca206-4790-4b9a-b8fe-575f050f886e');

// § 3 metadata
export const METADATA_SIGNATURE = 'metadata';
export const METADATA_TABLE_BYTES = 64 * KIB;
export const METADATA_ENTRIES_MAX = 2047;
export const METADATA_USER_ENTRIES_MAX = 1024;
export const METADATA_ENTRY_BYTES = 32;
export const METADATA_ITEM_MAX_BYTES = MIB;
/** No writer needs more; bounds what a hostile region table makes us read. */
export const METADATA_REGION_MAX_BYTES = 128 * MIB;
export const ITEM_FILE_PARAMETERS = guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b');
export const ITEM_VIRTUAL_DISK_SIZE = guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8');
export const ITEM_LOGICAL_SECTOR_SIZE = guid('8141bf1d-a96f-4709-ba47-f233a8faab5f');
export const ITEM_PHYSICAL_SECTOR_SIZE = guid('cda348c7-445d-4471-9cc9-e9885251c556');
export const ITEM_VIRTUAL_DISK_ID = guid('beca12ab-b2e6-4523-93ef-c309e000c746');
export const ITEM_PARENT_LOCATOR = guid('a8d35f2d-b30b-454d-abf7-d3d84834ab0c');
/** Present while a file is still being created; such a file is refused. */
export const ITEM_INCOMPLETE_FILE = guid('71cc85f0-1b69-4e28-9558-c3bf83ae75d3');
/** Known to others, of no meaning to us: tolerated even when marked required. */
export const ITEMS_TOLERATED = [
  guid('da02d7bc-3d3a-423c-ac88-2a36ab21479b'), // CHS parameters
  guid('10e1ae8a-4b7e-4169-a40f-cd70de928393'), // PMEM label area
] as const;
export const METADATA_FLAG_USER = 1;
export const METADATA_FLAG_VIRTUAL_DISK = 2;
export const METADATA_FLAG_REQUIRED = 4;

export const FILE_PARAMETER_LEAVE_ALLOCATED = 1;
export const FILE_PARAMETER_HAS_PARENT = 2;
export const BLOCK_SIZE_MIN = MIB;
export const BLOCK_SIZE_MAX = 256 * MIB;
export const VIRTUAL_SIZE_MAX = 64 * TIB;
/**
 * A 64 TiB disk with all blocks, bitmaps and a large BAT stays below this; what is longer is
 * refused before anything is sized after it.
 */
export const FILE_SIZE_MAX = 66 * TIB;

// § 3.1 parent locator
export const LOCATOR_TYPE_VHDX = guid('b04aefb7-d19e-4a81-b789-25b8e9445913');
export const LOCATOR_HEADER_BYTES = 20;
export const LOCATOR_ENTRY_BYTES = 12;
export const LOCATOR_ENTRIES_MAX = 256;

// § 4, 5 block allocation table
export const SECTORS_PER_CHUNK = 2 ** 23;
export const BITMAP_BLOCK_BYTES = MIB;
export const BAT_ENTRY_BYTES = 8;

export const BLOCK_NOT_PRESENT = 0;
export const BLOCK_UNDEFINED = 1;
export const BLOCK_ZERO = 2;
export const BLOCK_UNMAPPED = 3;
export const BLOCK_FULLY_PRESENT = 6;
export const BLOCK_PARTIALLY_PRESENT = 7;
export const BITMAP_PRESENT = 6;

// § 6 log
export const LOG_SECTOR_BYTES = 4 * KIB;
export const LOG_ENTRY_SIGNATURE = 'loge';
export const LOG_DATA_DESCRIPTOR_SIGNATURE = 'desc';
export const LOG_ZERO_DESCRIPTOR_SIGNATURE = 'zero';
export const LOG_DATA_SECTOR_SIGNATURE = 'data';
export const LOG_ENTRY_HEADER_BYTES = 64;
export const LOG_DESCRIPTOR_BYTES = 32;
/** Windows writes 1 MiB. The cap bounds the memory that replaying a hostile log takes. */
export const LOG_MAX_BYTES = 128 * MIB;
/** A zero descriptor longer than this was made by nobody we know. */
export const LOG_ZERO_MAX_BYTES = 16 * GIB;
/** Half of what a log of 1 MiB could hold; writers that we know log pages, hardly ever zeros. */
export const LOG_ZERO_RECORDS_MAX = 16384;

// § 8 defaults of Hyper-V
export const DEFAULT_BLOCK_BYTES = 32 * MIB;
export const DEFAULT_DIFFERENCING_BLOCK_BYTES = 2 * MIB;
export const DEFAULT_LOGICAL_SECTOR_BYTES = 512;
export const DEFAULT_PHYSICAL_SECTOR_BYTES = 4096;
export const DEFAULT_LOG_BYTES = MIB;
export const CHAIN_DEPTH_MAX = 64;
