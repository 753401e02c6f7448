// Changes a good VHDX as an attacker or a failing device would: it knows where the fields stand, what
// numbers are worth trying in them, and (on half of the cases) mends the checksums, so that the
// checks behind them are reached. A case is a seed and a list of numbers, one for each mutation, and
// can be repeated from its text.

import type { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  BAT_REGION,
  HEADER_FIELD,
  HEADERS,
  ITEMS,
  MIB,
  REGION_TABLES,
  VhdxForge,
} from '../support/vhdx-forge.js';

export interface FuzzSeed {
  readonly name: string;
  readonly fs: MemoryFileSystem;
  readonly path: string;
}

export interface FuzzCase {
  readonly seed: string;
  readonly mutations: readonly number[];
}

export function caseText({ seed, mutations }: FuzzCase): string {
  return [seed, ...mutations].join(' ');
}

export function parseCase(text: string): FuzzCase {
  const [seed = '', ...mutations] = text.trim().split(/\s+/);
  return { seed, mutations: mutations.map(Number) };
}

const INTERESTING: readonly bigint[] = [
  ...[0n, 1n, 2n, 3n, 4n, 7n, 8n, 255n, 256n, 257n, 511n, 512n, 513n, 1024n, 2047n, 2048n],
  ...[4095n, 4096n, 4097n, 8192n, 65535n, 65536n, 65537n],
  ...[
    20n,
    21n,
    22n,
    23n,
    25n,
    27n,
    28n,
    30n,
    31n,
    32n,
    33n,
    40n,
    46n,
    47n,
    52n,
    53n,
    54n,
    60n,
    62n,
    63n,
  ]
    .map((bit) => [2n ** bit - 1n, 2n ** bit, 2n ** bit + 1n])
    .flat(),
  ...[
    2n ** 64n - 1n,
    2n ** 64n - 512n,
    2n ** 64n - 4096n,
    2n ** 64n - 2n ** 20n,
    0xdeadbeefcafef00dn,
  ],
  ...[2n, 3n, 4n, 5n, 8n, 100n].map((mebibytes) => mebibytes << 20n),
];

/** A field that a mutation may write to. */
interface Field {
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
}

/** Where things stand in a seed, found out before it is changed. */
interface Layout {
  readonly fields: readonly Field[];
  /** Fields of the log entries that are there. */
  readonly logFields: readonly Field[];
  readonly batAt: number;
  /** BAT entries worth changing: the first ones, the bitmap slot, a few behind. */
  readonly batIndices: readonly number[];
  readonly bitmapAt: number | undefined;
  readonly logAt: number;
  readonly logBytes: number;
  readonly sizeBytes: number;
  readonly structures: readonly number[];
}

const layouts = new Map<string, Layout>();

function layoutOf(seed: FuzzSeed): Layout {
  let layout = layouts.get(seed.name);
  if (layout === undefined) {
    layout = findLayout(new VhdxForge(seed.fs.clone(), seed.path));
    layouts.set(seed.name, layout);
  }
  return layout;
}

function findLayout(forge: VhdxForge): Layout {
  const fields: Field[] = [
    { at: 0, bytes: 8 },
    { at: 8, bytes: 8 },
  ];
  const add = (bytes: Field['bytes'], ...places: number[]): void => {
    for (const at of places) fields.push({ at, bytes });
  };
  for (const at of HEADERS) {
    const { sequence, dataWriteGuid, logGuid, logVersion, version } = HEADER_FIELD;
    const { logLength, logOffset, checksum } = HEADER_FIELD;
    add(8, at + sequence, at + dataWriteGuid, at + logGuid, at + logGuid + 8, at + logOffset);
    add(4, at, at + checksum, at + logLength);
    add(2, at + logVersion, at + version);
  }
  for (const at of REGION_TABLES) {
    add(4, at, at + 4, at + 8);
    for (const entry of [16, 48, 80]) {
      add(8, at + entry, at + entry + 16);
      add(4, at + entry + 24, at + entry + 28);
    }
  }
  const metadata = forge.metadataAt;
  add(8, metadata);
  add(2, metadata + 10, metadata + 10);
  for (let i = 0; i < 7; i++) {
    const entry = metadata + 32 + i * 32;
    add(8, entry);
    add(4, entry + 16, entry + 20, entry + 24);
  }
  for (const id of [ITEMS.parameters, ITEMS.size, ITEMS.logical, ITEMS.physical]) {
    const { at, lengthBytes } = forge.item(id);
    add(4, at, at + lengthBytes - 4);
    if (lengthBytes === 8) add(8, at);
  }
  try {
    const { at } = forge.item(ITEMS.locator);
    add(2, at + 18);
    for (let i = 0; i < 3; i++) {
      const entry = at + 20 + i * 12;
      add(4, entry, entry + 4);
      add(2, entry + 8, entry + 10);
    }
    for (let i = 56; i < 256; i += 10) add(1, at + i);
  } catch {
    // not a differencing disk
  }
  const { offset: logAt, lengthBytes: logBytes } = forge.log;
  const { fields: logFields, structures: entries } = findLogFields(forge, logAt, logBytes);
  const batAt = forge.region(BAT_REGION).offset;
  const bitmap = forge.batEntry(4096);
  return {
    fields,
    logFields,
    batAt,
    batIndices: [0, 1, 2, 3, 4, 5, 6, 7, 4095, 4096, 4097],
    bitmapAt: bitmap.state === 6 ? bitmap.offset : undefined,
    logAt,
    logBytes,
    sizeBytes: forge.sizeBytes,
    structures: [
      ...HEADERS,
      ...REGION_TABLES,
      metadata,
      metadata + 65536,
      batAt,
      logAt,
      ...entries,
    ],
  };
}

function findLogFields(
  forge: VhdxForge,
  logAt: number,
  logBytes: number,
): { fields: Field[]; structures: number[] } {
  const fields: Field[] = [];
  const structures: number[] = [];
  for (let at = logAt; at < logAt + logBytes; at += 4096) {
    if (forge.read(at, 4).toString('latin1') !== 'loge') continue;
    structures.push(at);
    for (const field of [4, 8, 12, 24]) fields.push({ at: at + field, bytes: 4 });
    for (const field of [16, 32, 48, 56]) fields.push({ at: at + field, bytes: 8 });
    for (let i = 0; i < Math.min(3, forge.readU32(at + 24)); i++) {
      const descriptor = at + 64 + i * 32;
      fields.push({ at: descriptor, bytes: 4 }, { at: descriptor + 4, bytes: 4 });
      for (const field of [8, 16, 24]) fields.push({ at: descriptor + field, bytes: 8 });
      fields.push({ at: at + 4096 * (i + 1), bytes: 4 }, { at: at + 4096 * (i + 1) + 4, bytes: 4 });
    }
  }
  return { fields, structures };
}

/** The mutated file, in a volume of its own. */
export function mutated(seed: FuzzSeed, { mutations }: FuzzCase): VhdxForge {
  const layout = layoutOf(seed);
  const forge = new VhdxForge(seed.fs.clone(), seed.path);
  for (const number of mutations) mutateOnce(forge, layout, new SeededRandom(number));
  // An even first number: the attacker who can compute a checksum.
  if ((mutations[0] ?? 0) % 2 === 0) mendAll(forge, layout);
  return forge;
}

function writeNumber(forge: VhdxForge, { at, bytes }: Field, value: bigint): void {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt.asUintN(64, value));
  forge.write(at, out.subarray(0, bytes));
}

function mutateOnce(forge: VhdxForge, layout: Layout, random: SeededRandom): void {
  const { fields, logFields, batAt, batIndices, logAt, logBytes, structures, sizeBytes } = layout;
  const kind = random.int(logFields.length > 0 ? 17 : 14);
  const field = random.pick(fields);
  switch (kind) {
    case 0:
    case 1:
    case 2:
      writeNumber(forge, field, random.pick(INTERESTING));
      return;
    case 3: {
      const old = forge.read(field.at, 8).readBigUInt64LE();
      const step = random.pick([1n, -1n, 2n, 512n, 4096n, 1n << 20n, -(1n << 20n)]);
      writeNumber(forge, field, old + step);
      return;
    }
    case 4:
    case 5: {
      // A bit anywhere in a structure.
      const at = random.pick(structures) + random.int(random.pick([64, 512, 4096, 65536]));
      const byte = forge.read(at, 1).readUInt8();
      forge.write(at, Buffer.from([byte ^ (1 << random.int(8))]));
      return;
    }
    case 6: {
      const index = random.pick(batIndices);
      const place = random.pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 64, sizeBytes / MIB, 2 ** 43]);
      const value =
        (BigInt(Math.floor(place)) << 20n) |
        BigInt(random.pick([0, 0, 0, 8, 0x80000])) |
        BigInt(random.int(8));
      forge.u64(batAt + index * 8, value);
      return;
    }
    case 7: {
      // A BAT entry twice, or moved.
      const from = batAt + random.pick(batIndices) * 8;
      const to = batAt + random.pick(batIndices) * 8;
      forge.write(to, forge.read(from, 8));
      if (random.chance(0.5)) forge.u64(from, 0);
      return;
    }
    case 8: {
      const index = random.pick(batIndices);
      const at = batAt + index * 8;
      forge.u64(at, (forge.readU64(at) & ~7n) | BigInt(random.int(8)));
      return;
    }
    case 9: {
      const sizes = [
        0,
        7,
        4096,
        MIB - 1,
        MIB,
        2 * MIB,
        3 * MIB,
        4 * MIB,
        sizeBytes - MIB,
        sizeBytes - 1,
      ];
      forge.truncate(Math.max(0, random.chance(0.5) ? random.pick(sizes) : random.int(sizeBytes)));
      return;
    }
    case 10:
      forge.truncate(sizeBytes + random.pick([1, 512, MIB, 32 * MIB, 2 ** 40, 2 ** 47]));
      return;
    case 11: {
      // A page, or part of one, from one place to another.
      const length = random.pick([8, 32, 512, 4096, 65536]);
      const from = random.pick(structures) + random.int(4) * length;
      forge.write(random.pick(structures) + random.int(4) * length, forge.read(from, length));
      return;
    }
    case 12: {
      const at = layout.bitmapAt ?? random.pick(structures);
      forge.write(at + random.int(2048), Buffer.alloc(random.between(1, 600), random.int(256)));
      return;
    }
    case 13: {
      const length = random.pick([1, 16, 64, 512, 4096]);
      forge.write(random.pick(structures) + random.int(1024), random.bytes(length));
      return;
    }
    case 14:
    case 15:
      writeNumber(forge, random.pick(logFields), random.pick(INTERESTING));
      return;
    default: {
      // A log entry somewhere else in the log, with or without the number that belongs there.
      const from = random.pick(logFields).at;
      const entry = forge.read(from - (from % 4096), 8192);
      const to = logAt + random.int(Math.floor(logBytes / 4096) - 2) * 4096;
      if (random.chance(0.5)) entry.writeBigUInt64LE(entry.readBigUInt64LE(16) + 1n, 16);
      forge.write(to, entry);
    }
  }
}

function mendAll(forge: VhdxForge, layout: Layout): void {
  if (forge.sizeBytes < MIB) return;
  forge.mendHeaders().mendRegionTables();
  const end = Math.min(layout.logAt + layout.logBytes, forge.sizeBytes);
  for (let at = layout.logAt; at < end && layout.logFields.length > 0; at += 4096) {
    const lengthBytes = forge.readU32(at + 8);
    const isEntry = forge.read(at, 4).toString('latin1') === 'loge';
    if (isEntry && lengthBytes >= 4096 && at + lengthBytes <= end) forge.mend(at, lengthBytes);
  }
}
