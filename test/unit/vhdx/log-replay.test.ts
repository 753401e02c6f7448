// Which part of a log counts, what replaying it does, and what it may cost.

import { expect } from 'chai';
import { guid, ZERO_GUID } from '../../../shared/bytes/index.js';
import { checkVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { findActiveSequence } from '../../../shared/vhdx/log-replay.js';
import type { LogRecord } from '../../../shared/vhdx/log-entry.js';
import { endOf, effectOf } from '../../../shared/vhdx/replay-effect.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { fingerprint } from '../../support/fingerprint.js';
import type { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import {
  forgeLogEntry,
  HEADER_FIELD,
  HEADERS,
  installLog,
  KIB,
  MIB,
  placeInLog,
  VhdxForge,
  type ForgedEntry,
  type ForgedRecord,
} from '../../support/vhdx-forge.js';
import { seedFile } from '../../support/vhdx-seeds.js';

const LOG_GUID = guid('10606011-2222-4333-8444-555566667777');
const OTHER_GUID = guid('10606011-2222-4333-8444-555566667778');

function seams(fs: MemoryFileSystem): { fs: MemoryFileSystem; random: SeededRandom } {
  return { fs, random: new SeededRandom(5) };
}

interface Placed {
  readonly at: number;
  readonly sequence: bigint;
  readonly tail: number;
  readonly pages?: number;
  readonly logGuid?: ForgedEntry['logGuid'];
  readonly patch?: (bytes: Buffer) => void;
}

/** A log of 1 MiB with entries in it; positions and tails in sectors of 4 KiB. */
function logOf(...entries: readonly Placed[]): Buffer {
  const log = Buffer.alloc(MIB);
  for (const { at, sequence, tail, pages = 1, logGuid = LOG_GUID, patch } of entries) {
    const records = Array.from({ length: pages }, (_, i): ForgedRecord => {
      return { kind: 'page', offset: 3 * MIB + i * 4096, fill: Number(sequence % 251n) };
    });
    const bytes = forgeLogEntry({ sequence, tail: tail * 4096, logGuid, records });
    patch?.(bytes);
    placeInLog(log, at * 4096, bytes);
  }
  return log;
}

/** Sequence numbers of the active sequence, undefined when there is none. */
function active(log: Buffer): bigint[] | undefined {
  const found = findActiveSequence(
    (offset) => log.subarray(offset, offset + 4096),
    log.length,
    LOG_GUID,
  );
  return found?.entries.map(({ header }) => header.sequenceNumber);
}

describe('VHDX log: the active sequence', () => {
  it("is the run up to the entry with the highest number, from that one's tail on", () => {
    const log = logOf(
      { at: 0, sequence: 1n, tail: 0 },
      { at: 2, sequence: 2n, tail: 0 },
      { at: 4, sequence: 3n, tail: 2 },
    );
    expect(active(log)).to.deep.equal([2n, 3n]);
  });

  it('may be one entry that needs nobody else', () => {
    expect(active(logOf({ at: 100, sequence: 9n, tail: 100 }))).to.deep.equal([9n]);
  });

  it('may consist of an empty entry', () => {
    expect(active(logOf({ at: 3, sequence: 9n, tail: 3, pages: 0 }))).to.deep.equal([9n]);
  });

  it('wraps around the end of the log', () => {
    const log = logOf(
      { at: 250, sequence: 5n, tail: 250, pages: 2 },
      { at: 253, sequence: 6n, tail: 250, pages: 5 },
      { at: 3, sequence: 7n, tail: 253, pages: 1 },
    );
    expect(active(log)).to.deep.equal([6n, 7n]);
  });

  it('does not count when the tail of its last entry lies outside the run', () => {
    const log = logOf({ at: 10, sequence: 5n, tail: 10 }, { at: 12, sequence: 6n, tail: 4 });
    expect(active(log)).to.equal(undefined);
  });

  it('does not count when that tail points into the middle of an entry', () => {
    const log = logOf({ at: 10, sequence: 5n, tail: 11, pages: 3 });
    expect(active(log)).to.equal(undefined);
  });

  it('is the newer one of two candidates, wherever they stand', () => {
    const older = { at: 10, sequence: 5n, tail: 10 };
    const newer = { at: 100, sequence: 80n, tail: 100 };
    expect(active(logOf(older, newer))).to.deep.equal([80n]);
    expect(
      active(logOf({ ...older, at: 100, tail: 100 }, { ...newer, at: 10, tail: 10 })),
    ).to.deep.equal([80n]);
  });

  it('takes an older candidate when the newer run has lost its tail', () => {
    const log = logOf({ at: 10, sequence: 5n, tail: 10 }, { at: 100, sequence: 80n, tail: 90 });
    expect(active(log)).to.deep.equal([5n]);
  });

  it('does not go on into older entries behind it, or into those of another log', () => {
    const log = logOf(
      { at: 0, sequence: 7n, tail: 0 },
      { at: 2, sequence: 3n, tail: 2 },
      { at: 4, sequence: 4n, tail: 2, logGuid: OTHER_GUID },
    );
    expect(active(log)).to.deep.equal([7n]);
    const foreign = logOf(
      { at: 0, sequence: 7n, tail: 0 },
      { at: 2, sequence: 8n, tail: 0, logGuid: OTHER_GUID },
    );
    expect(active(foreign)).to.deep.equal([7n]);
  });

  it('ends before an entry with a broken checksum', () => {
    const log = logOf(
      { at: 0, sequence: 1n, tail: 0 },
      { at: 2, sequence: 2n, tail: 0, patch: (b) => void b.writeUInt8(0xff, 5000) },
      { at: 4, sequence: 3n, tail: 0 },
    );
    expect(active(log)).to.deep.equal([1n]);
  });

  it('ends before an entry of which a part was never written', () => {
    const log = logOf({ at: 0, sequence: 1n, tail: 0 }, { at: 2, sequence: 2n, tail: 0, pages: 6 });
    log.fill(0, 6 * 4096, 7 * 4096);
    expect(active(log)).to.deep.equal([1n]);
  });

  it('knows sequence numbers up to 2^64 - 1', () => {
    const top = 2n ** 64n - 1n;
    const log = logOf(
      { at: 0, sequence: top - 1n, tail: 0 },
      { at: 2, sequence: top, tail: 0 },
      { at: 4, sequence: 1n, tail: 4 },
    );
    expect(active(log)).to.deep.equal([top - 1n, top]);
  });

  it('tells numbers apart that are one as floating point numbers', () => {
    const log = logOf(
      { at: 0, sequence: 2n ** 60n, tail: 0 },
      { at: 2, sequence: 2n ** 60n, tail: 0 },
      { at: 20, sequence: 2n ** 60n + 1n, tail: 20 },
    );
    expect(active(log)).to.deep.equal([2n ** 60n + 1n]);
  });

  it('may fill the log to the last sector', () => {
    const entries: Placed[] = Array.from({ length: 128 }, (_, i) => ({
      at: (i * 2 + 100) % 256,
      sequence: BigInt(i + 1),
      tail: 100,
    }));
    expect(active(logOf(...entries))?.length).to.equal(128);
  });

  it('is empty when there is nothing in the log', () => {
    expect(active(Buffer.alloc(MIB))).to.equal(undefined);
    expect(active(Buffer.alloc(MIB, 'loge'))).to.equal(undefined);
  });

  it('is found in time that follows the log, whatever stands in it', () => {
    // A sector that begins like an entry claims the rest of the log as its descriptors.
    const sectors = 32 * 256;
    const log = Buffer.alloc(sectors * 4096);
    for (let i = 0; i < sectors; i++) {
      const bytes = forgeLogEntry({ sequence: 7n, tail: 0, logGuid: LOG_GUID });
      bytes.writeUInt32LE(log.length - 4096, 8);
      bytes.writeUInt32LE(1_000_000, 24);
      for (let at = 64; at < 4096; at += 32) {
        bytes.write('zero', at, 'latin1');
        bytes.writeBigUInt64LE(7n, at + 24);
      }
      bytes.copy(log, i * 4096);
    }
    let reads = 0;
    const found = findActiveSequence(
      (offset) => {
        reads++;
        return log.subarray(offset, offset + 4096);
      },
      log.length,
      LOG_GUID,
    );
    expect(found).to.equal(undefined);
    expect(reads).to.be.lessThan(sectors * 200);
  });
});

describe('VHDX log: what a sequence comes to', () => {
  it('is the same as applying the records one by one, for any records', () => {
    const random = new SeededRandom(42);
    for (let round = 0; round < 300; round++) {
      const records = Array.from({ length: random.between(0, 40) }, (): LogRecord => {
        const offset = random.int(64) * 4096;
        if (random.chance(0.6)) {
          return { kind: 'page', offset, bytes: Buffer.alloc(4096, random.between(1, 256)) };
        }
        return { kind: 'zero', offset, lengthBytes: random.int(20) * 4096 };
      });
      const apply = (list: readonly LogRecord[]): Buffer => {
        const out = Buffer.alloc(100 * 4096, 0xee);
        for (const record of list) {
          if (record.kind === 'page') record.bytes.copy(out, record.offset);
          else out.fill(0, record.offset, record.offset + record.lengthBytes);
        }
        return out;
      };
      const effect = effectOf(records);
      expect(apply(effect).equals(apply(records)), `round ${round}`).to.equal(true);
      const pages = effect.filter((record) => record.kind === 'page');
      expect(new Set(pages.map((page) => page.offset)).size).to.equal(pages.length);
      expect(endOf(effect)).to.be.at.most(endOf(records));
    }
  });
});

describe('VHDX log: replay', function () {
  this.timeout(60_000);

  async function readAll(fs: MemoryFileSystem, path: string, sizeBytes: number): Promise<Buffer> {
    const disk = await openVhdx(path, seams(fs));
    const bytes = Buffer.alloc(sizeBytes);
    await disk.read(0, bytes);
    await disk.close();
    return bytes;
  }

  for (const seed of ['dirty', 'dirty-child'] as const) {
    it(`${seed}: reading sees the replayed file and changes no byte of it`, async () => {
      const { fs, path, sizeBytes, content } = await seedFile(seed);
      const before = fingerprint(fs, path);
      expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
      const disk = await openVhdx(path, seams(fs));
      let position = 0;
      for await (const extent of disk.extents(0, sizeBytes)) {
        expect(extent.start).to.equal(position);
        position = extent.end;
        const part = content.subarray(extent.start, extent.end);
        if (extent.kind === 'zero') expect(part.every((byte) => byte === 0)).to.equal(true);
      }
      await disk.close();
      expect(position).to.equal(sizeBytes);
      expect(fingerprint(fs, path)).to.equal(before);
    });

    it(`${seed}: opening for writing replays in the file, once and for all`, async () => {
      const { fs, path, sizeBytes, content } = await seedFile(seed);
      const forge = new VhdxForge(fs, path);
      const dataWriteGuid = forge.readGuid(forge.currentHeader + HEADER_FIELD.dataWriteGuid);
      const fileWriteGuid = forge.readGuid(forge.currentHeader + HEADER_FIELD.fileWriteGuid);
      await (await openVhdx(path, { ...seams(fs), isWritable: true })).close();
      for (const at of HEADERS) {
        expect(forge.readGuid(at + HEADER_FIELD.logGuid)).to.equal(ZERO_GUID);
        // Replay changes no content: children stay valid.
        expect(forge.readGuid(at + HEADER_FIELD.dataWriteGuid)).to.equal(dataWriteGuid);
        expect(forge.readGuid(at + HEADER_FIELD.fileWriteGuid)).to.not.equal(fileWriteGuid);
      }
      // The log is not needed any more.
      forge.write(forge.log.offset, Buffer.alloc(forge.log.lengthBytes, 0xcc));
      expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
      expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
    });
  }

  it('comes before everything else: a log may hold the region tables and the metadata', async () => {
    const { fs, path, sizeBytes, content } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const places = [192 * KIB, 256 * KIB, forge.metadataAt, forge.metadataAt + 64 * KIB];
    const records = places.map((offset): ForgedRecord => {
      return { kind: 'page', offset, fill: forge.read(offset, 4096) };
    });
    for (const offset of places) forge.write(offset, Buffer.alloc(4096, 0xdd));
    const log = Buffer.alloc(forge.log.lengthBytes);
    placeInLog(log, 0, forgeLogEntry({ sequence: 4n, tail: 0, logGuid: LOG_GUID, records }));
    installLog(forge, LOG_GUID, log);
    expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
    expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
  });

  it('applies nothing that stands before the tail', async () => {
    const { fs, path, sizeBytes, content } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const bat = forge.batEntryAt(0);
    const good = forge.read(bat, 4096);
    const log = Buffer.alloc(forge.log.lengthBytes);
    const page = (fill: number | Buffer): ForgedRecord[] => [{ kind: 'page', offset: bat, fill }];
    placeInLog(
      log,
      0,
      forgeLogEntry({ sequence: 4n, tail: 0, logGuid: LOG_GUID, records: page(0x04) }),
    );
    placeInLog(log, 8192, forgeLogEntry({ sequence: 5n, tail: 8192, logGuid: LOG_GUID }));
    installLog(forge, LOG_GUID, log);
    expect((await readAll(fs, path, sizeBytes)).equals(content)).to.equal(true);
    // With the tail moved back by one entry the same log makes the BAT illegal.
    placeInLog(log, 8192, forgeLogEntry({ sequence: 5n, tail: 0, logGuid: LOG_GUID }));
    installLog(forge, LOG_GUID, log);
    expect((await refusal(() => openVhdx(path, seams(fs)))).code).to.equal('E_VHDX_BAT');
    expect(forge.read(bat, 4096).equals(good)).to.equal(true);
  });

  it('extends the file to the length that the last entry names', async () => {
    const { fs, path } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const end = forge.sizeBytes;
    const bat = forge.batEntryAt(0);
    const page = forge.read(bat, 4096);
    page.writeBigUInt64LE(BigInt(end) | 6n, 16);
    const log = Buffer.alloc(forge.log.lengthBytes);
    const records: ForgedRecord[] = [{ kind: 'page', offset: bat, fill: page }];
    const entry = { sequence: 4n, tail: 0, logGuid: LOG_GUID, records };
    placeInLog(log, 0, forgeLogEntry(entry));
    installLog(forge, LOG_GUID, log);
    const write = { ...seams(fs), isWritable: true };
    expect((await refusal(() => openVhdx(path, write))).code).to.equal('E_VHDX_TRUNCATED');
    expect(forge.sizeBytes).to.equal(end);
    placeInLog(log, 0, forgeLogEntry({ ...entry, lastFileOffset: end + MIB }));
    installLog(forge, LOG_GUID, log);
    expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
    await (await openVhdx(path, write)).close();
    expect(forge.sizeBytes).to.equal(end + MIB);
    expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
  });

  it('zeroes without writing to what is a hole, and never far behind the file', async () => {
    const { fs, path } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const records = Array.from({ length: 5000 }, (_, i): ForgedRecord => {
      return { kind: 'zero', offset: (100 + i) * MIB, lengthBytes: 16 * 1024 * MIB };
    });
    const log = Buffer.alloc(forge.log.lengthBytes);
    placeInLog(log, 0, forgeLogEntry({ sequence: 4n, tail: 0, logGuid: LOG_GUID, records }));
    installLog(forge, LOG_GUID, log);
    const counting = new CountingFileSystem(fs);
    const disk = await openVhdx(path, { ...seams(fs), fs: counting, isWritable: true });
    await disk.close();
    expect(counting.tally('write', path).lengthBytes).to.be.lessThan(64 * KIB);
    expect(fs.storedBytes(path)).to.be.lessThan(16 * MIB);
  });

  it('refuses a log that zeroes more ranges than any writer would', async () => {
    const { fs, path } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const end = Math.ceil(forge.sizeBytes / MIB) * MIB;
    const log = Buffer.alloc(8 * MIB);
    const records = Array.from({ length: 20_000 }, (): ForgedRecord => {
      return { kind: 'zero', offset: 3 * MIB, lengthBytes: 4096 };
    });
    placeInLog(log, 0, forgeLogEntry({ sequence: 4n, tail: 0, logGuid: LOG_GUID, records }));
    forge.write(end, log);
    forge.headers((at) => {
      forge.guid(at + HEADER_FIELD.logGuid, LOG_GUID);
      forge.u64(at + HEADER_FIELD.logOffset, end);
      forge.u32(at + HEADER_FIELD.logLength, log.length);
    });
    const error = await refusal(() => openVhdx(path, seams(fs)));
    expect(error.code).to.equal('E_VHDX_LIMIT');
    expect(error.context['offset']).to.equal(end);
  });
});

describe('VHDX log: the largest hostile log', function () {
  this.timeout(120_000);

  /** A file whose log of 128 MiB, at its end, is filled by `fill`. */
  async function withLog(
    fill: (log: Buffer) => void,
  ): Promise<{ fs: MemoryFileSystem; path: string }> {
    const { fs, path } = await seedFile('dynamic');
    const forge = new VhdxForge(fs, path);
    const end = Math.ceil(forge.sizeBytes / MIB) * MIB;
    const log = Buffer.alloc(128 * MIB);
    fill(log);
    forge.write(end, log);
    forge.headers((at) => {
      forge.guid(at + HEADER_FIELD.logGuid, LOG_GUID);
      forge.u64(at + HEADER_FIELD.logOffset, end);
      forge.u32(at + HEADER_FIELD.logLength, log.length);
    });
    return { fs, path };
  }

  it('full of pages: is read once, and each page is laid over the file once', async () => {
    const { fs, path } = await withLog((log) => {
      const records = Array.from({ length: 32_000 }, (_, i): ForgedRecord => {
        return { kind: 'page', offset: 300 * MIB + (i % 500) * 4096, fill: i % 256 };
      });
      placeInLog(log, 0, forgeLogEntry({ sequence: 1n, tail: 0, logGuid: LOG_GUID, records }));
    });
    const counting = new CountingFileSystem(fs);
    expect((await checkVhdx(path, { ...seams(fs), fs: counting })).violations).to.deep.equal([]);
    expect(counting.tally('read').lengthBytes).to.be.lessThan(150 * MIB);
    counting.reset();
    const disk = await openVhdx(path, { ...seams(fs), fs: counting, isWritable: true });
    expect(counting.tally('write').lengthBytes).to.be.lessThan(500 * 4096 + 64 * KIB);
    await disk.close();
  });

  it('full of small entries: is one sequence of 32,767', async () => {
    const { fs, path } = await withLog((log) => {
      for (let i = 0; i < 32_767; i++) {
        const entry = { sequence: BigInt(i + 1), tail: 0, logGuid: LOG_GUID };
        placeInLog(log, i * 4096, forgeLogEntry(entry));
      }
    });
    expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
  });

  it('full of small entries of which none goes with the next: ends as quickly', async () => {
    const { fs, path } = await withLog((log) => {
      for (let i = 0; i < 32_768; i++) {
        const entry = { sequence: BigInt(2 * i + 1), tail: 4096, logGuid: LOG_GUID };
        placeInLog(log, i * 4096, forgeLogEntry(entry));
      }
    });
    expect((await checkVhdx(path, seams(fs))).violations).to.deep.equal([]);
  });

  it('full of zeroed ranges: is refused, before any of them is applied', async () => {
    const { fs, path } = await withLog((log) => {
      const records = Array.from({ length: 4_000_000 }, (_, i): ForgedRecord => {
        return { kind: 'zero', offset: 200 * MIB + i * 4096, lengthBytes: 16 * 1024 * MIB };
      });
      placeInLog(log, 0, forgeLogEntry({ sequence: 1n, tail: 0, logGuid: LOG_GUID, records }));
    });
    const { violations } = await checkVhdx(path, seams(fs));
    expect(violations.map(({ code }) => code)).to.deep.equal(['E_VHDX_LIMIT']);
  });
});
