// The frames of the push stream: what goes in comes out, and whatever else arrives is refused with
// a typed error within bounded memory.

import { zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  BATCH_DATA_CELLS,
  BATCH_ENTRIES,
  type BatchEntry,
  batchHeadBytes,
  type BatchMessage,
  CELL_BYTES,
  encodeBatch,
  encodeEndOfDisk,
  hashCell,
  parseBatch,
} from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';

const bytesOf = (value: number, length = CELL_BYTES): Buffer => Buffer.alloc(length, value);

function cells(entries: readonly BatchEntry[], payload: Buffer, diskIndex = 3): BatchMessage {
  return { kind: 'cells', diskIndex, entries, payload };
}

function dataEntry(cell: number, bytes: Buffer): BatchEntry {
  return { kind: 'data', cell, hash: hashCell(bytes) };
}

const SAMPLE = cells(
  [
    dataEntry(7, bytesOf(1)),
    { kind: 'zero', cell: 8, count: 1_000_000 },
    { kind: 'reuse', cell: 1_000_100, hash: hashCell(bytesOf(2)) },
    dataEntry(1_000_101, bytesOf(3, 512)),
  ],
  Buffer.concat([bytesOf(1), bytesOf(3, 512)]),
);

/** The code that parseBatch refuses `bytes` with. */
function refusal(bytes: Buffer): string {
  try {
    parseBatch(bytes);
  } catch (error) {
    if (error instanceof DrError) return error.code;
    throw error;
  }
  return 'accepted';
}

function changed(change: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(encodeBatch(SAMPLE));
  change(bytes);
  return bytes;
}

describe('cell batch', () => {
  it('gives back every kind of entry, plain and compressed', () => {
    for (const level of [undefined, 1]) {
      const encoded = encodeBatch(SAMPLE, level);
      expect(parseBatch(encoded)).to.deep.equal(SAMPLE);
    }
    expect(encodeBatch(SAMPLE, 1).length).to.be.below(encodeBatch(SAMPLE).length / 10);
    expect(parseBatch(encodeEndOfDisk(259))).to.deep.equal({ kind: 'end', diskIndex: 259 });
  });

  it('leaves a payload as it is when compression saves less than an eighth', () => {
    const noise = Buffer.alloc(CELL_BYTES);
    for (let i = 0; i < noise.length; i++) noise[i] = (i * 2654435761) >>> 13;
    const message = cells([dataEntry(0, noise)], noise);
    const encoded = encodeBatch(message, 1);
    expect(encoded.readUInt8(1)).to.equal(encoded.length < CELL_BYTES ? 1 : 0);
    expect(parseBatch(encoded)).to.deep.equal(message);
  });

  it('refuses what is not legal', () => {
    const empty = encodeEndOfDisk(0);
    const wrong: Readonly<Record<string, Buffer>> = {
      'an unknown kind': changed((bytes) => bytes.writeUInt8(9, 0)),
      'unknown flags': changed((bytes) => bytes.writeUInt8(2, 1)),
      'a disk that no VM has': changed((bytes) => bytes.writeUInt16LE(260, 2)),
      'no entries': changed((bytes) => bytes.writeUInt32LE(0, 4)),
      'too many entries': changed((bytes) => bytes.writeUInt32LE(BATCH_ENTRIES + 1, 4)),
      'a payload beyond the limit': changed((bytes) => bytes.writeUInt32LE(0xffffffff, 8)),
      'a stored length that lies': changed((bytes) => bytes.writeUInt32LE(5, 12)),
      'a payload length that lies': changed((bytes) => bytes.writeUInt32LE(5, 8)),
      'an entry of an unknown kind': changed((bytes) => bytes.writeUInt8(7, 16 + 6)),
      'a reserved byte': changed((bytes) => bytes.writeUInt8(7, 16 + 7)),
      'a trailer among the entries': changed((bytes) => bytes.writeUInt8(255, 16 + 6)),
      'a cell beyond 64 TiB': changed((bytes) => bytes.writeUIntLE(2 ** 47, 16, 6)),
      'a zero run beyond 64 TiB': changed((bytes) => bytes.writeUIntLE(2 ** 40, 16 + 40 + 8, 6)),
      'an empty zero run': changed((bytes) => bytes.writeUIntLE(0, 16 + 40 + 8, 6)),
      'an end of disk with bytes': Buffer.concat([empty, Buffer.alloc(1)]),
      'an end of disk with entries': changed((bytes) => bytes.writeUInt8(2, 0)),
    };
    for (const [what, bytes] of Object.entries(wrong)) {
      expect(refusal(bytes), what).to.equal('E_PROTOCOL');
    }
  });

  it('refuses a bomb and a frame that asks for a large window', () => {
    const bomb = (packed: Buffer, payloadBytes: number): Buffer => {
      const head = batchHeadBytes(1);
      const bytes = Buffer.alloc(head + packed.length);
      encodeBatch(cells([dataEntry(0, bytesOf(1))], Buffer.alloc(0))).copy(bytes);
      bytes.writeUInt8(1, 1);
      bytes.writeUInt32LE(payloadBytes, 8);
      bytes.writeUInt32LE(packed.length, 12);
      packed.copy(bytes, head);
      return bytes;
    };
    const large = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
    expect(refusal(bomb(large, CELL_BYTES))).to.equal('E_PROTOCOL');
    expect(refusal(bomb(large, BATCH_DATA_CELLS * CELL_BYTES))).to.equal('E_PROTOCOL');
    expect(refusal(bomb(zstdCompressSync(Buffer.alloc(100)), CELL_BYTES))).to.equal('E_PROTOCOL');
    expect(refusal(bomb(Buffer.alloc(0), 0))).to.equal('E_PROTOCOL');
  });

  it('answers any bytes with a value or E_PROTOCOL', () => {
    const encoded = encodeBatch(SAMPLE, 1);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(encoded.length - 1), fc.nat(255)), { maxLength: 6 }),
        fc.nat(encoded.length),
        (mutations, length) => {
          const bytes = Buffer.from(encoded.subarray(0, length));
          for (const [at, value] of mutations) if (at < bytes.length) bytes[at] = value;
          expect(refusal(bytes)).to.be.oneOf(['accepted', 'E_PROTOCOL']);
        },
      ),
      { numRuns: 2000, seed: 7 },
    );
  });
});
