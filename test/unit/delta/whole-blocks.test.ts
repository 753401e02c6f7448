// Ranges over a parent, of which some blocks are bare: what comes out covers those blocks whole, and says
// the same of the disk.

import { expect } from 'chai';
import fc from 'fast-check';
import { WholeBlocks } from '../../../shared/delta/whole-blocks.js';
import { BufferDisk, pattern } from './builders.js';

const BLOCK = 16 * 4096;
const STEP = 512;

interface Range {
  readonly start: number;
  readonly end: number;
  readonly isZero: boolean;
}

/** Takes ranges as a sealed file does: in ascending order. */
class Ranges {
  readonly taken: Range[] = [];
  readonly #disk: BufferDisk;

  constructor(disk: BufferDisk) {
    this.#disk = disk;
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#take({ start: offset, end: offset + data.length, isZero: false });
    await this.#disk.write(offset, data);
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.#take({ start: offset, end: offset + lengthBytes, isZero: true });
    await this.#disk.zero(offset, lengthBytes);
  }

  #take(range: Range): void {
    expect(range.start).to.be.at.least(this.taken.at(-1)?.end ?? 0);
    expect(range.end).to.be.above(range.start);
    this.taken.push(range);
  }

  coveredIn(start: number, end: number): number {
    return this.taken.reduce(
      (sum, range) => sum + Math.max(0, Math.min(end, range.end) - Math.max(start, range.start)),
      0,
    );
  }
}

const someRanges = fc
  .array(
    fc.record({ gap: fc.nat(60), length: fc.integer({ min: 1, max: 200 }), isZero: fc.boolean() }),
    { minLength: 1, maxLength: 20 },
  )
  .map((list) => {
    const ranges: Range[] = [];
    let at = 0;
    for (const { gap, length, isZero } of list) {
      const start = at + gap * STEP;
      at = start + length * STEP;
      ranges.push({ start, end: at, isZero });
    }
    return ranges;
  });

describe('blocks over a bare parent', () => {
  it('are the child’s own as a whole, all others as they are given', async () => {
    await fc.assert(
      fc.asyncProperty(
        someRanges,
        fc.array(fc.boolean()),
        fc.nat(40),
        async (ranges, hasData, tail) => {
          const sizeBytes = (ranges.at(-1)?.end ?? 0) + tail * STEP;
          const blockCount = Math.ceil(sizeBytes / BLOCK);
          const before = Buffer.alloc(sizeBytes);
          for (let block = 0; block < blockCount; block++) {
            if (hasData[block] === true) pattern(4096, block + 1).copy(before, block * BLOCK);
          }
          const result = BufferDisk.of(before);
          const expected = Buffer.from(before);
          const target = new Ranges(result);
          const whole = new WholeBlocks(target, BufferDisk.of(before), BLOCK);
          for (const { start, end, isZero } of ranges) {
            const bytes = isZero ? Buffer.alloc(end - start) : pattern(end - start, start);
            bytes.copy(expected, start);
            if (isZero) await whole.zero(start, end - start);
            else await whole.write(start, bytes);
          }
          await whole.finish();
          expect(result.bytes.equals(expected)).to.equal(true);
          for (let block = 0; block < blockCount; block++) {
            const start = block * BLOCK;
            const end = Math.min(sizeBytes, start + BLOCK);
            const given = ranges.filter((range) => range.start < end && range.end > start);
            const wanted = new Ranges(new BufferDisk(0));
            wanted.taken.push(...given);
            const isBegunByData = given[0]?.isZero === false && given[0].start >= start;
            if (hasData[block] === true || given.length === 0) {
              expect(target.coveredIn(start, end)).to.equal(wanted.coveredIn(start, end));
            } else if (isBegunByData) {
              expect(target.coveredIn(start, end)).to.equal(end - start);
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
