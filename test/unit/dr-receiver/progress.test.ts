// What of an unfinished cycle counts when it is read again: a record of the progress that is ahead of
// its data counts only as far as the files hold it.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import {
  beginsAnew,
  ProgressFile,
  type ProgressRecord,
} from '../../../dr-receiver/ingest/progress-file.js';
import { IncomingCycle, readUnfinished } from '../../../dr-receiver/ingest/incoming-cycle.js';
import { parseOpenRequest } from '../../../dr-receiver/ingest/open-request.js';
import type { DiskFiles } from '../../../dr-receiver/store/layout.js';
import { StoreLayout } from '../../../dr-receiver/store/layout.js';
import { type CyclePlan, id, SourceVm } from './source-double.js';

const MIB = 1024 * 1024;

/** A cycle of one disk that was settled after some of its messages, once for each count. */
class Staged {
  readonly volume = new MemoryFileSystem();
  readonly vm: SourceVm;
  readonly plan: CyclePlan;
  readonly layout;

  constructor(sizeBytes: number, data: readonly number[], sent: readonly number[] | undefined) {
    this.vm = new SourceVm(1, [sizeBytes]);
    for (const cell of data) this.vm.write(0, cell, cell + 1);
    this.plan = this.vm.plan(1, id(77), [sent]);
    this.layout = new StoreLayout('/store').vm(this.vm.vmId);
  }

  get files(): DiskFiles {
    const { cycleId, disks } = parseOpenRequest(this.vm.openRequest(this.plan));
    const disk = disks[0];
    if (disk === undefined) throw new Error('the cycle has a disk');
    return this.layout.files(disk, cycleId, disk.transfer);
  }

  /** Takes as many messages as each count says, of one cell each, and settles after each of them. */
  async settle(...counts: readonly number[]): Promise<void> {
    const { volume: fs, vm, plan, layout } = this;
    const seams = { fs, clock: new FakeClock(), random: new SeededRandom(5) };
    const request = parseOpenRequest(vm.openRequest(plan));
    const cycle = await IncomingCycle.open(request, layout, seams, undefined, []);
    const messages = [...vm.messages(plan, [], { batchCells: 1 })].slice(1);
    for (const count of counts) {
      for (const message of messages.splice(0, count)) await cycle.take(message);
      await cycle.settleAll();
    }
    await cycle.close();
  }

  async position(fs = this.volume): Promise<number | undefined> {
    const found = await readUnfinished(fs, this.layout, this.plan.cycleId);
    return found?.progress.get(0)?.nextCell;
  }

  change(path: string, work: (bytes: Buffer) => Buffer): void {
    const bytes = this.volume.content(path);
    if (bytes === undefined) throw new Error(`${path} is not there`);
    this.volume.put(path, work(bytes));
  }
}

const turnBit =
  (position: number) =>
  (bytes: Buffer): Buffer => {
    bytes.writeUInt8(bytes.readUInt8(position) ^ 1, position);
    return bytes;
  };
const cut =
  (lengthBytes: number) =>
  (bytes: Buffer): Buffer =>
    bytes.subarray(0, lengthBytes);

describe('progress of an unfinished cycle', () => {
  describe('a delta: cells 0 and 1, then a run of zeros 2 to 4, and 5', () => {
    const make = async (): Promise<Staged> => {
      const staged = new Staged(9 * CELL_BYTES, [0, 1, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7]);
      await staged.settle(2, 4);
      return staged;
    };
    /** Header, two data records; the run of zeros, one data record. */
    const [zeroRecord, dataRecord] = [128 + 2 * 40, 128 + 3 * 40];

    it('counts up to the last settle when everything is there', async () => {
      expect(await (await make()).position()).to.equal(6);
    });

    for (const [what, expected, damage] of [
      ['its data is not there', 2, (s) => s.change(s.files.data, cut(2 * CELL_BYTES))],
      [
        'a part of its data is not there',
        2,
        (s) => s.change(s.files.data, cut(3 * CELL_BYTES - 1)),
      ],
      ['a bit of its data is another', 2, (s) => s.change(s.files.data, turnBit(2 * CELL_BYTES))],
      ['its manifest is not there', 2, (s) => s.change(s.files.manifest, cut(zeroRecord))],
      ['its manifest is torn', 2, (s) => s.change(s.files.manifest, cut(dataRecord + 39))],
      ['a hash is another', 2, (s) => s.change(s.files.manifest, turnBit(dataRecord + 10))],
      ['a run of zeros is longer', 2, (s) => s.change(s.files.manifest, turnBit(zeroRecord + 8))],
      [
        'a cell lies behind the disk',
        2,
        (s) => s.change(s.files.manifest, turnBit(dataRecord + 5)),
      ],
      ['the file of the data is missing', 2, (s) => void s.volume.remove(s.files.data)],
      [
        'what was settled before is damaged, which is not its affair',
        6,
        (s) => s.change(s.files.data, turnBit(5)),
      ],
    ] satisfies [string, number, (staged: Staged) => void][]) {
      it(`goes on from cell ${expected} when ${what}`, async () => {
        const staged = await make();
        damage(staged);
        expect(await staged.position()).to.equal(expected);
      });
    }

    it('goes on from the settle before when the data cannot be read', async () => {
      const staged = await make();
      const faulty = new FaultFileSystem(staged.volume);
      faulty.inject({ kind: 'read', path: /\.delta$/ });
      const found = await readUnfinished(faulty, staged.layout, staged.plan.cycleId);
      expect(found?.progress.get(0)?.nextCell).to.equal(2);
    });
  });

  it('begins anew when the first settle is not there', async () => {
    const staged = new Staged(9 * CELL_BYTES, [0, 1, 5], [0, 1, 5]);
    await staged.settle(2);
    expect(await staged.position()).to.equal(2);
    staged.change(staged.files.data, turnBit(CELL_BYTES));
    expect(await staged.position()).to.equal(undefined);
  });

  it('counts the end of a disk without looking', async () => {
    const staged = new Staged(9 * CELL_BYTES, [0, 1, 5], [0, 1, 5]);
    await staged.settle(2, 2);
    staged.change(staged.files.data, turnBit(CELL_BYTES));
    expect(await staged.position()).to.equal(9);
  });

  it('finds the cells of a base whose blocks are neighbours in the file and far apart for the guest', async () => {
    const cells = [3, 520, 530, 1100];
    for (const settles of [
      [1, 1, 1, 1],
      [2, 2],
      [1, 3],
      [3, 1],
    ]) {
      const staged = new Staged(70 * MIB, cells, undefined);
      // the zeros between are sent as well, one message for each cell
      const ends = settles.map((_, n) => settles.slice(0, n + 1).reduce((a, b) => a + b, 0));
      const upTo = ends.map((end) => (cells[end - 1] ?? 0) + 1);
      await staged.settle(...upTo.map((end, n) => end - (upTo[n - 1] ?? 0)));
      expect(await staged.position(), settles.join()).to.equal(1101);
      staged.change(staged.files.data, (bytes) => {
        const image = staged.plan.images[0]?.subarray(1100 * CELL_BYTES) ?? Buffer.alloc(0);
        return turnBit(bytes.indexOf(image.subarray(0, 64)))(bytes);
      });
      expect(await staged.position(), settles.join()).to.equal(upTo.at(-2));
    }
  });

  describe('file', () => {
    const record = (nextCell: number, more: Partial<ProgressRecord> = {}): ProgressRecord => ({
      ...beginsAnew(3),
      nextCell,
      standing: { kind: 'ahead', manifestCrc: 0xdeadbeef },
      ...more,
    });
    const write = async (...lists: ProgressRecord[][]): Promise<MemoryFileSystem> => {
      const fs = new MemoryFileSystem();
      const file = await ProgressFile.create(
        await fs.open('/progress', { mode: 'create' }),
        Buffer.alloc(100, 7),
      );
      for (const list of lists) {
        await file.write(list);
        file.accept();
      }
      await file.close();
      return fs;
    };
    const read = async (
      fs: MemoryFileSystem,
    ): Promise<NonNullable<Awaited<ReturnType<typeof ProgressFile.open>>>> => {
      const found = await ProgressFile.open(await fs.open('/progress', { mode: 'read' }), false);
      if (found === undefined) throw new Error('the file counts');
      return found;
    };

    it('gives each disk its last two records as they were written', async () => {
      const end = record(9, { isComplete: true, standing: { kind: 'durable' } });
      const other = record(5, { diskIndex: 60, blockCount: 2, zeroCell: 4, zeroCount: 1 });
      const fs = await write([record(1), other], [record(2)], [end]);
      const { disks, request } = await read(fs);
      expect(request.equals(Buffer.alloc(100, 7))).to.equal(true);
      expect(disks.get(3)).to.deep.equal({ last: end, before: record(2) });
      expect(disks.get(60)).to.deep.equal({ last: other, before: undefined });
    });

    it('knows nothing of a disk from before it began anew', async () => {
      const { disks } = await read(await write([record(1)], [beginsAnew(3)], [record(2)]));
      expect(disks.get(3)).to.deep.equal({ last: record(2), before: undefined });
      expect((await read(await write([record(1)], [beginsAnew(3)]))).disks.size).to.equal(0);
    });

    it('ends at the first record that is not good', async () => {
      const fs = await write([record(1)], [record(2)], [record(3)]);
      const second = 64 + 128 + 64;
      for (let position = second; position < second + 64; position++) {
        const bytes = fs.content('/progress') ?? Buffer.alloc(0);
        const damaged = fs.clone();
        damaged.put('/progress', turnBit(position)(bytes));
        const { disks } = await read(damaged);
        expect(disks.get(3), `byte ${position}`).to.deep.equal({
          last: record(1),
          before: undefined,
        });
      }
    });

    it('takes back what was not accepted, and all of it when nothing was', async () => {
      for (const isAccepted of [false, true]) {
        const fs = new MemoryFileSystem();
        const block = await fs.open('/progress', { mode: 'create' });
        const file = await ProgressFile.create(block, Buffer.alloc(100));
        await file.write([record(1)]);
        if (isAccepted) file.accept();
        await file.write([record(2)]);
        await file.retract(new Error('a flush failed'));
        await file.close();
        const handle = await fs.open('/progress', { mode: 'read' });
        const found = await ProgressFile.open(handle, false);
        expect(found?.disks.get(3)?.last.nextCell).to.equal(isAccepted ? 1 : undefined);
      }
    });
  });
});
