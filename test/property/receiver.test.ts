// Random lives of a receiver against a naive model: cycles of several VMs with lost answers, calls made
// twice and out of order, streams that break, restarts, pins, verifications. After each step the listed
// points are those of the model, and at the end every one reads back exact.

import { expect } from 'chai';
import type { Guid } from '../../shared/bytes/index.js';
import { CELL_BYTES, cellCount } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  type CyclePlan,
  expectPoint,
  openSite,
  pointIds,
  type Site,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';
const RUNS = SLOW ? 400 : 25;
const STEPS = 40;

/** What the model knows of one VM. */
class ModelVm {
  readonly vm: SourceVm;
  /** Committed cycles in order. */
  readonly points: CyclePlan[] = [];
  /** Cells changed since the last commit, per disk. */
  readonly dirty: Set<number>[];
  /** The cycle under way, kept over lost answers and broken streams. */
  plan: CyclePlan | undefined;
  /** Staged somewhere in an unfinished cycle: "disk:cell" → image. */
  readonly pinned = new Set<Guid>();

  constructor(n: number, random: SeededRandom) {
    const sizes = Array.from({ length: random.between(1, 3) }, () => {
      const cells = random.between(1, 20);
      return cells * CELL_BYTES - (random.chance(0.5) ? 0 : 512 * random.between(1, 100));
    });
    this.vm = new SourceVm(n, sizes);
    this.dirty = sizes.map(() => new Set<number>());
  }

  get head(): Guid | undefined {
    return this.points.at(-1)?.pointId;
  }

  write(random: SeededRandom): void {
    const disk = random.int(this.vm.disks.length);
    const cell = random.int(cellCount(this.vm.bytes(disk).length));
    this.vm.write(disk, cell, random.chance(0.2) ? 0 : random.between(1, 1_000_000));
    this.dirty[disk]?.add(cell);
  }
}

class Life {
  readonly #random: SeededRandom;
  readonly #files = new MemoryFileSystem();
  readonly #vms: ModelVm[];
  #site: Site;
  #cycleCount = 0;

  private constructor(random: SeededRandom, site: Site, files: MemoryFileSystem) {
    this.#random = random;
    this.#site = site;
    this.#files = files;
    this.#vms = [1, 2].map((n) => new ModelVm(n, random));
  }

  static async run(seed: number): Promise<void> {
    const files = new MemoryFileSystem();
    const life = new Life(new SeededRandom(seed), await openSite(files), files);
    for (let step = 0; step < STEPS; step++) await life.#step();
    await life.#restart();
    for (const model of life.#vms) {
      await life.#expectListed(model);
      for (const plan of model.points) await expectPoint(life.#site, model.vm, plan);
    }
  }

  async #restart(): Promise<void> {
    await this.#site.receiver.close();
    this.#site = await openSite(this.#files);
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const model = random.pick(this.#vms);
    for (let count = random.int(4); count > 0; count--) model.write(random);
    const what = random.int(10);
    if (what === 0) await this.#restart();
    else if (what === 1 && model.head !== undefined) await this.#pin(model);
    else if (what === 2 && model.head !== undefined) await this.#repeat(model);
    else if (what === 3)
      model.plan = undefined; // the agent died, its checkpoint is gone
    else await this.#cycle(model);
    await this.#expectListed(model);
  }

  async #pin(model: ModelVm): Promise<void> {
    const { pointId } = this.#random.pick(model.points);
    const control = this.#site.control();
    await control.pinPoint({ vm: model.vm.name, point: pointId, isPinned: true });
    model.pinned.add(pointId);
  }

  /** Calls of an old cycle, again: the same answer, and nothing changes. */
  async #repeat(model: ModelVm): Promise<void> {
    const plan = this.#random.pick(model.points);
    const { outcome } = await model.vm.open(this.#site, plan);
    expect(outcome?.$case).to.equal('committed');
    const answer = await model.vm.commit(this.#site, plan);
    if (outcome?.$case === 'committed') expect(answer).to.deep.equal(outcome.value);
  }

  async #cycle(model: ModelVm): Promise<void> {
    const random = this.#random;
    const { vm } = model;
    const isNew = model.plan === undefined;
    if (model.plan === undefined) {
      const cells = model.dirty.map((set, disk) => {
        if (model.head === undefined || random.chance(0.05)) return undefined;
        // over-reported, as change tracking may
        const extra = random.int(cellCount(vm.bytes(disk).length));
        return [...new Set([...set, extra])].sort((a, b) => a - b);
      });
      model.plan = vm.plan(++this.#cycleCount + vm.disks.length * 1000, model.head, cells, {
        cycleId: vm.plan(this.#cycleCount + 5000, undefined, []).cycleId,
        pointId: vm.plan(this.#cycleCount + 5000, undefined, []).pointId,
        maxRestorePoints: 1000,
      });
    }
    const { plan } = model;
    const { outcome } = await vm.open(this.#site, plan);
    if (outcome?.$case !== 'accepted') throw new Error(`refused: ${outcome?.$case}`);
    if (random.chance(0.1)) return; // the answer was lost
    const batchCells = random.between(1, 5);
    const reuse = isNew ? await this.#reusable(model, plan) : new Set<string>();
    const messages = [...vm.messages(plan, outcome.value.positions, { batchCells, reuse })];
    if (random.chance(0.35)) {
      const count = random.int(messages.length);
      const broken = (function* (): Generator<Buffer> {
        yield* messages.slice(0, count);
        throw new DrError('E_CHANNEL', 'the line broke');
      })();
      await vm.push(this.#site, broken).catch((error: unknown) => {
        if (!(error instanceof DrError) || error.code !== 'E_CHANNEL') throw error;
      });
      return;
    }
    await vm.push(this.#site, messages);
    if (random.chance(0.1)) return; // the agent was stopped before its commit
    await vm.commit(this.#site, plan);
    if (random.chance(0.3)) await vm.commit(this.#site, plan); // its answer was lost
    model.points.push(plan);
    model.plan = undefined;
    for (const [disk, set] of model.dirty.entries()) {
      const now = vm.bytes(disk);
      const then = plan.images[disk] ?? Buffer.alloc(0);
      for (const cell of set) {
        const start = cell * CELL_BYTES;
        const isSame = now
          .subarray(start, start + CELL_BYTES)
          .equals(then.subarray(start, start + CELL_BYTES));
        if (isSame) set.delete(cell);
      }
    }
  }

  /** Asks the receiver for the hashes of what is unfinished, as a source does. */
  async #reusable({ vm }: ModelVm, plan: CyclePlan): Promise<Set<string>> {
    const reuse = new Set<string>();
    const { guidToWire } = await import('../../shared/bytes/index.js');
    const { hashCell, MANIFEST_RECORD_BYTES } = await import('../../shared/delta/index.js');
    const vmId = guidToWire(vm.vmId);
    const { unfinished } = await this.#site.replication().describe({ vmId, vmName: vm.name });
    if (unfinished === undefined || unfinished.cycleId.equals(guidToWire(plan.cycleId)))
      return reuse;
    for (const [disk, { diskId, generation }] of vm.disks.entries()) {
      const of = { $case: 'cycleId', value: unfinished.cycleId } as const;
      const request = { vmId, diskId: guidToWire(diskId), generation, of };
      for await (const { records } of this.#site.replication().hashes(request)) {
        for (let at = 0; at < records.length; at += MANIFEST_RECORD_BYTES) {
          if (records.readUInt8(at + 6) !== 1) continue;
          const cell = records.readUIntLE(at, 6);
          const start = cell * CELL_BYTES;
          const bytes = plan.images[disk]?.subarray(start, start + CELL_BYTES) ?? Buffer.alloc(0);
          const hash = records.subarray(at + 8, at + 40);
          if (hashCell(bytes).equals(hash)) reuse.add(`${disk}:${cell}`);
        }
      }
    }
    return reuse;
  }

  async #expectListed(model: ModelVm): Promise<void> {
    const isKnown = this.#site.receiver.desks.some(({ vm }) => vm.vmId === model.vm.vmId);
    const listed = isKnown ? await pointIds(this.#site, model.vm.name) : [];
    expect(listed).to.deep.equal(model.points.map((plan) => plan.pointId));
  }
}

describe('receiver: random lives', function () {
  this.timeout(SLOW ? 1_800_000 : 480_000);

  it(`lists what a naive model lists, and gives back its bytes (${RUNS} lives)`, async () => {
    for (let seed = 1; seed <= RUNS; seed++) {
      try {
        await Life.run(seed);
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        throw new Error(`life ${seed}: ${text}`, { cause: error });
      }
    }
  });
});
