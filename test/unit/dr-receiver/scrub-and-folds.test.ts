// The scrub while other things happen to the files it reads: folds change bases, devices fail, points
// come while damage is known. What is told of the points is compared with what is wrong with them.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { Scrub } from '../../../dr-receiver/index.js';
import { ScrubState } from '../../../dr-receiver/store/scrub-state.js';
import type { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { FakeClock } from '../../support/fake-clock.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { importDisk } from './import-double.js';
import { type CyclePlan, openSite, type Site, SourceVm } from './source-double.js';

const HOUR = 60 * 60 * 1000;
const DAY = 24 * HOUR;
const LIMITS = { share: 0, minBytes: 0, rowLayers: 8 };
const OPTIONS = { rateBytes: 2 ** 30, periodMs: 7 * DAY };
const ONE_POINT = { maxRestorePoints: 1 };

describe('the scrub among folds, failures and new points', () => {
  let files: MemoryFileSystem;
  let clock: FakeClock;
  let site: Site;
  /** What a read of a file meets. */
  let failing: (path: string, start: number, end: number) => boolean;

  beforeEach(async () => {
    files = new MemoryFileSystem();
    clock = new FakeClock();
    failing = () => false;
    await open();
  });

  async function open(): Promise<void> {
    const hooked = new HookedFileSystem(files, (call, run) => {
      const start = call.position ?? 0;
      const isRead = call.kind === 'read';
      if (isRead && failing(call.path, start, start + (call.bytes?.length ?? 0))) {
        return Promise.reject(new DrError('E_IO', 'unrecovered read error'));
      }
      return run();
    });
    site = await openSite(hooked, { clock, reclaim: LIMITS });
  }

  /** A VM of one disk, all of its cells written, with its first point. */
  async function seeded(cells: number, more = {}): Promise<[SourceVm, CyclePlan]> {
    const vm = new SourceVm(1, [cells * CELL_BYTES]);
    for (let cell = 0; cell < cells; cell++) vm.write(0, cell, cell + 1);
    const seed = vm.plan(1, undefined, [undefined], more);
    await vm.replicate(site, seed);
    return [vm, seed];
  }

  function store(): VmStore {
    const vm = site.receiver.desks[0]?.vm;
    if (vm === undefined) throw new Error('there is a VM');
    return vm;
  }

  async function reclaimAll(): Promise<void> {
    while (await site.receiver.maintenance.maintain());
  }

  async function scrubAll(scrub = new Scrub(site.receiver, OPTIONS)): Promise<void> {
    while ((await scrub.slice()) !== undefined);
  }

  async function damages(): Promise<string[]> {
    const { points } = await site.control().listPoints({ vm: store().protection.vmName });
    return points.map(({ isDamaged, damage }) => (isDamaged ? damage : 'good'));
  }

  /** Points that a verification finds damaged. */
  async function verify(): Promise<number> {
    const request = { vm: store().protection.vmName, point: 'all', isRepair: false };
    let bad = -1;
    for await (const { step } of site.control().verify(request)) {
      if (step?.$case === 'done') bad = step.value.damagedPointIds.length;
    }
    return bad;
  }

  /** Turns a bit of a cell where the file with this ending stores it. */
  function turn(plan: CyclePlan, cell: number, ending: string): void {
    const start = cell * CELL_BYTES;
    const wanted = plan.images[0]?.subarray(start, start + 256) ?? Buffer.alloc(0);
    const path = files.paths.find(
      (each) => each.endsWith(ending) && files.content(each)?.includes(wanted) === true,
    );
    const bytes = files.content(path ?? '') ?? Buffer.alloc(0);
    const place = bytes.indexOf(wanted);
    bytes.writeUInt8(bytes.readUInt8(place + 70) ^ 1, place + 70);
    files.put(path ?? '', bytes);
  }

  const layerCounts = (): number[] =>
    store().protection.segments.all.map(({ layers }) => layers.length);

  it('begins a base anew that was folded into meanwhile', async () => {
    const [vm, seed] = await seeded(300, ONE_POINT);
    const zeros = Array.from({ length: 10 }, (_, cell) => cell);
    for (const cell of zeros) vm.write(0, cell, 0);
    vm.write(0, 250, 4711);
    await vm.replicate(site, vm.plan(2, seed.pointId, [[...zeros, 250]], ONE_POINT));
    await clock.advance(8 * DAY);
    const scrub = new Scrub(site.receiver, OPTIONS);
    while (store().scrub.round?.layer?.endsWith('base.vhdx') !== true) await scrub.slice();
    expect(store().scrub.round?.position.record).to.be.above(zeros.length);
    await reclaimAll();
    expect(layerCounts()).to.deep.equal([1]);
    await scrubAll(scrub);
    expect(await damages()).to.deep.equal(['good']);
    expect(store().scrub.damage.size).to.equal(0);
    expect(await verify()).to.equal(0);
  });

  describe('where the device cannot read', () => {
    const MIB = 1024 * 1024;
    /** Slices, and hours between them. */
    async function hours(count: number, scrub = new Scrub(site.receiver, OPTIONS)): Promise<Scrub> {
      for (let n = 0; n < count; n++) {
        await scrubAll(scrub);
        await clock.advance(HOUR);
      }
      return scrub;
    }
    const badRegion = (): void => {
      failing = (path, start, end) =>
        path.endsWith('base.vhdx') && start < 9 * MIB && end > 6 * MIB;
    };
    const known = (): readonly (readonly number[] | 'all')[] =>
      [...store().scrub.damage.values()].map(({ cells }) => cells);

    it('keeps what was found, and comes past a region of any size', async () => {
      await seeded(300);
      badRegion();
      await clock.advance(DAY);
      const scrub = await hours(1);
      expect(known()[0]?.length).to.be.above(15);
      expect((await damages())[0]).to.contain('offset');
      await hours(12, scrub);
      expect(known()[0]?.length).to.be.within(48, 50);
      expect(store().scrub.round).to.equal(undefined);
      expect(store().scrub.scrubbedAtMs).to.be.above(0);
    });

    it('takes the region for bad places when other layers read', async () => {
      const [vm, seed] = await seeded(300);
      vm.write(0, 3, 4711);
      await vm.replicate(site, vm.plan(2, seed.pointId, [[3]]));
      badRegion();
      await clock.advance(DAY);
      await hours(2);
      expect(known()[0]?.length).to.be.within(48, 50);
      expect(store().scrub.round).to.equal(undefined);
    });

    it('takes a layer for lost that twice could not be read at all, when others read', async () => {
      const [vm, seed] = await seeded(300);
      vm.write(0, 3, 4711);
      await vm.replicate(site, vm.plan(2, seed.pointId, [[3]]));
      failing = (path) => path.endsWith('base.manifest');
      await clock.advance(DAY);
      const scrub = await hours(1);
      expect(await damages()).to.deep.equal(['good', 'good']);
      await hours(1, scrub);
      expect(known()).to.deep.equal(['all']);
      expect((await damages()).join()).to.contain('unrecovered read error');
    });

    it('ends a round without the layer when no other one reads, and marks nothing', async () => {
      await seeded(300);
      failing = (path) => path.endsWith('base.manifest');
      await clock.advance(DAY);
      await hours(4);
      expect(store().scrub.round).to.equal(undefined);
      expect(store().scrub.scrubbedAtMs).to.be.above(0);
      const { points } = await site.control().listPoints({ vm: store().protection.vmName });
      expect(points.map(({ isDamaged, verifiedAtMs }) => [isDamaged, verifiedAtMs])).to.deep.equal([
        [false, 0n],
      ]);
    });
  });

  it('marks a new point whose commit was cut off before that', async () => {
    const [vm, seed] = await seeded(40);
    turn(seed, 5, 'base.vhdx');
    await clock.advance(DAY);
    await scrubAll();
    vm.write(0, 9, 778);
    const second = vm.plan(2, seed.pointId, [[9]]);
    const { outcome } = await vm.open(site, second);
    if (outcome?.$case !== 'accepted') throw new Error('not accepted');
    await vm.push(site, vm.messages(second, outcome.value.positions));
    const [desk] = site.receiver.desks;
    await desk?.vm.change(() => desk.commit(second.cycleId, vm.roots(second), { by: 'site-a' }));
    expect((await damages()).filter((each) => each === 'good').length).to.equal(1);
    await site.receiver.close();
    await open();
    // the source asks once more
    await vm.commit(site, second);
    for (const damage of await damages()) expect(damage).to.contain(`offset ${5 * CELL_BYTES}`);
  });

  it('marks an imported point that shows known damage', async () => {
    const [vm, seed] = await seeded(40);
    turn(seed, 5, 'base.vhdx');
    await clock.advance(DAY);
    await scrubAll();
    vm.write(0, 9, 778);
    const done = await importDisk(site, vm, vm.plan(2, seed.pointId, [[9]]), 0);
    expect(done.isCommitted).to.equal(true);
    const told = await damages();
    expect(told.length).to.equal(2);
    for (const damage of told) expect(damage).to.contain(`offset ${5 * CELL_BYTES}`);
  });

  it('goes on with a round of an earlier release at the beginning of the layer', async () => {
    const path = '/scrub.json';
    const key = 'disks/a.0/b/base.vhdx';
    const state = new ScrubState(files, new SeededRandom(1), path);
    const position = { record: 7, dataCells: 7, nextCell: 9 };
    const round = { startedAtMs: 5, done: [key], layer: key, root: 'ab'.repeat(32), position };
    state.round = round;
    await state.save();
    const load = async (): Promise<ScrubState['round']> => {
      const again = new ScrubState(files, new SeededRandom(2), path);
      await again.load();
      return again.round;
    };
    expect(await load()).to.deep.equal(round);
    state.round = { ...round, root: undefined };
    await state.save();
    expect(await load()).to.deep.equal({
      ...{ startedAtMs: 5, done: [key], layer: undefined, root: undefined },
      position: { record: 0, dataCells: 0, nextCell: 0 },
    });
  });
});
