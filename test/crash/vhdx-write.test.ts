// In-place writing: whatever is lost in a crash, the file opens again, passes every check, holds all
// that was acknowledged by a flush, and shows no byte that nobody wrote there.

import { expect } from 'chai';
import { checkVhdx, createVhdx, openVhdx } from '../../shared/vhdx/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { CrashFileSystem, SURVIVOR_STYLES } from '../support/crash-file.js';
import { crashEverywhere, runUntilCrash } from '../support/crash-everywhere.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';

const MIB = 1024 * 1024;
const OPERATIONS = process.env['SLOW'] === '1' ? 2000 : 40;
const SIZE = 6 * MIB + 512 * 3;

interface Change {
  readonly start: number;
  readonly end: number;
  readonly fill: number;
}

/** What a flush acknowledged, and what was written since: every byte has one of these values. */
class Expectation {
  acknowledged: Buffer = Buffer.alloc(SIZE);
  since: Change[] = [];

  clone(): Expectation {
    const copy = new Expectation();
    copy.acknowledged = Buffer.from(this.acknowledged);
    copy.since = [...this.since];
    return copy;
  }

  change(start: number, end: number, fill: number): void {
    this.since.push({ start, end, fill });
  }

  flushed(): void {
    for (const { start, end, fill } of this.since) this.acknowledged.fill(fill, start, end);
    this.since = [];
  }

  check(bytes: Buffer): void {
    if (bytes.equals(this.acknowledged)) return;
    const ACROSS = 512;
    for (let at = 0; at < SIZE; at += ACROSS) {
      const end = Math.min(at + ACROSS, SIZE);
      if (bytes.subarray(at, end).equals(this.acknowledged.subarray(at, end))) continue;
      for (let i = at; i < end; i++) {
        const value = bytes[i];
        if (value === this.acknowledged[i]) continue;
        const isLater = this.since.some((c) => i >= c.start && i < c.end && c.fill === value);
        if (!isLater) {
          expect.fail(
            `byte ${i} is ${value ?? -1}, acknowledged was ${this.acknowledged[i] ?? -1}`,
          );
        }
      }
    }
  }
}

const BASE = '/d/base.vhdx';
const CHILD = '/d/child.vhdx';

let sessions = 0;

/** Every session has other GUIDs, as in real life: a log GUID used twice would revive old entries. */
async function withSeams(fs: FileSystem): Promise<{ fs: FileSystem; random: SeededRandom }> {
  return Promise.resolve({ fs, random: new SeededRandom(++sessions) });
}

/** A session that allocates, overwrites, zeroes whole blocks (freeing space), reuses it, flushes. */
async function session(
  fs: FileSystem,
  file: string,
  expected: Expectation,
  seed: number,
): Promise<void> {
  const random = new SeededRandom(seed);
  const disk = await openVhdx(file, { ...(await withSeams(fs)), isWritable: true });
  for (let round = 0; round < 3; round++) {
    for (let step = 0; step < 4; step++) {
      const start = random.int(SIZE / 512) * 512;
      const isLarge = random.chance(0.3);
      const length = isLarge ? MIB + random.int(MIB) : 1 + random.int(9000);
      const end = Math.min(SIZE, start + length);
      if (random.chance(0.3)) {
        const block = Math.floor(start / MIB) * MIB;
        const blockEnd = Math.min(SIZE, block + MIB);
        expected.change(block, blockEnd, 0);
        await disk.zero(block, blockEnd - block);
      } else {
        const fill = 1 + random.int(255);
        expected.change(start, end, fill);
        await disk.write(start, Buffer.alloc(end - start, fill));
      }
    }
    await disk.flush();
    expected.flushed();
  }
  await disk.close();
}

async function readAll(fs: FileSystem, file: string): Promise<Buffer> {
  const disk = await openVhdx(file, await withSeams(fs));
  const bytes = Buffer.alloc(SIZE);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

async function prepare(file: string): Promise<MemoryFileSystem> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/d');
  const seams = await withSeams(fs);
  await createVhdx(BASE, { type: 'dynamic', sizeBytes: SIZE, blockSizeBytes: MIB }, seams);
  if (file === CHILD) {
    await createVhdx(
      CHILD,
      { type: 'differencing', parentPath: BASE, blockSizeBytes: 2 * MIB },
      seams,
    );
  }
  return fs;
}

describe('crash: writing a VHDX in place', function () {
  this.timeout(1_200_000);
  for (const file of [BASE, CHILD]) {
    it(`${file === BASE ? 'dynamic' : 'differencing'}: after a crash at any operation nothing acknowledged is lost and nothing foreign shows`, async () => {
      // A first session leaves data, freed space and a clean log behind.
      const volume = await prepare(file);
      const initial = new Expectation();
      await session(volume, file, initial, 5);
      let expected = initial;
      const checked = await crashEverywhere({
        volume,
        run: async (fs) => {
          expected = initial.clone();
          await session(fs, file, expected, 6);
        },
        operationsMax: OPERATIONS,
        seedCount: 2,
        check: async (survivors, { seed }) => {
          const { violations } = await checkVhdx(file, await withSeams(survivors));
          expect(violations).to.deep.equal([]);
          expected.check(await readAll(survivors, file));
          await crashInRecovery(survivors, file, seed, expected);
          // The survivor is a working disk: it can be written to and closed cleanly.
          const disk = await openVhdx(file, { ...(await withSeams(survivors)), isWritable: true });
          const before = Buffer.alloc(SIZE);
          await disk.read(0, before);
          expected.check(before);
          await disk.write(2 * MIB, Buffer.alloc(3 * MIB, 0x77));
          before.fill(0x77, 2 * MIB, 5 * MIB);
          await disk.close();
          expect((await readAll(survivors, file)).equals(before)).to.equal(true);
          const after = await checkVhdx(file, await withSeams(survivors));
          expect(after.violations).to.deep.equal([]);
          expect(after.warnings).to.deep.equal([]);
        },
      });
      expect(checked).to.be.greaterThan(100);
    });
  }
});

/** The open that replays the log is interrupted as well, at an operation chosen by the seed. */
async function crashInRecovery(
  survivors: MemoryFileSystem,
  file: string,
  seed: number,
  expected: Expectation,
): Promise<void> {
  const recover = async (fs: FileSystem): Promise<void> => {
    await (await openVhdx(file, { ...(await withSeams(fs)), isWritable: true })).close();
  };
  const rehearsal = new CrashFileSystem({ volume: survivors });
  await recover(rehearsal);
  if (rehearsal.operationCount === 0) return;
  const crashAt = 1 + (seed % rehearsal.operationCount);
  const again = new CrashFileSystem({ volume: survivors, crashAt });
  await runUntilCrash(again, recover);
  const style = SURVIVOR_STYLES[seed % SURVIVOR_STYLES.length];
  if (style === undefined) throw new Error('there are survivor styles');
  const twice = again.survivors(seed, style);
  const { violations } = await checkVhdx(file, await withSeams(twice));
  expect(violations).to.deep.equal([]);
  expected.check(await readAll(twice, file));
}
