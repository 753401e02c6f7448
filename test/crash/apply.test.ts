// Apply onto a raw file and onto a VHDX, through the very open path of the command line: wherever
// the power goes, whatever survives, applying the same delta again gives the new point; the base
// manifest knows the state at every moment. The same for a full disk and for failed flushes.

import { expect } from 'chai';

import { ZERO_GUID } from '../../shared/bytes/index.js';
import { applyDelta, BaseManifest, CELL_BYTES, ManifestFile } from '../../shared/delta/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { openImage } from '../../shared/image/index.js';
import { checkVhdx, createVhdx } from '../../shared/vhdx/index.js';
import { crashEverywhere, runUntilCrash } from '../support/crash-everywhere.js';
import { CrashFileSystem, SURVIVOR_STYLES } from '../support/crash-file.js';
import { FaultFileSystem } from '../support/fault-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { deltaBetween, pattern, refusal, testGuid, testHeader } from '../unit/delta/builders.js';

const MIB = 1024 * 1024;
const SIZE = 3 * MIB + 512 * 5;
const BASE_MANIFEST = '/d/base.manifest';
const DELTA = '/d/one.cbt';
const MANIFEST = '/d/one.manifest';
const IS_SLOW = process.env['SLOW'] === '1';
const OPERATIONS = IS_SLOW ? 2000 : 24;
const TRIALS = IS_SLOW ? 300 : 12;

let sessions = 0;
/** Every session has other GUIDs, as in real life. */
const freshRandom = (): SeededRandom => new SeededRandom(++sessions);

interface Case {
  readonly name: string;
  readonly disk: string;
}

const CASES: readonly Case[] = [
  { name: 'a raw file', disk: '/d/base.raw' },
  { name: 'a VHDX', disk: '/d/base.vhdx' },
];

async function withDisk<T>(
  fs: FileSystem,
  disk: string,
  use: (opened: Awaited<ReturnType<typeof openWritable>>) => Promise<T>,
): Promise<T> {
  const opened = await openWritable(fs, disk);
  let result: T;
  try {
    result = await use(opened);
  } catch (error) {
    await opened.close().catch(() => undefined);
    throw error;
  }
  await opened.close();
  return result;
}

function openWritable(fs: FileSystem, disk: string) {
  return openImage(fs, disk, { writable: true, random: freshRandom() });
}

/** The command's work: delta and manifest from files, the base manifest kept level. */
async function apply(fs: FileSystem, disk: string): Promise<void> {
  const delta = await fs.open(DELTA, { mode: 'read' });
  const manifestFile = await fs.open(MANIFEST, { mode: 'read' });
  try {
    const manifest = await ManifestFile.open(manifestFile);
    await withDisk(fs, disk, (target) =>
      applyDelta({ kind: 'file', file: delta }, target, {
        manifest,
        base: new BaseManifest({ fs, random: freshRandom() }, BASE_MANIFEST),
        flushEveryBytes: MIB,
      }),
    );
  } finally {
    await delta.close();
    await manifestFile.close();
  }
}

async function content(fs: FileSystem, disk: string): Promise<Buffer> {
  const opened = await openImage(fs, disk, { random: freshRandom() });
  const bytes = Buffer.alloc(opened.sizeBytes);
  await opened.read(0, bytes);
  await opened.close();
  return bytes;
}

interface Prepared {
  readonly volume: MemoryFileSystem;
  readonly before: Buffer;
  readonly after: Buffer;
}

async function prepare(disk: string): Promise<Prepared> {
  const volume = new MemoryFileSystem();
  await volume.makeFolder('/d');
  const before = pattern(SIZE, 1);
  before.fill(0, MIB, 2 * MIB);
  const after = Buffer.from(before);
  pattern(3 * CELL_BYTES, 2).copy(after, CELL_BYTES);
  pattern(100, 3).copy(after, MIB + 5);
  after.fill(0, 2 * MIB, 3 * MIB);
  pattern(20, 4).copy(after, SIZE - 20);
  if (disk.endsWith('.vhdx')) {
    const seams = { fs: volume, random: freshRandom() };
    await createVhdx(disk, { type: 'dynamic', sizeBytes: SIZE, blockSizeBytes: MIB }, seams);
  } else {
    volume.put(disk, Buffer.alloc(SIZE));
  }
  await withDisk(volume, disk, async (opened) => {
    await opened.write(0, before.subarray(0, MIB));
    await opened.write(2 * MIB, before.subarray(2 * MIB));
    await opened.flush();
    const base = new BaseManifest({ fs: volume, random: freshRandom() }, BASE_MANIFEST);
    const header = { ...testHeader(SIZE, 0), kind: 'base', parentPoint: ZERO_GUID } as const;
    await base.create(opened, header);
  });
  const delta = await deltaBetween(before, after);
  volume.put(DELTA, delta.pcbt);
  volume.put(MANIFEST, delta.manifest);
  return { volume, before, after };
}

/** Each cell is the old or the new one, the disk is sound, and the manifests know it. */
async function checkState(found: FileSystem, disk: string, prepared: Prepared): Promise<void> {
  const { before, after } = prepared;
  const bytes = await content(found, disk);
  const base = new BaseManifest({ fs: found, random: freshRandom() }, BASE_MANIFEST);
  const { current, applying } = await base.state();
  if (applying === undefined) {
    const expected = current.point === testGuid(1) ? after : before;
    expect(bytes.equals(expected), 'between two points, and nothing says so').to.equal(true);
  }
  for (let at = 0; at < SIZE; at += 512) {
    const end = Math.min(SIZE, at + 512);
    const sector = bytes.subarray(at, end);
    if (sector.equals(before.subarray(at, end)) || sector.equals(after.subarray(at, end))) continue;
    expect.fail(`foreign bytes at ${at}`);
  }
}

async function checkDone(found: FileSystem, disk: string, prepared: Prepared): Promise<void> {
  expect((await content(found, disk)).equals(prepared.after), 'the new point').to.equal(true);
  const base = new BaseManifest({ fs: found, random: freshRandom() }, BASE_MANIFEST);
  const state = await base.state();
  expect(state.current.point).to.equal(testGuid(1));
  expect(state.applying).to.equal(undefined);
  await withDisk(found, disk, async (opened) => {
    for await (const { cell } of base.verify(opened)) expect.fail(`cell ${cell} differs`);
  });
  if (!disk.endsWith('.vhdx')) return;
  const { violations } = await checkVhdx(disk, { fs: found, random: freshRandom() });
  expect(violations).to.deep.equal([]);
}

describe('crash of an apply', function () {
  this.timeout(600_000);

  for (const { name, disk } of CASES) {
    it(`onto ${name}: any state that survives is completed by applying again`, async () => {
      const prepared = await prepare(disk);
      const count = await crashEverywhere({
        volume: prepared.volume,
        operationsMax: OPERATIONS,
        seedCount: IS_SLOW ? 8 : 2,
        run: (fs) => apply(fs, disk),
        check: async (found, place) => {
          await checkState(found.clone(), disk, prepared);
          if (place.hasFinished) await checkDone(found.clone(), disk, prepared);
          await apply(found, disk);
          await checkDone(found, disk, prepared);
        },
      });
      expect(count).to.be.above(100);
    });

    it(`onto ${name}: a crash while applying again is mended like the first`, async () => {
      const prepared = await prepare(disk);
      const rehearsal = new CrashFileSystem({ volume: prepared.volume });
      await apply(rehearsal, disk);
      const random = new SeededRandom(5);
      for (let trial = 0; trial < TRIALS; trial++) {
        let volume = prepared.volume;
        for (let round = 0; round < 3; round++) {
          const crashAt = random.between(1, rehearsal.operationCount + 1);
          const fs = new CrashFileSystem({ volume, crashAt });
          await runUntilCrash(fs, (under) => apply(under, disk));
          fs.crashNow();
          volume = fs.survivors(trial * 10 + round, random.pick(SURVIVOR_STYLES));
          await checkState(volume.clone(), disk, prepared);
        }
        await apply(volume, disk);
        await checkDone(volume, disk, prepared);
      }
    });

    for (const code of ['E_CAPACITY', 'E_IO'] as const) {
      it(`onto ${name}: ${code} at each write is reported, and applying again completes`, async () => {
        const prepared = await prepare(disk);
        const rehearsal = new FaultFileSystem(prepared.volume.clone());
        await apply(rehearsal, disk);
        const count = rehearsal.callCount('write');
        expect(count).to.be.above(5);
        for (let nth = 1; nth <= count; nth++) {
          const volume = prepared.volume.clone();
          const fs = new FaultFileSystem(volume);
          fs.inject({
            kind: 'write',
            nth,
            times: Infinity,
            code,
            partialBytes: nth % 3 === 0 ? 1024 : 0,
          });
          await refusal(code, () => apply(fs, disk));
          await checkState(volume, disk, prepared);
          await apply(volume, disk);
          await checkDone(volume, disk, prepared);
        }
      });
    }

    it(`onto ${name}: after a failed flush nothing is called done`, async () => {
      const prepared = await prepare(disk);
      const rehearsal = new FaultFileSystem(prepared.volume.clone());
      await apply(rehearsal, disk);
      const count = rehearsal.callCount('flush');
      for (let nth = 1; nth <= count; nth++) {
        const crash = new CrashFileSystem({ volume: prepared.volume });
        const fs = new FaultFileSystem(crash);
        fs.inject({ kind: 'flush', nth });
        await refusal('E_IO', () => apply(fs, disk));
        crash.crashNow();
        for (const style of SURVIVOR_STYLES) {
          const found = crash.survivors(nth, style);
          await checkState(found.clone(), disk, prepared);
          await apply(found, disk);
          await checkDone(found, disk, prepared);
        }
      }
    });
  }
});
