// A merge interrupted anywhere: reading through the child is right at every moment, the same
// command again finishes it, and the result stands under the child's name.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { checkVhdx, createVhdx, mergeVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';

const MIB = 1024 * 1024;
const OPERATIONS = process.env['SLOW'] === '1' ? 2000 : 45;
const SIZE = 8 * MIB + 512 * 5;
const NAMES = ['/d/base.vhdx', '/d/middle.avhdx', '/d/child.avhdx'] as const;

let sessions = 0;

/** Every session has other GUIDs, as in real life. */
function seams(fs: FileSystem): { fs: FileSystem; random: SeededRandom } {
  return { fs, random: new SeededRandom(++sessions) };
}

async function scatter(fs: FileSystem, file: string, seed: number, content: Buffer): Promise<void> {
  const random = new SeededRandom(seed);
  const disk = await openVhdx(file, { ...seams(fs), isWritable: true });
  for (let step = 0; step < 7; step++) {
    const start = random.int(SIZE);
    const end = Math.min(SIZE, start + 1 + random.int(step === 0 ? 2 * MIB : 30_000));
    const fill = 1 + random.int(255);
    content.fill(fill, start, end);
    await disk.write(start, Buffer.alloc(end - start, fill));
  }
  content.fill(0, 2 * MIB, 3 * MIB + 100);
  await disk.zero(2 * MIB, MIB + 100);
  await disk.close();
}

async function prepare(
  depth: number,
): Promise<{ fs: MemoryFileSystem; content: Buffer; child: string }> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/d');
  const content = Buffer.alloc(SIZE);
  await createVhdx(NAMES[0], { type: 'dynamic', sizeBytes: SIZE, blockSizeBytes: MIB }, seams(fs));
  await scatter(fs, NAMES[0], 1, content);
  for (let level = 1; level < depth; level++) {
    const [name, parentPath] = [NAMES[level] ?? '', NAMES[level - 1] ?? ''];
    await createVhdx(
      name,
      { type: 'differencing', parentPath, blockSizeBytes: 2 * MIB },
      seams(fs),
    );
    await scatter(fs, name, level + 1, content);
  }
  return { fs, content, child: NAMES[depth - 1] ?? '' };
}

async function readAll(fs: FileSystem, file: string): Promise<Buffer> {
  const disk = await openVhdx(file, seams(fs));
  const bytes = Buffer.alloc(SIZE);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

describe('crash: merging a child into its parent', function () {
  this.timeout(1_200_000);
  for (const depth of [2, 3]) {
    it(`a chain of ${depth}: right through the child at any moment, finished by the same command`, async () => {
      const { fs: volume, content, child } = await prepare(depth);
      const checked = await crashEverywhere({
        volume,
        run: async (fs) => {
          await mergeVhdx(child, seams(fs));
        },
        operationsMax: OPERATIONS,
        seedCount: 2,
        check: async (survivors) => {
          expect((await readAll(survivors, child)).equals(content), 'before going on').to.equal(
            true,
          );
          const isDone = (await survivors.status(NAMES[depth - 2] ?? '')) === undefined;
          const hasMark = (await survivors.list('/d')).some((name) => name.endsWith('.merge.json'));
          // Finished but for nothing: merging again would be the next level, or have no parent.
          if (!isDone || hasMark) await mergeVhdx(child, seams(survivors));
          expect((await readAll(survivors, child)).equals(content), 'after going on').to.equal(
            true,
          );
          const { violations, parents } = await checkVhdx(child, seams(survivors));
          expect(violations).to.deep.equal([]);
          expect(parents.length).to.equal(depth - 2);
          const names = await survivors.list('/d');
          expect(names.filter((name) => !name.endsWith('.unfinished')).length).to.equal(depth - 1);
        },
      });
      expect(checked).to.be.greaterThan(100);
    });
  }
});
