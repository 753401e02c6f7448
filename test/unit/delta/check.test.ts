// The check of a delta file lists every finding, not only the first.

import { expect } from 'chai';

import {
  CELL_BYTES,
  checkDelta,
  type DeltaFinding,
  hashCell,
} from '../../../shared/delta/index.js';
import {
  asFile,
  deltaBetween,
  manifestBytes,
  pattern,
  pcbtBytes,
  testBaseHeader,
} from './builders.js';

async function findings(
  pcbt: Buffer,
  options: { diskSizeBytes?: number; manifest?: Buffer } = {},
): Promise<{ list: string[]; isVerified: boolean; blockCount: number }> {
  const list: DeltaFinding[] = [];
  const manifest = options.manifest && (await asFile(options.manifest));
  const result = await checkDelta(await asFile(pcbt), { ...options, manifest }, (finding) =>
    list.push(finding),
  );
  expect(result.findingCount).to.equal(list.length);
  const { isVerified, blockCount } = result;
  return {
    list: list.map(({ code, where, position }) => `${code} ${where} ${position}`),
    isVerified,
    blockCount,
  };
}

describe('check of a delta', () => {
  const data = pattern(10, 1);

  it('finds nothing in a good delta, and says whether hashes were compared', async () => {
    const before = pattern(3 * CELL_BYTES, 1);
    const delta = await deltaBetween(before, pattern(3 * CELL_BYTES, 2));
    expect(await findings(delta.pcbt)).to.deep.equal({
      list: [],
      isVerified: false,
      blockCount: 1,
    });
    expect((await findings(delta.pcbt, { manifest: delta.manifest })).isVerified).to.equal(true);
  });

  it('refuses the manifest of a base, even when it lists the same cells', async () => {
    const after = pattern(3 * CELL_BYTES, 2);
    const { pcbt } = await deltaBetween(pattern(3 * CELL_BYTES, 1), after);
    const cells = [0, 1, 2].map((cell) => ({
      kind: 'data' as const,
      cell,
      hash: hashCell(after.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES)),
    }));
    const manifest = await manifestBytes(testBaseHeader(after.length), cells);
    const found = await findings(pcbt, { manifest });
    expect(found.list).to.deep.equal(['E_DELTA_COVERAGE manifest 12']);
    expect(found.isVerified).to.equal(false);
  });

  it('lists each broken rule with its byte', async () => {
    const pcbt = pcbtBytes(
      [
        { offset: 500, data },
        { offset: 400, data },
        { offset: 600, data: Buffer.alloc(0) },
        { offset: 995, data },
        { offset: 700, data },
      ],
      { reserved: 3 },
    );
    const { list, blockCount } = await findings(Buffer.concat([pcbt, data]), {
      diskSizeBytes: 1000,
    });
    expect(list).to.deep.equal([
      'E_PCBT_RESERVED delta 12',
      'E_PCBT_ORDER delta 42',
      'E_PCBT_EMPTY_BLOCK delta 76',
      'E_PCBT_BEYOND_DISK delta 84',
      'E_PCBT_TRAILING delta 136',
    ]);
    expect(blockCount).to.equal(2);
  });

  it('a length beyond the file ends the walk after both findings', async () => {
    const { list } = await findings(pcbtBytes([{ offset: 0, length: 2n ** 63n, data }]));
    expect(list).to.deep.equal(['E_PCBT_BEYOND_DISK delta 16', 'E_PCBT_TRUNCATED delta 42']);
  });

  it('names every cell that does not fit the manifest', async () => {
    const before = pattern(6 * CELL_BYTES, 1);
    const after = pattern(6 * CELL_BYTES, 2);
    const { pcbt, manifest } = await deltaBetween(before, after);
    pcbt[32 + CELL_BYTES] = 0;
    pcbt[32 + 4 * CELL_BYTES + 9] = 0;
    const { list } = await findings(pcbt, { manifest });
    expect(list).to.deep.equal([
      `E_DELTA_HASH guest ${CELL_BYTES}`,
      `E_DELTA_HASH guest ${4 * CELL_BYTES}`,
    ]);
  });

  it('a damaged manifest is a finding of its own; the delta is checked nevertheless', async () => {
    const { pcbt, manifest } = await deltaBetween(undefined, pattern(CELL_BYTES, 1));
    manifest[140] = (manifest[140] ?? 0) ^ 1;
    const { list, isVerified } = await findings(Buffer.concat([pcbt, data]), { manifest });
    expect(list).to.deep.equal([
      'E_DELTA_MANIFEST manifest 200',
      `E_PCBT_TRAILING delta ${pcbt.length}`,
    ]);
    expect(isVerified).to.equal(false);
  });

  it('a manifest for another disk size is a finding', async () => {
    const { pcbt, manifest } = await deltaBetween(undefined, pattern(CELL_BYTES, 1));
    const { list } = await findings(pcbt, { manifest, diskSizeBytes: 2 * CELL_BYTES });
    expect(list).to.deep.equal(['E_DISK_MISMATCH manifest 96']);
  });
});
