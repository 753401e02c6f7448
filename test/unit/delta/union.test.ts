// Union, merge, the layered disk and the store's form of a delta.

import { expect } from 'chai';

import {
  applyDelta,
  CELL_BYTES,
  CellDelta,
  CellDeltaWriter,
  checkAdjacent,
  checkDelta,
  type DeltaSource,
  encodeMerge,
  LayeredDisk,
  type ManifestHeader,
  ManifestWriter,
  mergeDeltas,
  PcbtDelta,
  planMerge,
  unionOf,
  writeUnion,
} from '../../../shared/delta/index.js';
import {
  asFile,
  BufferDisk,
  collect,
  deltaBetween,
  manifestBytes,
  manifestOf,
  naiveApply,
  naiveRecords,
  pattern,
  pcbtBytes,
  refusal,
  testGuid,
  testBaseHeader,
  testHeader,
} from './builders.js';

const SIZE = 9 * CELL_BYTES + 100;

export async function cellDeltaBetween(
  before: Buffer,
  after: Buffer,
  header: ManifestHeader,
): Promise<{ source: CellDelta; data: Buffer; manifest: Buffer }> {
  const data: Buffer[] = [];
  const manifest: Buffer[] = [];
  const writer = new CellDeltaWriter(
    header,
    async (chunk) => {
      await Promise.resolve();
      data.push(Buffer.from(chunk));
    },
    async (chunk) => {
      await Promise.resolve();
      manifest.push(Buffer.from(chunk));
    },
  );
  for (const record of naiveRecords(before, after)) {
    if (record.kind === 'zero') {
      await writer.addZero(record.cell, record.count);
    } else {
      const start = record.cell * CELL_BYTES;
      await writer.add(record.cell, after.subarray(start, start + CELL_BYTES));
    }
  }
  await writer.finish();
  const parts = { data: Buffer.concat(data), manifest: Buffer.concat(manifest) };
  const source = await CellDelta.open(await manifestOf(parts.manifest), await asFile(parts.data));
  return { source, ...parts };
}

async function pcbtDeltaBetween(
  before: Buffer,
  after: Buffer,
  header: ManifestHeader,
): Promise<DeltaSource> {
  const delta = await deltaBetween(before, after, header);
  return new PcbtDelta(await manifestOf(delta.manifest), await asFile(delta.pcbt));
}

const A = pattern(SIZE, 1);
const B = Buffer.from(A);
pattern(2 * CELL_BYTES, 2).copy(B, CELL_BYTES);
B.fill(0, 4 * CELL_BYTES, 8 * CELL_BYTES);
const C = Buffer.from(B);
C.fill(0, CELL_BYTES, 2 * CELL_BYTES);
pattern(CELL_BYTES, 3).copy(C, 5 * CELL_BYTES);
pattern(50, 4).copy(C, SIZE - 50);

async function sources(): Promise<DeltaSource[]> {
  const first = await cellDeltaBetween(A, B, testHeader(SIZE, 1));
  return [first.source, await pcbtDeltaBetween(B, C, testHeader(SIZE, 2))];
}

describe('union of adjacent deltas', () => {
  it('the newer cell wins, and runs of zeros are cut where they are hidden', async () => {
    const list: string[] = [];
    for await (const { entry, source } of unionOf(await sources())) {
      const count = entry.kind === 'zero' ? entry.count : 1;
      list.push(`${entry.kind} ${entry.cell}+${count} of ${source}`);
    }
    expect(list).to.deep.equal([
      'zero 1+1 of 1',
      'data 2+1 of 0',
      'zero 4+1 of 0',
      'data 5+1 of 1',
      'zero 6+2 of 0',
      'data 9+1 of 1',
    ]);
  });

  it('written over the base it gives the newest point', async () => {
    const target = BufferDisk.of(A);
    await writeUnion(await sources(), target);
    expect(target.bytes.equals(C)).to.equal(true);
  });

  it('merged to one delta it leads from the oldest parent to the newest point', async () => {
    const data: Buffer[] = [];
    const manifest: Buffer[] = [];
    await mergeDeltas(
      await sources(),
      async (chunk) => {
        await Promise.resolve();
        data.push(Buffer.from(chunk));
      },
      async (chunk) => {
        await Promise.resolve();
        manifest.push(Buffer.from(chunk));
      },
    );
    const merged = await CellDelta.open(
      await manifestOf(Buffer.concat(manifest)),
      await asFile(Buffer.concat(data)),
    );
    expect(merged.header).to.deep.equal({ ...testHeader(SIZE, 2), parentPoint: testGuid(0) });
    const target = BufferDisk.of(A);
    await writeUnion([merged], target);
    expect(target.bytes.equals(C)).to.equal(true);
  });

  async function mergedPcbt(
    of: readonly DeltaSource[],
  ): Promise<{ pcbt: Buffer; manifest: Buffer }> {
    const manifest: Buffer[] = [];
    const plan = await planMerge(of);
    const writer = new ManifestWriter(plan.header, async (chunk) => {
      await Promise.resolve();
      manifest.push(Buffer.from(chunk));
    });
    const pcbt = await collect(encodeMerge(of, plan, writer));
    const { cellCount } = await writer.finish();
    expect(pcbt.length).to.equal(plan.pcbt.fileBytes);
    expect(cellCount).to.equal(plan.cellCount);
    return { pcbt, manifest: Buffer.concat(manifest) };
  }

  it('merged to one PCBT file it has a manifest that fits, and leads to the newest point', async () => {
    const { pcbt, manifest } = await mergedPcbt(await sources());
    expect(naiveApply(A, pcbt).equals(C)).to.equal(true);
    const found: string[] = [];
    const { isVerified } = await checkDelta(
      await asFile(pcbt),
      { manifest: await asFile(manifest) },
      ({ message }) => found.push(message),
    );
    expect({ found, isVerified }).to.deep.equal({ found: [], isVerified: true });
    expect((await manifestOf(manifest)).header.parentPoint).to.equal(testGuid(0));
  });

  it('merged to one PCBT file, runs of zeros and of data are longer than a block', async () => {
    const size = 70 * CELL_BYTES + 9;
    const first = pattern(size, 1);
    const second = Buffer.from(first).fill(0, 3 * CELL_BYTES, 50 * CELL_BYTES);
    const third = Buffer.from(second).fill(5, 40 * CELL_BYTES + 1);
    const { pcbt, manifest } = await mergedPcbt([
      await pcbtDeltaBetween(first, second, testHeader(size, 1)),
      await pcbtDeltaBetween(second, third, testHeader(size, 2)),
    ]);
    const direct = await deltaBetween(first, third, {
      ...testHeader(size, 2),
      parentPoint: testGuid(0),
    });
    expect(pcbt.equals(direct.pcbt)).to.equal(true);
    expect(manifest.equals(direct.manifest)).to.equal(true);
  });

  it('a merge to a PCBT file ends at a cell that does not have its hash', async () => {
    const { pcbt, manifest } = await deltaBetween(A, B, testHeader(SIZE, 1));
    pcbt[200] = (pcbt[200] ?? 0) ^ 1;
    const rotten = new PcbtDelta(await manifestOf(manifest), await asFile(pcbt));
    await refusal('E_DELTA_HASH', () => mergedPcbt([rotten]));
  });

  it('a merge does not pass on a cell whose bytes have rotted', async () => {
    const first = await cellDeltaBetween(A, B, testHeader(SIZE, 1));
    first.data[CELL_BYTES + 3] = (first.data[CELL_BYTES + 3] ?? 0) ^ 1;
    const rotten = await CellDelta.open(await manifestOf(first.manifest), await asFile(first.data));
    const error = await refusal('E_DELTA_HASH', () => writeUnion([rotten], BufferDisk.of(A)));
    expect(error.context['offset']).to.equal(2 * CELL_BYTES);
  });

  it('refuses deltas that do not follow each other, or belong to different disks', async () => {
    const [first, second] = await sources();
    if (first === undefined || second === undefined) throw new Error('two deltas');
    await refusal('E_DELTA_PARENT', () => writeUnion([second, first], BufferDisk.of(A)));
    expect(() => {
      checkAdjacent([testHeader(SIZE, 1), { ...testHeader(SIZE, 2), diskId: testGuid(3) }]);
    }).to.throw('different disks');
    expect(() => {
      checkAdjacent([{ ...testHeader(SIZE, 1), kind: 'base' }]);
    }).to.throw('no delta');
  });
});

describe('layered disk', () => {
  it('reads as the newest point, at any offset and length', async () => {
    const disk = await LayeredDisk.open(BufferDisk.of(A), await sources());
    for (const [start, end] of [
      [0, SIZE],
      [CELL_BYTES - 1, 2 * CELL_BYTES + 1],
      [5 * CELL_BYTES + 7, 5 * CELL_BYTES + 8],
      [3 * CELL_BYTES, 3 * CELL_BYTES + 10],
      [SIZE - 51, SIZE],
    ] as const) {
      const target = Buffer.alloc(end - start, 0xee);
      await disk.read(start, target);
      expect(target.equals(C.subarray(start, end)), `${start}`).to.equal(true);
    }
  });

  it('its extents cover every byte once and tell zeros without reading', async () => {
    const base = new BufferDisk(SIZE);
    const disk = await LayeredDisk.open(base, await sources());
    const list: string[] = [];
    for await (const { start, end, kind } of disk.extents(0, SIZE)) {
      list.push(`${kind} ${start / CELL_BYTES}-${Math.ceil(end / CELL_BYTES)}`);
    }
    expect(list).to.deep.equal([
      'zero 0-2',
      'data 2-3',
      'zero 3-5',
      'data 5-6',
      'zero 6-9',
      'data 9-10',
    ]);
    expect(base.readBytes).to.equal(0);
  });

  it('without deltas it is the base', async () => {
    const disk = await LayeredDisk.open(BufferDisk.of(A), []);
    const target = Buffer.alloc(SIZE);
    await disk.read(0, target);
    expect(target.equals(A)).to.equal(true);
  });

  it('cells in a row of one delta are one entry of the index, and one read', async () => {
    const after = pattern(SIZE, 8);
    const { source } = await cellDeltaBetween(A, after, testHeader(SIZE, 1));
    const lengths: number[] = [];
    const counting: DeltaSource = {
      header: source.header,
      entries: () => source.entries(),
      read: (position, target) => {
        lengths.push(target.length);
        return source.read(position, target);
      },
    };
    const disk = await LayeredDisk.open(BufferDisk.of(A), [counting]);
    const target = Buffer.alloc(SIZE);
    await disk.read(0, target);
    expect(target.equals(after)).to.equal(true);
    expect(lengths).to.deep.equal([SIZE]);
  });

  it('refuses a base of another size', async () => {
    await refusal('E_DISK_MISMATCH', async () =>
      LayeredDisk.open(new BufferDisk(SIZE - 1), await sources()),
    );
  });
});

describe('the forms of a delta', () => {
  it('the data file of the store holds the data cells and nothing else', async () => {
    const { data } = await cellDeltaBetween(A, B, testHeader(SIZE, 1));
    expect(data.equals(B.subarray(CELL_BYTES, 3 * CELL_BYTES))).to.equal(true);
  });

  it('a data file of another length is refused', async () => {
    const { data, manifest } = await cellDeltaBetween(B, C, testHeader(SIZE, 1));
    for (const wrong of [data.subarray(1), Buffer.concat([data, Buffer.alloc(1)])]) {
      await refusal('E_DELTA_COVERAGE', async () =>
        CellDelta.open(await manifestOf(manifest), await asFile(wrong)),
      );
    }
  });

  it('the manifest of a base does not make a PCBT file a source of cells', async () => {
    const manifest = await manifestOf(await manifestBytes(testBaseHeader(SIZE), []));
    const file = await asFile(pcbtBytes([]));
    await refusal('E_DELTA_COVERAGE', () =>
      Promise.resolve().then(() => new PcbtDelta(manifest, file)),
    );
  });

  it('a PCBT file that lacks a cell, has one more, or cuts one is no source of cells', async () => {
    const records = naiveRecords(A, B);
    const manifest = await manifestBytes(testHeader(SIZE, 1), records);
    const cell = (n: number, count = 1): { offset: number; data: Buffer } => ({
      offset: n * CELL_BYTES,
      data: B.subarray(n * CELL_BYTES, (n + count) * CELL_BYTES),
    });
    const cut = [
      { offset: CELL_BYTES, data: B.subarray(CELL_BYTES, CELL_BYTES + 5) },
      { offset: CELL_BYTES + 5, data: B.subarray(CELL_BYTES + 5, 3 * CELL_BYTES) },
    ];
    for (const blocks of [
      [cell(1, 2)],
      [cell(1, 2), cell(4, 5)],
      [...cut, cell(4, 4)],
      [cell(0, 3), cell(4, 4)],
    ]) {
      await refusal('E_DELTA_COVERAGE', async () => {
        const file = await asFile(pcbtBytes(blocks));
        const source = new PcbtDelta(await manifestOf(manifest), file);
        await LayeredDisk.open(BufferDisk.of(A), [source]);
      });
    }
    const good = await asFile(pcbtBytes([cell(1, 2), cell(4, 4)]));
    const disk = BufferDisk.of(A);
    await writeUnion([new PcbtDelta(await manifestOf(manifest), good)], disk);
    expect(disk.bytes.equals(B)).to.equal(true);
    await applyDelta({ kind: 'file', file: good }, disk);
  });
});
