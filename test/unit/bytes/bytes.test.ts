import { expect } from 'chai';
import fc from 'fast-check';
import {
  crc32c,
  guid,
  parseGuid,
  randomGuid,
  readGuid,
  writeGuid,
  ZERO_GUID,
} from '../../../shared/bytes/index.js';
import { SeededRandom } from '../../support/seeded-random.js';

/** Bit by bit, straight from the definition. */
function naiveCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe('crc32c', () => {
  it('has the check value of the Castagnoli polynomial, not that of IEEE', () => {
    expect(crc32c(Buffer.from('123456789'))).to.equal(0xe3069283);
    expect(crc32c(Buffer.alloc(0))).to.equal(0);
    expect(crc32c(Buffer.alloc(32))).to.equal(0x8a9136aa); // RFC 3720, B.4
  });

  it('equals the naive computation at any length and alignment, also in pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), fc.nat(200), (bytes, skip, cut) => {
        const shifted = Buffer.concat([Buffer.alloc(skip), bytes]).subarray(skip);
        expect(crc32c(shifted)).to.equal(naiveCrc32c(bytes));
        const at = Math.min(cut, bytes.length);
        expect(crc32c(shifted.subarray(at), crc32c(shifted.subarray(0, at)))).to.equal(
          naiveCrc32c(bytes),
        );
      }),
    );
  });
});

describe('GUID', () => {
  it('is stored with its first three fields little-endian', () => {
    const bytes = Buffer.alloc(16);
    writeGuid(bytes, 0, guid('00112233-4455-6677-8899-aabbccddeeff'));
    expect(bytes.toString('hex')).to.equal('33221100554477668899aabbccddeeff');
    expect(readGuid(bytes, 0)).to.equal('00112233-4455-6677-8899-aabbccddeeff');
  });

  it('is read back as it was written, at any place', () => {
    const random = new SeededRandom(1);
    const bytes = Buffer.alloc(40);
    for (let at = 0; at < 24; at++) {
      const value = randomGuid(random);
      writeGuid(bytes, at, value);
      expect(readGuid(bytes, at)).to.equal(value);
      expect(value).to.match(
        /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      );
    }
  });

  it('is parsed with or without braces, in any case, and nothing else is', () => {
    const text = '0000ABCD-0000-0000-0000-000000000001';
    expect(parseGuid(text)).to.equal(text.toLowerCase());
    expect(parseGuid(`{${text}}`)).to.equal(text.toLowerCase());
    for (const wrong of [
      '',
      `{${text}`,
      `${text}}`,
      text.slice(1),
      `${text}0`,
      `g${text.slice(1)}`,
    ]) {
      expect(parseGuid(wrong), wrong).to.equal(undefined);
    }
    expect(parseGuid(ZERO_GUID)).to.equal(ZERO_GUID);
  });
});
