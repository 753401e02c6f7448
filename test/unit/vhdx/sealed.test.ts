// Sealed files against a naive model: what was written in ascending order is what an open disk
// reads, in every type, block and sector size; nothing appears under the final name before finish().

import { expect } from 'chai';
import { AssertionError } from '../../../shared/assert.js';
import type { Extent, ReadableDisk } from '../../../shared/disk/index.js';
import { DrError } from '../../../shared/errors.js';
import type { FileSystem } from '../../../shared/files/index.js';
import {
  checkVhdx,
  childOf,
  createVhdx,
  describeVhdx,
  openVhdx,
  SealedVhdxWriter,
  type NewDisk,
} from '../../../shared/vhdx/index.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

async function begin(
  fs: FileSystem,
  disk: NewDisk,
  path = '/disk.vhdx',
): Promise<SealedVhdxWriter> {
  return SealedVhdxWriter.create({ ...disk, fs, random: new SeededRandom(1), path });
}

async function open(fs: FileSystem, path = '/disk.vhdx'): Promise<ReadableDisk> {
  return openVhdx(path, { fs, random: new SeededRandom(2) });
}

async function readAt(disk: ReadableDisk, offset: number, lengthBytes: number): Promise<Buffer> {
  const out = Buffer.alloc(lengthBytes, 0xee);
  await disk.read(offset, out);
  return out;
}

async function expectSound(fs: FileSystem, path = '/disk.vhdx'): Promise<void> {
  const { violations, warnings } = await checkVhdx(path, { fs, random: new SeededRandom(3) });
  expect(violations).to.deep.equal([]);
  expect(warnings).to.deep.equal([]);
}

async function all(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const out: Extent[] = [];
  for await (const extent of extents) out.push(extent);
  return out;
}

async function failure(action: () => Promise<unknown>): Promise<DrError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
  throw new Error('did not fail');
}

describe('sealed VHDX', function () {
  this.timeout(60_000);

  for (const type of ['dynamic', 'fixed'] as const) {
    for (const [blockSizeBytes, logicalSectorBytes, sizeBytes] of [
      [MIB, 512, 5 * MIB + 512],
      [2 * MIB, 4096, 9 * MIB + 4096],
      [32 * MIB, 512, 40 * MIB],
      [256 * MIB, 512, 300 * MIB - 512],
    ] as const) {
      const name = `${type}, blocks of ${blockSizeBytes / MIB} MiB, sectors of ${logicalSectorBytes}`;
      it(`reads back what was written at any alignment: ${name}`, async () => {
        const fs = new MemoryFileSystem();
        const random = new SeededRandom(blockSizeBytes + logicalSectorBytes);
        const model = Buffer.alloc(sizeBytes);
        const writer = await begin(fs, {
          type,
          sizeBytes,
          blockSizeBytes,
          logicalSectorBytes,
          physicalSectorBytes: 4096,
        });
        let position = random.int(3 * MIB);
        while (position < sizeBytes) {
          const lengthBytes = Math.min(sizeBytes - position, 1 + random.int(MIB));
          if (random.chance(0.3)) await writer.zero(position, lengthBytes);
          else {
            const data = random.bytes(lengthBytes);
            data.copy(model, position);
            await writer.write(position, data);
          }
          position += lengthBytes + random.int(sizeBytes / 6);
        }
        const sealed = await writer.finish();
        expect(sealed.lengthBytes % MIB).to.equal(0);
        expect((await fs.status('/disk.vhdx'))?.sizeBytes).to.equal(sealed.lengthBytes);
        await expectSound(fs);
        const disk = await open(fs);
        expect(disk.sizeBytes).to.equal(sizeBytes);
        expect((await readAt(disk, 0, sizeBytes)).equals(model)).to.equal(true);
        await disk.close();
      });
    }
  }

  it('places all blocks of a fixed disk in order, from the first free MiB on', async () => {
    const fs = new MemoryFileSystem();
    const writer = await begin(fs, { type: 'fixed', sizeBytes: 5 * MIB, blockSizeBytes: MIB });
    await writer.write(3 * MIB, Buffer.from('here'));
    const { lengthBytes } = await writer.finish();
    expect(lengthBytes).to.equal(4 * MIB + 5 * MIB);
    expect(fs.content('/disk.vhdx')?.toString('latin1', 7 * MIB, 7 * MIB + 4)).to.equal('here');
    const { type, blocks } = await describeVhdx('/disk.vhdx', { fs });
    expect(type).to.equal('fixed');
    expect(blocks.fullyPresent).to.equal(5);
  });

  it('crosses the 4 GiB chunk border with blocks of 1 MiB, past the interleaved entry', async () => {
    const fs = new MemoryFileSystem();
    const border = 4 * GIB;
    const data = new SeededRandom(7).bytes(3 * MIB);
    const writer = await begin(fs, { type: 'dynamic', sizeBytes: 9 * GIB, blockSizeBytes: MIB });
    await writer.write(border - MIB - 5, data);
    await writer.write(9 * GIB - 7, Buffer.from('the end'));
    await writer.finish();
    await expectSound(fs);
    const disk = await open(fs);
    expect((await readAt(disk, border - MIB - 5, data.length)).equals(data)).to.equal(true);
    expect((await readAt(disk, 9 * GIB - 7, 7)).toString()).to.equal('the end');
    await disk.close();
  });

  it('keeps the order of the calls when they overlap', async () => {
    const fs = new MemoryFileSystem();
    const model = new SeededRandom(8).bytes(20 * MIB);
    const writer = await begin(fs, {
      type: 'dynamic',
      sizeBytes: 20 * MIB,
      blockSizeBytes: 2 * MIB,
    });
    const writes: Promise<void>[] = [];
    for (let at = 0; at < model.length; at += 300_000) {
      writes.push(writer.write(at, model.subarray(at, at + 300_000)));
    }
    await Promise.all(writes);
    await writer.finish();
    const disk = await open(fs);
    expect((await readAt(disk, 0, model.length)).equals(model)).to.equal(true);
    await disk.close();
  });

  it('makes an empty disk of 64 TiB of a few stored pages', async () => {
    const fs = new MemoryFileSystem();
    const writer = await begin(fs, { type: 'dynamic', sizeBytes: 64 * TIB });
    await writer.finish();
    await expectSound(fs);
    expect(fs.storedBytes('/disk.vhdx')).to.be.lessThan(4 * MIB);
  });

  it('stands aside for a name that is taken, before and after the work', async () => {
    const fs = new MemoryFileSystem();
    fs.put('/disk.vhdx', Buffer.from('old'));
    const disk = { type: 'dynamic', sizeBytes: MIB } as const;
    expect((await failure(() => begin(fs, disk))).code).to.equal('E_EXISTS');
    await fs.remove('/disk.vhdx');
    const writer = await begin(fs, disk);
    fs.put('/disk.vhdx', Buffer.from('new'));
    expect((await failure(() => writer.finish())).code).to.equal('E_EXISTS');
    await writer.abort();
    expect(fs.paths).to.deep.equal(['/disk.vhdx']);
    expect(fs.content('/disk.vhdx')?.toString()).to.equal('new');
  });

  it('leaves nothing of an empty disk that could not be completed', async () => {
    const memory = new MemoryFileSystem();
    const fs = new FaultFileSystem(memory);
    fs.inject({ kind: 'truncate', code: 'E_CAPACITY' });
    const random = new SeededRandom(1);
    const error = await failure(() =>
      createVhdx('/disk.vhdx', { type: 'fixed', sizeBytes: 64 * MIB }, { fs, random }),
    );
    expect(error.code).to.equal('E_CAPACITY');
    expect(memory.paths).to.deep.equal([]);
  });

  it('shows nothing under the final name before finish(), and leaves nothing after abort()', async () => {
    const fs = new MemoryFileSystem();
    const writer = await begin(fs, { type: 'dynamic', sizeBytes: 64 * MIB });
    await writer.write(0, Buffer.from('data'));
    expect(await fs.status('/disk.vhdx')).to.equal(undefined);
    await writer.abort();
    await writer.abort();
    expect(fs.paths).to.deep.equal([]);
  });

  for (const kind of ['write', 'flush', 'rename', 'truncate'] as const) {
    it(`ends with a typed error and no file when a ${kind} fails`, async () => {
      const memory = new MemoryFileSystem();
      const fs = new FaultFileSystem(memory);
      const writer = await begin(fs, { type: 'dynamic', sizeBytes: 64 * MIB });
      fs.inject({ kind, code: 'E_CAPACITY' });
      const error = await failure(async () => {
        await writer.write(0, Buffer.alloc(MIB, 1));
        await writer.write(MIB, Buffer.alloc(MIB, 2));
        await writer.finish();
      });
      expect(error.code).to.equal('E_CAPACITY');
      await writer.abort();
      expect(memory.paths).to.deep.equal([]);
    });
  }

  it('trips an assertion when a range goes back, or beyond the disk', async () => {
    const fs = new MemoryFileSystem();
    const writer = await begin(fs, { type: 'dynamic', sizeBytes: 8 * MIB });
    await writer.write(MIB, Buffer.alloc(10));
    for (const offset of [MIB, MIB + 9, 8 * MIB - 9]) {
      const error: unknown = await writer.write(offset, Buffer.alloc(10)).catch((e: unknown) => e);
      expect(error).to.be.instanceOf(AssertionError);
    }
    await writer.abort();
  });
});

describe('sealed differencing VHDX', function () {
  this.timeout(60_000);

  /** A parent full of 0x11 and a writer for a child of it. */
  async function child(
    fs: MemoryFileSystem,
    sizeBytes: number,
    blockSizeBytes: number,
    logicalSectorBytes = 512,
  ): Promise<SealedVhdxWriter> {
    const parent = await begin(
      fs,
      {
        type: 'dynamic',
        sizeBytes,
        blockSizeBytes: 32 * MIB,
        logicalSectorBytes,
        physicalSectorBytes: 4096,
      },
      '/parent.vhdx',
    );
    if (sizeBytes <= GIB) await parent.write(0, Buffer.alloc(sizeBytes, 0x11));
    await parent.finish();
    const open = await openVhdx('/parent.vhdx', { fs, random: new SeededRandom(4) });
    const disk = childOf(open, '/disk.vhdx', blockSizeBytes);
    await open.close();
    return begin(fs, disk);
  }

  for (const [blockSizeBytes, logicalSectorBytes, sizeBytes] of [
    [MIB, 512, 7 * MIB + 512],
    [2 * MIB, 512, 13 * MIB],
    [2 * MIB, 4096, 13 * MIB + 4096],
    [32 * MIB, 512, 70 * MIB],
  ] as const) {
    const name = `blocks of ${blockSizeBytes / MIB} MiB, sectors of ${logicalSectorBytes}`;
    it(`hides exactly what was written or zeroed: ${name}`, async () => {
      for (let seed = 0; seed < 6; seed++) {
        const fs = new MemoryFileSystem();
        const random = new SeededRandom(seed * 97 + blockSizeBytes);
        const model = Buffer.alloc(sizeBytes, 0x11);
        const writer = await child(fs, sizeBytes, blockSizeBytes, logicalSectorBytes);
        const sectors = sizeBytes / logicalSectorBytes;
        let sector = random.int(sectors / 3);
        while (sector < sectors) {
          const count = Math.min(
            sectors - sector,
            1 + random.int(random.chance(0.5) ? 40 : sectors / 3),
          );
          const offset = sector * logicalSectorBytes;
          const lengthBytes = count * logicalSectorBytes;
          if (random.chance(0.4)) {
            model.fill(0, offset, offset + lengthBytes);
            await writer.zero(offset, lengthBytes);
          } else {
            const data = random.bytes(lengthBytes);
            data.copy(model, offset);
            await writer.write(offset, data);
          }
          sector += count + (random.chance(0.5) ? 0 : random.int(sectors / 8));
        }
        await writer.finish();
        await expectSound(fs);
        const disk = await open(fs);
        expect((await readAt(disk, 0, sizeBytes)).equals(model), `seed ${seed}`).to.equal(true);
        await disk.close();
      }
    });
  }

  it('raises a block that was filled in pieces to fully present, without a sector bitmap', async () => {
    const fs = new MemoryFileSystem();
    const writer = await child(fs, 8 * MIB, 2 * MIB);
    for (let at = 2 * MIB; at < 4 * MIB; at += 64 * KIB) {
      await writer.write(at, Buffer.alloc(64 * KIB, 5));
    }
    await writer.finish();
    const { blocks } = await describeVhdx('/disk.vhdx', { fs });
    expect(blocks).to.include({ fullyPresent: 1, partiallyPresent: 0, bitmaps: 0 });
  });

  it('marks whole blocks of zeros ZERO, also when zeroed in pieces, and stores nothing', async () => {
    const fs = new MemoryFileSystem();
    const writer = await child(fs, 16 * MIB, 2 * MIB);
    await writer.zero(0, 4 * MIB);
    for (let at = 8 * MIB; at < 10 * MIB; at += 512 * KIB) await writer.zero(at, 512 * KIB);
    await writer.zero(12 * MIB, 4 * MIB);
    const { lengthBytes } = await writer.finish();
    expect(lengthBytes).to.equal(4 * MIB);
    const { blocks } = await describeVhdx('/disk.vhdx', { fs });
    expect(blocks).to.include({ fullyPresent: 0, partiallyPresent: 0, bitmaps: 0, zero: 5 });
    const disk = await openVhdx('/disk.vhdx', { fs, random: new SeededRandom(2) });
    expect(await all(disk.top.extents(0, disk.sizeBytes))).to.deep.equal([
      { start: 0, end: 4 * MIB, kind: 'zero' },
      { start: 4 * MIB, end: 8 * MIB, kind: 'parent' },
      { start: 8 * MIB, end: 10 * MIB, kind: 'zero' },
      { start: 10 * MIB, end: 12 * MIB, kind: 'parent' },
      { start: 12 * MIB, end: 16 * MIB, kind: 'zero' },
    ]);
    await disk.close();
  });

  it('marks a last block that the disk cuts short fully present when all of it was written', async () => {
    const fs = new MemoryFileSystem();
    const writer = await child(fs, 3 * MIB + 512, 2 * MIB);
    await writer.write(2 * MIB, Buffer.alloc(MIB + 512, 9));
    await writer.finish();
    const { blocks } = await describeVhdx('/disk.vhdx', { fs });
    expect(blocks).to.include({ fullyPresent: 1, partiallyPresent: 0 });
    await expectSound(fs);
  });

  it('puts the bitmap of each chunk where its entry is, across chunks, the last one partial', async () => {
    const fs = new MemoryFileSystem();
    const sizeBytes = 9 * GIB;
    const writer = await child(fs, sizeBytes, MIB);
    const places = [512, 4 * GIB - 512, 4 * GIB + MIB, 8 * GIB, sizeBytes - 1024];
    for (const [i, place] of places.entries()) await writer.write(place, Buffer.alloc(512, i + 1));
    await writer.finish();
    await expectSound(fs);
    const { blocks } = await describeVhdx('/disk.vhdx', { fs });
    expect(blocks).to.include({ partiallyPresent: 5, bitmaps: 3 });
    const disk = await openVhdx('/disk.vhdx', { fs, random: new SeededRandom(2) });
    for (const [i, place] of places.entries()) {
      expect((await readAt(disk, place, 512)).equals(Buffer.alloc(512, i + 1))).to.equal(true);
    }
    const own = (await all(disk.top.extents(0, sizeBytes))).filter(({ kind }) => kind === 'data');
    expect(own.map(({ start }) => start)).to.deep.equal(places);
    await disk.close();
  });

  it('stays small for 64 TiB with blocks of 2 MiB and a thousand scattered cells', async () => {
    const fs = new MemoryFileSystem();
    await createVhdx(
      '/parent.vhdx',
      { type: 'dynamic', sizeBytes: 64 * TIB },
      { fs, random: new SeededRandom(6) },
    );
    const parent = await openVhdx('/parent.vhdx', { fs, random: new SeededRandom(4) });
    const writer = await begin(fs, childOf(parent, '/disk.vhdx'));
    await parent.close();
    const step = Math.floor((64 * TIB) / 1000 / (64 * KIB)) * 64 * KIB;
    for (let i = 0; i < 1000; i++) await writer.write(i * step, Buffer.alloc(4096, i & 0xff));
    await writer.finish();
    await expectSound(fs);
    // One page each of data and bitmap for a cell, and one BAT page of 64 KiB.
    expect(fs.storedBytes('/disk.vhdx')).to.be.lessThan(1000 * 80 * KIB + 4 * MIB);
    const disk = await open(fs);
    expect((await readAt(disk, 999 * step, 4)).equals(Buffer.alloc(4, 999 & 0xff))).to.equal(true);
    await disk.close();
  });

  it('takes part in a chain: the child links to the content identity of the sealed parent', async () => {
    const fs = new MemoryFileSystem();
    const writer = await child(fs, 4 * MIB, 2 * MIB);
    const sealed = await writer.finish();
    const description = await describeVhdx('/disk.vhdx', { fs });
    expect(description.dataWriteGuid).to.equal(sealed.dataWriteGuid);
    expect(description.parent?.relativePath).to.equal('.\\parent.vhdx');
    const parent = await describeVhdx('/parent.vhdx', { fs });
    expect(description.parent?.linkage).to.equal(parent.dataWriteGuid);
    expect(description.diskId).to.equal(parent.diskId);
  });
});
