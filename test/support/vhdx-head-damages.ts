// § 9, points 1 to 5: identifier, headers, region tables, metadata and the disk's parameters.

import { guid, type Guid } from '../../shared/bytes/index.js';
import type { VhdxErrorCode } from '../../shared/vhdx/violation.js';
import { DamageList, expected, TIB, UNKNOWN_GUID, type Damage } from './vhdx-damage.js';
import {
  BAT_REGION,
  HEADER_FIELD,
  HEADERS,
  ITEMS,
  KIB,
  METADATA_REGION,
  MIB,
  REGION_TABLES,
  type VhdxForge,
} from './vhdx-forge.js';
import type { SeedName } from './vhdx-seeds.js';

const list = new DamageList();
const damage = list.add;

// ---- 1: identifier and headers -------------------------------------------------------------------

const noIdentifier = expected('E_VHDX_SIGNATURE', 'file identifier', 0);
damage(1, 'an empty file', 'dynamic', (f) => (f.truncate(0), noIdentifier));
damage(1, 'a file of 7 bytes', 'dynamic', (f) => (f.truncate(7), noIdentifier));
damage(1, 'a file shorter than 1 MiB', 'dynamic', (f) => (f.truncate(MIB - 1), noIdentifier));
damage(1, 'another signature', 'dynamic', (f) => (f.writeText(0, 'vhdxfilE'), noIdentifier));
damage(1, 'a file of 67 TiB', 'dynamic', (f) => {
  f.truncate(67 * TIB);
  return expected('E_VHDX_LIMIT', 'file', 0);
});

const noHeader = expected('E_VHDX_HEADER', 'headers', HEADERS[0]);
damage(1, 'both header checksums wrong', 'dynamic', (f) => {
  for (const at of HEADERS) f.u32(at + HEADER_FIELD.checksum, f.readU32(at + 4) ^ 1);
  return noHeader;
});
damage(1, 'both headers changed in their reserved bytes', 'dynamic', (f) => {
  for (const at of HEADERS) f.u32(at + 4092, 1);
  return noHeader;
});
damage(1, 'both header signatures wrong', 'dynamic', (f) => {
  f.headers((at) => void f.writeText(at, 'HEAD'));
  return noHeader;
});
damage(1, 'both headers erased', 'dynamic', (f) => {
  for (const at of HEADERS) f.write(at, Buffer.alloc(4 * KIB));
  return noHeader;
});
damage(1, 'equal sequence numbers, different content', 'dynamic', (f) => {
  f.headers((at, slot) => {
    f.u64(at + HEADER_FIELD.sequence, 7);
    f.u32(at + HEADER_FIELD.fileWriteGuid, slot);
  });
  return noHeader;
});

function headerDamage(
  point: number,
  name: string,
  seed: SeedName,
  code: VhdxErrorCode,
  field: number,
  patch: (f: VhdxForge, at: number) => void,
): void {
  damage(point, name, seed, (f) => {
    f.headers((at) => patch(f, at));
    const slot = f.currentSlot;
    return expected(code, `header ${slot + 1}`, HEADERS[slot] + field);
  });
}

const { version, logVersion, logLength, logOffset } = HEADER_FIELD;
for (const value of [0, 2, 0xffff]) {
  headerDamage(1, `version ${value}`, 'dynamic', 'E_VHDX_VERSION', version, (f, at) =>
    f.u16(at + version, value),
  );
}
headerDamage(1, 'log version 1 of a dirty log', 'dirty', 'E_VHDX_VERSION', logVersion, (f, at) =>
  f.u16(at + logVersion, 1),
);

// ---- 2: the place of the log ---------------------------------------------------------------------

for (const [name, value] of [
  ['0', 0n],
  ['512 KiB', 512n * 1024n],
  ['not on a MiB', BigInt(MIB + 4096)],
  ['2^64 - 1', 2n ** 64n - 1n],
] as const) {
  headerDamage(2, `log offset ${name}`, 'dynamic', 'E_VHDX_HEADER', logOffset, (f, at) =>
    f.u64(at + logOffset, value),
  );
}
for (const [name, value] of [
  ['behind the file', 64n * BigInt(MIB)],
  ['at 64 TiB', 64n * BigInt(TIB)],
] as const) {
  headerDamage(2, `log offset ${name}`, 'dynamic', 'E_VHDX_TRUNCATED', logOffset, (f, at) =>
    f.u64(at + logOffset, value),
  );
}
headerDamage(2, 'a log longer than the file', 'dynamic', 'E_VHDX_TRUNCATED', logOffset, (f, at) =>
  f.u32(at + logLength, 100 * MIB),
);
headerDamage(2, 'a log of 1 MiB and a page', 'dynamic', 'E_VHDX_HEADER', logLength, (f, at) =>
  f.u32(at + logLength, MIB + 4096),
);
headerDamage(2, 'a log of 4 GiB - 1 MiB', 'dynamic', 'E_VHDX_LIMIT', logLength, (f, at) =>
  f.u32(at + logLength, 4096 * MIB - MIB),
);
headerDamage(2, 'a dirty log without length', 'dirty', 'E_VHDX_HEADER', logLength, (f, at) =>
  f.u32(at + logLength, 0),
);

// ---- 3: the region table -------------------------------------------------------------------------

const noRegions = expected('E_VHDX_REGION', 'region tables', REGION_TABLES[0]);
damage(3, 'both region table checksums wrong', 'dynamic', (f) => {
  for (const at of REGION_TABLES) f.u32(at + 4, f.readU32(at + 4) ^ 0x80000000);
  return noRegions;
});
damage(3, 'both region table signatures wrong', 'dynamic', (f) => {
  f.regionTables((at) => void f.writeText(at, 'rege'));
  return noRegions;
});

function regionDamage(
  name: string,
  code: VhdxErrorCode,
  patch: (f: VhdxForge, table: number) => number,
  seed: SeedName = 'dynamic',
): void {
  damage(3, name, seed, (f) => {
    let field = 0;
    f.regionTables((table) => (field = patch(f, table)));
    return expected(code, 'region table 1', REGION_TABLES[0] + field);
  });
}

for (const count of [2048, 0xffffffff]) {
  regionDamage(`${count} region entries`, 'E_VHDX_REGION', (f, table) => {
    f.u32(table + 8, count);
    return 8;
  });
}
regionDamage('no region entries', 'E_VHDX_REGION', (f, table) => {
  f.u32(table + 8, 0);
  return 16;
});
for (const [name, id] of [
  ['BAT', BAT_REGION],
  ['metadata', METADATA_REGION],
] as const) {
  damage(3, `${name} region listed twice`, 'dynamic', (f) => {
    const entry = f.addRegion(id, 64 * MIB, MIB, 1);
    return expected('E_VHDX_REGION', 'region table 1', REGION_TABLES[0] + entry);
  });
  damage(3, `no ${name} region`, 'dynamic', (f) => {
    const { entry } = f.region(id);
    f.regionTables((table) => {
      f.guid(table + entry, UNKNOWN_GUID);
      f.u32(table + entry + 28, 0);
    });
    return expected('E_VHDX_REGION', 'region table 1', REGION_TABLES[0] + 16);
  });
  for (const [what, offset] of [
    ['0', 0n],
    ['512 KiB', 512n * 1024n],
    ['no whole MiB', BigInt(2 * MIB + 4096)],
  ] as const) {
    damage(3, `${name} region at ${what}`, 'dynamic', (f) => {
      const { entry } = f.region(id);
      f.regionTables((table) => void f.u64(table + entry + 16, offset));
      return expected('E_VHDX_REGION', 'region table 1', REGION_TABLES[0] + entry + 16);
    });
  }
  for (const [what, offset] of [
    ['behind the file', 64n * BigInt(MIB)],
    ['where the end overflows', 2n ** 64n - BigInt(MIB)],
    ['at 2^63', 2n ** 63n],
  ] as const) {
    damage(3, `${name} region ${what}`, 'dynamic', (f) => {
      const { entry } = f.region(id);
      f.regionTables((table) => void f.u64(table + entry + 16, offset));
      return expected('E_VHDX_TRUNCATED', 'region table 1', REGION_TABLES[0] + entry + 16);
    });
  }
  for (const lengthBytes of [0, 4096, MIB + 1]) {
    damage(3, `${name} region of ${lengthBytes} bytes`, 'dynamic', (f) => {
      const { entry } = f.region(id);
      f.regionTables((table) => void f.u32(table + entry + 24, lengthBytes));
      return expected('E_VHDX_REGION', 'region table 1', REGION_TABLES[0] + entry + 24);
    });
  }
  damage(3, `${name} region longer than the file`, 'dynamic', (f) => {
    const { entry } = f.region(id);
    f.regionTables((table) => void f.u32(table + entry + 24, 120 * MIB));
    return expected('E_VHDX_TRUNCATED', 'region table 1', REGION_TABLES[0] + entry + 16);
  });
  for (const flags of [2, 0x80000001]) {
    damage(3, `${name} region with flags 0x${flags.toString(16)}`, 'dynamic', (f) => {
      const { entry } = f.region(id);
      f.regionTables((table) => void f.u32(table + entry + 28, flags));
      return expected('E_VHDX_REGION', 'region table 1', REGION_TABLES[0] + entry + 28);
    });
  }
}
damage(3, 'an unknown region that is required', 'dynamic', (f) => {
  const end = f.sizeBytes;
  f.truncate(end + MIB);
  const entry = f.addRegion(UNKNOWN_GUID, end, MIB, 1);
  return expected('E_VHDX_UNSUPPORTED', 'region table 1', REGION_TABLES[0] + entry);
});
damage(3, 'an unknown region behind the file', 'dynamic', (f) => {
  const entry = f.addRegion(UNKNOWN_GUID, f.sizeBytes, MIB, 0);
  return expected('E_VHDX_TRUNCATED', 'region table 1', REGION_TABLES[0] + entry + 16);
});
damage(3, 'a metadata region of 129 MiB', 'dynamic', (f) => {
  const { entry, offset } = f.region(METADATA_REGION);
  f.truncate(offset + 200 * MIB);
  f.regionTables((table) => void f.u32(table + entry + 24, 129 * MIB));
  return expected('E_VHDX_LIMIT', 'region table 1', REGION_TABLES[0] + entry + 24);
});

// ---- 4: metadata ---------------------------------------------------------------------------------

function metadataDamage(
  name: string,
  patch: (f: VhdxForge, base: number) => number,
  code: VhdxErrorCode = 'E_VHDX_METADATA',
  structure = 'metadata table',
): void {
  damage(4, name, 'dynamic', (f) => {
    const base = f.metadataAt;
    return expected(code, structure, base + patch(f, base));
  });
}

metadataDamage('another metadata signature', (f, base) => (f.writeText(base, 'Metadata'), 0));
metadataDamage('2048 metadata entries', (f, base) => (f.u16(base + 10, 2048), 10));
metadataDamage('65535 metadata entries', (f, base) => (f.u16(base + 10, 65535), 10));
metadataDamage(
  'no metadata entries',
  (f, base) => (f.u16(base + 10, 0), 0),
  'E_VHDX_METADATA',
  'metadata item',
);
metadataDamage('1025 user items', (f) => {
  for (let i = 0; i < 1025; i++) {
    f.addItem(
      guid(`0badf00d-0000-4000-8000-${i.toString(16).padStart(12, '0')}`),
      0,
      new Uint8Array(),
      1,
    );
  }
  return 10;
});
metadataDamage('a user item that is required', (f, base) => {
  return f.addItem(UNKNOWN_GUID, 0, new Uint8Array(), 5) + 24 - base;
});
metadataDamage(
  'an unknown item that is required',
  (f, base) => f.addItem(UNKNOWN_GUID, 0, new Uint8Array(), 4) - base,
  'E_VHDX_UNSUPPORTED',
);
metadataDamage(
  'the marker of an unfinished file',
  (f, base) => f.addItem(ITEMS.incomplete, 0, new Uint8Array(), 0) - base,
  'E_VHDX_INCOMPLETE',
);
metadataDamage('an item inside the table', (f, base) => {
  return f.addItem(UNKNOWN_GUID, 65528, Buffer.alloc(16), 0) + 16 - base;
});
metadataDamage('an item that reaches behind the region', (f, base) => {
  const entryAt = f.addItem(UNKNOWN_GUID, MIB - 16, Buffer.alloc(16), 0);
  f.u32(entryAt + 20, 17);
  return entryAt + 16 - base;
});
metadataDamage('an item at 4 GiB - 1', (f, base) => {
  const entryAt = f.addItem(UNKNOWN_GUID, 80 * KIB, Buffer.alloc(16), 0);
  f.u32(entryAt + 16, 0xffffffff);
  return entryAt + 16 - base;
});
for (const lengthBytes of [MIB + 1, 0xffffffff]) {
  metadataDamage(`an item of ${lengthBytes} bytes`, (f, base) => {
    const entryAt = f.addItem(UNKNOWN_GUID, 80 * KIB, Buffer.alloc(16), 0);
    f.u32(entryAt + 20, lengthBytes);
    return entryAt + 20 - base;
  });
}
metadataDamage(
  'two items in one place',
  (f, base) => {
    const { at } = f.item(ITEMS.diskId);
    f.addItem(UNKNOWN_GUID, at - base + 15, Buffer.alloc(0), 0);
    const { entryAt } = f.item(UNKNOWN_GUID);
    f.u32(entryAt + 16, at - base + 15);
    f.u32(entryAt + 20, 1);
    return at - base + 15;
  },
  'E_VHDX_OVERLAP',
);

for (const [name, id] of [
  ['parameters', ITEMS.parameters],
  ['size', ITEMS.size],
  ['logical sector', ITEMS.logical],
  ['physical sector', ITEMS.physical],
  ['disk id', ITEMS.diskId],
] as const) {
  metadataDamage(`item ${name} listed twice`, (f, base) => {
    return f.addItem(id, 0, new Uint8Array(), 4) - base;
  });
  metadataDamage(
    `no item ${name}`,
    (f) => {
      const { entryAt } = f.item(id);
      f.guid(entryAt, UNKNOWN_GUID);
      f.u32(entryAt + 24, 0);
      return 0;
    },
    'E_VHDX_METADATA',
    'metadata item',
  );
  metadataDamage(
    `item ${name} only for users`,
    (f) => {
      const { entryAt } = f.item(id);
      f.u32(entryAt + 24, 1);
      return 0;
    },
    'E_VHDX_METADATA',
    'metadata item',
  );
  for (const change of [-1, 1]) {
    metadataDamage(
      `item ${name} ${change < 0 ? 'a byte too short' : 'a byte too long'}`,
      (f, base) => {
        // Moved to a free place first, so that it does not run into its neighbour.
        const { entryAt, lengthBytes } = f.item(id);
        f.u32(entryAt + 16, 128 * KIB);
        f.u32(entryAt + 20, lengthBytes + change);
        return 128 * KIB + base - base;
      },
      'E_VHDX_METADATA',
      'metadata item',
    );
  }
  metadataDamage(`item ${name} with reserved flags`, (f, base) => {
    const { entryAt } = f.item(id);
    f.u32(entryAt + 24, f.readU32(entryAt + 24) | 8);
    return entryAt + 24 - base;
  });
}

// ---- 5: the disk's parameters --------------------------------------------------------------------

function valueDamage(name: string, id: Guid, patch: (f: VhdxForge, at: number) => number): void {
  damage(5, name, 'dynamic', (f) => {
    const { at } = f.item(id);
    return expected('E_VHDX_METADATA', 'metadata item', at + patch(f, at));
  });
}

for (const bytes of [0, 1, 512 * KIB, 3 * MIB, MIB + 1, 512 * MIB, 0x80000000, 0xffffffff]) {
  valueDamage(`block size ${bytes}`, ITEMS.parameters, (f, at) => (f.u32(at, bytes), 0));
}
for (const flags of [4, 0x80000000]) {
  valueDamage(`file parameters 0x${flags.toString(16)}`, ITEMS.parameters, (f, at) => {
    f.u32(at + 4, flags);
    return 4;
  });
}
for (const bytes of [0, 256, 513, 1024, 8192, 0xffffffff]) {
  valueDamage(`logical sector ${bytes}`, ITEMS.logical, (f, at) => (f.u32(at, bytes), 0));
  valueDamage(`physical sector ${bytes}`, ITEMS.physical, (f, at) => (f.u32(at, bytes), 0));
}
for (const bytes of [0n, 511n, 513n, BigInt(64 * TIB) + 512n, 2n ** 63n, 2n ** 64n - 512n]) {
  valueDamage(`virtual size ${bytes}`, ITEMS.size, (f, at) => (f.u64(at, bytes), 0));
}

export const HEAD_DAMAGES: readonly Damage[] = list.all;
