// § 9.12: what belongs together is proven, what does not is refused by name, with nothing written.

import { expect } from 'chai';
import type { FileSystem } from '../../../shared/files/index.js';
import { checkVhdx, createVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { fingerprint, volumeFingerprint } from '../../support/fingerprint.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { forgeLocator, HEADER_FIELD, ITEMS, VhdxForge } from '../../support/vhdx-forge.js';
import { seedFile } from '../../support/vhdx-seeds.js';

const MIB = 1024 * 1024;
const BASE = '/d/base.vhdx';
const CHILD = '/d/child.vhdx';

let sessions = 0;
function seams<F extends FileSystem>(fs: F): { fs: F; random: SeededRandom } {
  return { fs, random: new SeededRandom(++sessions) };
}

async function write(fs: FileSystem, path: string, at: number, bytes: Buffer): Promise<void> {
  const disk = await openVhdx(path, { ...seams(fs), isWritable: true });
  await disk.write(at, bytes);
  await disk.close();
}

async function readAll(fs: FileSystem, path: string): Promise<Buffer> {
  const disk = await openVhdx(path, seams(fs));
  const bytes = Buffer.alloc(disk.sizeBytes, 0xee);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

async function pair(
  base: { sizeBytes?: number; blockSizeBytes?: number } = {},
): Promise<MemoryFileSystem> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/d');
  const request = { type: 'dynamic', sizeBytes: 4 * MIB, blockSizeBytes: MIB, ...base } as const;
  await createVhdx(BASE, request, seams(fs));
  await write(fs, BASE, 0, Buffer.alloc(4096, 0x11));
  await createVhdx(CHILD, { type: 'differencing', parentPath: BASE }, seams(fs));
  await write(fs, CHILD, 4096, Buffer.alloc(4096, 0x22));
  return fs;
}

function linkage(forge: VhdxForge): string {
  return `{${forge.readGuid(forge.currentHeader + HEADER_FIELD.dataWriteGuid)}}`;
}

/** Points a child at another file. */
function relink(forge: VhdxForge, path: string, parent?: VhdxForge): void {
  const value =
    parent === undefined ? `{${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(11)}1}` : linkage(parent);
  forge.locator(
    forgeLocator([
      { key: 'parent_linkage', value },
      { key: 'relative_path', value: path },
    ]),
  );
}

describe('VHDX chain', function () {
  this.timeout(60_000);

  interface Refusal {
    readonly name: string;
    readonly code: string;
    readonly prepare: (fs: MemoryFileSystem) => Promise<unknown>;
    readonly message?: RegExp;
  }
  const sync =
    (change: (fs: MemoryFileSystem) => void) =>
    async (fs: MemoryFileSystem): Promise<void> => {
      change(fs);
      await Promise.resolve();
    };

  const refusals: readonly Refusal[] = [
    {
      name: 'a parent that is not there',
      code: 'E_VHDX_PARENT_MISSING',
      prepare: (fs) => fs.remove(BASE),
      message: /"\.\/base\.vhdx"/,
    },
    {
      name: 'a parent that was written to since',
      code: 'E_VHDX_PARENT_CHANGED',
      prepare: async (fs) => {
        await fs.rename(CHILD, '/d/aside');
        await write(fs, BASE, 0, Buffer.alloc(512, 1));
        await fs.rename('/d/aside', CHILD);
      },
      message: /base\.vhdx/,
    },
    {
      name: 'a parent that was replaced by another disk',
      code: 'E_VHDX_PARENT_CHANGED',
      prepare: async (fs) => {
        await fs.remove(BASE);
        await createVhdx(BASE, { type: 'dynamic', sizeBytes: 4 * MIB }, seams(fs));
      },
    },
    {
      name: 'a parent that is no VHDX',
      code: 'E_VHDX_SIGNATURE',
      prepare: sync((fs) => {
        fs.put(BASE, Buffer.alloc(MIB));
      }),
    },
    {
      name: 'a damaged parent',
      code: 'E_VHDX_BAT',
      prepare: sync((fs) => void new VhdxForge(fs, BASE).setBat(3, 4, 0)),
    },
    {
      name: 'a file that is its own parent',
      code: 'E_VHDX_CHAIN',
      prepare: sync((fs) => {
        const child = new VhdxForge(fs, CHILD);
        relink(child, '.\\child.vhdx', child);
      }),
      message: /own ancestor/,
    },
    {
      name: 'two files that are parents of each other',
      code: 'E_VHDX_CHAIN',
      prepare: async (fs) => {
        await createVhdx('/d/grand.vhdx', { type: 'differencing', parentPath: CHILD }, seams(fs));
        const [child, grand] = [new VhdxForge(fs, CHILD), new VhdxForge(fs, '/d/grand.vhdx')];
        relink(child, '.\\grand.vhdx', grand);
      },
      message: /own ancestor/,
    },
    {
      name: 'different logical sectors',
      code: 'E_VHDX_CHAIN',
      prepare: sync((fs) => {
        const base = new VhdxForge(fs, BASE);
        base.u32(base.item(ITEMS.logical).at, 4096);
      }),
      message: /512.*4096/,
    },
    {
      name: 'a path out of the folder',
      code: 'E_VHDX_PATH',
      prepare: sync((fs) => {
        fs.put('/base.vhdx', fs.content(BASE) ?? Buffer.alloc(0));
        relink(new VhdxForge(fs, CHILD), '..\\base.vhdx', new VhdxForge(fs, BASE));
      }),
      message: /"\.\.\/base\.vhdx"/,
    },
    {
      name: 'a linkage that is all zero on both sides',
      code: 'E_VHDX_PARENT_CHANGED',
      prepare: sync((fs) => {
        new VhdxForge(fs, CHILD).locator(
          forgeLocator([
            { key: 'parent_linkage', value: '{0badf00d-1234-4321-8000-00aa00bb00cc}' },
            { key: 'parent_linkage2', value: '{00000000-0000-0000-0000-000000000000}' },
            { key: 'relative_path', value: 'base.vhdx' },
          ]),
        );
        const base = new VhdxForge(fs, BASE);
        base.headers((at) => void base.write(at + HEADER_FIELD.dataWriteGuid, Buffer.alloc(16)));
      }),
    },
  ];
  for (const { name, code, prepare, message } of refusals) {
    it(`refuses ${name}; the audit says the same, and nothing is written`, async () => {
      const fs = await pair();
      await prepare(fs);
      const before = volumeFingerprint(fs);
      const reading = await refusal(() => openVhdx(CHILD, seams(fs)));
      expect(reading.code).to.equal(code);
      if (message !== undefined) expect(reading.message).to.match(message);
      const { violations } = await checkVhdx(CHILD, seams(fs));
      expect(violations.map((violation) => violation.code)).to.deep.equal([code]);
      const writing = await refusal(() => openVhdx(CHILD, { ...seams(fs), isWritable: true }));
      expect(writing.code).to.be.oneOf([code, 'E_VHDX_HAS_CHILDREN']);
      expect(volumeFingerprint(fs)).to.deep.equal(before);
      // Every lock was given back.
      for (const path of fs.paths) {
        await (await fs.open(path, { mode: 'write', lock: 'exclusive' })).close();
      }
    });
  }

  it('does not replay a dirty child whose chain is refused', async () => {
    const { fs, path } = await seedFile('dirty-child');
    await fs.remove(BASE);
    const before = fingerprint(fs, path);
    const error = await refusal(() => openVhdx(path, { ...seams(fs), isWritable: true }));
    expect(error.code).to.equal('E_VHDX_PARENT_MISSING');
    expect(fingerprint(fs, path)).to.equal(before);
  });

  it('accepts a parent by its second linkage', async () => {
    const fs = await pair();
    new VhdxForge(fs, CHILD).locator(
      forgeLocator([
        { key: 'relative_path', value: 'base.vhdx' },
        { key: 'parent_linkage2', value: linkage(new VhdxForge(fs, BASE)).toUpperCase() },
        { key: 'parent_linkage', value: '{0badf00d-1234-4321-8000-00aa00bb00cc}' },
        { key: 'something_else', value: 'x' },
      ]),
    );
    expect((await readAll(fs, CHILD)).subarray(0, 8192)).to.deep.equal(
      Buffer.concat([Buffer.alloc(4096, 0x11), Buffer.alloc(4096, 0x22)]),
    );
  });

  it('opens 64 files, and refuses 65', async () => {
    const fs = new MemoryFileSystem();
    await fs.makeFolder('/d');
    const name = (level: number): string => `/d/level-${level}.vhdx`;
    await createVhdx(
      name(1),
      { type: 'dynamic', sizeBytes: 4 * MIB, blockSizeBytes: MIB },
      seams(fs),
    );
    for (let level = 2; level <= 64; level++) {
      const parentPath = name(level - 1);
      await createVhdx(name(level), { type: 'differencing', parentPath }, seams(fs));
    }
    const disk = await openVhdx(name(64), seams(fs));
    expect(disk.layers.length).to.equal(64);
    await disk.close();
    fs.put(name(65), fs.content(name(64)) ?? Buffer.alloc(0));
    relink(new VhdxForge(fs, name(65)), '.\\level-64.vhdx', new VhdxForge(fs, name(64)));
    const error = await refusal(() => openVhdx(name(65), seams(fs)));
    expect(error.code).to.equal('E_VHDX_CHAIN');
    expect(error.message).to.contain('64');
    expect((await checkVhdx(name(65), seams(fs))).violations.length).to.equal(1);
  });

  it('reads zeros behind the end of a parent that is shorter, and nothing of one that is longer', async () => {
    for (const [parentSize, childSize] of [
      [2 * MIB + 512, 4 * MIB],
      [4 * MIB, 2 * MIB + 512],
    ] as const) {
      const fs = await pair();
      await fs.remove(CHILD);
      await write(fs, BASE, 0, Buffer.alloc(4 * MIB, 0x33));
      await createVhdx(CHILD, { type: 'differencing', parentPath: BASE }, seams(fs));
      const [base, child] = [new VhdxForge(fs, BASE), new VhdxForge(fs, CHILD)];
      base.u64(base.item(ITEMS.size).at, parentSize);
      if (parentSize < 4 * MIB) base.setBat(3, 0, 0);
      child.u64(child.item(ITEMS.size).at, childSize);
      const bytes = await readAll(fs, CHILD);
      const end = Math.min(parentSize, childSize);
      expect(bytes.length).to.equal(childSize);
      expect(bytes.subarray(0, end).every((byte) => byte === 0x33)).to.equal(true);
      expect(bytes.subarray(end).every((byte) => byte === 0)).to.equal(true);
      const disk = await openVhdx(CHILD, seams(fs));
      let extentsEnd = 0;
      for await (const { end } of disk.extents(0, childSize)) extentsEnd = end;
      expect(extentsEnd).to.equal(childSize);
      await disk.close();
      // A partial write keeps what the parent shows around it, also across its end.
      await write(
        fs,
        CHILD,
        end - 700,
        Buffer.alloc(1400, 0x44).subarray(0, childSize - end + 700),
      );
      const after = await readAll(fs, CHILD);
      expect(after.subarray(0, end - 700).equals(bytes.subarray(0, end - 700))).to.equal(true);
      expect(after.subarray(end + 700).equals(bytes.subarray(end + 700))).to.equal(true);
      expect((await checkVhdx(CHILD, seams(fs))).violations).to.deep.equal([]);
    }
  });

  it('works with any block sizes in child and parent', async () => {
    for (const [parentBlock, childBlock] of [
      [32 * MIB, MIB],
      [MIB, 32 * MIB],
      [4 * MIB, 2 * MIB],
    ] as const) {
      const fs = await pair({ blockSizeBytes: parentBlock });
      await fs.remove(CHILD);
      const request = {
        type: 'differencing',
        parentPath: BASE,
        blockSizeBytes: childBlock,
      } as const;
      await createVhdx(CHILD, request, seams(fs));
      await write(fs, CHILD, 2048, Buffer.alloc(100, 0x55));
      const bytes = await readAll(fs, CHILD);
      expect(bytes.subarray(0, 2048).every((byte) => byte === 0x11)).to.equal(true);
      expect(bytes.subarray(2048, 2148).every((byte) => byte === 0x55)).to.equal(true);
      expect(bytes.subarray(2148, 4096).every((byte) => byte === 0x11)).to.equal(true);
      expect(bytes.subarray(4096).every((byte) => byte === 0)).to.equal(true);
    }
  });

  it('does not write to a disk that others depend on, and names them', async () => {
    const fs = await pair();
    const before = volumeFingerprint(fs);
    const error = await refusal(() => openVhdx(BASE, { ...seams(fs), isWritable: true }));
    expect(error.code).to.equal('E_VHDX_HAS_CHILDREN');
    expect(error.message).to.contain('child.vhdx');
    const disk = await openVhdx(CHILD, seams(fs));
    expect((await refusal(() => disk.write(0, Buffer.alloc(512)))).code).to.equal(
      'E_VHDX_READ_ONLY',
    );
    expect((await refusal(() => disk.zero(0, 512))).code).to.equal('E_VHDX_READ_ONLY');
    await disk.close();
    expect(volumeFingerprint(fs)).to.deep.equal(before);
  });

  it('has one writer or many readers, of every file of the chain', async () => {
    const fs = await pair();
    const reader = await openVhdx(CHILD, seams(fs));
    const second = await openVhdx(CHILD, seams(fs));
    for (const path of [CHILD, BASE]) {
      const error = await refusal(() => fs.open(path, { mode: 'write' }));
      expect(error.code).to.equal('E_LOCKED');
    }
    await reader.close();
    await second.close();
    const writer = await openVhdx(CHILD, { ...seams(fs), isWritable: true });
    expect((await refusal(() => openVhdx(CHILD, seams(fs)))).code).to.equal('E_LOCKED');
    await (await openVhdx(BASE, seams(fs))).close();
    await writer.close();
  });
});
