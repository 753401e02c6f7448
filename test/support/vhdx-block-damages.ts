// § 9, points 6 to 11: the BAT, space that is claimed twice, the log's content, the parent locator.

import { guid } from '../../shared/bytes/index.js';
import type { VhdxErrorCode } from '../../shared/vhdx/violation.js';
import { DamageList, expected, TIB, UNKNOWN_GUID, type Damage } from './vhdx-damage.js';
import {
  BAT_REGION,
  forgeLocator,
  forgeLogEntry,
  HEADERS,
  installLog,
  ITEMS,
  KIB,
  METADATA_REGION,
  MIB,
  placeInLog,
  REGION_TABLES,
  type ForgedRecord,
  type LocatorEntry,
  type VhdxForge,
} from './vhdx-forge.js';
import type { SeedName } from './vhdx-seeds.js';

const LOG_GUID = guid('10606011-2222-4333-8444-555566667777');
const list = new DamageList();
const damage = list.add;

// ---- 6: the BAT region ---------------------------------------------------------------------------

damage(6, 'a BAT too short for 64 TiB', 'dynamic', (f) => {
  f.u64(f.item(ITEMS.size).at, 64 * TIB);
  return expected('E_VHDX_BAT', 'BAT', f.region(BAT_REGION).offset);
});
damage(6, 'a BAT one entry too short', 'dynamic', (f) => {
  // 1 MiB of BAT holds 131072 entries; 32 of them are bitmap slots at 1 MiB blocks.
  const blocks = 131072 - Math.floor(131072 / 4097) + 1;
  f.u64(f.item(ITEMS.size).at, blocks * MIB);
  return expected('E_VHDX_BAT', 'BAT', f.region(BAT_REGION).offset);
});
damage(6, 'a differencing BAT that ends before its last bitmap slot', 'child', (f) => {
  f.u64(f.item(ITEMS.size).at, 32 * 4096 * MIB);
  return expected('E_VHDX_BAT', 'BAT', f.region(BAT_REGION).offset);
});

// ---- 7: BAT entries ------------------------------------------------------------------------------

const PRESENT = 6;
const PARTIAL = 7;
/** First payload block of every seed is there. */
function firstBlock(f: VhdxForge): number {
  return f.batEntry(0).offset;
}

for (const state of [4, 5]) {
  for (const seed of ['dynamic', 'fixed', 'child'] as const) {
    damage(7, `payload state ${state}, ${seed}`, seed, (f) => {
      return expected('E_VHDX_BAT', 'BAT', f.setBat(2, state, 0));
    });
  }
}
for (const seed of ['dynamic', 'fixed'] as const) {
  damage(7, `state 7 in a ${seed} disk`, seed, (f) => {
    return expected('E_VHDX_BAT', 'BAT', f.setBat(0, PARTIAL, firstBlock(f)));
  });
}
for (const state of [0, 1, 2, 3, 6]) {
  for (const reserved of [1, 0x10000, 0x1ffff]) {
    damage(7, `reserved bits 0x${reserved.toString(16)} in state ${state}`, 'dynamic', (f) => {
      return expected('E_VHDX_BAT', 'BAT', f.setBat(0, state, firstBlock(f), reserved));
    });
  }
}
damage(7, 'a block at 0', 'dynamic', (f) => {
  return expected('E_VHDX_BAT', 'BAT', f.setBat(2, PRESENT, 0));
});
for (const [name, offset] of [
  ['at the end of the file', (f: VhdxForge) => f.sizeBytes],
  ['at 1 PiB', () => 1024 * TIB],
] as const) {
  damage(7, `a block ${name}`, 'dynamic', (f) => {
    return expected('E_VHDX_TRUNCATED', 'BAT', f.setBat(2, PRESENT, offset(f)));
  });
}
damage(7, 'a block at 2^64 - 1 MiB', 'dynamic', (f) => {
  const at = f.batEntryAt(2);
  f.u64(at, 2n ** 64n - BigInt(MIB) + BigInt(PRESENT));
  return expected('E_VHDX_TRUNCATED', 'BAT', at);
});
damage(
  7,
  'a file that ends inside its last block',
  'dynamic',
  (f) => {
    const last = [0, 1, 2, 3, 4, 5].reduce((best, index) =>
      f.batEntry(index).offset > f.batEntry(best).offset ? index : best,
    );
    f.truncate(f.batEntry(last).offset + 4096);
    return expected('E_VHDX_TRUNCATED', 'BAT', f.batEntryAt(last));
  },
  { isWriteOnly: true },
);
for (const state of [1, 2, 3, 4, 5, 7]) {
  damage(7, `sector bitmap state ${state}`, 'child', (f) => {
    const at = f.setBat(4096, state, f.batEntry(4096).offset);
    return expected('E_VHDX_BITMAP', 'BAT', at);
  });
}
damage(7, 'reserved bits in a sector bitmap entry', 'child', (f) => {
  const at = f.setBat(4096, PRESENT, f.batEntry(4096).offset, 0x8000);
  return expected('E_VHDX_BITMAP', 'BAT', at);
});
damage(7, 'a sector bitmap at 0', 'child', (f) => {
  return expected('E_VHDX_BITMAP', 'BAT', f.setBat(4096, PRESENT, 0));
});
damage(7, 'a sector bitmap behind the file', 'child', (f) => {
  return expected('E_VHDX_TRUNCATED', 'BAT', f.setBat(4096, PRESENT, 64 * MIB));
});
damage(7, 'a file that ends inside a sector bitmap', 'child', (f) => {
  const { sizeBytes } = f;
  f.truncate(sizeBytes + 4096);
  return expected('E_VHDX_TRUNCATED', 'BAT', f.setBat(4096, PRESENT, sizeBytes));
});
for (const state of [1, 2, 3, 4, 5, 6, 7]) {
  damage(7, `state ${state} in the bitmap slot of a dynamic disk`, 'dynamic', (f) => {
    f.u64(f.item(ITEMS.size).at, 5000 * MIB);
    return expected('E_VHDX_BITMAP', 'BAT', f.setBat(4096, state, 8 * MIB));
  });
}

// ---- 8: overlap ----------------------------------------------------------------------------------

function overlapDamage(name: string, seed: SeedName, place: (f: VhdxForge) => number): void {
  damage(8, name, seed, (f) => {
    return expected('E_VHDX_OVERLAP', 'BAT', f.setBat(2, PRESENT, place(f)));
  });
}

overlapDamage('two blocks in one place', 'dynamic', firstBlock);
overlapDamage('a block over the log', 'dynamic', (f) => f.log.offset);
overlapDamage('a block over the metadata', 'dynamic', (f) => f.metadataAt);
overlapDamage('a block over the BAT', 'dynamic', (f) => f.region(BAT_REGION).offset);
overlapDamage('a block over an unknown region', 'dynamic', (f) => {
  const end = f.sizeBytes;
  f.truncate(end + MIB);
  f.addRegion(UNKNOWN_GUID, end, MIB, 0);
  return end;
});
damage(8, 'a sector bitmap over a block', 'child', (f) => {
  return expected('E_VHDX_OVERLAP', 'BAT', f.setBat(4096, PRESENT, firstBlock(f)));
});
damage(8, 'the metadata over the BAT', 'dynamic', (f) => {
  const { entry } = f.region(METADATA_REGION);
  const { offset } = f.region(BAT_REGION);
  f.regionTables((table) => void f.u64(table + entry + 16, offset));
  return expected('E_VHDX_OVERLAP', 'region table', offset);
});
for (const [name, id] of [
  ['BAT', BAT_REGION],
  ['metadata', METADATA_REGION],
] as const) {
  damage(8, `the ${name} over the log`, 'dynamic', (f) => {
    const { entry } = f.region(id);
    const { offset } = f.log;
    f.regionTables((table) => void f.u64(table + entry + 16, offset));
    return expected('E_VHDX_OVERLAP', 'region table', offset);
  });
}
damage(8, 'an unknown region over the log', 'dynamic', (f) => {
  const { offset } = f.log;
  f.addRegion(UNKNOWN_GUID, offset, MIB, 0);
  return expected('E_VHDX_OVERLAP', 'region table', offset);
});

// ---- 9: partially present blocks -----------------------------------------------------------------

damage(9, 'state 7 without a sector bitmap', 'child', (f) => {
  const partial = [0, 1, 2, 3, 4].find((index) => f.batEntry(index).state === PARTIAL) ?? -1;
  f.setBat(4096, 0, 0);
  return expected('E_VHDX_BITMAP', 'BAT', f.batEntryAt(partial));
});
damage(9, 'state 7 in a chunk whose bitmap belongs to another', 'child', (f) => {
  f.u64(f.item(ITEMS.size).at, 4100 * MIB);
  const end = f.sizeBytes;
  f.truncate(end + MIB);
  // Block 4096 is the first of chunk 1; its entry stands behind the bitmap slot of chunk 0.
  return expected('E_VHDX_BITMAP', 'BAT', f.setBat(4097, PARTIAL, end));
});

// ---- 10: the log's content -----------------------------------------------------------------------

function logDamage(
  name: string,
  code: VhdxErrorCode,
  entry: { records?: ForgedRecord[]; flushedFileOffset?: bigint; lastFileOffset?: bigint },
): void {
  damage(10, name, 'dynamic', (f) => {
    const log = Buffer.alloc(f.log.lengthBytes);
    placeInLog(log, 8192, forgeLogEntry({ sequence: 5n, tail: 8192, logGuid: LOG_GUID, ...entry }));
    installLog(f, LOG_GUID, log);
    return expected(code, 'log', f.log.offset + 8192);
  });
}

damage(10, 'a dirty log without a valid entry', 'dynamic', (f) => {
  installLog(f, LOG_GUID, Buffer.alloc(f.log.lengthBytes));
  return expected('E_VHDX_LOG', 'log', f.log.offset);
});
for (const offset of [0, 4096, HEADERS[0], HEADERS[1], REGION_TABLES[0] - 4096]) {
  logDamage(`a log that writes to byte ${offset}`, 'E_VHDX_LOG', {
    records: [{ kind: 'page', offset, fill: 1 }],
  });
}
logDamage('a log that zeroes the headers', 'E_VHDX_LOG', {
  records: [{ kind: 'zero', offset: 0, lengthBytes: 2 * MIB }],
});
logDamage('a log that writes to itself', 'E_VHDX_LOG', {
  records: [{ kind: 'page', offset: MIB + 8192, fill: 1 }],
});
logDamage('a log that zeroes itself from in front', 'E_VHDX_LOG', {
  records: [{ kind: 'zero', offset: 192 * KIB, lengthBytes: MIB }],
});
logDamage('a log that zeroes 2^64 - 4096 bytes', 'E_VHDX_LOG', {
  records: [{ kind: 'zero', offset: 3 * MIB, lengthBytes: 2n ** 64n - 4096n }],
});
logDamage('a log that zeroes 1 TiB', 'E_VHDX_LOG', {
  records: [{ kind: 'zero', offset: 3 * MIB, lengthBytes: TIB }],
});
logDamage('a log that writes to 2^64 - 4096', 'E_VHDX_LOG', {
  records: [{ kind: 'page', offset: 2n ** 64n - 4096n, fill: 1 }],
});
logDamage('a log that writes to 67 TiB', 'E_VHDX_LOG', {
  records: [{ kind: 'page', offset: 67 * TIB, fill: 1 }],
});
logDamage('a log that extends the file to 2^60', 'E_VHDX_LOG', { lastFileOffset: 2n ** 60n });
logDamage('a log that extends the file to 2^64 - 1', 'E_VHDX_LOG', {
  lastFileOffset: 2n ** 64n - 1n,
});
logDamage('a file shorter than at the last flush', 'E_VHDX_TRUNCATED', {
  flushedFileOffset: 2n ** 62n,
});

// ---- 11: the parent locator ----------------------------------------------------------------------

const LINKAGE = { key: 'parent_linkage', value: '{0badf00d-1234-4321-8000-00aa00bb00cc}' };
const RELATIVE = { key: 'relative_path', value: '.\\base.vhdx' };

function locatorDamage(name: string, bytes: () => Buffer, field: number): void {
  damage(11, name, 'child', (f) => {
    f.locator(bytes());
    return expected('E_VHDX_LOCATOR', 'parent locator', f.item(ITEMS.locator).at + field);
  });
}
function patched(patch: (bytes: Buffer) => void): () => Buffer {
  return () => {
    const bytes = forgeLocator([LINKAGE, RELATIVE]);
    patch(bytes);
    return bytes;
  };
}
const entries =
  (...list: LocatorEntry[]) =>
  (): Buffer =>
    forgeLocator(list);

locatorDamage('no locator entries', entries(), 18);
locatorDamage(
  '257 locator entries',
  patched((b) => void b.writeUInt16LE(257, 18)),
  18,
);
locatorDamage(
  'more entries than fit',
  patched((b) => void b.writeUInt16LE(200, 18)),
  18,
);
locatorDamage('a locator of 19 bytes', () => Buffer.alloc(19), 0);
locatorDamage('another locator type', () => forgeLocator([LINKAGE, RELATIVE], UNKNOWN_GUID), 0);
locatorDamage(
  'a key outside the item',
  patched((b) => void b.writeUInt32LE(60000, 20)),
  20,
);
locatorDamage(
  'a key at 4 GiB - 2',
  patched((b) => void b.writeUInt32LE(0xfffffffe, 20)),
  20,
);
locatorDamage(
  'a value outside the item',
  patched((b) => void b.writeUInt32LE(b.length, 36)),
  32,
);
locatorDamage(
  'a key of odd length',
  patched((b) => void b.writeUInt16LE(27, 28)),
  20,
);
locatorDamage(
  'a value of odd length',
  patched((b) => void b.writeUInt16LE(3, 42)),
  32,
);
locatorDamage(
  'an empty key',
  patched((b) => void b.writeUInt16LE(0, 28)),
  20,
);
locatorDamage(
  'an empty path',
  patched((b) => void b.writeUInt16LE(0, 42)),
  32,
);
locatorDamage('a NUL in a path', entries(LINKAGE, { ...RELATIVE, value: '.\\a\0b.vhdx' }), 32);
locatorDamage('a key twice', entries(LINKAGE, LINKAGE, RELATIVE), 32);
locatorDamage('no linkage', entries(RELATIVE), 0);
locatorDamage('a linkage that is no GUID', entries({ ...LINKAGE, value: '{x}' }, RELATIVE), 0);
locatorDamage(
  'a second linkage that is no GUID',
  entries(LINKAGE, { key: 'parent_linkage2', value: 'zero' }, RELATIVE),
  0,
);
locatorDamage('no path to the parent', entries(LINKAGE), 0);
locatorDamage(
  'keys in the wrong case',
  entries({ ...LINKAGE, key: 'Parent_Linkage' }, RELATIVE),
  0,
);
damage(11, 'no locator item', 'child', (f) => {
  const { entryAt } = f.item(ITEMS.locator);
  f.guid(entryAt, UNKNOWN_GUID);
  f.u32(entryAt + 24, 0);
  return expected('E_VHDX_LOCATOR', 'metadata table', f.metadataAt);
});

export const BLOCK_DAMAGES: readonly Damage[] = list.all;
