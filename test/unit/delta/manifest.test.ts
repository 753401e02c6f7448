// The manifest: what is accepted and refused, one root for one content, search by cell.

import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';

import { ZERO_GUID } from '../../../shared/bytes/index.js';
import {
  hashCell,
  ManifestFile,
  ManifestReader,
  type ManifestRecord,
  ManifestRoot,
  ManifestWriter,
} from '../../../shared/delta/index.js';
import {
  asFile,
  chunked,
  manifestBytes,
  manifestOf,
  pattern,
  refusal,
  testHeader,
} from './builders.js';

const GOLDEN = new URL('../../../../test/golden/manifest/', import.meta.url);
const SIZE = 300_000;

async function readRecords(chunks: AsyncIterable<Uint8Array>): Promise<ManifestRecord[]> {
  const reader = await ManifestReader.open(chunks);
  const records: ManifestRecord[] = [];
  for await (const record of reader.records()) records.push(record);
  expect(reader.trailer?.recordCount).to.equal(records.length);
  return records;
}

const data = (cell: number, seed = cell): ManifestRecord => ({
  kind: 'data',
  cell,
  hash: hashCell(pattern(65536, seed + 1)),
});
const zero = (cell: number, count: number): ManifestRecord => ({ kind: 'zero', cell, count });

describe('manifest golden files', () => {
  for (const name of readdirSync(GOLDEN).filter((each) => each.endsWith('.manifest'))) {
    const bytes = readFileSync(new URL(name, GOLDEN));
    if (name.startsWith('good-')) {
      it(`${name} reads the same whole and byte by byte, and its root holds`, async () => {
        const records = await readRecords(chunked(bytes, 100_000));
        expect(await readRecords(chunked(bytes, 1))).to.deep.equal(records);
        await (await manifestOf(bytes)).verify();
      });

      it(`${name} is what our writer makes of the same records`, async () => {
        const { header } = await manifestOf(bytes);
        const records = await readRecords(chunked(bytes, 100_000));
        expect((await manifestBytes(header, records)).equals(bytes)).to.equal(true);
      });
      continue;
    }
    const code = name === 'bad-version.manifest' ? 'E_DELTA_VERSION' : 'E_DELTA_MANIFEST';
    for (const chunkBytes of [100_000, 1]) {
      it(`${name} is refused with ${code} in chunks of ${chunkBytes}`, async () => {
        await refusal(code, () => readRecords(chunked(bytes, chunkBytes)));
      });
    }

    it(`${name} is refused with ${code} as a file`, async () => {
      const file = await asFile(bytes);
      await refusal(code, async () => {
        const manifest = await ManifestFile.open(file);
        await manifest.verify();
      });
    });
  }

  it('the header comes back field by field', async () => {
    const { header } = await manifestOf(readFileSync(new URL('good-delta.manifest', GOLDEN)));
    expect(header).to.deep.equal(testHeader(SIZE));
  });
});

describe('manifest writer', () => {
  it('joins zero cells to one record, however they are added', async () => {
    const header = testHeader(SIZE);
    const single = await manifestBytes(header, [zero(0, 1), zero(1, 1), zero(2, 1), data(3)]);
    expect(single.equals(await manifestBytes(header, [zero(0, 3), data(3)]))).to.equal(true);
  });

  it('asserts what the reader refuses', async () => {
    const header = testHeader(SIZE);
    const bad: ManifestRecord[][] = [
      [data(1), data(1)],
      [data(2), data(1)],
      [zero(4, 2)],
      [{ kind: 'data', cell: 0, hash: hashCell(Buffer.alloc(65536)) }],
      [{ kind: 'data', cell: 4, hash: hashCell(Buffer.alloc(SIZE - 4 * 65536)) }],
    ];
    for (const records of bad) {
      let caught: unknown;
      try {
        await manifestBytes(header, records);
      } catch (error) {
        caught = error;
      }
      expect(String(caught)).to.contain('broken invariant');
    }
  });

  it('gives the root that the other end computes cell by cell', async () => {
    const header = testHeader(SIZE);
    const records = [data(0), zero(1, 2), data(4)];
    const root = new ManifestRoot(header);
    for (const record of records) expect(root.check(record)).to.equal(undefined);
    const manifest = await manifestOf(await manifestBytes(header, records));
    expect(root.finish()).to.deep.equal(manifest.trailer);
  });

  it('every field of the header and every record is under the root', async () => {
    const header = testHeader(SIZE);
    const rootOf = async (changed: typeof header, records = [data(0)]): Promise<string> =>
      (await manifestOf(await manifestBytes(changed, records))).trailer.root.toString('hex');
    const roots = new Set<string>();
    const guid = header.vmId;
    for (const changed of [
      header,
      { ...header, point: guid },
      { ...header, parentPoint: guid },
      { ...header, vmId: header.point },
      { ...header, diskId: guid },
      { ...header, diskGeneration: 2 },
      { ...header, diskSizeBytes: SIZE + 1 },
      { ...header, logicalSectorBytes: 4096 },
      { ...header, physicalSectorBytes: 512 },
      { ...header, epoch: 2n ** 64n - 1n },
      { ...header, parentPoint: ZERO_GUID },
      { ...header, parentPoint: ZERO_GUID, kind: 'base' as const },
    ]) {
      roots.add(await rootOf(changed));
    }
    roots.add(await rootOf(header, [data(1)]));
    roots.add(await rootOf(header, [data(0, 5)]));
    roots.add(await rootOf(header, [zero(0, 1)]));
    roots.add(await rootOf(header, []));
    expect(roots.size).to.equal(16);
  });

  it('a base has no parent point: the writer asserts it', async () => {
    let caught: unknown;
    try {
      await manifestBytes({ ...testHeader(SIZE), kind: 'base' }, []);
    } catch (error) {
      caught = error;
    }
    expect(String(caught)).to.contain('broken invariant');
  });

  it('hands the sink bounded chunks', async () => {
    const cells = 5000;
    let largest = 0;
    const writer = new ManifestWriter(testHeader(cells * 65536), async (chunk) => {
      await Promise.resolve();
      largest = Math.max(largest, chunk.length);
    });
    for (let cell = 0; cell < cells; cell++) await writer.addData(cell, hashCell(pattern(8, cell)));
    await writer.finish();
    expect(largest).to.be.at.most(64 * 1024);
  });
});

describe('manifest file', () => {
  it('finds the record of any cell, and none where there is none', async () => {
    const cells = 3000;
    const records: ManifestRecord[] = [];
    for (let cell = 0; cell + 4 < cells; cell += 5) records.push(data(cell), zero(cell + 1, 2));
    const manifest = await manifestOf(await manifestBytes(testHeader(cells * 65536), records));
    for (let cell = 0; cell < cells; cell += 7) {
      const found = await manifest.find(cell);
      const kind = cell % 5 === 0 ? 'data' : cell % 5 < 3 ? 'zero' : undefined;
      expect(found?.kind, `cell ${cell}`).to.equal(kind);
    }
  });

  it('notes a length that does not follow from the record count', async () => {
    const bytes = await manifestBytes(testHeader(SIZE), [data(0), data(1)]);
    const shorter = Buffer.concat([bytes.subarray(0, 128), bytes.subarray(168)]);
    await refusal('E_DELTA_MANIFEST', () => manifestOf(shorter));
  });
});
