// The boot sector of the acceptance. Its code was run once under the BIOS of QEMU 7.2, where it wrote exactly these
// sectors; here it is held to those bytes, so that a change of it is run there again.

import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { bootSector, writtenSector } from '../../../shared/acceptance/boot-sector.js';

const LBAS = [2048, 40_000, 65_000, 131_071];

describe('the boot sector of an acceptance', () => {
  it('is the one that ran', () => {
    const code = bootSector(LBAS).subarray(0, 64);
    expect(code.toString('hex').replace(/(00)+$/, '')).to.equal(
      '31c08ed88ec08ed0bc007cfbbe407cbf507cb90400668b0566a3487c668b450466a34c7c83c70860b80043cd1361e2e5f4ebfd',
    );
  });

  it('has the packet, the list and the signature where the code looks for them', () => {
    const sector = bootSector(LBAS);
    expect(sector.length).to.equal(512);
    expect(sector.subarray(64, 72).toString('hex')).to.equal('10000100007c0000');
    for (const [index, lba] of LBAS.entries()) {
      expect(sector.readBigUInt64LE(80 + 8 * index)).to.equal(BigInt(lba));
    }
    expect(sector.readUInt16LE(510)).to.equal(0xaa55);
  });

  it('writes another copy of itself to each place', () => {
    const boot = bootSector(LBAS);
    const copies = LBAS.map((lba) => writtenSector(boot, lba));
    const hashes = copies.map((copy) => createHash('sha256').update(copy).digest('hex'));
    expect(new Set(hashes).size).to.equal(LBAS.length);
    expect(copies[3]?.readBigUInt64LE(72)).to.equal(131_071n);
  });
});
