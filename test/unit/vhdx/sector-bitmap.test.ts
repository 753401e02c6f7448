// Runs and bits of a sector bitmap against one bit at a time.

import { expect } from 'chai';
import { areAllSet, bitRuns, setBits } from '../../../shared/vhdx/sector-bitmap.js';
import { SeededRandom } from '../../support/seeded-random.js';

function bit(bytes: Buffer, index: number): boolean {
  return ((bytes[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0;
}

/** Bytes in which long runs of equal bits are as frequent as short ones. */
function patchy(random: SeededRandom, lengthBytes: number): Buffer {
  const out = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes;) {
    const length = random.pick([1, 1, 2, 7, 40, 300]);
    const fill = random.pick([0, 0xff, random.int(256)]);
    out.fill(fill, at, Math.min(lengthBytes, at + length));
    at += length;
  }
  return out;
}

describe('VHDX sector bitmap', () => {
  it('has the least significant bit first', () => {
    const bytes = Buffer.alloc(8);
    setBits(bytes, 0, 1);
    setBits(bytes, 9, 11);
    expect([...bytes.subarray(0, 2)]).to.deep.equal([0x01, 0x06]);
    expect(bitRuns(Buffer.from([0x80, 0x01, 0, 0]), 0, 32)).to.deep.equal([
      { start: 0, end: 7, isSet: false },
      { start: 7, end: 9, isSet: true },
      { start: 9, end: 32, isSet: false },
    ]);
  });

  it('gives runs that cover a range without gap, each as long as it can be', () => {
    const random = new SeededRandom(1);
    for (let round = 0; round < 400; round++) {
      const bytes = patchy(random, 512);
      const start = random.int(4096);
      const end = random.between(start, 4097);
      const runs = bitRuns(bytes, start, end);
      let position = start;
      for (const [index, run] of runs.entries()) {
        expect(run.start).to.equal(position);
        expect(run.end).to.be.greaterThan(run.start);
        if (index > 0) expect(run.isSet).to.not.equal(runs[index - 1]?.isSet);
        for (let i = run.start; i < run.end; i++) {
          if (bit(bytes, i) !== run.isSet) expect.fail(`round ${round}, bit ${i}`);
        }
        position = run.end;
      }
      expect(position).to.equal(end);
    }
  });

  it('sets the bits of a range and no other', () => {
    const random = new SeededRandom(2);
    for (let round = 0; round < 400; round++) {
      const before = patchy(random, 64);
      const after = Buffer.from(before);
      const start = random.int(512);
      const end = random.between(start, 513);
      setBits(after, start, end);
      for (let i = 0; i < 512; i++) {
        const expected = (i >= start && i < end) || bit(before, i);
        if (bit(after, i) !== expected) expect.fail(`round ${round}, bit ${i}`);
      }
    }
  });

  it('knows when all bits are set, at any length', () => {
    const bytes = Buffer.alloc(512, 0xff);
    for (const count of [1, 8, 31, 32, 33, 256, 4096])
      expect(areAllSet(bytes, count)).to.equal(true);
    bytes[511] = 0x7f;
    expect(areAllSet(bytes, 4095)).to.equal(true);
    expect(areAllSet(bytes, 4096)).to.equal(false);
    expect(areAllSet(Buffer.alloc(32), 256)).to.equal(false);
  });
});
