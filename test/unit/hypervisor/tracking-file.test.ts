import { expect } from 'chai';
import fc from 'fast-check';
import { guid, randomGuid, ZERO_GUID } from '../../../shared/bytes/index.js';
import {
  CELL_BYTES,
  sessionRandom,
  TrackingDamaged,
  TrackingFile,
  type TrackingHead,
} from '../../../shared/hypervisor/lab/tracking-file.js';
import { unionOf } from '../../../shared/hypervisor/lab/tracking.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';

const RUNS = process.env['SLOW'] === '1' ? 1000 : 60;
const FILE = '/one.track';
/** Several sectors of marks, the last cell short. */
const CELLS = 4032 * 3 + 17;
const HEAD: TrackingHead = {
  epoch: guid('aaaaaaaa-0000-4000-8000-000000000001'),
  diskId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
  sizeBytes: CELLS * CELL_BYTES - 512,
  sequence: 7,
  contentId: guid('aaaaaaaa-0000-4000-8000-000000000003'),
  sessionId: ZERO_GUID,
};

async function refusedAs(action: () => Promise<unknown>): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (error instanceof TrackingDamaged) return error.message;
    throw error;
  }
  throw new Error('was not refused');
}

async function rangesOf(files: readonly TrackingFile[]): Promise<[number, number][]> {
  const ranges: [number, number][] = [];
  for await (const { start, end } of unionOf(files, HEAD)) ranges.push([start, end]);
  return ranges;
}

describe('tracking file', () => {
  it('gives back what was marked, over sectors, up to the short end', async () => {
    const fs = new MemoryFileSystem();
    await TrackingFile.create(fs, FILE, HEAD);
    const file = await TrackingFile.open(fs, FILE, HEAD, 'write');
    await file.mark(4031 * CELL_BYTES + 5, 4032 * CELL_BYTES + 1);
    await file.mark(HEAD.sizeBytes - 1, HEAD.sizeBytes);
    await file.mark(0, 0);
    await file.close();
    const again = await TrackingFile.open(fs, FILE, HEAD, 'read');
    expect(await rangesOf([again])).to.deep.equal([
      [4031 * CELL_BYTES, 4033 * CELL_BYTES],
      [(CELLS - 1) * CELL_BYTES, HEAD.sizeBytes],
    ]);
    await again.close();
  });

  it('of several generations is their union, as a naive set of cells says', async () => {
    const mark = fc.tuple(
      fc.integer({ min: 0, max: 2 }),
      fc.oneof(
        fc.integer({ min: 0, max: CELLS - 1 }),
        fc.constantFrom(4031, 4032, 8063, CELLS - 1),
      ),
      fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 5000 })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(mark, { maxLength: 30 }), async (marks) => {
        const fs = new MemoryFileSystem();
        const files: TrackingFile[] = [];
        for (const name of ['/0', '/1', '/2']) {
          await TrackingFile.create(fs, name, HEAD);
          files.push(await TrackingFile.open(fs, name, HEAD, 'write'));
        }
        const cells = new Set<number>();
        await Promise.all(
          marks.map(async ([which, cell, count]) => {
            const end = Math.min(CELLS, cell + count);
            for (let at = cell; at < end; at++) cells.add(at);
            await files[which]?.mark(cell * CELL_BYTES, Math.min(HEAD.sizeBytes, end * CELL_BYTES));
          }),
        );
        const found = new Set<number>();
        let last = -1;
        for (const [start, end] of await rangesOf(files)) {
          expect(start).to.be.greaterThan(last);
          last = end;
          for (let at = start; at < end; at += CELL_BYTES) found.add(at / CELL_BYTES);
        }
        expect([...found]).to.deep.equal([...cells].sort((a, b) => a - b));
        for (const file of files) await file.close();
      }),
      { numRuns: RUNS },
    );
  });

  it('flushes once for marks that are under way together, and not for cells that are marked', async () => {
    const memory = new MemoryFileSystem();
    await TrackingFile.create(memory, FILE, HEAD);
    const fs = new FaultFileSystem(memory);
    const file = await TrackingFile.open(fs, FILE, HEAD, 'write');
    const together = Array.from({ length: 50 }, (_, at) =>
      file.mark(at * 100 * CELL_BYTES, at * 100 * CELL_BYTES + 1),
    );
    await Promise.all(together);
    const flushes = fs.callCount('flush');
    expect(flushes).to.be.within(1, 3);
    await file.mark(100 * CELL_BYTES, 100 * CELL_BYTES + 9);
    expect(fs.callCount('flush')).to.equal(flushes);
    await file.close();
  });

  it('promises nothing more after a failed flush', async () => {
    const memory = new MemoryFileSystem();
    await TrackingFile.create(memory, FILE, HEAD);
    const fs = new FaultFileSystem(memory);
    fs.inject({ kind: 'flush' });
    const file = await TrackingFile.open(fs, FILE, HEAD, 'write');
    for (const cell of [1, 1, 2]) {
      const outcome = await file.mark(cell * CELL_BYTES, cell * CELL_BYTES + 1).then(
        () => 'marked',
        () => 'refused',
      );
      expect(outcome).to.equal('refused');
    }
    await file.close();
  });

  it('knows the content ids that a session which was cut off could have given', async () => {
    const fs = new MemoryFileSystem();
    await TrackingFile.create(fs, FILE, HEAD);
    const file = await TrackingFile.open(fs, FILE, HEAD, 'write');
    const sessionId = guid('bbbbbbbb-0000-4000-8000-000000000001');
    file.beginSession(HEAD.contentId, sessionId);
    await file.mark(0, 1);
    await file.close();
    const random = sessionRandom(sessionId, new SeededRandom(1));
    const given = [randomGuid(random), randomGuid(random), randomGuid(random)];
    const again = await TrackingFile.open(fs, FILE, HEAD, 'write');
    for (const id of [HEAD.contentId, ...given]) expect(again.knowsContent(id)).to.equal(true);
    expect(again.knowsContent(sessionId)).to.equal(false);
    await again.endSession(given[2] ?? ZERO_GUID);
    await again.close();
    const ended = await TrackingFile.open(fs, FILE, HEAD, 'read');
    expect(ended.knowsContent(given[2] ?? ZERO_GUID)).to.equal(true);
    expect(ended.knowsContent(given[0] ?? ZERO_GUID)).to.equal(false);
    await ended.close();
  });

  it('of another disk, epoch, generation or size is refused', async () => {
    const fs = new MemoryFileSystem();
    await TrackingFile.create(fs, FILE, HEAD);
    for (const other of [
      { diskId: HEAD.epoch },
      { epoch: HEAD.diskId },
      { sequence: 8 },
      { sizeBytes: HEAD.sizeBytes + 512 },
    ]) {
      const open = () => TrackingFile.open(fs, FILE, { ...HEAD, ...other }, 'read');
      expect(await refusedAs(open)).to.contain('foreign');
    }
  });

  it('with any flipped bit is refused', async () => {
    const fs = new MemoryFileSystem();
    await TrackingFile.create(fs, FILE, HEAD);
    const file = await TrackingFile.open(fs, FILE, HEAD, 'write');
    for (const cell of [0, 5000, 9000]) await file.mark(cell * CELL_BYTES, cell * CELL_BYTES + 1);
    await file.close();
    const good = fs.content(FILE) ?? Buffer.alloc(0);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: good.length - 1 }),
        fc.integer({ min: 0, max: 7 }),
        async (at, bit) => {
          const bad = Buffer.from(good);
          bad.writeUInt8(bad.readUInt8(at) ^ (1 << bit), at);
          const damaged = new MemoryFileSystem();
          damaged.put(FILE, bad);
          const read = async (): Promise<void> => {
            const opened = await TrackingFile.open(damaged, FILE, HEAD, 'read');
            for await (const sector of opened.marked()) expect(sector.index).to.be.within(0, 3);
          };
          await refusedAs(read);
        },
      ),
      { numRuns: RUNS },
    );
  });
});
