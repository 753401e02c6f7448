import { expect } from 'chai';
import { CELL_BYTES, GatheredHashes, hashCell } from '../../../shared/delta/index.js';
import { HashThread } from '../../../shared/delta/hash-thread.js';
import { isAllZero } from '../../../shared/disk/index.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';

const MIB = 1024 * 1024;
/** More than is hashed without the thread, and a short cell at the end. */
const SIZE = 40 * MIB + 3 * 512;

interface Told {
  readonly cell: number;
  readonly hash: string;
}

describe('hashes of a disk that goes by', () => {
  const random = new SeededRandom(7);
  const disk = random.fill(Buffer.alloc(SIZE));
  disk.fill(0, 5 * CELL_BYTES, 9 * CELL_BYTES);
  disk.fill(0, 36 * MIB, 37 * MIB);
  // one byte is no zero cell
  disk[36 * MIB + 3 * CELL_BYTES + 17] = 1;

  const expected: Told[] = [];
  for (let at = 0; at < SIZE; at += CELL_BYTES) {
    const bytes = disk.subarray(at, at + CELL_BYTES);
    if (isAllZero(bytes)) continue;
    expected.push({ cell: at / CELL_BYTES, hash: hashCell(bytes).toString('hex') });
  }

  async function toldOf(pieceBytes: () => number): Promise<Told[]> {
    const told: Told[] = [];
    const hashes = new GatheredHashes(SIZE, (cell, hash) => {
      told.push({ cell, hash: hash.toString('hex') });
      return Promise.resolve();
    });
    try {
      for (let at = 0; at < SIZE;) {
        // as callers do: the same memory for every piece
        const piece = Buffer.from(disk.subarray(at, at + pieceBytes()));
        await hashes.add(at, piece);
        at += piece.length;
        piece.fill(0xee);
      }
      await hashes.finish();
    } finally {
      await hashes.close();
    }
    return told;
  }

  it('are those of its cells, zeros left out, in pieces of 1 MiB', async () => {
    expect(await toldOf(() => MIB)).to.deep.equal(expected);
  });

  it('are the same in pieces that fit no cell', async () => {
    expect(await toldOf(() => 512 * (1 + (random.next() % 5000)))).to.deep.equal(expected);
  });

  it('leave out what was not told', async () => {
    const cells: number[] = [];
    const hashes = new GatheredHashes(SIZE, (cell) => {
      cells.push(cell);
      return Promise.resolve();
    });
    await hashes.add(3 * CELL_BYTES + 512, disk.subarray(0, 512));
    await hashes.add(100 * CELL_BYTES, disk.subarray(0, 2 * CELL_BYTES));
    await hashes.finish();
    await hashes.close();
    expect(cells).to.deep.equal([3, 100, 101]);
  });

  it('that cannot be made any more fail whoever waits for them', async () => {
    const thread = new HashThread();
    const bytes = disk.subarray(0, MIB);
    for (let times = 0; times < 33; times++) await (await thread.submit(bytes)).hashes;
    const { hashes } = await thread.submit(bytes);
    await thread.close();
    expect((await refusal(() => hashes)).code).to.equal('E_INTERNAL');
    expect((await refusal(() => thread.submit(bytes))).code).to.equal('E_INTERNAL');
  });
});
