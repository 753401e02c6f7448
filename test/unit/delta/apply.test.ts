// Apply: what is checked before what, what the target holds when a delta is bad, and the base
// manifest that follows the target.

import { expect } from 'chai';

import {
  applyDelta,
  applyToCopy,
  BaseManifest,
  CELL_BYTES,
  type DeltaInput,
} from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import {
  asFile,
  BufferDisk,
  chunked,
  deltaBetween,
  manifestBytes,
  manifestOf,
  naiveApply,
  naiveRecords,
  pattern,
  pcbtBytes,
  refusal,
  testBaseHeader,
  testGuid,
  testHeader,
} from './builders.js';

const SIZE = 5 * CELL_BYTES + 100;
const BEFORE = pattern(SIZE, 1);
const AFTER = Buffer.from(BEFORE);
pattern(100, 9).copy(AFTER, 10);
AFTER.fill(0, 2 * CELL_BYTES, 4 * CELL_BYTES);
AFTER[SIZE - 1] = 77;

const fileInput = async (bytes: Buffer): Promise<DeltaInput> => ({
  kind: 'file',
  file: await asFile(bytes),
});
const streamInput = (bytes: Buffer, chunkBytes = 1000): DeltaInput => ({
  kind: 'stream',
  chunks: chunked(bytes, chunkBytes),
});

describe('apply of a delta', () => {
  for (const chunkBytes of [10_000_000, 70_000, 1000, 1]) {
    it(`brings the disk to the new point, in chunks of ${chunkBytes}`, async () => {
      const delta = await deltaBetween(BEFORE, AFTER);
      const target = BufferDisk.of(BEFORE);
      const manifest = await manifestOf(delta.manifest);
      await applyDelta(streamInput(delta.pcbt, chunkBytes), target, { manifest });
      expect(target.bytes.equals(AFTER)).to.equal(true);
      expect(target.flushCount).to.be.at.least(1);
    });
  }

  it('writes cells of zeros as zeros, joined, and counts them', async () => {
    const delta = await deltaBetween(BEFORE, AFTER);
    const target = BufferDisk.of(BEFORE);
    const result = await applyDelta(await fileInput(delta.pcbt), target);
    expect(target.bytes.equals(AFTER)).to.equal(true);
    expect(target.zeroedBytes).to.equal(2 * CELL_BYTES);
    expect(target.writtenBytes).to.equal(CELL_BYTES + 100);
    expect(result).to.deep.equal({
      blockCount: 3,
      deltaBytes: 3 * CELL_BYTES + 100,
      zeroBytes: 2 * CELL_BYTES,
    });
  });

  it('takes a foreign delta with unaligned blocks of any length', async () => {
    const pcbt = pcbtBytes([
      { offset: 1, data: pattern(3, 1) },
      { offset: 4, data: pattern(2 * CELL_BYTES, 2) },
      { offset: 3 * CELL_BYTES - 1, data: Buffer.alloc(CELL_BYTES + 2) },
      { offset: SIZE - 1, data: pattern(1, 3) },
    ]);
    const target = BufferDisk.of(BEFORE);
    await applyDelta(await fileInput(pcbt), target);
    expect(target.bytes.equals(naiveApply(BEFORE, pcbt))).to.equal(true);
  });

  it('gathers the parts of a cell: one read and one write for each cell', async () => {
    const blocks = [];
    for (let cell = 0; cell < 3; cell++) {
      for (let at = 7; at < 3000; at += 3) {
        blocks.push({ offset: cell * CELL_BYTES + at, data: pattern(1, at) });
      }
    }
    blocks.push({ offset: 3 * CELL_BYTES, data: Buffer.alloc(CELL_BYTES) });
    blocks.push(
      { offset: SIZE - 20, data: pattern(5, 8) },
      { offset: SIZE - 9, data: pattern(9, 9) },
    );
    const pcbt = pcbtBytes(blocks);
    const target = BufferDisk.of(BEFORE);
    let writeCount = 0;
    target.beforeChange = (what) => {
      if (what === 'write') writeCount++;
    };
    await applyDelta(streamInput(pcbt), target);
    expect(target.bytes.equals(naiveApply(BEFORE, pcbt))).to.equal(true);
    expect(writeCount).to.equal(4);
    expect(target.readBytes).to.be.at.most(4 * CELL_BYTES);
    expect(target.zeroedBytes).to.equal(CELL_BYTES);
    expect(target.writtenBytes).to.be.at.most(3 * 3000 + 20);
  });

  it('parts of a cell that touch each other need no read', async () => {
    const parts = [0, 1, 2].map((n) => ({ offset: 100 + 10 * n, data: pattern(10, n) }));
    const target = BufferDisk.of(BEFORE);
    await applyDelta(streamInput(pcbtBytes(parts)), target);
    expect(target.bytes.equals(naiveApply(BEFORE, pcbtBytes(parts)))).to.equal(true);
    expect(target.readBytes).to.equal(0);
    expect(target.writtenBytes).to.equal(30);
  });

  it('applying twice is applying once', async () => {
    const delta = await deltaBetween(BEFORE, AFTER);
    const target = BufferDisk.of(BEFORE);
    await applyDelta(await fileInput(delta.pcbt), target);
    await applyDelta(await fileInput(delta.pcbt), target);
    expect(target.bytes.equals(AFTER)).to.equal(true);
  });

  it('flushes each time so many bytes were written, and at the end', async () => {
    const after = pattern(40 * CELL_BYTES, 3);
    const delta = await deltaBetween(undefined, after);
    const target = new BufferDisk(after.length);
    const flushEveryBytes = 1024 * 1024;
    await applyDelta(await fileInput(delta.pcbt), target, { flushEveryBytes });
    expect(target.flushCount).to.equal(3);
  });

  it('an empty delta changes nothing and is made durable', async () => {
    const target = BufferDisk.of(BEFORE);
    await applyDelta(await fileInput(pcbtBytes([])), target);
    expect(target.bytes.equals(BEFORE)).to.equal(true);
    expect(target.flushCount).to.equal(1);
  });
});

describe('apply of a bad delta from a file leaves the target as it was', () => {
  async function untouched(
    code: Parameters<typeof refusal>[0],
    pcbt: Buffer,
    manifest?: Buffer,
  ): Promise<void> {
    const target = BufferDisk.of(BEFORE);
    target.beforeChange = (what) => {
      throw new Error(`${what} before the delta was checked`);
    };
    const error = await refusal(code, async () =>
      applyDelta(await fileInput(pcbt), target, {
        manifest: manifest && (await manifestOf(manifest)),
      }),
    );
    expect(error.done).to.equal('nothing was changed');
  }

  it('when its last byte is missing', async () => {
    const { pcbt } = await deltaBetween(BEFORE, AFTER);
    await untouched('E_PCBT_TRUNCATED', pcbt.subarray(0, -1));
  });

  it('when bytes follow its last block', async () => {
    const { pcbt } = await deltaBetween(BEFORE, AFTER);
    await untouched('E_PCBT_TRAILING', Buffer.concat([pcbt, Buffer.alloc(1)]));
  });

  it('when a block reaches beyond this disk', async () => {
    await untouched('E_PCBT_BEYOND_DISK', pcbtBytes([{ offset: SIZE, data: pattern(1, 1) }]));
  });

  it('when a byte of the last cell has flipped', async () => {
    const { pcbt, manifest } = await deltaBetween(BEFORE, AFTER);
    const flipped = Buffer.from(pcbt);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    await untouched('E_DELTA_HASH', flipped, manifest);
  });

  it('when a zero cell is not zero', async () => {
    const { pcbt, manifest } = await deltaBetween(BEFORE, AFTER);
    const flipped = Buffer.from(pcbt);
    const zeroCell = 16 + 16 + CELL_BYTES + 16;
    flipped[zeroCell + 5] = 1;
    await untouched('E_DELTA_HASH', flipped, manifest);
  });

  it('when the manifest lists a cell more, or a cell less', async () => {
    const { pcbt } = await deltaBetween(BEFORE, AFTER);
    const records = naiveRecords(BEFORE, AFTER);
    const more = await manifestBytes(testHeader(SIZE), [
      ...records.slice(0, 1),
      { kind: 'zero', cell: 1, count: 3 },
      ...records.slice(2),
    ]);
    await untouched('E_DELTA_COVERAGE', pcbt, more);
    const less = await manifestBytes(testHeader(SIZE), records.slice(0, -1));
    await untouched('E_DELTA_COVERAGE', pcbt, less);
    const notLast = await manifestBytes(testHeader(SIZE), records.slice(1));
    await untouched('E_DELTA_COVERAGE', pcbt, notLast);
  });

  it('when it covers a cell of the manifest in part', async () => {
    const records = naiveRecords(BEFORE, AFTER).slice(0, 1);
    const pcbt = pcbtBytes([{ offset: 0, data: AFTER.subarray(0, CELL_BYTES - 1) }]);
    await untouched('E_DELTA_COVERAGE', pcbt, await manifestBytes(testHeader(SIZE), records));
  });

  it('when the manifest is damaged, for another disk size, or the one of a base', async () => {
    const { pcbt, manifest } = await deltaBetween(BEFORE, AFTER);
    const damaged = Buffer.from(manifest);
    damaged[150] = (damaged[150] ?? 0) ^ 1;
    await untouched('E_DELTA_MANIFEST', pcbt, damaged);
    await untouched('E_DISK_MISMATCH', pcbt, await manifestBytes(testHeader(SIZE + 1), []));
    const base = await manifestBytes(testBaseHeader(SIZE), []);
    await untouched('E_DELTA_COVERAGE', pcbt, base);
  });
});

describe('apply of a bad delta from a stream', () => {
  it('checks each cell before that cell is written, and says that the target is in between', async () => {
    const { pcbt, manifest } = await deltaBetween(BEFORE, AFTER);
    const flipped = Buffer.from(pcbt);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    const target = BufferDisk.of(BEFORE);
    const error = await refusal('E_DELTA_HASH', async () =>
      applyDelta(streamInput(flipped), target, { manifest: await manifestOf(manifest) }),
    );
    expect(error.done).to.contain('between two points');
    const last = 5 * CELL_BYTES;
    expect(target.bytes.subarray(last).equals(BEFORE.subarray(last))).to.equal(true);
    await applyDelta(streamInput(pcbt), target);
    expect(target.bytes.equals(AFTER)).to.equal(true);
  });

  it('has changed nothing when the first block is bad', async () => {
    const target = BufferDisk.of(BEFORE);
    const pcbt = pcbtBytes([{ offset: SIZE, data: pattern(1, 1) }]);
    const error = await refusal('E_PCBT_BEYOND_DISK', () => applyDelta(streamInput(pcbt), target));
    expect(error.done).to.equal('nothing was changed');
  });
});

describe('apply and a failing target', () => {
  it('a disk full at any change is reported with its code, and applying again completes', async () => {
    const delta = await deltaBetween(BEFORE, AFTER);
    for (let failAt = 0; ; failAt++) {
      const target = BufferDisk.of(BEFORE);
      const seen = { count: 0 };
      target.beforeChange = () => {
        if (seen.count++ === failAt) throw new DrError('E_CAPACITY', 'the volume is full');
      };
      const manifest = await manifestOf(delta.manifest);
      const input = await fileInput(delta.pcbt);
      if (failAt < 4) {
        await refusal('E_CAPACITY', () => applyDelta(input, target, { manifest }));
      } else {
        await applyDelta(input, target, { manifest });
      }
      target.beforeChange = () => undefined;
      await applyDelta(await fileInput(delta.pcbt), target, { manifest });
      expect(target.bytes.equals(AFTER)).to.equal(true);
      if (failAt === 4) return;
    }
  });
});

describe('apply to a copy', () => {
  it('writes base and delta in ascending order, only what is not zeros', async () => {
    const size = 60 * CELL_BYTES + 5;
    const base = new BufferDisk(size);
    await base.write(3 * CELL_BYTES, pattern(20 * CELL_BYTES, 1));
    await base.write(50 * CELL_BYTES + 7, pattern(3, 2));
    const pcbt = pcbtBytes([
      { offset: CELL_BYTES + 3, data: pattern(10, 3) },
      { offset: 5 * CELL_BYTES, data: Buffer.alloc(2 * CELL_BYTES) },
      { offset: 22 * CELL_BYTES + 9, data: pattern(CELL_BYTES, 4) },
      { offset: size - 2, data: pattern(2, 5) },
    ]);
    const expected = naiveApply(base.bytes, pcbt);
    for (const input of [await fileInput(pcbt), streamInput(pcbt, 11)]) {
      const out = Buffer.alloc(size);
      let end = 0;
      const result = await applyToCopy(base, input, {
        write: async (offset, source) => {
          await Promise.resolve();
          expect(offset).to.be.at.least(end);
          expect(offset % CELL_BYTES).to.equal(0);
          end = offset + source.length;
          out.set(source, offset);
        },
      });
      expect(out.equals(expected)).to.equal(true);
      expect(result.zeroBytes).to.equal(2 * CELL_BYTES);
    }
  });

  it('an empty delta makes a plain copy', async () => {
    const base = BufferDisk.of(BEFORE);
    const out = Buffer.alloc(SIZE);
    await applyToCopy(base, await fileInput(pcbtBytes([])), {
      write: async (offset, source) => {
        await Promise.resolve();
        out.set(source, offset);
      },
    });
    expect(out.equals(BEFORE)).to.equal(true);
  });
});

describe('base manifest', () => {
  const PATH = '/store/base.manifest';

  async function prepared(): Promise<{ fs: MemoryFileSystem; base: BaseManifest }> {
    const fs = new MemoryFileSystem();
    await fs.makeFolder('/store');
    const base = new BaseManifest({ fs, random: new SeededRandom(1) }, PATH);
    const header = testBaseHeader(SIZE);
    await base.create(BufferDisk.of(BEFORE), header);
    return { fs, base };
  }

  async function findings(base: BaseManifest, disk: BufferDisk): Promise<number[]> {
    const cells: number[] = [];
    for await (const { cell } of base.verify(disk)) cells.push(cell);
    return cells;
  }

  it('is level with the disk after an apply, and equal to one made afresh', async () => {
    const { fs, base } = await prepared();
    const delta = await deltaBetween(BEFORE, AFTER);
    const target = BufferDisk.of(BEFORE);
    const manifest = await manifestOf(delta.manifest);
    await applyDelta(await fileInput(delta.pcbt), target, { manifest, base });
    expect(await findings(base, target)).to.deep.equal([]);
    const state = await base.state();
    expect(state.current.point).to.equal(testGuid(1));
    expect(state.applying).to.equal(undefined);
    const kept = fs.content(PATH);
    const header = testBaseHeader(SIZE, 1);
    await base.create(BufferDisk.of(AFTER), header);
    expect(fs.content(PATH)?.equals(kept ?? Buffer.alloc(0))).to.equal(true);
    expect(fs.paths.filter((path) => path !== PATH)).to.deep.equal([]);
  });

  it('an interrupted apply is known, accepts both states of a cell, and is completed', async () => {
    const { base } = await prepared();
    const delta = await deltaBetween(BEFORE, AFTER);
    const manifest = await manifestOf(delta.manifest);
    const target = BufferDisk.of(BEFORE);
    let left = 2;
    target.beforeChange = () => {
      if (left-- === 0) throw new DrError('E_IO', 'the device failed');
    };
    const input = await fileInput(delta.pcbt);
    await refusal('E_IO', () => applyDelta(input, target, { manifest, base }));
    target.beforeChange = () => undefined;
    const state = await base.state();
    expect(state.current.point).to.equal(testGuid(0));
    expect(state.applying?.point).to.equal(testGuid(1));
    expect(await findings(base, target)).to.deep.equal([]);
    target.bytes[CELL_BYTES] = (target.bytes[CELL_BYTES] ?? 0) ^ 1;
    expect(await findings(base, target)).to.deep.equal([1]);
    target.bytes[CELL_BYTES] = (target.bytes[CELL_BYTES] ?? 0) ^ 1;

    const other = await deltaBetween(BEFORE, AFTER, { ...testHeader(SIZE), point: testGuid(9) });
    await refusal('E_DELTA_UNFINISHED', async () =>
      applyDelta(await fileInput(other.pcbt), target, {
        manifest: await manifestOf(other.manifest),
        base,
      }),
    );
    await applyDelta(input, target, { manifest, base });
    expect((await base.state()).applying).to.equal(undefined);
    expect(target.bytes.equals(AFTER)).to.equal(true);
  });

  it('refuses a delta that does not follow the point of the disk, or is of another disk', async () => {
    const { base } = await prepared();
    const target = BufferDisk.of(BEFORE);
    const apply = async (header: ReturnType<typeof testHeader>): Promise<void> => {
      const delta = await deltaBetween(BEFORE, AFTER, header);
      const manifest = await manifestOf(delta.manifest);
      await applyDelta(await fileInput(delta.pcbt), target, { manifest, base });
    };
    await refusal('E_DELTA_PARENT', () => apply(testHeader(SIZE, 3)));
    await refusal('E_DISK_MISMATCH', () => apply({ ...testHeader(SIZE), diskGeneration: 2 }));
    await refusal('E_DISK_MISMATCH', () => apply({ ...testHeader(SIZE), vmId: testGuid(5) }));
    expect(target.bytes.equals(BEFORE)).to.equal(true);
    expect((await base.state()).applying).to.equal(undefined);
  });

  it('a stream refused before its first byte leaves no announcement, another delta may come', async () => {
    const { fs, base } = await prepared();
    const delta = await deltaBetween(BEFORE, AFTER);
    const manifest = await manifestOf(delta.manifest);
    const target = BufferDisk.of(BEFORE);
    const flipped = Buffer.from(delta.pcbt);
    flipped[40] = (flipped[40] ?? 0) ^ 1;
    for (const [code, bytes] of [
      ['E_PCBT_MAGIC', Buffer.from('garbage of some length')],
      ['E_PCBT_TRUNCATED', delta.pcbt.subarray(0, 0)],
      ['E_PCBT_TRUNCATED', delta.pcbt.subarray(0, 40)],
      ['E_DELTA_HASH', flipped],
    ] as const) {
      const error = await refusal(code, () =>
        applyDelta(streamInput(bytes), target, { manifest, base }),
      );
      expect(error.done).to.equal('nothing was changed');
      expect(fs.paths).to.deep.equal([PATH]);
    }
    const other = await deltaBetween(BEFORE, AFTER, { ...testHeader(SIZE), point: testGuid(9) });
    const next = await manifestOf(other.manifest);
    await applyDelta(streamInput(other.pcbt), target, { manifest: next, base });
    expect((await base.state()).current.point).to.equal(testGuid(9));
  });

  it('an announcement is withdrawn when nothing was written, but not one found', async () => {
    const { fs, base } = await prepared();
    const empty = await manifestOf(await manifestBytes(testHeader(SIZE), []));
    const target = BufferDisk.of(BEFORE);
    target.beforeChange = () => {
      throw new DrError('E_IO', 'the device failed');
    };
    const apply = (): Promise<unknown> =>
      applyDelta(streamInput(pcbtBytes([])), target, { manifest: empty, base });
    await refusal('E_IO', apply);
    expect(fs.paths).to.deep.equal([PATH]);
    expect(await base.begin(empty)).to.equal('new');
    expect(await base.begin(empty)).to.equal('resumed');
    await refusal('E_IO', apply);
    expect(fs.paths).to.deep.equal([PATH, `${PATH}.applying`]);
    target.beforeChange = () => undefined;
    await apply();
    expect((await base.state()).current.point).to.equal(testGuid(1));
    expect(fs.paths).to.deep.equal([PATH]);
  });

  it('an announcement that cannot be made durable is taken back, and nothing was changed', async () => {
    const { fs } = await prepared();
    const faulty = new FaultFileSystem(fs);
    faulty.inject({ kind: 'flushFolder' });
    const base = new BaseManifest({ fs: faulty, random: new SeededRandom(2) }, PATH);
    const delta = await deltaBetween(BEFORE, AFTER);
    const manifest = await manifestOf(delta.manifest);
    const target = BufferDisk.of(BEFORE);
    const apply = (): Promise<unknown> =>
      applyDelta(streamInput(delta.pcbt), target, { manifest, base });
    const error = await refusal('E_IO', apply);
    expect(error.done).to.equal('nothing was changed');
    expect(fs.paths).to.deep.equal([PATH]);
    expect(target.bytes.equals(BEFORE)).to.equal(true);
    await apply();
    expect(target.bytes.equals(AFTER)).to.equal(true);
  });

  it('a base that does not fit is refused before a stream is read', async () => {
    const { base } = await prepared();
    const { manifest } = await deltaBetween(BEFORE, AFTER, testHeader(SIZE, 3));
    const chunks = (async function* (): AsyncGenerator<Uint8Array> {
      await Promise.resolve();
      yield expect.fail('the stream was read');
    })();
    await refusal('E_DELTA_PARENT', async () =>
      applyDelta({ kind: 'stream', chunks }, BufferDisk.of(BEFORE), {
        manifest: await manifestOf(manifest),
        base,
      }),
    );
  });

  it('refuses the manifest of a delta in its place, and leaves that file as it is', async () => {
    const { pcbt, manifest: bytes } = await deltaBetween(BEFORE, AFTER);
    const fs = new MemoryFileSystem();
    fs.put('/d.manifest', bytes);
    const base = new BaseManifest({ fs, random: new SeededRandom(1) }, '/d.manifest');
    const target = BufferDisk.of(BEFORE);
    const manifest = await manifestOf(bytes);
    const error = await refusal('E_DELTA_COVERAGE', async () =>
      applyDelta(await fileInput(pcbt), target, { manifest, base }),
    );
    expect(error.message).to.contain('of a delta, where the one of a base is needed');
    expect(error.done).to.equal('nothing was changed');
    await refusal('E_DELTA_COVERAGE', () => base.state());
    await refusal('E_DELTA_COVERAGE', () => findings(base, target));
    expect(target.bytes.equals(BEFORE)).to.equal(true);
    expect(fs.paths).to.deep.equal(['/d.manifest']);
    expect(fs.content('/d.manifest')?.equals(bytes)).to.equal(true);
  });

  it('finds cells that differ, appeared, or vanished', async () => {
    const { base } = await prepared();
    const disk = BufferDisk.of(BEFORE);
    disk.bytes[0] = (disk.bytes[0] ?? 0) ^ 1;
    disk.bytes.fill(0, 2 * CELL_BYTES, 3 * CELL_BYTES);
    expect(await findings(base, disk)).to.deep.equal([0, 2]);
    // The same, but the zeros are a hole.
    expect(await findings(base, BufferDisk.of(disk.bytes))).to.deep.equal([0, 2]);
    const sparse = new MemoryFileSystem();
    await sparse.makeFolder('/store');
    const empty = new BaseManifest({ fs: sparse, random: new SeededRandom(1) }, PATH);
    await empty.create(new BufferDisk(SIZE), testBaseHeader(SIZE));
    expect(await findings(empty, disk)).to.deep.equal([0, 1, 3, 4, 5]);
  });
});
