// Laws of the delta over random disks and random changes, against naive models: bytes in a buffer.

import { expect } from 'chai';
import fc from 'fast-check';

import {
  applyDelta,
  applyToCopy,
  CELL_BYTES,
  CellDelta,
  type DeltaSource,
  diffDisks,
  indexPcbt,
  LayeredDisk,
  ManifestReader,
  type ManifestRecord,
  mergeDeltas,
  PcbtDelta,
  PcbtReader,
  writeUnion,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import {
  applied,
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
  testHeader,
} from '../unit/delta/builders.js';

const RUNS = process.env['SLOW'] === '1' ? 1000 : 40;
const run = { numRuns: RUNS };

interface Change {
  readonly start: number;
  readonly length: number;
  readonly seed: number;
  readonly isZero: boolean;
}

/** Sizes around the borders of cells and sectors, and no multiple of either. */
const sizes = fc.oneof(
  fc.constantFrom(0, 1, 511, 4096, CELL_BYTES - 1, CELL_BYTES, CELL_BYTES + 1, 3 * CELL_BYTES),
  fc.integer({ min: 1, max: 20 * CELL_BYTES }),
);

const changes = fc.array(
  fc.record({
    start: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.oneof(
      fc.integer({ min: 1, max: 5000 }),
      fc.integer({ min: CELL_BYTES - 1, max: 5 * CELL_BYTES }),
    ),
    seed: fc.nat(1000),
    isZero: fc.boolean(),
    isAligned: fc.boolean(),
  }),
  { maxLength: 6 },
);

function changed(
  before: Buffer,
  list: readonly (Change & { readonly isAligned: boolean })[],
): Buffer {
  const after = Buffer.from(before);
  for (const { start, length, seed, isZero, isAligned } of list) {
    let from = Math.floor(start * before.length);
    if (isAligned) from -= from % CELL_BYTES;
    const end = Math.min(before.length, from + length);
    if (isZero) after.fill(0, from, end);
    else pattern(end - from, seed).copy(after, from);
  }
  return after;
}

const disks = fc.tuple(sizes, changes, changes, changes).map(([size, first, second, third]) => {
  const a = changed(Buffer.alloc(size), first);
  const b = changed(a, second);
  return { a, b, c: changed(b, third) };
});

async function sourceOf(before: Buffer, after: Buffer, n: number): Promise<DeltaSource> {
  const delta = await deltaBetween(before, after, testHeader(after.length, n));
  return new PcbtDelta(await manifestOf(delta.manifest), await asFile(delta.pcbt));
}

async function merged(sources: readonly DeltaSource[]): Promise<CellDelta> {
  const data: Buffer[] = [];
  const manifest: Buffer[] = [];
  const into = (list: Buffer[]) => async (chunk: Uint8Array) => {
    await Promise.resolve();
    list.push(Buffer.from(chunk));
  };
  await mergeDeltas(sources, into(data), into(manifest));
  const file = await asFile(Buffer.concat(data));
  return CellDelta.open(await manifestOf(Buffer.concat(manifest)), file);
}

describe('laws of the delta', function () {
  this.timeout(600_000);

  it('apply(diff(a, b), a) = b, and the delta lists exactly the cells that differ', async () => {
    await fc.assert(
      fc.asyncProperty(disks, async ({ a, b }) => {
        const delta = await deltaBetween(a, b);
        expect((await applied(a, delta)).equals(b)).to.equal(true);
        expect(naiveApply(a, delta.pcbt).equals(b)).to.equal(true);
        const expected = await manifestBytes(testHeader(a.length), naiveRecords(a, b));
        expect(delta.manifest.equals(expected)).to.equal(true);
      }),
      run,
    );
  });

  it('a delta against nothing makes the disk out of zeros', async () => {
    await fc.assert(
      fc.asyncProperty(disks, async ({ a }) => {
        const delta = await deltaBetween(undefined, a);
        expect((await applied(Buffer.alloc(a.length), delta)).equals(a)).to.equal(true);
      }),
      run,
    );
  });

  it('base and deltas in order, their union, their merge and their layers are one disk', async () => {
    await fc.assert(
      fc.asyncProperty(disks, async ({ a, b, c }) => {
        const sources = [await sourceOf(a, b, 1), await sourceOf(b, c, 2)];
        const inOrder = BufferDisk.of(a);
        for (const source of sources) await writeUnion([source], inOrder);
        expect(inOrder.bytes.equals(c)).to.equal(true);

        const atOnce = BufferDisk.of(a);
        await writeUnion(sources, atOnce);
        expect(atOnce.bytes.equals(c)).to.equal(true);

        const one = await merged(sources);
        const fromOne = BufferDisk.of(a);
        await writeUnion([one], fromOne);
        expect(fromOne.bytes.equals(c)).to.equal(true);

        const layered = await LayeredDisk.open(BufferDisk.of(a), sources);
        const bytes = Buffer.alloc(c.length, 0xee);
        await layered.read(0, bytes);
        expect(bytes.equals(c)).to.equal(true);
        expect((await diffDisks(layered, BufferDisk.of(c))).cells.count).to.equal(0);
      }),
      run,
    );
  });

  it('a layered disk reads right at any offset, and its extents cover each byte once', async () => {
    const position = fc.double({ min: 0, max: 1, noNaN: true });
    await fc.assert(
      fc.asyncProperty(disks, position, position, async ({ a, b, c }, one, other) => {
        const sources = [await sourceOf(a, b, 1), await sourceOf(b, c, 2)];
        const disk = await LayeredDisk.open(BufferDisk.of(a), sources);
        const [start = 0, end = 0] = [one, other]
          .map((part) => Math.floor(part * c.length))
          .sort((x, y) => x - y);
        const bytes = Buffer.alloc(end - start, 0xee);
        await disk.read(start, bytes);
        expect(bytes.equals(c.subarray(start, end))).to.equal(true);
        let at = start;
        for await (const extent of disk.extents(start, end)) {
          expect(extent.start).to.equal(at);
          at = extent.end;
          if (extent.kind !== 'zero') continue;
          expect(c.subarray(extent.start, extent.end).every((byte) => byte === 0)).to.equal(true);
        }
        expect(at).to.equal(end);
      }),
      run,
    );
  });

  /** Foreign deltas: any alignment, any length, blocks that touch. */
  const foreign = fc
    .tuple(
      fc.integer({ min: 1, max: 6 * CELL_BYTES }),
      fc.array(
        fc.record({
          gap: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 * CELL_BYTES })),
          length: fc.oneof(
            fc.integer({ min: 1, max: 600 }),
            fc.constantFrom(CELL_BYTES, 2 * CELL_BYTES),
            fc.integer({ min: 1, max: 3 * CELL_BYTES }),
          ),
          seed: fc.nat(100),
          isZero: fc.boolean(),
        }),
        { maxLength: 12 },
      ),
    )
    .map(([size, list]) => {
      const blocks: { offset: number; data: Buffer }[] = [];
      let at = 0;
      for (const { gap, length, seed, isZero } of list) {
        const offset = at + gap;
        const end = Math.min(size, offset + length);
        if (end <= offset) break;
        const data = isZero ? Buffer.alloc(end - offset) : pattern(end - offset, seed);
        blocks.push({ offset, data });
        at = end;
      }
      return { size, blocks };
    });

  it('a foreign delta applies to what its blocks say, fed in any chunks, in place and to a copy', async () => {
    await fc.assert(
      fc.asyncProperty(foreign, fc.integer({ min: 1, max: 200_000 }), async (made, chunk) => {
        const before = pattern(made.size, 3);
        const pcbt = pcbtBytes(made.blocks);
        const expected = naiveApply(before, pcbt);
        const target = BufferDisk.of(before);
        await applyDelta({ kind: 'stream', chunks: chunked(pcbt, Math.max(50, chunk)) }, target);
        expect(target.bytes.equals(expected)).to.equal(true);
        const copy = Buffer.alloc(made.size);
        const file = await asFile(pcbt);
        await applyToCopy(
          BufferDisk.of(before),
          { kind: 'file', file },
          {
            write: async (offset, source) => {
              await Promise.resolve();
              copy.set(source, offset);
            },
          },
        );
        expect(copy.equals(expected)).to.equal(true);
      }),
      run,
    );
  });

  it('index and stream give the same blocks', async () => {
    await fc.assert(
      fc.asyncProperty(foreign, async ({ blocks }) => {
        const file = await asFile(pcbtBytes(blocks));
        const list: { offset: number; length: number }[] = [];
        for await (const { offset, lengthBytes } of indexPcbt(file)) {
          list.push({ offset, length: lengthBytes });
        }
        expect(list).to.deep.equal(
          blocks.map(({ offset, data }) => ({ offset, length: data.length })),
        );
      }),
      run,
    );
  });

  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));

  it('parse(encode(manifest)) = manifest', async () => {
    const records = fc.array(
      fc.record({
        gap: fc.nat(3),
        count: fc.integer({ min: 1, max: 1000 }),
        hash,
        isZero: fc.boolean(),
      }),
      { maxLength: 50 },
    );
    const epoch = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    await fc.assert(
      fc.asyncProperty(records, epoch, async (list, value) => {
        const expected: ManifestRecord[] = [];
        let next = 0;
        for (const { gap, count, hash: bytes, isZero } of list) {
          const cell = next + gap;
          const last = expected.at(-1);
          if (isZero && last?.kind === 'zero' && gap === 0) continue;
          expected.push(
            isZero ? { kind: 'zero', cell, count } : { kind: 'data', cell, hash: bytes },
          );
          next = cell + (isZero ? count : 1);
        }
        const header = { ...testHeader(64 * 2 ** 40), epoch: value };
        const bytes = await manifestBytes(header, expected);
        const reader = await ManifestReader.open(chunked(bytes, 97));
        expect(reader.header).to.deep.equal(header);
        const found: ManifestRecord[] = [];
        for await (const record of reader.records()) found.push(record);
        expect(found).to.deep.equal(expected);
      }),
      run,
    );
  });

  it('arbitrary bytes end in a value or a typed error', async () => {
    const header = Buffer.from(pcbtBytes([]));
    const bytes = fc
      .tuple(fc.boolean(), fc.uint8Array({ maxLength: 400 }))
      .map(([isPcbt, rest]) => (isPcbt ? Buffer.concat([header, rest]) : Buffer.from(rest)));
    await fc.assert(
      fc.asyncProperty(bytes, fc.nat(255), async (input, count) => {
        if (input.length > 12) input[8] = count;
        for (const read of [
          async () => {
            const reader = await PcbtReader.open(chunked(input, 3));
            for await (const piece of reader.pieces()) expect(piece.data.length).to.be.above(0);
          },
          async () => {
            const reader = await ManifestReader.open(chunked(input, 3));
            for await (const record of reader.records()) expect(record.cell).to.be.at.least(0);
          },
        ]) {
          try {
            await read();
          } catch (error) {
            expect(error).to.be.instanceOf(DrError);
          }
        }
      }),
      { numRuns: RUNS * 10 },
    );
  });
});
