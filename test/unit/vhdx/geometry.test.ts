// § 4 to the number: chunk ratios, BAT sizes, and where entries stand on both sides of a chunk border.

import { expect } from 'chai';
import {
  bitmapEntryIndex,
  entryOwner,
  geometryOf,
  payloadEntryIndex,
  type VhdxType,
} from '../../../shared/vhdx/geometry.js';

const MIB = 1024 * 1024;
const TIB = 1024 ** 4;

function geometry(
  type: VhdxType,
  sizeBytes: number,
  blockSizeBytes: number,
  logicalSectorBytes = 512,
): ReturnType<typeof geometryOf> {
  return geometryOf({ type, sizeBytes, blockSizeBytes, logicalSectorBytes });
}

describe('VHDX geometry', () => {
  for (const [sector, block, ratio] of [
    [512, 1, 4096],
    [512, 2, 2048],
    [512, 32, 128],
    [512, 256, 16],
    [4096, 1, 32768],
    [4096, 2, 16384],
    [4096, 32, 1024],
    [4096, 256, 128],
  ] as const) {
    it(`has ${ratio} blocks of ${block} MiB in a chunk of ${sector}-byte sectors`, () => {
      const g = geometry('differencing', 64 * TIB, block * MIB, sector);
      expect(g.chunkRatio).to.equal(ratio);
      expect(g.chunkSizeBytes).to.equal(2 ** 23 * sector);
      // All bits of a chunk fill one bitmap block of 1 MiB.
      expect(g.bitmapBytesPerBlock * ratio).to.equal(MIB);
      expect(g.bitmapPagesPerBlock).to.equal(Math.max(1, g.bitmapBytesPerBlock / 4096));
    });
  }

  it('sizes the BAT by the formulas of the standard', () => {
    // 8 blocks of 2 MiB: the differencing one reaches to its bitmap slot at index 2048.
    expect(geometry('dynamic', 16 * MIB, 2 * MIB).batEntryCount).to.equal(8);
    expect(geometry('differencing', 16 * MIB, 2 * MIB).batEntryCount).to.equal(2049);
    // A full chunk has no bitmap slot behind it in a dynamic disk; one block more brings it.
    expect(geometry('fixed', 4096 * MIB, MIB).batEntryCount).to.equal(4096);
    expect(geometry('fixed', 4096 * MIB + 512, MIB).batEntryCount).to.equal(4098);
    expect(geometry('differencing', 4096 * MIB, MIB).batEntryCount).to.equal(4097);
    expect(geometry('differencing', 4096 * MIB + 512, MIB).batEntryCount).to.equal(2 * 4097);
    const largest = geometry('dynamic', 64 * TIB, MIB);
    expect(largest.payloadBlockCount).to.equal(2 ** 26);
    expect(largest.batEntryCount).to.equal(2 ** 26 + Math.floor((2 ** 26 - 1) / 4096));
    expect(largest.batRegionBytes % MIB).to.equal(0);
    expect(geometry('dynamic', 512, 256 * MIB).batRegionBytes).to.equal(MIB);
  });

  it('counts the last block, cut short or not', () => {
    expect(geometry('dynamic', 512, MIB).payloadBlockCount).to.equal(1);
    expect(geometry('dynamic', MIB, MIB).payloadBlockCount).to.equal(1);
    expect(geometry('dynamic', MIB + 512, MIB).payloadBlockCount).to.equal(2);
  });

  it('places entries around chunk borders, and knows whose an entry is', () => {
    const g = geometry('differencing', 3 * 4096 * MIB, MIB);
    expect(payloadEntryIndex(g, 4095)).to.equal(4095);
    expect(bitmapEntryIndex(g, 0)).to.equal(4096);
    expect(payloadEntryIndex(g, 4096)).to.equal(4097);
    expect(bitmapEntryIndex(g, 1)).to.equal(8193);
    const seen = new Set<number>();
    for (let block = 0; block < g.payloadBlockCount; block++) {
      const index = payloadEntryIndex(g, block);
      seen.add(index);
      expect(entryOwner(g, index)).to.deep.equal({ kind: 'payload', block });
    }
    for (let chunk = 0; chunk < g.bitmapBlockCount; chunk++) {
      const index = bitmapEntryIndex(g, chunk);
      seen.add(index);
      expect(entryOwner(g, index)).to.deep.equal({ kind: 'bitmap', chunk });
    }
    expect(seen.size).to.equal(g.batEntryCount);
    expect(Math.max(...seen)).to.equal(g.batEntryCount - 1);
  });
});
