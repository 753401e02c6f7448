// Diff: exactly the cells that differ, read only where a disk stores data, stable between passes.

import { expect } from 'chai';

import {
  CELL_BYTES,
  CellSet,
  diffDisks,
  encodeDelta,
  planDelta,
} from '../../../shared/delta/index.js';
import type { Extent, ReadableDisk } from '../../../shared/disk/index.js';
import {
  BufferDisk,
  collect,
  deltaBetween,
  naiveApply,
  naiveRecords,
  manifestBytes,
  pattern,
  refusal,
  testHeader,
} from './builders.js';

const SIZE = 5 * CELL_BYTES + 100;

function cellsOf(set: CellSet): number[] {
  const cells: number[] = [];
  for (const { start, end } of set.ranges()) for (let c = start; c < end; c++) cells.push(c);
  return cells;
}

describe('diff of two disks', () => {
  it('lists the cells that differ, the short last one included', async () => {
    const before = pattern(SIZE, 1);
    const after = Buffer.from(before);
    after[CELL_BYTES] = 0;
    after[SIZE - 1] = 0;
    const plan = await diffDisks(BufferDisk.of(before), BufferDisk.of(after));
    expect(cellsOf(plan.cells)).to.deep.equal([1, 5]);
  });

  it('a cell that becomes zeros is in the delta, as a zero cell', async () => {
    const before = pattern(SIZE, 1);
    const after = Buffer.from(before).fill(0, CELL_BYTES, 3 * CELL_BYTES);
    const delta = await deltaBetween(before, after);
    const expected = await manifestBytes(testHeader(SIZE), [{ kind: 'zero', cell: 1, count: 2 }]);
    expect(delta.manifest.equals(expected)).to.equal(true);
    expect(naiveApply(before, delta.pcbt).equals(after)).to.equal(true);
  });

  it('stored zeros and holes are the same', async () => {
    const stored = new BufferDisk(SIZE);
    await stored.write(0, Buffer.alloc(SIZE));
    const plan = await diffDisks(stored, new BufferDisk(SIZE));
    expect(plan.cells.count).to.equal(0);
  });

  it('reads nothing where neither disk stores data, and one disk where only it does', async () => {
    const before = new BufferDisk(100 * CELL_BYTES);
    const after = new BufferDisk(100 * CELL_BYTES);
    await before.write(10 * CELL_BYTES, pattern(CELL_BYTES, 1));
    await after.write(50 * CELL_BYTES, pattern(CELL_BYTES, 2));
    const plan = await diffDisks(before, after);
    expect(cellsOf(plan.cells)).to.deep.equal([10, 50]);
    expect(before.readBytes).to.equal(CELL_BYTES);
    expect(after.readBytes).to.equal(CELL_BYTES);
  });

  it('without an old disk lists what is not zeros', async () => {
    const disk = new BufferDisk(SIZE);
    await disk.write(2 * CELL_BYTES + 5, pattern(1, 1));
    await disk.write(4 * CELL_BYTES, Buffer.alloc(10));
    expect(cellsOf((await diffDisks(undefined, disk)).cells)).to.deep.equal([2]);
  });

  it('refuses disks of different sizes', async () => {
    await refusal('E_DISK_MISMATCH', () => diffDisks(new BufferDisk(100), new BufferDisk(101)));
  });

  it('an empty disk has an empty delta', async () => {
    const delta = await deltaBetween(Buffer.alloc(0), Buffer.alloc(0), testHeader(0));
    expect(delta.pcbt.length).to.equal(16);
  });

  it('manifest and PCBT are what the naive model says', async () => {
    const before = pattern(SIZE, 1);
    const after = Buffer.from(before);
    after.fill(0, 0, CELL_BYTES);
    after.fill(9, 3 * CELL_BYTES, 3 * CELL_BYTES + 1);
    const delta = await deltaBetween(before, after);
    const expected = await manifestBytes(testHeader(SIZE), naiveRecords(before, after));
    expect(delta.manifest.equals(expected)).to.equal(true);
  });

  it('a disk that changes between the passes is noticed', async () => {
    const disk = BufferDisk.of(pattern(SIZE, 1));
    const plan = await diffDisks(undefined, disk);
    disk.bytes[7] = (disk.bytes[7] ?? 0) ^ 1;
    await refusal('E_DELTA_UNSTABLE', () => collect(encodeDelta(disk, plan)));
  });

  it('changed cells in a row make blocks of at most 1 MiB', async () => {
    const disk = BufferDisk.of(pattern(40 * CELL_BYTES, 1));
    const plan = await diffDisks(undefined, disk);
    const lengths = [...planDelta(disk, plan).ranges].map((range) => range.lengthBytes);
    expect(lengths).to.deep.equal([1048576, 1048576, 8 * CELL_BYTES]);
  });

  it('memory does not follow the size of a sparse disk', async () => {
    const sizeBytes = 64 * 2 ** 40;
    const sparse = (count: number): ReadableDisk => ({
      sizeBytes,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      read: async (_offset, target) => {
        await Promise.resolve();
        target.fill(1);
      },
      async *extents(): AsyncGenerator<Extent> {
        await Promise.resolve();
        const step = sizeBytes / count;
        for (let i = 0; i < count; i++) {
          const start = i * step;
          yield { start, end: start + CELL_BYTES, kind: 'data' };
          yield { start: start + CELL_BYTES, end: start + step, kind: 'zero' };
        }
      },
      close: () => Promise.resolve(),
    });
    const plan = await diffDisks(undefined, sparse(4096));
    expect(plan.cells.count).to.equal(4096);
    expect(plan.cells.memoryBytes).to.be.at.most(4096 * 4);
  });
});

describe('cell set', () => {
  it('holds a page of scattered cells as a bitmap: one bit per cell at most', () => {
    const set = new CellSet();
    for (let cell = 0; cell < 4 * 65536; cell += 2) set.add(cell, cell + 1);
    expect(cellsOf(set)).to.have.length(4 * 32768);
    expect(set.memoryBytes).to.equal(4 * 8192);
  });

  it('gives back ranges across pages, joined', () => {
    const set = new CellSet();
    set.add(65530, 65540);
    set.add(65540, 3 * 65536);
    set.add(2 ** 30 - 1, 2 ** 30);
    const expected = [
      { start: 65530, end: 3 * 65536 },
      { start: 2 ** 30 - 1, end: 2 ** 30 },
    ];
    expect([...set.ranges()]).to.deep.equal(expected);
    expect([...set.ranges()]).to.deep.equal(expected);
  });

  it('a disk that changed whole costs four bytes per 4 GiB', () => {
    const set = new CellSet();
    set.add(0, 2 ** 30);
    expect([...set.ranges()]).to.deep.equal([{ start: 0, end: 2 ** 30 }]);
    expect(set.memoryBytes).to.equal(16384 * 4);
  });
});
