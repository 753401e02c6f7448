import { expect } from 'chai';
import fc from 'fast-check';
import { formatSize, MAX_DISK_BYTES, parseSize } from '../../shared/sizes.js';
import { DrError } from '../../shared/errors.js';

function refusal(text: string, limits?: { min?: number; max?: number }): string {
  try {
    parseSize(text, '--size', limits);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_USAGE') return error.message;
    throw error;
  }
  throw new Error(`${text} was accepted`);
}

describe('parseSize', () => {
  it('reads bytes and powers of 1024, in either case', () => {
    const cases: readonly [string, number][] = [
      ['0', 0],
      ['512', 512],
      ['64K', 65_536],
      ['64k', 65_536],
      ['1M', 1_048_576],
      ['10G', 10 * 1024 ** 3],
      ['64T', MAX_DISK_BYTES],
      ['1.5K', 1536],
      ['0.5G', 1024 ** 3 / 2],
      ['70368744177663', MAX_DISK_BYTES - 1],
    ];
    for (const [text, bytes] of cases) expect(parseSize(text), text).to.equal(bytes);
  });

  it('refuses what is no size', () => {
    for (const text of ['', '-1', '+1', '1e9', '0x10', '1 K', '1KB', '1KiB', 'K', '1.', '.5', '١'])
      expect(refusal(text)).to.contain('is not a size');
  });

  it('refuses fractions that make no whole byte', () => {
    expect(refusal('0.5')).to.contain('not a whole number of bytes');
    expect(refusal('1.0001K')).to.contain('not a whole number of bytes');
  });

  it('refuses more than 64 TiB and whatever lies outside the given limits', () => {
    expect(refusal('65T')).to.contain('out of range');
    expect(refusal('99999999999999999T')).to.contain('out of range');
    expect(refusal('1K', { min: 4096 })).to.contain('4 KiB to 64 TiB');
    expect(refusal('2M', { max: 1024 ** 2 })).to.contain('0 B to 1 MiB');
  });

  it('reads back every number of bytes exactly', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: MAX_DISK_BYTES }), (bytes) => {
        expect(parseSize(String(bytes))).to.equal(bytes);
      }),
    );
  });
});

describe('formatSize', () => {
  it('takes the largest unit and at most two decimals', () => {
    expect(formatSize(0)).to.equal('0 B');
    expect(formatSize(65_536)).to.equal('64 KiB');
    expect(formatSize(1_500_000)).to.equal('1.43 MiB');
    expect(formatSize(15.5 * 1024 ** 3)).to.equal('15.5 GiB');
    expect(formatSize(2048 * 1024 ** 4)).to.equal('2048 TiB');
  });
});
