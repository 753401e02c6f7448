// Merging: what is refused and left alone, what an interrupted merge blocks, what is left over of
// one, and what a merge may cost. Crashes at every write are in test/crash/vhdx-merge.test.ts.

import { expect } from 'chai';
import type { FileSystem } from '../../../shared/files/index.js';
import { checkVhdx, createVhdx, mergeVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { volumeFingerprint } from '../../support/fingerprint.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { HEADER_FIELD, ITEMS, VhdxForge } from '../../support/vhdx-forge.js';

const MIB = 1024 * 1024;
const TIB = 1024 ** 4;
const SIZE = 6 * MIB + 512 * 3;
const BASE = '/d/base.vhdx';
const MIDDLE = '/d/middle.vhdx';
const TOP = '/d/top.vhdx';
const MARK = '/d/base.vhdx.merge.json';

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
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

/** base <- middle (<- top), each with some bytes of its own, partial blocks and zeroed ones. */
async function chain(depth: 2 | 3): Promise<{ fs: MemoryFileSystem; content: Buffer }> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/d');
  const content = Buffer.alloc(SIZE);
  const names = [BASE, MIDDLE, TOP].slice(0, depth);
  for (const [level, name] of names.entries()) {
    const parentPath = names[level - 1];
    await createVhdx(
      name,
      parentPath === undefined
        ? { type: 'dynamic', sizeBytes: SIZE, blockSizeBytes: 2 * MIB }
        : { type: 'differencing', parentPath, blockSizeBytes: MIB },
      seams(fs),
    );
    const disk = await openVhdx(name, { ...seams(fs), isWritable: true });
    const fill = 0x10 + level;
    for (const [start, end] of [
      [level * 4096, level * 4096 + 9000],
      [MIB + level * 300_000, 2 * MIB + 512],
      [SIZE - 1000 - level * 1000, SIZE],
    ] as const) {
      content.fill(fill, start, end);
      await disk.write(start, Buffer.alloc(end - start, fill));
    }
    content.fill(0, (3 + level) * MIB, (4 + level) * MIB + 700);
    await disk.zero((3 + level) * MIB, MIB + 700);
    await disk.close();
  }
  return { fs, content };
}

/** The volume in the middle of a merge: the mark stands, a part has been copied. */
async function interrupted(): Promise<{ fs: MemoryFileSystem; content: Buffer }> {
  const { fs, content } = await chain(2);
  const faulty = new FaultFileSystem(fs);
  faulty.inject({ kind: 'write', path: /base\.vhdx$/, nth: 9, times: Infinity });
  const error = await refusal(() => mergeVhdx(MIDDLE, seams(faulty)));
  expect(error.code).to.equal('E_IO');
  expect(await fs.status(MARK)).to.not.equal(undefined);
  return { fs, content };
}

describe('VHDX merge', function () {
  this.timeout(60_000);

  it('joins a chain of three from the top, and from the bottom', async () => {
    for (const order of [
      [TOP, TOP],
      [MIDDLE, TOP],
    ] as const) {
      const { fs, content } = await chain(3);
      for (const child of order) {
        const { copiedBytes, isResumed } = await mergeVhdx(child, seams(fs));
        expect(copiedBytes).to.be.greaterThan(0);
        expect(isResumed).to.equal(false);
        expect((await readAll(fs, TOP)).equals(content), child).to.equal(true);
        expect((await checkVhdx(TOP, seams(fs))).violations).to.deep.equal([]);
      }
      expect(await fs.list('/d')).to.deep.equal(['top.vhdx']);
    }
  });

  it('keeps the identity that grandchildren know', async () => {
    const { fs } = await chain(3);
    const identity = (): string => {
      const forge = new VhdxForge(fs, MIDDLE);
      return forge.readGuid(forge.currentHeader + HEADER_FIELD.dataWriteGuid);
    };
    const before = identity();
    await mergeVhdx(MIDDLE, seams(fs));
    expect(identity()).to.equal(before);
  });

  describe('is refused, with no byte changed,', () => {
    const cases: [string, string, (fs: MemoryFileSystem) => Promise<unknown>, string?][] = [
      ['for a disk without a parent', 'E_USAGE', () => Promise.resolve(), BASE],
      [
        'when the parent has another child',
        'E_VHDX_HAS_CHILDREN',
        (fs) => createVhdx('/d/other.avhdx', { type: 'differencing', parentPath: BASE }, seams(fs)),
      ],
      ['when somebody reads the parent', 'E_LOCKED', (fs) => fs.open(BASE, { mode: 'read' })],
      ['when somebody reads the child', 'E_LOCKED', (fs) => fs.open(MIDDLE, { mode: 'read' })],
      ['when the parent has gone', 'E_VHDX_PARENT_MISSING', (fs) => fs.remove(BASE)],
      ['when there is no child', 'E_NOT_FOUND', (fs) => fs.remove(MIDDLE)],
      [
        'when the parent was written to since',
        'E_VHDX_PARENT_CHANGED',
        async (fs) => {
          await fs.rename(MIDDLE, '/d/hidden');
          await write(fs, BASE, 0, Buffer.alloc(512, 1));
          await fs.rename('/d/hidden', MIDDLE);
        },
      ],
      [
        'when the sizes differ',
        'E_VHDX_CHAIN',
        async (fs) => {
          const forge = new VhdxForge(fs, MIDDLE);
          forge.u64(forge.item(ITEMS.size).at, 4 * MIB);
          await Promise.resolve();
        },
      ],
      [
        'when the parent is damaged',
        'E_VHDX_BAT',
        async (fs) => {
          new VhdxForge(fs, BASE).setBat(2, 5, 0);
          await Promise.resolve();
        },
      ],
      [
        'when the mark of a merge into the parent cannot be read',
        'E_VHDX_MERGE_PENDING',
        async (fs) => {
          fs.put(MARK, Buffer.from('{"format":"other"}'));
          await Promise.resolve();
        },
      ],
    ];
    for (const [name, code, prepare, child = MIDDLE] of cases) {
      it(name, async () => {
        const { fs } = await chain(2);
        await prepare(fs);
        const before = volumeFingerprint(fs);
        const error = await refusal(() => mergeVhdx(child, seams(fs)));
        if (code !== 'E_VHDX_MERGE_PENDING') expect(error.code).to.equal(code);
        expect(volumeFingerprint(fs)).to.deep.equal(before);
      });
    }
  });

  describe('when it was interrupted,', () => {
    it('the parent by itself is not opened, the child only for reading, and reads right', async () => {
      const { fs, content } = await interrupted();
      for (const isWritable of [false, true]) {
        const error = await refusal(() => openVhdx(BASE, { ...seams(fs), isWritable }));
        // For writing it is already enough that the child is there.
        expect(error.code).to.be.oneOf(
          isWritable ? ['E_VHDX_HAS_CHILDREN', 'E_VHDX_MERGE_PENDING'] : ['E_VHDX_MERGE_PENDING'],
        );
      }
      const error = await refusal(() => openVhdx(MIDDLE, { ...seams(fs), isWritable: true }));
      expect(error.code).to.equal('E_VHDX_MERGE_PENDING');
      expect(error.hint).to.contain('merge');
      expect((await readAll(fs, MIDDLE)).equals(content)).to.equal(true);
    });

    it('another child of the parent is neither made nor opened', async () => {
      const { fs } = await chain(2);
      const other = '/d/other.vhdx';
      await createVhdx(other, { type: 'differencing', parentPath: BASE }, seams(fs));
      const hidden = fs.content(other) ?? Buffer.alloc(0);
      await fs.remove(other);
      const faulty = new FaultFileSystem(fs);
      faulty.inject({ kind: 'write', path: /base\.vhdx$/, nth: 9, times: Infinity });
      await refusal(() => mergeVhdx(MIDDLE, seams(faulty)));
      fs.put(other, hidden);
      expect((await refusal(() => openVhdx(other, seams(fs)))).code).to.equal(
        'E_VHDX_MERGE_PENDING',
      );
      const made = { type: 'differencing', parentPath: BASE } as const;
      const error = await refusal(() => createVhdx('/d/new.vhdx', made, seams(fs)));
      expect(error.code).to.equal('E_VHDX_MERGE_PENDING');
    });

    it('is finished by the same command', async () => {
      const { fs, content } = await interrupted();
      const { isResumed } = await mergeVhdx(MIDDLE, seams(fs));
      expect(isResumed).to.equal(true);
      expect((await readAll(fs, MIDDLE)).equals(content)).to.equal(true);
      expect(await fs.list('/d')).to.deep.equal(['middle.vhdx']);
    });

    it('is not taken for finished when the parent was carried away', async () => {
      const { fs, content } = await interrupted();
      await fs.rename(BASE, '/elsewhere.vhdx');
      const error = await refusal(() => mergeVhdx(MIDDLE, seams(fs)));
      expect(error.code).to.equal('E_VHDX_PARENT_MISSING');
      expect(await fs.status(MARK)).to.not.equal(undefined);
      await fs.rename('/elsewhere.vhdx', BASE);
      expect((await refusal(() => openVhdx(BASE, seams(fs)))).code).to.equal(
        'E_VHDX_MERGE_PENDING',
      );
      await mergeVhdx(MIDDLE, seams(fs));
      expect((await readAll(fs, MIDDLE)).equals(content)).to.equal(true);
    });

    it('between renaming and removing the mark, the mark is removed by the same command', async () => {
      const { fs, content } = await chain(2);
      const faulty = new FaultFileSystem(fs);
      faulty.inject({ kind: 'remove', path: /merge\.json$/ });
      await refusal(() => mergeVhdx(MIDDLE, seams(faulty)));
      expect(await fs.list('/d')).to.deep.equal(['base.vhdx.merge.json', 'middle.vhdx']);
      expect((await readAll(fs, MIDDLE)).equals(content)).to.equal(true);
      expect((await mergeVhdx(MIDDLE, seams(fs))).isResumed).to.equal(true);
      expect(await fs.list('/d')).to.deep.equal(['middle.vhdx']);
    });

    it('a mark left over there does not disturb a new disk of the old name', async () => {
      const { fs } = await chain(2);
      const faulty = new FaultFileSystem(fs);
      faulty.inject({ kind: 'remove', path: /merge\.json$/ });
      await refusal(() => mergeVhdx(MIDDLE, seams(faulty)));
      await createVhdx(BASE, { type: 'dynamic', sizeBytes: SIZE }, seams(fs));
      await createVhdx(TOP, { type: 'differencing', parentPath: BASE }, seams(fs));
      await write(fs, TOP, 0, Buffer.alloc(4096, 0x5a));
      await mergeVhdx(TOP, seams(fs));
      expect((await readAll(fs, TOP)).subarray(0, 4096).every((byte) => byte === 0x5a)).to.equal(
        true,
      );
      expect(await fs.list('/d')).to.deep.equal(['middle.vhdx', 'top.vhdx']);
    });
  });

  for (const kind of ['read', 'write'] as const) {
    it(`ends with the error of a ${kind} that fails among others under way`, async () => {
      const { fs, content } = await chain(2);
      await write(fs, MIDDLE, 0, content);
      for (let nth = 1; nth < 40; nth++) {
        const faulty = new FaultFileSystem(fs.clone());
        faulty.inject({ kind, path: kind === 'read' ? /middle/ : /base\.vhdx$/, nth });
        const error = await mergeVhdx(MIDDLE, seams(faulty)).catch((reason: unknown) => reason);
        if (faulty.failureCount === 0) break;
        expect(error).to.have.property('code', 'E_IO');
        faulty.mend();
        await mergeVhdx(MIDDLE, seams(faulty));
        expect((await readAll(faulty, MIDDLE)).equals(content)).to.equal(true);
      }
    });
  }

  it('costs what the child holds, also in a chain of 1 TiB', async () => {
    const fs = new MemoryFileSystem();
    await fs.makeFolder('/d');
    await createVhdx(BASE, { type: 'dynamic', sizeBytes: TIB, blockSizeBytes: 2 * MIB }, seams(fs));
    await write(fs, BASE, 512 * 1024 * MIB, Buffer.alloc(64 * MIB, 3));
    await createVhdx(MIDDLE, { type: 'differencing', parentPath: BASE }, seams(fs));
    const held = 10;
    for (let i = 0; i < held; i++) {
      await write(fs, MIDDLE, i * 100_000 * MIB, Buffer.alloc(MIB, 4 + i));
    }
    const counting = new CountingFileSystem(fs);
    const { copiedBytes } = await mergeVhdx(MIDDLE, seams(counting));
    expect(copiedBytes).to.equal(held * MIB);
    const read = counting.tally('read').lengthBytes;
    const written = counting.tally('write').lengthBytes;
    // Besides the data: heads, pages of BAT and bitmaps that are touched, log entries.
    expect(read).to.be.lessThan(held * MIB + 24 * MIB);
    expect(written).to.be.lessThan(held * MIB + 2 * MIB);
    expect(counting.calls.length).to.be.lessThan(2000);
  });
});
