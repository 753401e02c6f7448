// Reading the whole BAT when a file is opened: the cost follows what the table holds, and every entry
// counts. What a scan refuses is in check.test.ts.

import { expect } from 'chai';
import { createVhdx, describeVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { seedFile } from '../../support/vhdx-seeds.js';

const MIB = 1024 * 1024;
const TIB = 1024 ** 4;

describe('VHDX BAT scan', () => {
  it('reads what is written of the table of a 64 TiB disk, not its holes', async () => {
    const fs = new MemoryFileSystem();
    const random = new SeededRandom(1);
    const request = { type: 'dynamic', sizeBytes: 64 * TIB, blockSizeBytes: 2 * MIB } as const;
    await createVhdx('/a.vhdx', request, { fs, random });
    const disk = await openVhdx('/a.vhdx', { fs, random, isWritable: true });
    const count = 40;
    for (let i = 0; i < count; i++) await disk.write(i * 1.5 * TIB, Buffer.alloc(512, 1));
    await disk.close();
    const counting = new CountingFileSystem(fs);
    const { blocks } = await describeVhdx('/a.vhdx', { fs: counting });
    expect(blocks.fullyPresent).to.equal(count);
    expect(blocks.total).to.equal((64 * TIB) / (2 * MIB));
    // Head and metadata, then a page for each block.
    expect(counting.tally('read').lengthBytes).to.be.lessThan(300 * 1024 + count * 8192);
  });

  it('counts blocks by state', async () => {
    const { fs, path } = await seedFile('child');
    const { blocks } = await describeVhdx(path, { fs });
    expect(blocks).to.deep.equal({
      total: 6,
      fullyPresent: 1,
      partiallyPresent: 2,
      zero: 1,
      bitmaps: 1,
    });
  });
});
