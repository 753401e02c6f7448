// Files that the benches make for themselves.

import { expect } from 'chai';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { zstdCompressSync } from 'node:zlib';
import { copyRuns, scatteredCells, writeMixedFile, writeRuns } from '../../../bench/data.js';
import { WorkFolder } from '../../support/work-folder.js';

const PIECE = 4 * 1024 ** 2;

describe('bench data', () => {
  let folder: WorkFolder;
  before(() => {
    folder = new WorkFolder('bench-data');
  });
  after(() => folder.dispose());

  it('mixes random bytes, compressible text and holes, the same for the same seed', () => {
    const path = folder.file('mixed');
    writeMixedFile(path, 4 * PIECE + 65536, 'seed');
    const bytes = readFileSync(path);
    expect(bytes).to.have.length(4 * PIECE + 65536);
    const ratio = (index: number): number => {
      const piece = bytes.subarray(index * PIECE, (index + 1) * PIECE);
      return zstdCompressSync(piece).length / piece.length;
    };
    expect(ratio(0)).to.be.closeTo(1, 0.01);
    expect(ratio(1)).to.be.below(0.01);
    expect(ratio(2)).to.be.closeTo(0.5, 0.1);
    expect(ratio(3)).to.be.below(0.01);
    expect(ratio(4)).to.be.closeTo(1, 0.01);
    writeMixedFile(folder.file('again'), 4 * PIECE + 65536, 'seed');
    expect(readFileSync(folder.file('again')).equals(bytes)).to.equal(true);
    if (process.platform === 'linux') {
      expect(statSync(path).blocks * 512).to.be.below(3 * PIECE);
    }
  });

  it('puts changed runs back to what they were', () => {
    const [old, now] = [folder.file('old'), folder.file('now')];
    writeFileSync(old, Buffer.alloc(1024 ** 2, 1));
    writeFileSync(now, Buffer.alloc(1024 ** 2, 1));
    const runs = scatteredCells(5, 16, 'seed');
    writeRuns(now, runs, 'change');
    expect(readFileSync(now).equals(readFileSync(old))).to.equal(false);
    copyRuns(old, now, runs);
    expect(readFileSync(now).equals(readFileSync(old))).to.equal(true);
  });
});
