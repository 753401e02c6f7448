// Several writes of apply under way at once: data that is valid only for a moment, writes that fail,
// and parts of one cell, which must wait for each other.

import { expect } from 'chai';
import { applyDelta, CELL_BYTES } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { OverlappedWrites } from '../../../shared/delta/overlapped-writes.js';
import { BufferDisk, chunked, pattern, pcbtBytes, refusal } from './builders.js';

/** Writes its bytes only when told to, from the buffer as it is then. */
class SlowDisk extends BufferDisk {
  underWay = 0;
  underWayMax = 0;
  failAt: number | undefined;

  override async write(offset: number, source: Uint8Array): Promise<void> {
    await this.#later(async () => {
      if (offset === this.failAt) throw new Error(`write at ${offset}`);
      await super.write(offset, source);
    });
  }

  override async zero(offset: number, lengthBytes: number): Promise<void> {
    await this.#later(() => super.zero(offset, lengthBytes));
  }

  async #later(change: () => Promise<void>): Promise<void> {
    this.underWay++;
    this.underWayMax = Math.max(this.underWayMax, this.underWay);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    try {
      await change();
    } finally {
      this.underWay--;
    }
  }
}

function slowDisk(sizeBytes: number): SlowDisk {
  const disk = new SlowDisk(sizeBytes);
  disk.bytes.fill(1);
  return disk;
}

describe('overlapped writes', () => {
  it('give the buffer back before the write has happened', async () => {
    const disk = slowDisk(40);
    const writes = new OverlappedWrites(disk);
    const buffer = Buffer.alloc(4);
    for (let place = 0; place < 10; place++) {
      buffer.fill(place);
      await writes.write(place * 4, buffer);
      buffer.fill(99);
    }
    await writes.drain();
    const expected = Array.from({ length: 40 }, (_, index) => Math.floor(index / 4));
    expect([...disk.bytes]).to.deep.equal(expected);
    expect(disk.underWayMax).to.equal(4);
  });

  it('show a failure in a later call, and leave nothing under way behind it', async () => {
    const disk = slowDisk(40);
    disk.failAt = 4;
    const writes = new OverlappedWrites(disk);
    let failure: unknown;
    try {
      for (let place = 0; place < 10; place++) await writes.write(place * 4, Buffer.alloc(4));
    } catch (error) {
      failure = error;
    }
    expect(failure).to.be.instanceOf(Error).with.property('message', 'write at 4');
    await writes.settled();
    expect(disk.underWay).to.equal(0);
    expect(disk.bytes[39]).to.equal(1);
  });
});

describe('overlapped writes onto a disk that refuses everything after a failure', () => {
  it('report the failure, even when the refusal of another write ends first', async () => {
    const disk = slowDisk(40);
    const full = new DrError('E_CAPACITY', 'the volume is full');
    disk.write = async (offset) => {
      for (let turn = 0; turn < (offset === 0 ? 50 : 1); turn++) await Promise.resolve();
      if (offset === 0) throw full;
      throw new DrError('E_VHDX_POISONED', 'an earlier write failed', { cause: full });
    };
    const writes = new OverlappedWrites(disk);
    await writes.write(0, Buffer.alloc(4));
    await writes.write(4, Buffer.alloc(4));
    await refusal('E_CAPACITY', () => writes.drain());
  });
});

describe('apply with several writes under way', () => {
  const SIZE = 12 * CELL_BYTES;

  it('overlaps whole cells, zeros among them', async () => {
    const disk = slowDisk(SIZE);
    const expected = Buffer.from(disk.bytes);
    const blocks = [0, 2, 4, 6, 8, 10].map((cell) => ({
      offset: cell * CELL_BYTES,
      data: cell === 4 ? Buffer.alloc(CELL_BYTES) : pattern(CELL_BYTES, cell),
    }));
    for (const { offset, data } of blocks) data.copy(expected, offset);
    const chunks = chunked(pcbtBytes(blocks), 50_000);
    await applyDelta({ kind: 'stream', chunks }, disk);
    expect(disk.bytes.equals(expected)).to.equal(true);
    expect(disk.underWayMax).to.be.greaterThan(1);
  });

  it('never overlaps two parts of one cell, which may share a sector', async () => {
    const disk = slowDisk(SIZE);
    const blocks = [100, 200, 300, 400].map((offset) => ({ offset, data: pattern(50, offset) }));
    const chunks = chunked(pcbtBytes(blocks), 1000);
    await applyDelta({ kind: 'stream', chunks }, disk);
    expect(disk.underWayMax).to.equal(1);
  });

  it('has nothing under way when it fails', async () => {
    const disk = slowDisk(SIZE);
    disk.failAt = 2 * CELL_BYTES;
    const blocks = [0, 2, 4, 6].map((cell) => ({
      offset: cell * CELL_BYTES,
      data: pattern(CELL_BYTES, cell),
    }));
    let isRefused = false;
    try {
      await applyDelta({ kind: 'stream', chunks: chunked(pcbtBytes(blocks), 1000) }, disk);
    } catch {
      isRefused = true;
    }
    expect(isRefused).to.equal(true);
    expect(disk.underWay).to.equal(0);
  });
});
