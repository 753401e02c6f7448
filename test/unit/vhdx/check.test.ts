// § 9, point by point: each violation is named by `check` with its structure and offset, is refused
// by opening with the same code, and no byte of such a file is changed by an attempt to write to it.

import { resolve } from 'node:path';
import { expect } from 'chai';
import { checkVhdx, openVhdx, VhdxError } from '../../../shared/vhdx/index.js';
import { fingerprint } from '../../support/fingerprint.js';
import type { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { DAMAGES } from '../../support/vhdx-damages.js';
import { ITEMS, VhdxForge } from '../../support/vhdx-forge.js';
import { SEED_NAMES, seedFile } from '../../support/vhdx-seeds.js';

function seams(fs: MemoryFileSystem): { fs: MemoryFileSystem; random: SeededRandom } {
  return { fs, random: new SeededRandom(5) };
}

describe('VHDX check', function () {
  this.timeout(60_000);

  for (const name of SEED_NAMES) {
    it(`finds nothing in the undamaged seed "${name}", which reads as written`, async () => {
      const { fs, path, content } = await seedFile(name);
      const before = fingerprint(fs, path);
      const { violations, isComplete, violationCount } = await checkVhdx(path, seams(fs));
      expect(violations).to.deep.equal([]);
      expect(violationCount).to.equal(0);
      expect(isComplete).to.equal(true);
      const disk = await openVhdx(path, seams(fs));
      const bytes = Buffer.alloc(content.length);
      await disk.read(0, bytes);
      await disk.close();
      expect(bytes.equals(content)).to.equal(true);
      expect(fingerprint(fs, path)).to.deep.equal(before);
    });
  }

  for (const { point, name, seed, apply, isWriteOnly = false } of DAMAGES) {
    it(`§ 9.${point}: ${name}`, async () => {
      const { fs, path } = await seedFile(seed);
      const expected = apply(new VhdxForge(fs, path));
      const before = fingerprint(fs, path);

      const { violations, warnings } = await checkVhdx(path, seams(fs));
      if (isWriteOnly) {
        expect(violations).to.deep.equal([]);
        expect(warnings.length).to.be.greaterThan(0);
      } else {
        const found = violations.map(({ code, structure, offset }) => ({
          code,
          structure,
          offset,
        }));
        expect(found).to.deep.include({ ...expected });
        const error = await refusal(() => openVhdx(path, seams(fs)));
        expect(error.code).to.equal(expected.code);
      }

      const error = await refusal(() => openVhdx(path, { ...seams(fs), isWritable: true }));
      expect(error).to.be.instanceOf(VhdxError);
      expect(error.code).to.equal(expected.code);
      expect(error.context['structure']).to.equal(expected.structure);
      expect(error.context['offset']).to.equal(expected.offset);
      expect(error.message).to.contain(resolve(path));
      expect(fingerprint(fs, path)).to.deep.equal(before);
    });
  }

  it('names every finding of a file with several, and goes on behind each', async () => {
    const { fs, path } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const places = [0, 1, 2, 5].map((index) => forge.setBat(index, 4, 0));
    const { violations, violationCount, isComplete } = await checkVhdx(path, seams(fs));
    expect(violations.map(({ offset }) => offset)).to.deep.equal(places);
    expect(violationCount).to.equal(4);
    expect(isComplete).to.equal(true);
  });

  it('keeps a bounded number of findings and warnings, and counts them all', async () => {
    const { fs, path } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    forge.u64(forge.item(ITEMS.size).at, 100_000 * 1024 * 1024);
    const end = forge.sizeBytes;
    forge.truncate(end + 4096);
    const blocks = 90_000;
    const entries = Buffer.alloc(blocks * 8);
    for (let i = 0; i < blocks; i++) {
      if ((i + 1) % 4097 !== 0) entries.writeBigUInt64LE(BigInt(end) | 6n, i * 8);
    }
    forge.write(forge.batEntryAt(0), entries);
    const { violations, violationCount, warnings } = await checkVhdx(path, seams(fs));
    expect(violations.length).to.equal(1000);
    expect(violationCount).to.be.greaterThan(89_000);
    expect(warnings.length).to.be.lessThan(10);
  });

  it('says when a missing file is missing', async () => {
    const { fs } = await seedFile('dynamic');
    const error = await refusal(() => checkVhdx('/d/none.vhdx', seams(fs)));
    expect(error.code).to.equal('E_NOT_FOUND');
  });
});
