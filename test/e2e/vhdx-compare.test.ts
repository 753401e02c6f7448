// `hvdr vhdx compare` and `hvdr vhdx hash`, as a user runs them.

import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { runHvdr, runHvdrJson } from '../support/cli.js';

const MIB = 1024 * 1024;

describe('hvdr vhdx compare and hash', function () {
  this.timeout(240_000);
  let folder = '';
  const content = Buffer.alloc(5 * MIB + 512);

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-compare-'));
    content.fill(7, 100_000, 200_000);
    await writeFile(join(folder, 'a.raw'), content);
    const made = await runHvdr(['vhdx', 'convert', 'a.raw', 'a.vhdx'], { folder });
    expect(made.code, made.stderr).to.equal(0);
  });

  after(() => rm(folder, { recursive: true, force: true }));

  it('finds a raw image and its VHDX equal, and hashes them as sha256sum would', async () => {
    const { run, document } = await runHvdrJson(['vhdx', 'compare', 'a.raw', 'a.vhdx'], { folder });
    expect(run.code, run.stderr).to.equal(0);
    expect(document).to.include({ isEqual: true, differentRanges: 0, sizeBytes: content.length });
    const expected = createHash('sha256').update(content).digest('hex');
    for (const file of ['a.raw', 'a.vhdx']) {
      const hashed = await runHvdr(['vhdx', 'hash', file], { folder });
      expect(hashed.stdout.toString()).to.equal(`${expected}  ${file}\n`);
    }
  });

  it('lists where two images differ and ends with 1', async () => {
    const other = Buffer.from(content);
    other.writeUInt8(1, 3 * MIB + 5);
    await writeFile(join(folder, 'b.raw'), other);
    const { run, document } = await runHvdrJson(['vhdx', 'compare', 'a.vhdx', 'b.raw'], { folder });
    expect(run.code).to.equal(1);
    expect(document).to.deep.include({
      isEqual: false,
      differences: [{ start: 3 * MIB, end: 3 * MIB + 65536, firstByte: 3 * MIB + 5 }],
    });
  });

  it('refuses disks of different sizes, a missing file, and garbage that calls itself VHDX', async () => {
    await writeFile(join(folder, 'short.raw'), content.subarray(0, MIB));
    await writeFile(join(folder, 'bad.vhdx'), Buffer.from('vhdxfile and nothing else'));
    for (const [other, code, exit] of [
      ['short.raw', 'E_DISK_MISMATCH', 33],
      ['none.raw', 'E_NOT_FOUND', 16],
      ['bad.vhdx', 'E_VHDX_SIGNATURE', 15],
    ] as const) {
      const run = await runHvdr(['vhdx', 'compare', 'a.vhdx', other], { folder });
      expect(run.code, run.stderr).to.equal(exit);
      expect(run.stderr).to.match(new RegExp(`^${code}: `));
    }
  });
});
