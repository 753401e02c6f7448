// Power loss, kills and lost flushes while a cycle comes in that settles often: a record of its progress
// is written together with the data that it tells of, so it may be found without them. Whatever is
// found, what was acknowledged is there, and what is told as a position is there and survives.

import { expect } from 'chai';
import type { Clock } from '../../shared/clock.js';
import { CELL_BYTES, cellLength, hashCell } from '../../shared/delta/index.js';
import { isAllZero } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import {
  IncomingCycle,
  type IngestSeams,
  readUnfinished,
  stagedDisk,
} from '../../dr-receiver/ingest/incoming-cycle.js';
import { parseOpenRequest } from '../../dr-receiver/ingest/open-request.js';
import { StagedCells } from '../../dr-receiver/ingest/staged-cells.js';
import { StoreLayout } from '../../dr-receiver/store/layout.js';
import { crashEverywhere, runUntilCrash } from '../support/crash-everywhere.js';
import { CrashFileSystem } from '../support/crash-file.js';
import { HookedFileSystem } from '../support/hooked-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { type CyclePlan, id, SourceVm } from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';

/** Each look at it is a second later, so that every settle is acknowledged. */
class HastyClock implements Clock {
  #ms = 0;

  now(): number {
    return this.#ms;
  }

  monotonic(): number {
    this.#ms += 1000;
    return this.#ms;
  }

  sleep(): Promise<void> {
    return Promise.resolve();
  }
}

interface Position {
  nextCell: number;
  isComplete: boolean;
}

/** A VM with a base and a delta, and zeros in both. */
class Scene {
  readonly vm = new SourceVm(1, [14 * CELL_BYTES, 11 * CELL_BYTES + 512]);
  readonly plan: CyclePlan;
  readonly layout;

  constructor() {
    for (const cell of [0, 1, 2, 5, 6, 9, 10, 11, 13]) this.vm.write(0, cell, cell + 1);
    for (const cell of [0, 2, 3, 4, 7, 8, 11]) this.vm.write(1, cell, cell + 100);
    const cells = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11];
    this.plan = this.vm.plan(1, id(77), [undefined, cells]);
    this.layout = new StoreLayout('/store').vm(this.vm.vmId);
  }

  seams(fs: FileSystem): IngestSeams {
    return {
      fs,
      clock: new HastyClock(),
      random: new SeededRandom(5),
      settleBytes: 2 * CELL_BYTES,
    };
  }

  /** What the source sends, the disks in turn. */
  messages(positions: readonly Position[]): Buffer[] {
    const wire = positions.map((position) => ({
      ...position,
      nextCell: BigInt(position.nextCell),
    }));
    const queues: Buffer[][] = [[], []];
    for (const message of [...this.vm.messages(this.plan, wire, { batchCells: 1 })].slice(1)) {
      queues[message.readUInt16LE(2)]?.push(message);
    }
    const out: Buffer[] = [];
    while (queues.some((queue) => queue.length > 0)) {
      for (const queue of queues) out.push(...queue.splice(0, 2));
    }
    return out;
  }

  async open(fs: FileSystem): Promise<IncomingCycle> {
    const request = parseOpenRequest(this.vm.openRequest(this.plan));
    const found = await readUnfinished(fs, this.layout, this.plan.cycleId);
    return IncomingCycle.open(request, this.layout, this.seams(fs), found, []);
  }

  /** One process: goes on, up to `messageCount` messages; `told` are the positions it answers for. */
  async bring(
    fs: FileSystem,
    told: Map<number, Position>,
    messageCount = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    const cycle = await this.open(fs);
    try {
      for (const [index, position] of cycle.positions.entries()) told.set(index, position);
      cycle.onDurable = ({ diskIndex, durableCell, isComplete }) => {
        told.set(diskIndex, { nextCell: durableCell, isComplete });
      };
      for (const message of this.messages(cycle.positions).slice(0, messageCount)) {
        await cycle.take(message);
      }
      await cycle.settleAll();
      if (!Number.isFinite(messageCount)) this.#expectRoots(cycle);
    } finally {
      await cycle.close().catch(() => undefined);
    }
  }

  #expectRoots(cycle: IncomingCycle): void {
    const roots = cycle.diskRecords().map((disk) => disk.root);
    expect(roots).to.deep.equal(this.vm.roots(this.plan).map((root) => root.toString('hex')));
  }

  /** The positions that are found are no earlier than `told`, and all cells before them are there. */
  async expectThere(fs: FileSystem, told: ReadonlyMap<number, Position>): Promise<void> {
    const found = await readUnfinished(fs, this.layout, this.plan.cycleId);
    for (const [index, { nextCell, isComplete }] of told) {
      if (nextCell === 0) continue;
      const position = found?.progress.get(index);
      expect(position?.nextCell ?? 0, `disk ${index}`).to.be.at.least(nextCell);
      if (isComplete) expect(position?.isComplete, `disk ${index}`).to.equal(true);
    }
    if (found === undefined) return;
    for (const [index, { nextCell }] of found.progress) {
      const disk = found.request.disks[index];
      const staged = disk === undefined ? undefined : stagedDisk(this.layout, found, disk);
      if (staged === undefined) throw new Error('a position has a disk');
      const cells = await StagedCells.open(fs, staged);
      const image = this.plan.images[index] ?? Buffer.alloc(0);
      const sent = this.plan.cells[index];
      for (let cell = 0; cell < nextCell && cell * CELL_BYTES < image.length; cell++) {
        const start = cell * CELL_BYTES;
        const bytes = image.subarray(start, start + cellLength(cell, image.length));
        if (isAllZero(bytes) || sent?.includes(cell) === false) continue;
        const held = await cells.find(cell, hashCell(bytes));
        expect(held?.equals(bytes), `disk ${index}, cell ${cell} of ${nextCell}`).to.equal(true);
      }
      await cells.close();
    }
  }
}

const AT_FAILURE = 1_000_000;

/** A process that is killed at its n-th call; what it had written stays in the system's memory. */
class KilledFileSystem extends HookedFileSystem {
  #isKilled = false;

  constructor(inner: FileSystem, killAt: number) {
    let callCount = 0;
    super(inner, async (call, run) => {
      if (call.kind !== 'close' && ++callCount >= killAt) {
        this.#isKilled = true;
        throw new Error('killed');
      }
      try {
        return await run();
      } catch (error) {
        // it does not live to learn of it
        if (killAt === AT_FAILURE) callCount = AT_FAILURE;
        throw error;
      }
    });
  }

  get isKilled(): boolean {
    return this.#isKilled;
  }
}

describe('settles and power loss', function () {
  this.timeout(SLOW ? 1_800_000 : 480_000);

  it('what was acknowledged is there, and what is found is there and survives the next cut', async () => {
    const scene = new Scene();
    const told = new Map<number, Position>();
    const count = await crashEverywhere({
      volume: new MemoryFileSystem(),
      seedCount: SLOW ? 8 : 2,
      operationsMax: SLOW ? undefined : 16,
      run: async (fs) => {
        told.clear();
        await scene.bring(fs, told);
      },
      check: async (found, { seed }) => {
        const promised = new Map(told);
        await scene.expectThere(found, promised);
        const random = new SeededRandom(seed);
        const crashAt = random.chance(0.5) ? 1 + random.int(50) : Number.POSITIVE_INFINITY;
        const again = new CrashFileSystem({ volume: found, crashAt });
        const next = new Map<number, Position>(promised);
        await runUntilCrash(again, (fs) => scene.bring(fs, next, random.int(9)));
        again.crashNow();
        for (const [index, { nextCell }] of promised) {
          expect(next.get(index)?.nextCell).to.be.at.least(nextCell);
        }
        for (const style of ['none', 'random', 'all'] as const) {
          const later = again.survivors(seed, style);
          await scene.expectThere(later, next);
          await scene.bring(later, new Map());
          await scene.expectThere(later, new Map([0, 1].map((index) => [index, END])));
        }
      },
    });
    expect(count).to.be.greaterThan(100);
  });

  it('a process that was killed left bytes in memory; what the next one tells survives a cut', async () => {
    const scene = new Scene();
    const rehearsal = new CrashFileSystem();
    let calls = 0;
    const counting = new HookedFileSystem(rehearsal, (_, run) => {
      calls++;
      return run();
    });
    await scene.bring(counting, new Map());
    for (let killAt = 1; killAt <= calls; killAt += SLOW ? 1 : 5) {
      const system = new CrashFileSystem();
      const first = new Map<number, Position>();
      const killed = new KilledFileSystem(system, killAt);
      await scene.bring(killed, first).catch((error: unknown) => {
        if (!killed.isKilled) throw error;
      });
      const second = new Map<number, Position>();
      await scene.bring(system, second, killAt % 7);
      for (const [index, { nextCell }] of first) {
        expect(second.get(index)?.nextCell).to.be.at.least(nextCell);
      }
      for (const style of ['none', 'random', 'prefix'] as const) {
        const found = system.survivors(killAt, style);
        await scene.expectThere(found, second);
        await scene.bring(found, new Map());
      }
    }
  });

  for (const isKilled of [false, true]) {
    const how = isKilled ? ', also when nobody learned of it' : '';
    it(`a flush that failed lost its bytes; no later process takes them for durable${how}`, async () => {
      const scene = new Scene();
      const rehearsal = new CrashFileSystem();
      await scene.bring(rehearsal, new Map());
      expect(rehearsal.flushCount).to.be.greaterThan(20);
      for (let nth = 1; nth <= rehearsal.flushCount; nth++) {
        const system = new CrashFileSystem({ loseAtFlush: nth });
        const told = new Map<number, Position>();
        let code: unknown;
        const first = isKilled ? new KilledFileSystem(system, AT_FAILURE) : system;
        await scene.bring(first, told).catch((error: unknown) => {
          code = error instanceof DrError ? error.code : error;
        });
        expect(code, `flush ${nth}`).to.equal('E_IO');
        for (const count of [nth % 5, Number.POSITIVE_INFINITY]) {
          await scene.bring(system, told, count);
          for (const style of ['none', 'random'] as const) {
            const found = system.survivors(nth, style);
            await scene.expectThere(found, told);
            await scene.bring(found, new Map());
          }
        }
      }
    });
  }
});

const END: Position = { nextCell: 1, isComplete: true };
