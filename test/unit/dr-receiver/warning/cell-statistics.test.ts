// What cells look like: real text and programs, packed and encrypted, judged by their bytes alone.

import { expect } from 'chai';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import {
  CellStatistics,
  hasTurned,
  isEncryptedLook,
  lookAt,
} from '../../../../dr-receiver/warning/cell-statistics.js';
import { CELL_BYTES, hashCell } from '../../../../shared/delta/index.js';
import { Guest, noise, packed } from '../../../support/guest-life.js';
import { PlainVolume } from '../../../support/volume.js';

const MIB = 1024 * 1024;
const SIZES = { textFiles: 0, officeFiles: 0, programFiles: 0, databaseMib: 0 };
const guest = new Guest(new PlainVolume(MIB), 1, SIZES);

function cellsOf(bytes: Buffer): Buffer[] {
  const cells: Buffer[] = [];
  for (let at = 0; at + CELL_BYTES <= bytes.length; at += CELL_BYTES) {
    cells.push(bytes.subarray(at, at + CELL_BYTES));
  }
  return cells;
}

function statisticsOf(bytes: Buffer): CellStatistics {
  const statistics = new CellStatistics();
  for (const [cell, part] of cellsOf(bytes).entries()) statistics.add(cell, hashCell(part), part);
  return statistics;
}

/** Of the cells that the screen took, those that a close look takes for encrypted. */
function encryptedShare(bytes: Buffer): number {
  const cells = cellsOf(bytes);
  return cells.filter((cell) => isEncryptedLook(lookAt(cell))).length / cells.length;
}

describe('cell statistics', () => {
  const text = guest.text(4 * MIB);
  const program = guest.program(4 * MIB);

  it('sees random blocks in what is encrypted, and hardly any in text and programs', () => {
    expect(statisticsOf(noise(1, 4 * MIB)).randomShare).to.equal(1);
    expect(statisticsOf(text).randomShare).to.be.below(0.01);
    expect(statisticsOf(program).randomShare).to.be.below(0.05);
  });

  it('sees one random block among fifteen of text', () => {
    for (let block = 0; block < 16; block++) {
      const cell = Buffer.from(text.subarray(0, CELL_BYTES));
      noise(2, 4096).copy(cell, block * 4096);
      expect(statisticsOf(cell).randomShare, `block ${block}`).to.equal(1);
    }
  });

  it('takes encrypted cells for encrypted, and most packed ones not', () => {
    expect(encryptedShare(noise(3, 4 * MIB))).to.be.above(0.98);
    expect(encryptedShare(text)).to.equal(0);
    expect(encryptedShare(program)).to.be.below(0.01);
    expect(encryptedShare(gzipSync(text))).to.be.below(0.2);
    expect(encryptedShare(deflateSync(program))).to.be.below(0.1);
    expect(encryptedShare(zstdCompressSync(text))).to.be.below(0.2);
  });

  it('cannot tell the densest packers from encryption, and does not say so', () => {
    expect(encryptedShare(packed(text))).to.be.above(0.1);
  });

  it('calls it turned when content gave way, and not when room was filled', () => {
    const secret = lookAt(noise(4, CELL_BYTES));
    const plain = lookAt(text.subarray(0, CELL_BYTES));
    const zeros = lookAt(Buffer.alloc(CELL_BYTES));
    const beginning = Buffer.alloc(CELL_BYTES);
    text.copy(beginning, 0, 0, 700);
    expect(hasTurned(plain, secret)).to.equal(true);
    expect(hasTurned(secret, plain)).to.equal(false);
    expect(hasTurned(zeros, secret)).to.equal(false);
    expect(hasTurned(lookAt(beginning), secret)).to.equal(false);
    expect(hasTurned(lookAt(noise(5, CELL_BYTES)), secret)).to.equal(false);
    expect(hasTurned(plain, plain)).to.equal(false);
    const zip = lookAt(deflateSync(text).subarray(MIB / 4, MIB / 4 + CELL_BYTES));
    expect(hasTurned(plain, zip), 'packed').to.equal(false);
  });

  it('calls packed content turned when it gave way to encrypted bytes', () => {
    const packed = deflateSync(program).subarray(0, 16 * CELL_BYTES);
    const turned = cellsOf(packed).filter((cell, n) =>
      hasTurned(lookAt(cell), lookAt(noise(n, CELL_BYTES))),
    );
    expect(turned.length).to.be.above(10);
  });

  it('takes the same sample of the same cells, of a bounded size', () => {
    const bytes = noise(6, 64 * MIB);
    const statistics = statisticsOf(bytes);
    const again = statisticsOf(bytes);
    expect(statistics.randomSample).to.deep.equal(again.randomSample);
    expect(statistics.randomSample).to.have.length(64);
    expect(statistics.screenedCount).to.be.within(512, 512 + 512 / 2);
    expect(statistics.randomShare).to.equal(1);
    const cells = statistics.randomSample.map(({ cell }) => cell);
    // drawn from all of the disk, though the first cells are screened more closely
    expect(cells.filter((cell) => cell >= 512).length).to.be.within(16, 48);
  });

  it('looks at short and odd cells, and reads nothing beyond them', () => {
    for (const length of [512, 4096, 4608, CELL_BYTES - 512]) {
      const part = noise(7, length);
      const statistics = new CellStatistics();
      statistics.add(0, hashCell(part), part);
      expect(statistics.randomShare).to.equal(length < 4096 ? 0 : 1);
      expect(isEncryptedLook(lookAt(part))).to.equal(length >= 4096);
    }
  });
});
