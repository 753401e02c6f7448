// Random lives of a store that forgets and reclaims, against a naive model: cycles of one VM, pins and
// unpins, days that pass, compacts, folds and drops in slices, restarts in the middle, readers that hold
// a disk. After each step every listed point has the bytes of its moment, and at the end the store holds
// little more than its base and what its points need.

import { expect } from 'chai';
import { CELL_BYTES, cellCount } from '../../shared/delta/index.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { FakeClock } from '../support/fake-clock.js';
import {
  type CyclePlan,
  expectPoint,
  openSite,
  pointIds,
  type Site,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';
const RUNS = SLOW ? 400 : 15;
const STEPS = 40;
const DAY_MS = 24 * 60 * 60 * 1000;

class Life {
  readonly #random: SeededRandom;
  readonly #files: MemoryFileSystem;
  readonly #clock: FakeClock;
  readonly #vm: SourceVm;
  readonly #plans = new Map<string, CyclePlan>();
  readonly #dirty: Set<number>[];
  #head: CyclePlan | undefined;
  #cycleCount = 0;
  #site: Site;
  readonly done = new Map<string, number>();

  private constructor(random: SeededRandom, files: MemoryFileSystem, clock: FakeClock, site: Site) {
    this.#random = random;
    this.#files = files;
    this.#clock = clock;
    this.#site = site;
    const sizes = Array.from({ length: random.between(1, 2) }, () => {
      return random.between(12, 40) * CELL_BYTES - (random.chance(0.5) ? 0 : 512);
    });
    this.#vm = new SourceVm(1, sizes);
    this.#dirty = sizes.map(() => new Set<number>());
  }

  static async run(seed: number): Promise<Map<string, number>> {
    const random = new SeededRandom(seed);
    const files = new MemoryFileSystem();
    const clock = new FakeClock();
    const site = await openSite(files, { clock, reclaim: LIMITS });
    const life = new Life(random, files, clock, site);
    for (let step = 0; step < STEPS; step++) await life.#step();
    await life.#end();
    return life.done;
  }

  #count(what: string, count = 1): void {
    this.done.set(what, (this.done.get(what) ?? 0) + count);
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const what = random.int(12);
    if (this.#head === undefined || what < 5) await this.#cycle();
    else if (what === 5) await this.#pin();
    else if (what === 6) await this.#clock.advance(random.between(1, 9) * DAY_MS);
    else if (what === 7) await this.#restart();
    else if (what === 8) await this.#readWhileReclaiming();
    else await this.#reclaim();
    await this.#expectPoints(what > 8 ? 'all' : 'one');
  }

  async #cycle(): Promise<void> {
    const random = this.#random;
    const vm = this.#vm;
    for (let count = random.int(6); count > 0; count--) {
      const disk = random.int(vm.disks.length);
      const cell = random.int(cellCount(vm.bytes(disk).length));
      vm.write(disk, cell, random.chance(0.25) ? 0 : random.between(1, 1_000_000));
      this.#dirty[disk]?.add(cell);
    }
    const cells = this.#dirty.map((set) => {
      if (this.#head === undefined || random.chance(0.08)) return undefined;
      return [...set].sort((a, b) => a - b);
    });
    const plan = vm.plan(++this.#cycleCount, this.#head?.pointId, cells, {
      maxRestorePoints: random.between(1, 4),
    });
    await vm.replicate(this.#site, plan);
    for (const set of this.#dirty) set.clear();
    this.#plans.set(plan.pointId, plan);
    this.#head = plan;
    await this.#clock.advance(random.int(DAY_MS / 2));
  }

  async #pin(): Promise<void> {
    const point = this.#random.pick(await pointIds(this.#site, this.#vm.name));
    const isPinned = this.#random.chance(0.2);
    await this.#site.control().pinPoint({ vm: this.#vm.name, point, isPinned });
  }

  async #restart(): Promise<void> {
    await this.#site.receiver.close();
    this.#site = await openSite(this.#files, { clock: this.#clock, reclaim: LIMITS });
  }

  async #reclaim(): Promise<void> {
    const { maintenance } = this.#site.receiver;
    for (let count = this.#random.int(6); count >= 0; count--) {
      if (!(await maintenance.maintain())) break;
    }
  }

  /** A reader that is slow, or goes away, while space is reclaimed. */
  async #readWhileReclaiming(): Promise<void> {
    const vm = this.#vm.name;
    const point = this.#random.pick(await pointIds(this.#site, vm));
    const plan = this.#plans.get(point);
    const out = Buffer.alloc(plan?.images[0]?.length ?? 0);
    const reading = this.#site.control().readDisk({ vm, point, diskIndex: 0 });
    const stopAfter = this.#random.chance(0.3) ? this.#random.int(5) : Infinity;
    let count = 0;
    for await (const { part } of reading) {
      if (part?.$case === 'bytes') part.value.data.copy(out, Number(part.value.offset));
      const working = this.#site.receiver.maintenance.maintain();
      // a fold gives up waiting for this very reader
      await this.#clock.advance(6000);
      await working;
      if (++count > stopAfter) return;
    }
    expect(out.equals(plan?.images[0] ?? Buffer.alloc(0)), `point ${point}`).to.equal(true);
    this.#count('read');
  }

  async #expectPoints(which: 'all' | 'one' = 'all'): Promise<void> {
    const listed = await pointIds(this.#site, this.#vm.name);
    for (const point of which === 'all' ? listed : [this.#random.pick(listed)]) {
      const plan = this.#plans.get(point);
      if (plan === undefined) throw new Error(`a point ${point} that was never made`);
      await expectPoint(this.#site, this.#vm, plan);
    }
  }

  /** With nothing to wait for, what stays is what the listed points need. */
  async #end(): Promise<void> {
    await this.#restart();
    for await (const { step } of this.#site.control().compact({ vm: this.#vm.name })) {
      if (step?.$case === 'done') expect(step.value.waiting).to.deep.equal([]);
    }
    await this.#expectPoints();
    const [{ vm } = {}] = await this.#site.receiver.allDesks();
    if (vm === undefined) return;
    const listed = new Set(vm.protection.listed.map(({ pointId }) => pointId));
    const named = new Set<string>();
    for (const segment of vm.protection.segments.all) {
      expect(segment.folding).to.equal(undefined);
      const [base, ...deltas] = segment.layers;
      const first = deltas[0];
      if (base !== undefined && first !== undefined) {
        // nothing is left to fold: the base, or else its first delta, is somebody's
        const isNeeded = listed.has(base.pointId) || segment.folding !== undefined;
        expect(isNeeded || first.dataBytes === 0, 'a delta could be folded').to.equal(true);
      }
      for (const { cycleId, transfer } of segment.layers) {
        const { data, manifest } = vm.layout.files(segment, cycleId, transfer);
        named.add(data).add(manifest);
      }
    }
    const found = this.#files.paths.filter((path) => /\/(cycles|disks)\//.test(path));
    expect(found.sort()).to.deep.equal([...named].sort());
    const journal = this.#files.content(vm.layout.journal)?.toString('latin1') ?? '';
    for (const kind of KINDS) {
      this.#count(kind, journal.split(`"kind":"${kind}"`).length - 1);
    }
    await this.#site.receiver.close();
  }
}

const KINDS = ['compact', 'fold-begin', 'fold-end', 'drop', 'delist'];
const LIMITS = { share: 0.05, minBytes: CELL_BYTES, rowLayers: 4 };

describe('reclaiming: random lives', function () {
  this.timeout(SLOW ? 1_800_000 : 480_000);

  it(`leaves every listed point as it was (${RUNS} lives)`, async () => {
    const done = new Map<string, number>();
    for (let seed = 1; seed <= RUNS; seed++) {
      try {
        for (const [what, count] of await Life.run(seed)) {
          done.set(what, (done.get(what) ?? 0) + count);
        }
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        throw new Error(`life ${seed}: ${text}`, { cause: error });
      }
    }
    // the lives are worth something
    for (const what of ['read', ...KINDS]) {
      expect(done.get(what) ?? 0, what).to.be.greaterThan(RUNS / 8);
    }
  });
});
