// The pure codecs: what they write they read back, what real files do oddly they accept, what is not
// legal they report with its place. Damage to whole files is in check.test.ts.

import { expect } from 'chai';
import { crc32c, guid, ZERO_GUID } from '../../../shared/bytes/index.js';
import {
  bitmapStateProblem,
  offsetOf,
  payloadStateProblem,
  putEntry,
  reservedOf,
  stateOf,
} from '../../../shared/vhdx/bat.js';
import {
  FIRST_STRUCTURE_OFFSET,
  HEADER_OFFSETS,
  MIB,
  REGION_BAT,
  REGION_METADATA,
  TIB,
} from '../../../shared/vhdx/format.js';
import {
  bitmapEntryIndex,
  entryOwner,
  geometryOf,
  payloadEntryIndex,
  type VhdxType,
} from '../../../shared/vhdx/geometry.js';
import {
  checkHeader,
  chooseHeader,
  encodeHeader,
  parseHeader,
  type Header,
} from '../../../shared/vhdx/header.js';
import { planNewFile } from '../../../shared/vhdx/layout.js';
import {
  encodeMetadataRegion,
  parseMetadataTable,
  readDiskParameters,
} from '../../../shared/vhdx/metadata.js';
import { encodeParentLocator, parseParentLocator } from '../../../shared/vhdx/parent-locator.js';
import {
  encodeRegionTable,
  isRegionTableIntact,
  parseRegionTable,
} from '../../../shared/vhdx/region-table.js';
import { areAllSet, bitRuns, setBits } from '../../../shared/vhdx/sector-bitmap.js';
import { refusing, VhdxError, type Violation } from '../../../shared/vhdx/violation.js';
import { DrError } from '../../../shared/errors.js';
import { SeededRandom } from '../../support/seeded-random.js';

const strict = refusing('file.vhdx');
const A = guid('11111111-2222-3333-4444-555555555555');
const B = guid('aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee');

/** Runs `action` with a collecting report and returns what was reported. */
function reported(action: (report: (violation: Violation) => undefined) => unknown): Violation[] {
  const violations: Violation[] = [];
  action((violation) => {
    violations.push(violation);
    return undefined;
  });
  return violations;
}

const header: Header = {
  sequenceNumber: 2n ** 63n - 1n,
  fileWriteGuid: A,
  dataWriteGuid: B,
  logGuid: ZERO_GUID,
  logVersion: 0,
  version: 1,
  logLengthBytes: MIB,
  logOffset: MIB,
};

describe('VHDX header', () => {
  it('keeps a 63-bit sequence number exactly, as Windows starts with', () => {
    const parsed = parseHeader(encodeHeader(header));
    expect(parsed).to.deep.equal(header);
    const next = encodeHeader({ ...header, sequenceNumber: 2n ** 63n });
    const current = chooseHeader([encodeHeader(header), next], strict);
    expect(current?.slot).to.equal(1);
    expect(current?.header.sequenceNumber).to.equal(2n ** 63n);
  });

  it('has the Castagnoli checksum over all 4096 bytes', () => {
    const bytes = encodeHeader(header);
    const stored = bytes.readUInt32LE(4);
    bytes.writeUInt32LE(0, 4);
    expect(crc32c(bytes)).to.equal(stored);
    expect(crc32c(Buffer.from('123456789'))).to.equal(0xe3069283);
    bytes.writeUInt32LE(stored, 4);
    bytes.writeUInt8(1, 4095);
    expect(parseHeader(bytes)).to.equal(undefined);
  });

  it('takes the good one of two, whichever slot it is in', () => {
    const good = encodeHeader(header);
    const bad = Buffer.alloc(4096);
    expect(chooseHeader([good, bad], strict)?.slot).to.equal(0);
    expect(chooseHeader([bad, good], strict)?.slot).to.equal(1);
    expect(() => chooseHeader([bad, bad], strict)).to.throw(VhdxError, 'byte 65536');
  });

  it('accepts two identical headers of one sequence number, as Disk2vhd writes them', () => {
    const bytes = encodeHeader(header);
    expect(chooseHeader([bytes, Buffer.from(bytes)], strict)?.header).to.deep.equal(header);
    const other = encodeHeader({ ...header, fileWriteGuid: B });
    expect(() => chooseHeader([bytes, other], strict)).to.throw(VhdxError, 'but differ');
  });

  for (const [what, change, code, place] of [
    ['version 2', { version: 2 }, 'E_VHDX_VERSION', 66],
    ['log version 1 of a dirty log', { logVersion: 1, logGuid: A }, 'E_VHDX_VERSION', 64],
    ['a dirty log of no length', { logLengthBytes: 0, logGuid: A }, 'E_VHDX_HEADER', 68],
    ['a log length that is no MiB', { logLengthBytes: MIB + 4096 }, 'E_VHDX_HEADER', 68],
    ['a log of 1 GiB', { logLengthBytes: 1024 * MIB }, 'E_VHDX_LIMIT', 68],
    ['a log in the header area', { logOffset: 0 }, 'E_VHDX_HEADER', 72],
    ['a log off its MiB', { logOffset: MIB + 4096 }, 'E_VHDX_HEADER', 72],
    ['a log behind the file', { logOffset: 8 * MIB }, 'E_VHDX_TRUNCATED', 72],
  ] as const) {
    it(`reports ${what}, with its place in either slot`, () => {
      for (const slot of [0, 1] as const) {
        const found = reported((report) => {
          checkHeader({ header: { ...header, ...change }, slot }, 8 * MIB, report);
        });
        expect(found.map((v) => [v.code, v.offset])).to.deep.include([
          code,
          HEADER_OFFSETS[slot] + place,
        ]);
      }
    });
  }

  it('does not mind the log version of a clean log, nor a file without any log', () => {
    for (const change of [{ logVersion: 9 }, { logLengthBytes: 0, logOffset: 0 }]) {
      checkHeader({ header: { ...header, ...change }, slot: 0 }, 8 * MIB, strict);
    }
  });
});

describe('VHDX region table', () => {
  const bat = { id: REGION_BAT, offset: 3 * MIB, lengthBytes: MIB, isRequired: true };
  const metadata = { id: REGION_METADATA, offset: 2 * MIB, lengthBytes: MIB, isRequired: true };
  const parse = (regions: (typeof bat)[], report = strict, size = 8 * MIB) =>
    parseRegionTable(encodeRegionTable(regions), 0, size, report);

  it('accepts any order, Required=0 on the two known regions, and unknown optional regions', () => {
    const other = { id: A, offset: 5 * MIB, lengthBytes: 2 * MIB, isRequired: false };
    for (const regions of [
      [bat, metadata],
      [metadata, bat],
      [{ ...bat, isRequired: false }, other, { ...metadata, isRequired: false }],
    ]) {
      const table = parse(regions);
      expect(table?.bat.offset).to.equal(3 * MIB);
      expect(table?.metadata.offset).to.equal(2 * MIB);
    }
    expect(parse([bat, other, metadata])?.others).to.deep.equal([other]);
  });

  it('knows a damaged copy by its checksum over all 64 KiB', () => {
    const bytes = encodeRegionTable([bat, metadata]);
    expect(isRegionTableIntact(bytes)).to.equal(true);
    bytes.writeUInt8(1, 65_535);
    expect(isRegionTableIntact(bytes)).to.equal(false);
  });

  for (const [what, regions, code, at] of [
    ['a region twice', [bat, bat, metadata], 'E_VHDX_REGION', 48],
    ['no metadata', [bat], 'E_VHDX_REGION', 16],
    ['no BAT', [metadata], 'E_VHDX_REGION', 16],
    ['a start off its MiB', [{ ...bat, offset: 3 * MIB + 512 }, metadata], 'E_VHDX_REGION', 32],
    ['a start in the header area', [{ ...bat, offset: 0 }, metadata], 'E_VHDX_REGION', 32],
    ['no length', [{ ...bat, lengthBytes: 0 }, metadata], 'E_VHDX_REGION', 40],
    ['a start that overflows', [{ ...bat, offset: 2 ** 63 }, metadata], 'E_VHDX_TRUNCATED', 32],
    [
      'an end behind the file',
      [{ ...bat, lengthBytes: 6 * MIB }, metadata],
      'E_VHDX_TRUNCATED',
      32,
    ],
    ['an unknown required region', [bat, { ...bat, id: A }, metadata], 'E_VHDX_UNSUPPORTED', 48],
  ] as const) {
    it(`reports ${what} with its place`, () => {
      const found = reported((report) => parse([...regions], report));
      expect(found.map((v) => [v.code, v.offset])).to.deep.include([code, 192 * 1024 + at]);
    });
  }

  it('gives up on a count that cannot be', () => {
    const bytes = encodeRegionTable([bat, metadata]);
    bytes.writeUInt32LE(2048, 8);
    const found = reported((report) => {
      expect(parseRegionTable(bytes, 1, 8 * MIB, report)).to.equal(undefined);
    });
    expect(found).to.have.length(1);
    expect(found[0]).to.include({ code: 'E_VHDX_REGION', offset: 256 * 1024 + 8 });
  });
});

describe('VHDX metadata', () => {
  const disk = {
    type: 'dynamic' as VhdxType,
    blockSizeBytes: 32 * MIB,
    sizeBytes: 64 * TIB,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
    diskId: A,
  };
  const locator = { parentLinkage: B, relativePath: '.\\parent.vhdx' };

  it('reads back every type of disk that it writes', async () => {
    for (const type of ['fixed', 'dynamic', 'differencing'] as const) {
      const region = encodeMetadataRegion(
        { ...disk, type },
        type === 'differencing' ? locator : undefined,
      );
      const entries = parseMetadataTable(region.subarray(0, 65_536), 2 * MIB, MIB, strict) ?? [];
      const read = await readDiskParameters(
        entries,
        2 * MIB,
        (entry) => Promise.resolve(region.subarray(entry.offset, entry.offset + entry.lengthBytes)),
        strict,
      );
      expect(read).to.deep.equal({ ...disk, type });
    }
  });

  it('packs the items as Windows does', () => {
    const region = encodeMetadataRegion({ ...disk, type: 'differencing' }, locator);
    const entries = parseMetadataTable(region.subarray(0, 65_536), 2 * MIB, MIB, strict) ?? [];
    expect(entries.map(({ offset }) => offset - 65_536)).to.deep.equal([0, 8, 16, 20, 24, 40]);
    const flags = entries.map((e) => (e.isRequired ? 4 : 0) + (e.isVirtualDisk ? 2 : 0));
    expect(flags).to.deep.equal([4, 6, 6, 6, 6, 4]);
  });

  it('reports items outside the region, overlapping, twice, or with wrong flags', () => {
    const cases: [string, (table: Buffer) => void, string, number][] = [
      ['inside the table', (t) => t.writeUInt32LE(512, 32 + 16), 'E_VHDX_METADATA', 48],
      ['behind the region', (t) => t.writeUInt32LE(MIB - 4, 32 + 16), 'E_VHDX_METADATA', 48],
      ['above 1 MiB', (t) => t.writeUInt32LE(MIB + 1, 32 + 20), 'E_VHDX_METADATA', 52],
      ['reserved flags', (t) => t.writeUInt32LE(12, 32 + 24), 'E_VHDX_METADATA', 56],
      ['user and required', (t) => t.writeUInt32LE(5, 32 + 24), 'E_VHDX_METADATA', 56],
      ['twice', (t) => t.copy(t, 64, 32, 48), 'E_VHDX_METADATA', 64],
      ['overlap', (t) => t.writeUInt32LE(65_540, 64 + 16), 'E_VHDX_OVERLAP', 65_540],
      ['2048 entries', (t) => t.writeUInt16LE(2048, 10), 'E_VHDX_METADATA', 10],
      ['no signature', (t) => t.writeUInt8(0, 0), 'E_VHDX_METADATA', 0],
    ];
    for (const [what, change, code, at] of cases) {
      const table = Buffer.from(encodeMetadataRegion(disk).subarray(0, 65_536));
      change(table);
      const found = reported((report) => parseMetadataTable(table, 2 * MIB, MIB, report));
      expect(
        found.map((v) => [v.code, v.offset]),
        what,
      ).to.deep.include([code, 2 * MIB + at]);
    }
  });
});

describe('VHDX parent locator', () => {
  const full = {
    offset: 0,
    parentLinkage: B,
    parentLinkage2: undefined,
    relativePath: '.\\Gästedaten_ÄÖ.avhdx',
    volumePath: '\\\\?\\Volume{0eba351e-0000-0000-0000-100000000000}\\x.avhdx',
    absolutePath: 'C:\\VMs\\x.avhdx',
  };

  it('reads back what it writes, five keys with braces, in whatever order they come', () => {
    const bytes = encodeParentLocator(full);
    expect(bytes.readUInt16LE(18)).to.equal(5);
    expect(bytes.toString('utf16le')).to.contain(`{${B}}`);
    expect(parseParentLocator(bytes, 0, strict)).to.deep.equal(full);
    const swapped = Buffer.from(bytes);
    bytes.copy(swapped, 20, 20 + 4 * 12, 20 + 5 * 12);
    bytes.copy(swapped, 20 + 4 * 12, 20, 20 + 12);
    expect(parseParentLocator(swapped, 0, strict)).to.deep.equal(full);
  });

  it('takes an all-zero second linkage for none, and another one as it is', () => {
    const bytes = encodeParentLocator({ ...full, parentLinkage2: A });
    expect(parseParentLocator(bytes, 0, strict)?.parentLinkage2).to.equal(A);
  });

  const cases: [string, (bytes: Buffer) => Buffer, number][] = [
    ['19 bytes', (b) => b.subarray(0, 19), 0],
    ['another type', (b) => (b.writeUInt8(b.readUInt8(0) ^ 1, 0), b), 0],
    ['no entries', (b) => (b.writeUInt16LE(0, 18), b), 18],
    ['257 entries', (b) => (b.writeUInt16LE(257, 18), b), 18],
    ['more entries than fit', (b) => (b.writeUInt16LE(100, 18), b), 18],
    ['an odd length', (b) => (b.writeUInt16LE(27, 28), b), 20],
    ['a key without length', (b) => (b.writeUInt16LE(0, 28), b), 20],
    ['a value behind the item', (b) => (b.writeUInt32LE(b.length - 4, 24), b), 20],
    ['an offset near 2^32', (b) => (b.writeUInt32LE(0xfffffff0, 20), b), 20],
    ['an embedded NUL', (b) => (b.writeUInt16LE(0, b.readUInt32LE(24) + 4), b), 20],
    ['the same key twice', (b) => (b.copy(b, 32, 20, 32), b), 32],
    ['a linkage that is no GUID', (b) => (b.write('x', b.readUInt32LE(24) + 2, 'utf16le'), b), 0],
  ];
  for (const [what, change, at] of cases) {
    it(`refuses ${what}, naming the place`, () => {
      const bytes = change(Buffer.from(encodeParentLocator(full)));
      const found = reported((report) => {
        expect(parseParentLocator(bytes, 5000, report)).to.equal(undefined);
      });
      expect(found.map((v) => [v.code, v.offset])).to.deep.include(['E_VHDX_LOCATOR', 5000 + at]);
    });
  }

  it('refuses a locator without any path', () => {
    const found = reported((r) =>
      parseParentLocator(encodeParentLocator({ parentLinkage: B }), 0, r),
    );
    expect(found[0]?.message).to.contain('no path');
  });
});

describe('VHDX block allocation table', () => {
  it('keeps state and offset of an entry apart, up to 64 TiB', () => {
    const page = Buffer.alloc(16);
    for (const offset of [0, MIB, 4095 * MIB, 4096 * MIB, 66 * TIB]) {
      for (const state of [0, 2, 6, 7]) {
        putEntry(page, 8, state, offset);
        const low = page.readUInt32LE(8);
        expect(page.readBigUInt64LE(8)).to.equal(BigInt(offset) | BigInt(state));
        expect([stateOf(low), reservedOf(low)]).to.deep.equal([state, 0]);
        expect(offsetOf(low, page.readUInt32LE(12))).to.equal(offset);
      }
    }
    expect(page.readBigUInt64LE(0)).to.equal(0n);
  });

  it('knows which states are legal in which type of disk', () => {
    for (const type of ['fixed', 'dynamic', 'differencing'] as const) {
      const legal = [0, 1, 2, 3, 4, 5, 6, 7].filter(
        (state) => payloadStateProblem(state, type) === undefined,
      );
      expect(legal).to.deep.equal(type === 'differencing' ? [0, 1, 2, 3, 6, 7] : [0, 1, 2, 3, 6]);
      const bitmaps = [0, 1, 2, 3, 4, 5, 6, 7].filter(
        (state) => bitmapStateProblem(state, type) === undefined,
      );
      expect(bitmaps).to.deep.equal(type === 'differencing' ? [0, 6] : [0]);
    }
  });

  it('has the chunk ratios and entry counts of the reference (§ 4)', () => {
    for (const [sector, block, ratio] of [
      [512, 1, 4096],
      [512, 2, 2048],
      [512, 32, 128],
      [512, 256, 16],
      [4096, 1, 32768],
      [4096, 256, 128],
    ] as const) {
      const geometry = geometryOf({
        type: 'dynamic',
        sizeBytes: TIB,
        blockSizeBytes: block * MIB,
        logicalSectorBytes: sector,
      });
      expect(geometry.chunkRatio).to.equal(ratio);
    }
    const small = { sizeBytes: 16 * MIB, blockSizeBytes: 2 * MIB, logicalSectorBytes: 512 };
    expect(geometryOf({ ...small, type: 'dynamic' }).batEntryCount).to.equal(8);
    const child = geometryOf({ ...small, type: 'differencing' });
    expect(child.batEntryCount).to.equal(2049);
    expect(bitmapEntryIndex(child, 0)).to.equal(2048);
  });

  it('leaves a slot for a bitmap after each full chunk, and finds the owner of each entry', () => {
    const geometry = geometryOf({
      type: 'differencing',
      sizeBytes: 9 * 1024 * MIB + 512,
      blockSizeBytes: MIB,
      logicalSectorBytes: 512,
    });
    expect(payloadEntryIndex(geometry, 4095)).to.equal(4095);
    expect(payloadEntryIndex(geometry, 4096)).to.equal(4097);
    expect(geometry.bitmapBlockCount).to.equal(3);
    for (const block of [0, 4095, 4096, 8191, 8192, 9216]) {
      const owner = entryOwner(geometry, payloadEntryIndex(geometry, block));
      expect(owner).to.deep.equal({ kind: 'payload', block });
    }
    for (const chunk of [0, 1, 2]) {
      const owner = entryOwner(geometry, bitmapEntryIndex(geometry, chunk));
      expect(owner).to.deep.equal({ kind: 'bitmap', chunk });
    }
  });
});

describe('VHDX sector bitmap', () => {
  it('sets the least significant bit for the first sector', () => {
    const bytes = Buffer.alloc(4);
    setBits(bytes, 0, 1);
    setBits(bytes, 9, 11);
    expect([...bytes]).to.deep.equal([1, 6, 0, 0]);
  });

  it('finds the runs that a naive loop finds', () => {
    const random = new SeededRandom(3);
    for (let round = 0; round < 200; round++) {
      const bytes = Buffer.alloc(64);
      const model = new Array<boolean>(512).fill(false);
      for (let i = 0; i < random.int(6); i++) {
        const start = random.int(512);
        const end = start + random.int(513 - start);
        if (start === end) continue;
        setBits(bytes, start, end);
        model.fill(true, start, end);
      }
      const from = random.int(512);
      const to = from + random.int(513 - from);
      const flat: boolean[] = [];
      let position = from;
      for (const run of bitRuns(bytes, from, to)) {
        expect(run.start).to.equal(position);
        for (let bit = run.start; bit < run.end; bit++) flat.push(run.isSet);
        position = run.end;
      }
      expect(flat).to.deep.equal(model.slice(from, to));
      expect(areAllSet(bytes, 512)).to.equal(model.every((bit) => bit));
    }
  });
});

describe('layout of a new VHDX', () => {
  it('is that of Windows: log, metadata and BAT from 1 MiB on, blocks of 32 MiB, 512/4096', () => {
    const layout = planNewFile({ type: 'dynamic', sizeBytes: 64 * MIB }, new SeededRandom(1));
    expect(layout.disk).to.include({
      blockSizeBytes: 32 * MIB,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
    });
    expect(layout.batOffset).to.equal(3 * MIB);
    expect(layout.firstBlockOffset).to.equal(4 * MIB);
    const slots = HEADER_OFFSETS.map((at) => layout.head.subarray(at, at + 4096));
    const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = slots;
    const { header: current } = chooseHeader([first, second], strict) ?? {};
    expect(current).to.include({
      logOffset: FIRST_STRUCTURE_OFFSET,
      logLengthBytes: MIB,
      logGuid: ZERO_GUID,
    });
  });

  for (const [what, change] of [
    ['size 0', { sizeBytes: 0 }],
    ['a size that is no whole sector', { sizeBytes: 1000 }],
    ['65 TiB', { sizeBytes: 65 * TIB }],
    ['a block of 3 MiB', { blockSizeBytes: 3 * MIB }],
    ['a block of 512 KiB', { blockSizeBytes: MIB / 2 }],
    ['a block of 512 MiB', { blockSizeBytes: 512 * MIB }],
    ['a sector of 2048', { logicalSectorBytes: 2048 }],
    [
      'a physical sector below the logical one',
      { logicalSectorBytes: 4096, physicalSectorBytes: 512 },
    ],
    ['a differencing disk without parent', { type: 'differencing' }],
    ['a dynamic disk with a parent', { locator: { parentLinkage: B, relativePath: 'x' } }],
  ] as const) {
    it(`refuses ${what}`, () => {
      const request = { type: 'dynamic', sizeBytes: 64 * MIB, ...change } as const;
      expect(() => planNewFile(request, new SeededRandom(1)))
        .to.throw(DrError)
        .with.property('code', 'E_USAGE');
    });
  }
});
