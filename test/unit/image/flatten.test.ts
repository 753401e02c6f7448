// A chain that is made to stand alone, in its own place or elsewhere.

import { expect } from 'chai';
import { flattenVhdx } from '../../../shared/image/index.js';
import { createVhdx, openVhdx, type VhdxDisk } from '../../../shared/vhdx/index.js';
import { crashEverywhere } from '../../support/crash-everywhere.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';

const MIB = 1024 * 1024;
const SIZE = 6 * MIB + 512;
const TOP = '/disks/top.vhdx';
const ALONE = '/disks/alone.vhdx';

/** Three files, with data, zeros and a discard that hide one another; the bytes that a guest sees. */
async function chain(): Promise<{ fs: MemoryFileSystem; image: Buffer }> {
  const fs = new MemoryFileSystem();
  const random = new SeededRandom(1);
  await fs.makeFolder('/disks');
  const image = Buffer.alloc(SIZE);
  await createVhdx('/disks/base.vhdx', { type: 'dynamic', sizeBytes: SIZE }, { fs, random });
  let below = '/disks/base.vhdx';
  for (const file of ['/disks/base.vhdx', '/disks/middle.vhdx', TOP]) {
    if (file !== below) {
      await createVhdx(file, { type: 'differencing', parentPath: below }, { fs, random });
    }
    const disk = await openVhdx(file, { fs, random, isWritable: true });
    for (let step = 0; step < 4; step++) {
      const offset = random.int(SIZE - 1);
      const bytes = random.fill(Buffer.alloc(1 + random.int(Math.min(MIB, SIZE - offset) - 1)));
      await disk.write(offset, bytes);
      bytes.copy(image, offset);
    }
    await disk.zero(2 * MIB, MIB + 100);
    image.fill(0, 2 * MIB, 3 * MIB + 100);
    await disk.close();
    below = file;
  }
  return { fs, image };
}

function open(fs: MemoryFileSystem, file: string): Promise<VhdxDisk> {
  return openVhdx(file, { fs, random: new SeededRandom(2) });
}

async function expectDisk(
  fs: MemoryFileSystem,
  file: string,
  image: Buffer,
  layerCounts: readonly number[],
): Promise<void> {
  const disk = await open(fs, file);
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, bytes);
  await disk.close();
  expect(bytes.equals(image), file).to.equal(true);
  expect(layerCounts).to.include(disk.layers.length);
}

describe('a chain that is flattened', () => {
  it('to another file leaves all as it was, and keeps the identity of the disk', async () => {
    const { fs, image } = await chain();
    const before = new Map(fs.paths.map((path) => [path, Buffer.from(fs.content(path) ?? '')]));
    const seams = { fs, random: new SeededRandom(3) };
    for (let times = 0; times < 2; times++) await flattenVhdx(TOP, ALONE, seams);
    await expectDisk(fs, ALONE, image, [1]);
    for (const [path, bytes] of before) {
      expect(fs.content(path)?.equals(bytes), path).to.equal(true);
    }
    const [alone, top] = [await open(fs, ALONE), await open(fs, TOP)];
    const identityOf = ({ top: { structures, header } }: VhdxDisk): readonly string[] => [
      structures.disk.diskId,
      header.dataWriteGuid,
    ];
    expect(identityOf(alone)).to.deep.equal(identityOf(top));
    await alone.close();
    await top.close();
    expect(fs.paths.length).to.equal(before.size + 1);
  });

  it('in its own place stands alone there, and has its children still', async () => {
    const { fs, image } = await chain();
    const child = '/disks/child.vhdx';
    const seams = { fs, random: new SeededRandom(3) };
    await createVhdx(child, { type: 'differencing', parentPath: TOP }, seams);
    for (let times = 0; times < 2; times++) await flattenVhdx(TOP, TOP, seams);
    await expectDisk(fs, TOP, image, [1]);
    await expectDisk(fs, child, image, [2]);
    await fs.remove('/disks/middle.vhdx');
    await expectDisk(fs, TOP, image, [1]);
    expect(fs.paths.filter((path) => path.includes('flat'))).to.deep.equal([]);
  });

  it('replaces nothing that is not this disk, and asks for room first', async () => {
    const { fs, image } = await chain();
    const seams = { fs, random: new SeededRandom(3) };
    await createVhdx(ALONE, { type: 'dynamic', sizeBytes: SIZE }, seams);
    expect((await refusal(() => flattenVhdx(TOP, ALONE, seams))).code).to.equal('E_EXISTS');
    const narrow = new HookedFileSystem(fs, (_call, run) => run());
    narrow.freeBytes = () => Promise.resolve(1000);
    const full = { ...seams, fs: narrow };
    for (const areHolesFree of [true, false]) {
      const work = (): Promise<void> => flattenVhdx(TOP, TOP, { ...full, areHolesFree });
      expect((await refusal(work)).code).to.equal('E_CAPACITY');
    }
    await expectDisk(fs, TOP, image, [3]);
  });

  it('shows its bytes whenever the power goes, and is flat when it is done again', async () => {
    const { fs, image } = await chain();
    for (const to of [TOP, ALONE]) {
      await crashEverywhere({
        volume: fs,
        seedCount: 1,
        run: (volume) => flattenVhdx(TOP, to, { fs: volume, random: new SeededRandom(4) }),
        check: async (found, { hasFinished }) => {
          await expectDisk(found, TOP, image, hasFinished && to === TOP ? [1] : [1, 3]);
          await flattenVhdx(TOP, to, { fs: found, random: new SeededRandom(5) });
          await expectDisk(found, to, image, [1]);
        },
      });
    }
  });
});
