// The manifest that can be taken up again, and the first message of a push stream.

import { expect } from 'chai';
import {
  encodeBegin,
  hashCell,
  ManifestAppender,
  ManifestFile,
  type ManifestHeader,
  type ManifestRecord,
  ManifestWriter,
  parseBatch,
  readManifestRecords,
} from '../../../shared/delta/index.js';
import { ZERO_GUID } from '../../../shared/bytes/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { testGuid } from './builders.js';

const HEADER: ManifestHeader = {
  kind: 'delta',
  point: testGuid(1),
  parentPoint: ZERO_GUID,
  vmId: testGuid(2),
  diskId: testGuid(3),
  diskGeneration: 0,
  diskSizeBytes: 5000 * 65536,
  logicalSectorBytes: 512,
  physicalSectorBytes: 4096,
  epoch: 1n,
};

/** Random records; runs of zeros may touch each other, as they do on the wire. */
function records(random: SeededRandom): ManifestRecord[] {
  const out: ManifestRecord[] = [];
  let cell = random.int(3);
  while (cell < 4900 && out.length < 3500) {
    const isZero = random.chance(0.4);
    const count = isZero ? random.between(1, 3) : 1;
    out.push(
      isZero
        ? { kind: 'zero', cell, count }
        : { kind: 'data', cell, hash: hashCell(random.bytes(8)) },
    );
    cell += count + (random.chance(0.6) ? 0 : random.int(3));
  }
  return out;
}

describe('manifest appender', () => {
  it('makes the manifest of one pass, however often it is written and taken up again', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = new SeededRandom(seed);
      const list = records(random);
      const expected: Buffer[] = [];
      const writer = new ManifestWriter(HEADER, (chunk) => {
        expected.push(Buffer.from(chunk));
        return Promise.resolve();
      });
      for (const record of list) await writer.add(record);
      const { root } = await writer.finish();
      const files = new MemoryFileSystem();
      let file = await files.open('/m', { mode: 'create' });
      let appender = ManifestAppender.create(HEADER, file);
      for (const [index, record] of list.entries()) {
        expect(appender.add(record)).to.equal(undefined);
        if (!random.chance(0.02)) continue;
        const { position } = appender;
        await appender.write();
        // what came after the position and was not durable
        const lost = list.slice(index + 1, index + 1 + random.int(4));
        for (const more of lost) appender.add(more);
        await appender.write();
        await file.close();
        file = await files.open('/m', { mode: 'write' });
        const seen: ManifestRecord[] = [];
        appender = await ManifestAppender.resume(HEADER, file, position, (each) => {
          seen.push(each);
        });
        expect(seen.length).to.equal(position.recordCount);
      }
      expect((await appender.finish()).root.equals(root)).to.equal(true);
      expect(files.content('/m')?.equals(Buffer.concat(expected))).to.equal(true);
      await (await ManifestFile.open(file)).verify();
    }
  });

  it('answers what is wrong with a record, and goes no further', async () => {
    const files = new MemoryFileSystem();
    const appender = ManifestAppender.create(HEADER, await files.open('/m', { mode: 'create' }));
    const hash = hashCell(Buffer.from('x'));
    expect(appender.add({ kind: 'data', cell: 7, hash })).to.equal(undefined);
    expect(appender.add({ kind: 'data', cell: 7, hash })).to.match(/ascending/);
    expect(appender.add({ kind: 'data', cell: 5000, hash })).to.match(/beyond/);
  });

  it('is not taken up over another header, or with fewer records than it had', async () => {
    const files = new MemoryFileSystem();
    const file = await files.open('/m', { mode: 'create' });
    const appender = ManifestAppender.create(HEADER, file);
    appender.add({ kind: 'data', cell: 7, hash: hashCell(Buffer.from('x')) });
    await appender.write();
    const none = { zeroCell: 0, zeroCount: 0 };
    const other = { ...HEADER, point: testGuid(9) };
    for (const [header, recordCount] of [
      [other, 1],
      [HEADER, 2],
    ] as const) {
      const error = await refusal(() =>
        ManifestAppender.resume(header, file, { recordCount, ...none }, () => undefined),
      );
      expect(error.code).to.equal('E_DELTA_MANIFEST');
    }
    const read: ManifestRecord[] = [];
    for await (const record of readManifestRecords(HEADER, file, 1)) read.push(record);
    expect(read.map((record) => record.cell)).to.deep.equal([7]);
  });
});

describe('begin of a push stream', () => {
  it('names VM and cycle, and nothing else passes for one', async () => {
    const bytes = encodeBegin(testGuid(1), testGuid(2));
    expect(parseBatch(bytes)).to.deep.equal({
      kind: 'begin',
      vmId: testGuid(1),
      cycleId: testGuid(2),
    });
    const flag = Buffer.from(bytes);
    flag.writeUInt8(1, 1);
    for (const wrong of [bytes.subarray(0, 40), Buffer.concat([bytes, Buffer.alloc(1)]), flag]) {
      const error = await refusal(() => Promise.resolve().then(() => parseBatch(wrong)));
      expect(error.code).to.equal('E_PROTOCOL');
    }
  });
});
