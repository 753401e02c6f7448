import { expect } from 'chai';
import fc from 'fast-check';
import {
  changesOf,
  type ChangePage,
} from '../../../../shared/hypervisor/hyperv/native/change-query.js';
import type { ByteRange } from '../../../../shared/hypervisor/index.js';

interface Wide {
  readonly offset: bigint;
  readonly lengthBytes: bigint;
}

/** Hands out prepared pages, whatever is asked. */
async function query(sizeBytes: number, pages: readonly ChangePage[]): Promise<ByteRange[]> {
  const waiting = [...pages];
  const found: ByteRange[] = [];
  const page = (): Promise<ChangePage> => {
    const next = waiting.shift();
    return next === undefined
      ? Promise.reject(new Error('asked once too often'))
      : Promise.resolve(next);
  };
  const refuse = (what: string): Error => new Error(what);
  for await (const range of changesOf({ sizeBytes, page, refuse })) found.push(range);
  return found;
}

const wide = (offset: number | bigint, lengthBytes: number | bigint): Wide => ({
  offset: BigInt(offset),
  lengthBytes: BigInt(lengthBytes),
});

async function refused(sizeBytes: number, ...pages: ChangePage[]): Promise<string> {
  try {
    await query(sizeBytes, pages);
  } catch (error) {
    if (error instanceof Error) return error.message;
  }
  return 'nothing';
}

describe('the query of changed ranges', () => {
  it('gives the union of all pages, in order and without gaps between neighbours', async () => {
    const unit = fc.nat({ max: 40 });
    const range = fc.tuple(unit, unit);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.array(range, { maxLength: 6 })), {
          maxLength: 5,
        }),
        fc.integer({ min: 1, max: 60 }),
        async (parts, size) => {
          const bitmap = new Uint8Array(size);
          const pages: ChangePage[] = [];
          let offset = 0;
          for (const [step, ranges] of [...parts, [size, []] as const]) {
            if (offset >= size) break;
            const processed = Math.min(step, size - offset);
            // a page names what begins in its part, in any order, as long as it likes
            const named = ranges.map(
              ([at, length]) => [offset + (at % processed), length] as const,
            );
            for (const [start, length] of named) bitmap.fill(1, start, start + length);
            const list = named.map(([start, length]) => wide(start, length));
            pages.push({ processedBytes: BigInt(processed), ranges: list });
            offset += processed;
          }
          const found = await query(size, pages);
          const covered = new Uint8Array(size);
          let last = -1;
          for (const { start, end } of found) {
            expect(start).to.be.greaterThan(last);
            expect(end).to.be.within(start + 1, size);
            covered.fill(1, start, end);
            last = end;
          }
          expect(covered).to.deep.equal(bitmap);
        },
      ),
    );
  });

  it('reports too much rather than lose a range that comes late', async () => {
    const pages = [
      { processedBytes: 50n, ranges: [wide(40, 5)] },
      { processedBytes: 50n, ranges: [wide(10, 5)] },
    ];
    expect(await query(100, pages)).to.deep.equal([{ start: 10, end: 45 }]);
  });

  it('refuses a range before one that has been handed out', async () => {
    const first = { processedBytes: 50n, ranges: [wide(10, 5), wide(40, 5)] };
    const second = { processedBytes: 50n, ranges: [wide(12, 1)] };
    expect(await refused(100, first, second)).to.contain('a range at 12 after all up to 15');
  });

  it('refuses an answer without progress, and one about more than was asked', async () => {
    expect(await refused(100, { processedBytes: 0n, ranges: [] })).to.contain('no progress at 0');
    const tooMuch = { processedBytes: 101n, ranges: [] };
    expect(await refused(100, tooMuch)).to.contain('more was processed than asked');
  });

  it('takes numbers of 64 bits for what they mean', async () => {
    const huge = { processedBytes: 4096n, ranges: [wide(512, 2n ** 64n - 1n), wide(2n ** 63n, 7)] };
    expect(await query(4096, [huge])).to.deep.equal([{ start: 512, end: 4096 }]);
  });

  it('asks nothing about a disk without bytes', async () => {
    expect(await query(0, [])).to.deep.equal([]);
  });
});
