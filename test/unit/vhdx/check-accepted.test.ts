// What real files do although a strict reading forbids it: each oddity is accepted, reads right, and
// the file can be written to and is then in good order.

import { expect } from 'chai';
import { checkVhdx, describeVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import type { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { UNKNOWN_GUID } from '../../support/vhdx-damage.js';
import {
  BAT_REGION,
  forgeLogEntry,
  HEADER_FIELD,
  HEADERS,
  installLog,
  ITEMS,
  KIB,
  METADATA_REGION,
  MIB,
  placeInLog,
  REGION_TABLES,
  VhdxForge,
} from '../../support/vhdx-forge.js';
import { seedFile, type SeedName } from '../../support/vhdx-seeds.js';

function seams(fs: MemoryFileSystem): { fs: MemoryFileSystem; random: SeededRandom } {
  return { fs, random: new SeededRandom(5) };
}

async function readAll(fs: MemoryFileSystem, path: string, sizeBytes: number): Promise<Buffer> {
  const disk = await openVhdx(path, seams(fs));
  const bytes = Buffer.alloc(sizeBytes);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

interface Oddity {
  readonly name: string;
  readonly seed?: SeedName;
  readonly apply: (forge: VhdxForge) => void;
  /** After a session of writing. */
  readonly after?: (forge: VhdxForge) => void;
  readonly warnings?: number;
}

/** Moves the metadata region behind all else and the BAT in front of it, or the other way round. */
function swapRegionEntries(f: VhdxForge): void {
  f.regionTables((table) => {
    const first = f.read(table + 16, 32);
    const second = f.read(table + 48, 32);
    f.write(table + 16, second).write(table + 48, first);
  });
}

function moveMetadata(f: VhdxForge): void {
  const { entry, offset } = f.region(METADATA_REGION);
  const end = f.sizeBytes;
  f.write(end, f.read(offset, MIB)).write(offset, Buffer.alloc(MIB, 0xee));
  f.regionTables((table) => void f.u64(table + entry + 16, end));
}

const ODDITIES: readonly Oddity[] = [
  {
    name: 'two identical headers with one sequence number (Disk2vhd)',
    apply: (f) => void f.write(HEADERS[0], f.read(HEADERS[1], 4 * KIB)),
    after: (f) => expect(f.readU64(HEADERS[0] + 8)).to.not.equal(f.readU64(HEADERS[1] + 8)),
  },
  ...[0, 1].map((slot) => ({
    name: `header ${slot + 1} damaged`,
    apply: (f: VhdxForge) => void f.write((HEADERS[slot] ?? 0) + 100, Buffer.alloc(64, 0xff)),
    after: (f: VhdxForge) => expect(f.read(HEADERS[slot] ?? 0, 4).toString()).to.equal('head'),
    warnings: 1,
  })),
  ...[0, 1].map((copy) => ({
    name: `region table ${copy + 1} damaged, and mended by a session of writing`,
    apply: (f: VhdxForge) => void f.write((REGION_TABLES[copy] ?? 0) + 40, Buffer.alloc(64, 0xff)),
    after: (f: VhdxForge) => {
      const [first, second] = REGION_TABLES.map((at) => f.read(at, 64 * KIB));
      expect(first?.equals(second ?? Buffer.alloc(0))).to.equal(true);
    },
    warnings: 1,
  })),
  {
    name: 'known regions without the Required bit (qemu 1.6)',
    apply: (f) => {
      for (const id of [BAT_REGION, METADATA_REGION]) {
        const { entry } = f.region(id);
        f.regionTables((table) => void f.u32(table + entry + 28, 0));
      }
    },
  },
  { name: 'region entries in the other order', apply: swapRegionEntries },
  { name: 'the metadata region behind the blocks', apply: moveMetadata },
  {
    name: 'an unknown optional region, whose space stays alone',
    apply: (f) => {
      const end = f.sizeBytes;
      f.write(end, Buffer.alloc(MIB, 0xab));
      f.addRegion(UNKNOWN_GUID, end, MIB, 0);
    },
    after: (f) => {
      const { offset } = f.region(UNKNOWN_GUID);
      expect(f.read(offset, MIB).every((byte) => byte === 0xab)).to.equal(true);
    },
  },
  {
    name: 'unknown optional and user metadata items, which stay',
    apply: (f) => {
      f.addItem(UNKNOWN_GUID, 200 * KIB, Buffer.from('system item'), 0);
      f.addItem(UNKNOWN_GUID, 300 * KIB, Buffer.from('user item'), 1);
      f.addItem(ITEMS.incomplete, 0, new Uint8Array(), 1);
    },
    after: (f) => {
      expect(f.read(f.metadataAt + 200 * KIB, 11).toString()).to.equal('system item');
      expect(f.read(f.metadataAt + 300 * KIB, 9).toString()).to.equal('user item');
    },
  },
  {
    name: 'an item known to others that is required',
    apply: (f) =>
      void f.addItem(
        'da02d7bc-3d3a-423c-ac88-2a36ab21479b' as never,
        200 * KIB,
        Buffer.alloc(16),
        4,
      ),
  },
  {
    name: 'a sequence number near 2^63',
    apply: (f) => {
      f.headers((at, slot) => void f.u64(at + 8, 2n ** 63n - 1n + BigInt(slot)));
    },
    after: (f) => expect(f.readU64(f.currentHeader + 8)).to.equal(2n ** 63n + 4n),
  },
  {
    name: 'a file length that is no multiple of 1 MiB',
    apply: (f) => void f.truncate(f.sizeBytes + 12345),
  },
  {
    name: 'ZERO, UNMAPPED and UNDEFINED blocks in a dynamic disk, some with old offsets',
    apply: (f) => {
      f.setBat(2, 1, 3 * MIB);
      f.setBat(4, 3, f.batEntry(0).offset);
    },
  },
  {
    name: 'a creator that fills its field',
    apply: (f) => void f.write(8, Buffer.alloc(512, 'x\0', 'latin1')),
  },
  {
    name: 'a clean log full of garbage',
    apply: (f) => {
      f.write(f.log.offset, Buffer.alloc(f.log.lengthBytes, 0xcc));
    },
  },
  {
    name: 'a dirty log that knows no file length (FlushedFileOffset 0)',
    apply: (f) => {
      const logGuid = '10606011-2222-4333-8444-555566667777' as never;
      const log = Buffer.alloc(f.log.lengthBytes);
      placeInLog(log, 4096, forgeLogEntry({ sequence: 9n, tail: 4096, logGuid }));
      installLog(f, logGuid, log);
    },
  },
];

describe('VHDX oddities of real files', () => {
  for (const { name, seed = 'dynamic', apply, after, warnings = 0 } of ODDITIES) {
    it(name, async () => {
      const { fs, path, sizeBytes, content } = await seedFile(seed);
      const forge = new VhdxForge(fs, path);
      apply(forge);
      const result = await checkVhdx(path, seams(fs));
      expect(result.violations).to.deep.equal([]);
      expect(result.warnings.length, result.warnings.join('; ')).to.equal(warnings);
      expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);

      const disk = await openVhdx(path, { ...seams(fs), isWritable: true });
      content.fill(0x99, 2 * MIB + 512, 2 * MIB + 1024);
      await disk.write(2 * MIB + 512, Buffer.alloc(512, 0x99));
      await disk.close();
      after?.(forge);
      const again = await checkVhdx(path, seams(fs));
      expect(again.violations).to.deep.equal([]);
      expect(again.warnings).to.deep.equal([]);
      expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
    });
  }

  it('reads the missing part of a last block that is cut short as zeros', async () => {
    const { fs, path, sizeBytes, content } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const last = [0, 1, 5].reduce((best, index) =>
      forge.batEntry(index).offset > forge.batEntry(best).offset ? index : best,
    );
    forge.truncate(forge.batEntry(last).offset + 8192);
    content.fill(0, last * MIB + 8192, Math.min((last + 1) * MIB, sizeBytes));
    const { violations, warnings } = await checkVhdx(path, seams(fs));
    expect(violations).to.deep.equal([]);
    expect(warnings.length).to.equal(1);
    expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
  });

  for (const value of [0n, 12345n, BigInt(MIB) + 1n, 2n ** 64n - 1n]) {
    it(`reads a file without a log whose log offset is ${value}, and refuses to write to it`, async () => {
      const { fs, path, sizeBytes, content } = await seedFile('dynamic');
      const forge = new VhdxForge(fs, path);
      forge.headers((at) => {
        forge.u32(at + HEADER_FIELD.logLength, 0);
        forge.u64(at + HEADER_FIELD.logOffset, value);
      });
      expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
      expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
      const disk = await openVhdx(path, { ...seams(fs), isWritable: true });
      const error = await refusal(() => disk.write(0, Buffer.alloc(512)));
      expect(error.code).to.equal('E_VHDX_LOG');
      await disk.close();
      expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
    });
  }

  for (const distance of [1n, 2n, 8n]) {
    it(`reads a header with sequence number 2^64 - ${distance}, and refuses to write to it`, async () => {
      for (const seed of ['dynamic', 'dirty'] as const) {
        const { fs, path, sizeBytes, content } = await seedFile(seed);
        const forge = new VhdxForge(fs, path);
        forge.headers((at, slot) => void forge.u64(at + 8, 2n ** 64n - distance - BigInt(slot)));
        expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
        const before = fs.content(path);
        const error = await refusal(() => openVhdx(path, { ...seams(fs), isWritable: true }));
        expect(error.code).to.equal('E_VHDX_LIMIT');
        expect(error.context['offset']).to.equal(HEADERS[0] + 8);
        expect(fs.content(path)?.equals(before ?? Buffer.alloc(0))).to.equal(true);
      }
    });
  }

  it('describes a dirty file without changing it', async () => {
    const { fs, path } = await seedFile('dirty');
    const before = fs.content(path);
    const description = await describeVhdx(path, { fs });
    expect(description.log.state).to.equal('dirty');
    expect(description.blocks.fullyPresent).to.equal(4);
    expect(fs.content(path)?.equals(before ?? Buffer.alloc(0))).to.equal(true);
  });
});
