// A materialised point, judged by another program: 7-Zip reads the differencing disk through its
// parent and must see the bytes that base and deltas make in order.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';

import { systemRandom } from '../../shared/clock.js';
import { CELL_BYTES, materialise, PcbtDelta } from '../../shared/delta/index.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { checkVhdx, createVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { needTool } from '../support/need.js';
import { asFile, deltaBetween, manifestOf, pattern, testHeader } from '../unit/delta/builders.js';

/** A short last cell; 7zz 26.02 opens no disk whose number of sectors is odd. */
const SIZE = 40 * CELL_BYTES + 4096 * 4;
const seams = { fs: nodeFileSystem, random: systemRandom };

describe('a point materialised as a differencing VHDX', function () {
  this.timeout(60_000);
  let folder = '';

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'hvdr-delta-'));
  });

  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  for (const logicalSectorBytes of [512, 4096]) {
    it(`is the union of the deltas for 7zz and for us, sectors of ${logicalSectorBytes}`, async function () {
      needTool(this, '7zz');
      const a = pattern(SIZE, 1);
      a.fill(0, 20 * CELL_BYTES, 25 * CELL_BYTES);
      const b = Buffer.from(a);
      pattern(3 * CELL_BYTES, 2).copy(b, 5 * CELL_BYTES + 17);
      b.fill(0, 12 * CELL_BYTES, 18 * CELL_BYTES);
      const c = Buffer.from(b);
      pattern(600, 3).copy(c, 13 * CELL_BYTES);
      pattern(500, 4).copy(c, SIZE - 500);
      c.fill(0, 6 * CELL_BYTES, 7 * CELL_BYTES);

      const base = join(folder, `base-${logicalSectorBytes}.vhdx`);
      const point = join(folder, `point-${logicalSectorBytes}.vhdx`);
      const request = { type: 'dynamic', sizeBytes: SIZE, logicalSectorBytes } as const;
      await createVhdx(base, { ...request, blockSizeBytes: 1024 * 1024 }, seams);
      const disk = await openVhdx(base, { ...seams, isWritable: true });
      await disk.write(0, a);
      await disk.close();

      const parent = await openVhdx(base, seams);
      const sources = [];
      for (const [n, before, after] of [
        [1, a, b],
        [2, b, c],
      ] as const) {
        const delta = await deltaBetween(before, after, testHeader(SIZE, n));
        sources.push(new PcbtDelta(await manifestOf(delta.manifest), await asFile(delta.pcbt)));
      }
      await materialise(point, parent, sources, seams);
      await parent.close();

      const { violations } = await checkVhdx(point, seams);
      expect(violations).to.deep.equal([]);
      const opened = await openVhdx(point, seams);
      const bytes = Buffer.alloc(SIZE);
      await opened.read(0, bytes);
      await opened.close();
      expect(bytes.equals(c)).to.equal(true);

      const theirs = execFileSync('7zz', ['e', '-so', '-tvhdx', point], {
        maxBuffer: 2 * SIZE,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
      expect(sha(theirs)).to.equal(sha(c));
    });
  }
});
