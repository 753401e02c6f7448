// One entry of the log: what a valid one is, to the field, and that encode, validate and read agree.

import { expect } from 'chai';
import { guid } from '../../../shared/bytes/index.js';
import {
  descriptorAreaBytes,
  encodeLogEntry,
  entryBytesForPages,
  logRecords,
  validateLogEntry,
  type LogEntryHeader,
  type LogRecord,
} from '../../../shared/vhdx/log-entry.js';
import { SeededRandom } from '../../support/seeded-random.js';
import {
  forgeLogEntry,
  mendLogEntry,
  placeInLog,
  type ForgedEntry,
} from '../../support/vhdx-forge.js';

const MIB = 1024 * 1024;
const LOG_GUID = guid('10606011-2222-4333-8444-555566667777');
const OTHER_GUID = guid('10606011-2222-4333-8444-555566667778');

function sectorsOf(log: Buffer): (offset: number) => Buffer {
  return (offset) => log.subarray(offset, offset + 4096);
}

function logWith(position: number, entry: Buffer): Buffer {
  const log = Buffer.alloc(MIB);
  placeInLog(log, position, entry);
  return log;
}

function headerAt(log: Buffer, position: number): LogEntryHeader | undefined {
  return validateLogEntry(sectorsOf(log), position, log.length, LOG_GUID);
}

function recordsAt(log: Buffer, position: number): LogRecord[] {
  const header = headerAt(log, position);
  if (header === undefined) throw new Error('the entry is valid');
  return [...logRecords(sectorsOf(log), position, log.length, header)].map(({ record }) => record);
}

function entry(change: Partial<ForgedEntry> = {}): Buffer {
  return forgeLogEntry({
    sequence: 7n,
    tail: 8192,
    logGuid: LOG_GUID,
    records: [
      { kind: 'page', offset: 3 * MIB, fill: 0x11 },
      { kind: 'zero', offset: 4 * MIB, lengthBytes: 8192 },
      { kind: 'page', offset: 5 * MIB, fill: 0x22 },
    ],
    ...change,
  });
}

describe('VHDX log entry', () => {
  for (const pageCount of [0, 1, 2, 125, 126, 127, 253]) {
    it(`${pageCount} pages: encode, validate and read agree`, () => {
      const random = new SeededRandom(pageCount + 1);
      const pages = Array.from({ length: pageCount }, (_, i) => ({
        offset: (i + 100) * 4096,
        bytes: random.bytes(4096),
      }));
      const sequenceNumber = 2n ** 62n + 12345678901n;
      const bytes = encodeLogEntry({
        tail: 4096,
        sequenceNumber,
        logGuid: LOG_GUID,
        flushedFileOffset: 5 * MIB,
        lastFileOffset: 70 * 1024 * 1024 * MIB,
        pages,
      });
      expect(bytes.length).to.equal(entryBytesForPages(pageCount));
      // At the very end of the log, so that every longer entry wraps.
      const position = MIB - 4096;
      const log = logWith(position, bytes);
      expect(headerAt(log, position)).to.deep.equal({
        entryLengthBytes: bytes.length,
        tail: 4096,
        sequenceNumber,
        descriptorCount: pageCount,
        logGuid: LOG_GUID,
        flushedFileOffset: BigInt(5 * MIB),
        lastFileOffset: 70n * 2n ** 40n,
      });
      const records = recordsAt(log, position);
      expect(records.length).to.equal(pageCount);
      records.forEach((record, i) => {
        expect(record.kind === 'page' && record.offset === pages[i]?.offset).to.equal(true);
        const isSame =
          record.kind === 'page' && record.bytes.equals(pages[i]?.bytes ?? record.bytes);
        expect(isSame, `page ${i}`).to.equal(true);
      });
    });
  }

  it('writes the bytes that the standard describes', () => {
    const page = new SeededRandom(3).bytes(4096);
    const ours = encodeLogEntry({
      tail: 12288,
      sequenceNumber: 0xfedcba9876543210n,
      logGuid: LOG_GUID,
      flushedFileOffset: 6 * MIB,
      lastFileOffset: 7 * MIB,
      pages: [{ offset: 3 * MIB, bytes: page }],
    });
    const forged = forgeLogEntry({
      sequence: 0xfedcba9876543210n,
      tail: 12288,
      logGuid: LOG_GUID,
      flushedFileOffset: 6 * MIB,
      lastFileOffset: 7 * MIB,
      records: [{ kind: 'page', offset: 3 * MIB, fill: page }],
    });
    expect(ours.equals(forged)).to.equal(true);
  });

  it('reads pages and zeroed ranges in order, with the bytes that live in descriptors', () => {
    const log = logWith(0, entry());
    const [first, second, third] = recordsAt(log, 0);
    expect(first).to.deep.equal({ kind: 'page', offset: 3 * MIB, bytes: Buffer.alloc(4096, 0x11) });
    expect(second).to.deep.equal({ kind: 'zero', offset: 4 * MIB, lengthBytes: 8192 });
    expect(third).to.deep.equal({ kind: 'page', offset: 5 * MIB, bytes: Buffer.alloc(4096, 0x22) });
  });

  it('accepts an empty entry and one whose descriptors fill more than a sector', () => {
    expect(headerAt(logWith(0, entry({ records: [] })), 0)?.descriptorCount).to.equal(0);
    const records = Array.from({ length: 300 }, (_, i) => ({
      kind: 'zero' as const,
      offset: 3 * MIB + i * 8192,
      lengthBytes: 4096,
    }));
    const log = logWith(MIB - 4096, entry({ records }));
    expect(headerAt(log, MIB - 4096)?.entryLengthBytes).to.equal(descriptorAreaBytes(300));
    expect(recordsAt(log, MIB - 4096).length).to.equal(300);
  });

  const refused: [string, (bytes: Buffer) => void, boolean?][] = [
    ['another signature', (b) => void b.write('logf', 0, 'latin1')],
    ['a wrong checksum', (b) => void b.writeUInt32LE(b.readUInt32LE(4) ^ 1, 4), true],
    ['a changed byte in a page', (b) => void b.writeUInt8(0x12, 5000), true],
    ['another log', (b) => OTHER_GUID.length > 0 && void b.writeUInt8(0x78, 47)],
    ['sequence number 0', (b) => void b.writeBigUInt64LE(0n, 16)],
    ['a length that is no whole number of sectors', (b) => void b.writeUInt32LE(b.length - 1, 8)],
    ['length 0', (b) => void b.writeUInt32LE(0, 8)],
    ['a length one sector too long', (b) => void b.writeUInt32LE(b.length + 4096, 8)],
    ['a length one sector too short', (b) => void b.writeUInt32LE(b.length - 4096, 8)],
    ['the length of the log', (b) => void b.writeUInt32LE(MIB, 8)],
    ['length 2^32 - 4096', (b) => void b.writeUInt32LE(0xfffff000, 8)],
    ['a tail behind the log', (b) => void b.writeUInt32LE(MIB, 12)],
    ['a tail between sectors', (b) => void b.writeUInt32LE(512, 12)],
    ['2^32 - 1 descriptors', (b) => void b.writeUInt32LE(0xffffffff, 24)],
    ['one descriptor too many', (b) => void b.writeUInt32LE(4, 24)],
    ['one descriptor too few', (b) => void b.writeUInt32LE(2, 24)],
    ['an unknown descriptor', (b) => void b.write('null', 64, 'latin1')],
    ['a descriptor of another entry', (b) => void b.writeBigUInt64LE(8n, 64 + 24)],
    ['a page between pages', (b) => void b.writeBigUInt64LE(BigInt(3 * MIB + 512), 64 + 16)],
    ['zeros between pages', (b) => void b.writeBigUInt64LE(BigInt(3 * MIB + 512), 96 + 16)],
    ['zeros of half a page', (b) => void b.writeBigUInt64LE(2048n, 96 + 8)],
    ['a data sector without signature', (b) => void b.write('dat\0', 4096, 'latin1')],
    ['a torn data sector, first half old', (b) => void b.writeUInt32LE(1, 4096 + 4)],
    ['a torn data sector, second half old', (b) => void b.writeUInt32LE(6, 8192 + 4092)],
  ];
  for (const [name, patch, isUnmended = false] of refused) {
    it(`is not valid with ${name}`, () => {
      const bytes = entry();
      expect(headerAt(logWith(4096, bytes), 4096)).to.not.equal(undefined);
      patch(bytes);
      if (!isUnmended) mendLogEntry(bytes);
      expect(headerAt(logWith(4096, bytes), 4096)).to.equal(undefined);
    });
  }
});
