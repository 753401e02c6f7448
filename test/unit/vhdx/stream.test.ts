// A VHDX to a pipe and from a pipe: the length is known before the first byte, what comes out is a
// sound file of the same disk, and the reader takes it however the pipe cuts it.

import { expect } from 'chai';
import type { Extent, ReadableDisk } from '../../../shared/disk/index.js';
import { DrError } from '../../../shared/errors.js';
import {
  checkVhdx,
  openVhdx,
  readVhdxStream,
  SealedVhdxWriter,
  streamVhdx,
  VhdxError,
} from '../../../shared/vhdx/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { DAMAGES } from '../../support/vhdx-damages.js';
import { BAT_REGION, VhdxForge } from '../../support/vhdx-forge.js';
import { seedFile } from '../../support/vhdx-seeds.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

/** A disk of given data ranges, whose bytes follow from their place. */
class PatternDisk implements ReadableDisk {
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes = 4096;
  readonly sizeBytes: number;
  readonly #data: readonly { readonly start: number; readonly end: number }[];

  constructor(
    sizeBytes: number,
    data: readonly { readonly start: number; readonly end: number }[],
    logicalSectorBytes = 512,
  ) {
    this.sizeBytes = sizeBytes;
    this.#data = data;
    this.logicalSectorBytes = logicalSectorBytes;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    target.fill(0);
    for (const { start, end } of this.#data) {
      const from = Math.max(start, offset);
      const to = Math.min(end, offset + target.length);
      for (let at = from; at < to; at++) target[at - offset] = patternByte(at);
    }
    return Promise.resolve();
  }

  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    await Promise.resolve();
    let position = start;
    for (const range of this.#data) {
      const from = Math.max(range.start, position);
      const to = Math.min(range.end, end);
      if (from >= to) continue;
      if (position < from) yield { start: position, end: from, kind: 'zero' };
      yield { start: from, end: to, kind: 'data' };
      position = to;
    }
    if (position < end) yield { start: position, end, kind: 'zero' };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function patternByte(at: number): number {
  return ((at >>> 9) * 7 + at) & 0xff || 1;
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

async function* cut(bytes: Buffer, size: () => number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const length = size();
    await Promise.resolve();
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

async function content(disk: ReadableDisk): Promise<Buffer> {
  const out = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, out);
  return out;
}

/** The guest bytes that come out of a stream, laid over zeros. */
async function readBack(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const reader = await readVhdxStream(source, 'a pipe');
  const out = Buffer.alloc(reader.disk.sizeBytes);
  for await (const { offset, data } of reader.ranges) data.copy(out, offset);
  return out;
}

async function refusal(action: () => Promise<unknown>): Promise<VhdxError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof VhdxError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

describe('VHDX to a stream', function () {
  this.timeout(60_000);

  for (const [sizeBytes, blockSizeBytes, sector] of [
    [10 * MIB + 512, MIB, 512],
    [23 * MIB, 2 * MIB, 4096],
    [70 * MIB - 512, 32 * MIB, 512],
  ] as const) {
    it(`is a sound file of the same disk, of the length told first: ${sizeBytes} bytes in blocks of ${blockSizeBytes}`, async () => {
      const data = [
        { start: 100, end: 5000 },
        { start: 3 * MIB - 10, end: 3 * MIB + 10 },
        { start: 7 * MIB, end: 9 * MIB + 77 },
        { start: sizeBytes - 300, end: sizeBytes },
      ];
      const disk = new PatternDisk(sizeBytes, data, sector);
      const stream = await streamVhdx(disk, { random: new SeededRandom(1), blockSizeBytes });
      const bytes = await collect(stream.chunks);
      expect(bytes.length).to.equal(stream.lengthBytes);
      const fs = new MemoryFileSystem();
      fs.put('/streamed.vhdx', bytes);
      const { violations } = await checkVhdx('/streamed.vhdx', { fs, random: new SeededRandom(2) });
      expect(violations).to.deep.equal([]);
      const open = await openVhdx('/streamed.vhdx', { fs, random: new SeededRandom(2) });
      expect((await content(open)).equals(await content(disk))).to.equal(true);
      expect(open.logicalSectorBytes).to.equal(sector);
      await open.close();
      expect((await readBack(cut(bytes, () => 65_536))).equals(await content(disk))).to.equal(true);
    });
  }

  it('fills the last sector of an odd raw disk with zeros', async () => {
    const disk = new PatternDisk(MIB + 100, [{ start: MIB, end: MIB + 100 }]);
    const stream = await streamVhdx(disk, { random: new SeededRandom(1) });
    const back = await readBack(cut(await collect(stream.chunks), () => 50_000));
    expect(back.length).to.equal(MIB + 512);
    expect(back.subarray(0, MIB + 100).equals(await content(disk))).to.equal(true);
    expect(back.subarray(MIB + 100).equals(Buffer.alloc(412))).to.equal(true);
  });

  it('knows the length of 64 TiB in blocks of 1 MiB, and sends head and BAT in bounded chunks', async () => {
    const data = [0, 4 * GIB - 1, 33 * TIB, 64 * TIB - 1].map((start) => ({
      start,
      end: start + 1,
    }));
    const disk = new PatternDisk(64 * TIB, data);
    const stream = await streamVhdx(disk, { random: new SeededRandom(1), blockSizeBytes: MIB });
    const batBytes = Math.ceil(((2 ** 26 + 2 ** 14 - 1) * 8) / MIB) * MIB;
    expect(stream.lengthBytes).to.equal(3 * MIB + batBytes + 4 * MIB);
    let sent = 0;
    for await (const chunk of stream.chunks) {
      expect(chunk.length).to.be.at.most(3 * MIB);
      sent += chunk.length;
    }
    expect(sent).to.equal(stream.lengthBytes);
  });

  it('refuses a block size that the format does not have, before any byte', async () => {
    const disk = new PatternDisk(MIB, []);
    const error: unknown = await streamVhdx(disk, {
      random: new SeededRandom(1),
      blockSizeBytes: 3 * MIB,
    }).catch((e: unknown) => e);
    expect(error).to.be.instanceOf(DrError);
    expect((error as DrError).code).to.equal('E_USAGE');
  });

  it('passes on what the disk throws while it is read', async () => {
    const disk = new PatternDisk(8 * MIB, [{ start: 0, end: 8 * MIB }]);
    disk.read = () => Promise.reject(new DrError('E_IO', 'the device is gone'));
    const stream = await streamVhdx(disk, { random: new SeededRandom(1), blockSizeBytes: MIB });
    const error: unknown = await collect(stream.chunks).catch((e: unknown) => e);
    expect((error as DrError).code).to.equal('E_IO');
  });
});

describe('VHDX from a stream', function () {
  this.timeout(60_000);

  async function sealedBytes(type: 'dynamic' | 'fixed'): Promise<{ bytes: Buffer; model: Buffer }> {
    const fs = new MemoryFileSystem();
    const model = Buffer.alloc(6 * MIB + 512);
    const writer = await SealedVhdxWriter.create({
      fs,
      random: new SeededRandom(1),
      path: '/a.vhdx',
      type,
      sizeBytes: model.length,
      blockSizeBytes: MIB,
    });
    for (const place of [5, 2 * MIB - 20, 6 * MIB + 400]) {
      const data = new SeededRandom(place).bytes(100);
      data.copy(model, place);
      await writer.write(place, data);
    }
    await writer.finish();
    return { bytes: fs.content('/a.vhdx') ?? Buffer.alloc(0), model };
  }

  for (const type of ['dynamic', 'fixed'] as const) {
    it(`takes a ${type} file whole, in random pieces, and in very small ones`, async () => {
      const { bytes, model } = await sealedBytes(type);
      const random = new SeededRandom(9);
      for (const size of [() => bytes.length, () => 1 + random.int(200_000), () => 997]) {
        expect((await readBack(cut(bytes, size))).equals(model)).to.equal(true);
      }
    });
  }

  it('takes a file byte by byte up to its first block', async () => {
    const { bytes, model } = await sealedBytes('dynamic');
    const head = cut(bytes.subarray(0, 300_000), () => 1);
    async function* source(): AsyncGenerator<Buffer> {
      yield* head;
      yield bytes.subarray(300_000);
    }
    expect((await readBack(source())).equals(model)).to.equal(true);
  });

  it('puts blocks that lie in another order into the order of the file, and says so', async () => {
    const { bytes, model } = await sealedBytes('dynamic');
    const first = Buffer.from(bytes.subarray(4 * MIB, 5 * MIB));
    bytes.copy(bytes, 4 * MIB, 5 * MIB, 6 * MIB);
    first.copy(bytes, 5 * MIB);
    const entry = Buffer.from(bytes.subarray(3 * MIB, 3 * MIB + 8));
    bytes.copy(bytes, 3 * MIB, 3 * MIB + 8, 3 * MIB + 16);
    entry.copy(bytes, 3 * MIB + 8);
    const reader = await readVhdxStream(
      cut(bytes, () => 100_000),
      'a pipe',
    );
    expect(reader.isAscending).to.equal(false);
    expect((await readBack(cut(bytes, () => 100_000))).equals(model)).to.equal(true);
  });

  it('says that a stream ended too early, at each kind of place', async () => {
    const { bytes } = await sealedBytes('dynamic');
    for (const length of [
      0,
      100,
      MIB - 1,
      2 * MIB + 100,
      3 * MIB + 8,
      4 * MIB,
      bytes.length - MIB,
    ]) {
      const part = bytes.subarray(0, length);
      const error = await refusal(() => readBack(cut(part, () => 65_536)));
      expect(error.code, `${length} bytes`).to.equal('E_VHDX_TRUNCATED');
      expect(error.violation.offset).to.equal(length);
    }
  });

  for (const [name, what] of [
    ['dirty', 'log must be replayed'],
    ['child', 'differencing'],
  ] as const) {
    it(`sends a ${name} file to a seekable place, saying why`, async () => {
      const { fs, path } = await seedFile(name);
      const bytes = fs.content(path) ?? Buffer.alloc(0);
      const error = await refusal(() => readBack(cut(bytes, () => 65_536)));
      expect(error.code).to.equal('E_VHDX_UNSUPPORTED');
      expect(error.message).to.contain(what);
      expect(error.hint).to.contain('Store the file on a disk first');
    });
  }

  it('sends a file with payload in front of its BAT to a seekable place', async () => {
    const { bytes } = await sealedBytes('dynamic');
    const fs = new MemoryFileSystem();
    fs.put('/moved.vhdx', bytes);
    const forge = new VhdxForge(fs, '/moved.vhdx');
    const bat = forge.read(3 * MIB, MIB);
    const block = forge.read(6 * MIB, MIB);
    // BAT to 6 MiB, the block that was there to 3 MiB
    forge.regionTables((at) => {
      const { entry } = forge.region(BAT_REGION);
      forge.u64(at + entry + 16, 6 * MIB);
    });
    forge.write(6 * MIB, bat).write(3 * MIB, block);
    for (let index = 0; index < 7; index++) {
      const at = 6 * MIB + index * 8;
      if (Number(forge.readU64(at) >> 20n) === 6) forge.u64(at, (3n << 20n) | 6n);
    }
    const { violations } = await checkVhdx('/moved.vhdx', { fs, random: new SeededRandom(2) });
    expect(violations).to.deep.equal([]);
    const moved = fs.content('/moved.vhdx') ?? Buffer.alloc(0);
    const error = await refusal(() => readBack(cut(moved, () => 65_536)));
    expect(error.code).to.equal('E_VHDX_UNSUPPORTED');
    expect(error.message).to.contain('payload in front of its BAT');
  });

  for (const damage of DAMAGES) {
    if (damage.isWriteOnly === true) continue;
    it(`never gives a disk for a file with this damage: ${damage.name}`, async () => {
      const seed = await seedFile(damage.seed);
      const forge = new VhdxForge(seed.fs, seed.path);
      damage.apply(forge);
      if (forge.sizeBytes > GIB) return; // no pipe carries that in a test
      const bytes = seed.fs.content(seed.path) ?? Buffer.alloc(0);
      const error = await refusal(() => readBack(cut(bytes, () => 300_000)));
      expect(error.code).to.match(/^E_VHDX_/);
    });
  }
});
