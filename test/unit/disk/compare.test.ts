import { expect } from 'chai';
import { createHash } from 'node:crypto';
import {
  compareDisks,
  hashDisk,
  isAllZero,
  openRawDisk,
  type Difference,
  type RawDisk,
} from '../../../shared/disk/index.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';

const CELL = 65_536;

async function diskOf(bytes: Buffer): Promise<RawDisk> {
  const volume = new MemoryFileSystem();
  volume.put('/d', bytes);
  return openRawDisk('/d', { fs: volume });
}

/** A sparse disk with `pieces` in it. */
async function sparse(
  sizeBytes: number,
  pieces: readonly (readonly [number, Buffer])[],
): Promise<{ disk: RawDisk; counting: CountingFileSystem }> {
  const volume = new MemoryFileSystem();
  const file = await volume.open('/d', { mode: 'create' });
  await file.truncate(sizeBytes);
  for (const [position, bytes] of pieces) await file.write(position, bytes);
  await file.close();
  const counting = new CountingFileSystem(volume);
  return { disk: await openRawDisk('/d', { fs: counting }), counting };
}

async function all(differences: AsyncIterable<Difference>): Promise<Difference[]> {
  const out: Difference[] = [];
  for await (const difference of differences) out.push(difference);
  return out;
}

/** The same answer, the slow way. */
function naive(one: Buffer, other: Buffer): Difference[] {
  const out: Difference[] = [];
  for (let start = 0; start < one.length; start += CELL) {
    const end = Math.min(start + CELL, one.length);
    if (one.subarray(start, end).equals(other.subarray(start, end))) continue;
    let firstByte = start;
    while (firstByte < end && one[firstByte] === other[firstByte]) firstByte++;
    const last = out.at(-1);
    if (last?.end === start) out[out.length - 1] = { ...last, end };
    else out.push({ start, end, firstByte });
  }
  return out;
}

describe('comparing disks', () => {
  it('finds nothing between equal disks, sparse or not', async () => {
    const bytes = Buffer.alloc(5 * CELL + 77);
    new SeededRandom(1).fill(bytes.subarray(CELL, 2 * CELL));
    const { disk } = await sparse(bytes.length, [[CELL, bytes.subarray(CELL, 2 * CELL)]]);
    expect(await all(compareDisks(await diskOf(bytes), disk))).to.deep.equal([]);
    expect(await all(compareDisks(disk, await diskOf(bytes)))).to.deep.equal([]);
  });

  it('gives runs of cells and the first byte, as a naive comparison does', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new SeededRandom(seed);
      const sizeBytes = random.between(1, 70 * CELL);
      const one = Buffer.alloc(sizeBytes);
      for (let i = random.int(5); i > 0; i--) {
        random.fill(one.subarray(random.int(sizeBytes)).subarray(0, random.int(10 * CELL)));
      }
      const other = Buffer.from(one);
      for (let i = random.int(8); i > 0; i--) {
        const start = random.int(sizeBytes);
        other.fill(random.int(256), start, Math.min(sizeBytes, start + random.int(3 * CELL)));
      }
      const pieces: [number, Buffer][] = [];
      for (let at = 0; at < sizeBytes; at += 4096) {
        const piece = other.subarray(at, at + 4096);
        if (!isAllZero(piece)) pieces.push([at, piece]);
      }
      const { disk } = await sparse(sizeBytes, pieces);
      const found = await all(compareDisks(await diskOf(one), disk));
      expect(found, `seed ${seed}`).to.deep.equal(naive(one, other));
    }
  });

  it('reads nothing where both know zeros, and one side where one does', async () => {
    const size = 8 * 2 ** 40;
    const one = await sparse(size, [[2 ** 40, Buffer.alloc(CELL, 1)]]);
    const other = await sparse(size, [[3 * 2 ** 40, Buffer.alloc(CELL)]]);
    expect(await all(compareDisks(one.disk, other.disk))).to.deep.equal([
      { start: 2 ** 40, end: 2 ** 40 + CELL, firstByte: 2 ** 40 },
    ]);
    expect(one.counting.tally('read').lengthBytes).to.equal(CELL);
    expect(other.counting.tally('read').lengthBytes).to.equal(CELL);
  });

  it('refuses disks of two sizes', async () => {
    const failure: unknown = await all(
      compareDisks(await diskOf(Buffer.alloc(512)), await diskOf(Buffer.alloc(1024))),
    ).catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'E_DISK_MISMATCH');
  });

  it('passes on a read that failed, and stops when told to', async () => {
    const fileSystem = new FaultFileSystem(new MemoryFileSystem());
    const file = await fileSystem.open('/d', { mode: 'create' });
    await file.write(0, Buffer.alloc(40 * CELL, 1));
    await file.close();
    const bad = await openRawDisk('/d', { fs: fileSystem });
    const good = await diskOf(Buffer.alloc(40 * CELL, 2));
    fileSystem.inject({ kind: 'read', nth: 2 });
    const failure: unknown = await all(compareDisks(bad, good)).catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'E_IO');

    const signal = AbortSignal.abort(new Error('enough'));
    const stopped: unknown = await all(compareDisks(good, good, { signal })).catch(
      (error: unknown) => error,
    );
    expect(stopped).to.have.property('message', 'enough');
  });

  it('may be left before its end', async () => {
    const one = await diskOf(Buffer.alloc(40 * CELL, 1));
    const changed = Buffer.alloc(40 * CELL, 1);
    changed[0] = 2;
    changed[20 * CELL] = 2;
    for await (const difference of compareDisks(one, await diskOf(changed))) {
      expect(difference.firstByte).to.equal(0);
      break;
    }
    await one.close();
  });
});

describe('hashing disks', () => {
  it('agrees with the hash of all bytes, zeros included', async () => {
    const bytes = Buffer.alloc(40 * CELL + 321);
    new SeededRandom(3).fill(bytes.subarray(18 * CELL + 7, 20 * CELL));
    const expected = createHash('sha256').update(bytes).digest('hex');
    expect(await hashDisk(await diskOf(bytes))).to.equal(expected);
    const pieces = [[18 * CELL, bytes.subarray(18 * CELL, 20 * CELL)]] as const;
    const { disk, counting } = await sparse(bytes.length, pieces);
    expect(await hashDisk(disk)).to.equal(expected);
    expect(counting.tally('read').lengthBytes).to.equal(2 * CELL);
  });

  it('hashes an empty disk', async () => {
    expect(await hashDisk(await diskOf(Buffer.alloc(0)))).to.equal(
      createHash('sha256').digest('hex'),
    );
  });
});
