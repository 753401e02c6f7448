// Small VHDX files in memory for tests that damage, replay or mutate them. Generators, not binaries:
// each call builds the file through the engine's own writing side, and a test gets a clone of it.

import { createVhdx, openVhdx, type VhdxDisk } from '../../shared/vhdx/index.js';
import { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

const MIB = 1024 * 1024;

export interface Seed {
  readonly fs: MemoryFileSystem;
  /** The file that tests damage; parents stand beside it. */
  readonly path: string;
  readonly sizeBytes: number;
  /** What a guest reads, all of it. */
  readonly content: Buffer;
}

export type SeedName = 'dynamic' | 'fixed' | 'child' | 'dirty' | 'dirty-child' | 'sectors-4096';

export const SEED_NAMES: readonly SeedName[] = [
  'dynamic',
  'fixed',
  'child',
  'dirty',
  'dirty-child',
  'sectors-4096',
];

const made = new Map<SeedName, Promise<Seed>>();

/** A fresh copy of a seed; the original is built once. */
export async function seedFile(name: SeedName): Promise<Seed> {
  let seed = made.get(name);
  if (seed === undefined) {
    seed = build(name);
    made.set(name, seed);
  }
  const { fs, content, ...rest } = await seed;
  return { ...rest, fs: fs.clone(), content: Buffer.from(content) };
}

interface Change {
  readonly start: number;
  readonly end: number;
  /** 0: zeroed. */
  readonly fill: number;
}

async function change(disk: VhdxDisk, content: Buffer, changes: readonly Change[]): Promise<void> {
  for (const { start, end, fill } of changes) {
    content.fill(fill, start, end);
    if (fill === 0) await disk.zero(start, end - start);
    else await disk.write(start, Buffer.alloc(end - start, fill));
  }
}

async function build(name: SeedName): Promise<Seed> {
  const fs = new MemoryFileSystem();
  await fs.makeFolder('/d');
  const seams = { fs, random: new SeededRandom(11) };
  const base = '/d/base.vhdx';
  const child = '/d/child.avhdx';
  const logicalSectorBytes = name === 'sectors-4096' ? 4096 : 512;
  const sizeBytes = 5 * MIB + 4096 * 3;
  const content = Buffer.alloc(sizeBytes);
  const type = name === 'fixed' ? 'fixed' : 'dynamic';
  await createVhdx(base, { type, sizeBytes, blockSizeBytes: MIB, logicalSectorBytes }, seams);

  let disk = await openVhdx(base, { ...seams, isWritable: true });
  await change(disk, content, [
    { start: 4096, end: 12288, fill: 0x11 },
    { start: MIB - 512 * 8, end: MIB + 4096, fill: 0x22 },
    { start: 3 * MIB, end: 4 * MIB, fill: 0x33 },
    { start: sizeBytes - 4096, end: sizeBytes, fill: 0x44 },
    { start: 3 * MIB, end: 4 * MIB, fill: 0 },
  ]);
  if (name === 'dirty') {
    await disk.flush();
    await change(disk, content, [{ start: 2 * MIB, end: 2 * MIB + 4096, fill: 0x55 }]);
    await disk.flush();
    return { fs: crashed(fs), path: base, sizeBytes, content };
  }
  await disk.close();
  if (name !== 'child' && name !== 'dirty-child') return { fs, path: base, sizeBytes, content };

  await createVhdx(child, { type: 'differencing', parentPath: base, blockSizeBytes: MIB }, seams);
  disk = await openVhdx(child, { ...seams, isWritable: true });
  await change(disk, content, [
    { start: 8192, end: 16384, fill: 0x66 },
    { start: MIB, end: 2 * MIB, fill: 0x77 },
    { start: 3 * MIB, end: 4 * MIB, fill: 0 },
    { start: 4 * MIB + 4096, end: 4 * MIB + 8192, fill: 0x88 },
  ]);
  if (name === 'dirty-child') {
    await disk.flush();
    return { fs: crashed(fs), path: child, sizeBytes, content };
  }
  await disk.close();
  return { fs, path: child, sizeBytes, content };
}

/** The volume as it is at this moment, without the handles that are open on it. */
function crashed(fs: MemoryFileSystem): MemoryFileSystem {
  return fs.clone();
}
