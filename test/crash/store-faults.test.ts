// A device that fails under the receiver: each kind of call, one after the other, once or for good. The
// answer is a typed error, earlier points stay whole, and work goes on when the cause is gone.

import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { CrashFileSystem } from '../support/crash-file.js';
import { type Fault, FaultFileSystem } from '../support/fault-file.js';
import type { CallKind } from '../support/hooked-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { refusal } from '../support/refusal.js';
import {
  type CyclePlan,
  expectPoint,
  openSite,
  pointIds,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const KINDS: readonly CallKind[] = [
  'open',
  'create',
  'read',
  'write',
  'size',
  'flush',
  'rename',
  'remove',
  'flushFolder',
  'status',
  'list',
  'makeFolder',
];

interface Base {
  readonly volume: MemoryFileSystem;
  readonly vm: SourceVm;
  readonly seed: CyclePlan;
  readonly delta: CyclePlan;
}

/** A store with a seed, an unfinished cycle beside it, and the plan of the next cycle. */
async function base(): Promise<Base> {
  const volume = new MemoryFileSystem();
  const vm = new SourceVm(1, [11 * CELL_BYTES, 2 * CELL_BYTES + 512]);
  for (const cell of [0, 1, 3, 4, 10]) vm.write(0, cell, cell + 1);
  vm.write(1, 2, 60);
  const seed = vm.plan(1, undefined, [undefined, undefined]);
  const site = await openSite(volume);
  await vm.replicate(site, seed);
  vm.write(0, 5, 300);
  vm.write(1, 0, 301);
  const unfinished = vm.plan(2, seed.pointId, [[4, 5], []]);
  await vm.open(site, unfinished);
  await vm.push(site, vm.messages(unfinished, []));
  await site.receiver.close();
  const delta = vm.plan(3, seed.pointId, [[4, 5], [0]]);
  return { volume, vm, seed, delta };
}

/** One process: opens the store and brings the cycle. Every failure must be typed. */
async function attempt(
  fs: FaultFileSystem | CrashFileSystem,
  { vm, delta }: Base,
): Promise<DrError | undefined> {
  try {
    const site = await openSite(fs);
    try {
      const { outcome } = await vm.open(site, delta);
      if (outcome?.$case === 'accepted') {
        const reuse = new Set(['0:5']);
        await vm.push(site, vm.messages(delta, outcome.value.positions, { batchCells: 2, reuse }));
      }
      await vm.commit(site, delta);
      return undefined;
    } finally {
      await site.receiver.close();
    }
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
}

async function expectWhole(volume: MemoryFileSystem, { vm, seed, delta }: Base): Promise<void> {
  const site = await openSite(volume);
  const listed = await pointIds(site, vm.name);
  expect(listed[0]).to.equal(seed.pointId);
  await expectPoint(site, vm, seed);
  if (listed.length > 1) await expectPoint(site, vm, delta);
  await site.receiver.close();
}

/** The cycle is brought when the device works again: as it was, or as a new one. */
async function expectGoesOn(volume: MemoryFileSystem, given: Base): Promise<void> {
  const { vm, delta } = given;
  const site = await openSite(volume);
  await vm.replicate(site, delta);
  await expectPoint(site, vm, delta);
  await site.receiver.close();
}

describe('receiver and a failing device', function () {
  this.timeout(300_000);

  for (const kind of KINDS) {
    it(`ends with a typed error when any one ${kind} fails, and goes on afterwards`, async () => {
      const given = await base();
      const rehearsal = new FaultFileSystem(given.volume.clone());
      expect(await attempt(rehearsal, given)).to.equal(undefined);
      const count = rehearsal.callCount(kind);
      expect(count).to.be.greaterThan(0);
      const step = process.env['SLOW'] === '1' ? 1 : Math.max(1, Math.floor(count / 12));
      for (let nth = 1; nth <= count; nth += step) {
        const volume = given.volume.clone();
        const faulty = new FaultFileSystem(volume);
        faulty.inject({ kind, nth });
        await attempt(faulty, given);
        faulty.mend();
        await expectWhole(volume.clone(), given);
        await expectGoesOn(volume, given);
      }
    });
  }

  it('acknowledges no flush that failed, whatever the power does then', async () => {
    const given = await base();
    const rehearsal = new FaultFileSystem(given.volume.clone());
    await attempt(rehearsal, given);
    const count = rehearsal.callCount('flush');
    for (let nth = 1; nth <= count; nth++) {
      const crash = new CrashFileSystem({ volume: given.volume });
      const faulty = new FaultFileSystem(crash);
      faulty.inject({ kind: 'flush', nth });
      const first = await attempt(faulty, given);
      crash.crashNow();
      const found = crash.survivors(nth, 'none');
      const site = await openSite(found);
      const listed = await pointIds(site, given.vm.name);
      await expectPoint(site, given.vm, given.seed);
      if (first === undefined) expect(listed, `flush ${nth}`).to.include(given.delta.pointId);
      if (listed.includes(given.delta.pointId)) await expectPoint(site, given.vm, given.delta);
      await site.receiver.close();
    }
  });

  it('keeps a store whose first start ended before its name was durable', async () => {
    const { vm, seed } = await base();
    const crash = new CrashFileSystem();
    const faulty = new FaultFileSystem(crash);
    faulty.inject({ kind: 'flushFolder', path: /store$/ });
    expect((await refusal(() => openSite(faulty))).code).to.equal('E_IO');
    faulty.mend();
    // the next process finds a store, and takes a point
    await vm.replicate(await openSite(faulty), seed);
    crash.crashNow();
    const site = await openSite(crash.survivors(1, 'none'));
    expect(await pointIds(site, vm.name)).to.deep.equal([seed.pointId]);
    await expectPoint(site, vm, seed);
  });

  it('removes the progress of a commit that was cut off behind its record', async () => {
    const { volume, vm, delta } = await base();
    const faulty = new FaultFileSystem(volume);
    faulty.inject({ kind: 'remove', path: /progress$/ });
    const site = await openSite(faulty);
    await vm.replicate(site, delta);
    await site.receiver.close();
    const isProgress = (path: string): boolean => path.endsWith('/progress');
    expect(volume.paths.filter(isProgress)).not.to.deep.equal([]);
    const again = await openSite(volume);
    await vm.replicate(again, vm.plan(4, delta.pointId, [[1], []]));
    await again.receiver.close();
    expect(volume.paths.filter(isProgress)).to.deep.equal([]);
  });

  it('says that the volume is full, keeps what it has, and goes on when there is room', async () => {
    const given = await base();
    const rehearsal = new FaultFileSystem(given.volume.clone());
    await attempt(rehearsal, given);
    const full: Omit<Fault, 'kind'> = { code: 'E_CAPACITY', times: Infinity };
    for (let nth = 1; nth <= rehearsal.callCount('write'); nth++) {
      const volume = given.volume.clone();
      const faulty = new FaultFileSystem(volume);
      faulty.inject({ ...full, kind: 'write', nth, partialBytes: 100 });
      const error = await attempt(faulty, given);
      if (error !== undefined) expect(error.code, `write ${nth}`).to.equal('E_CAPACITY');
      faulty.mend();
      await expectWhole(volume.clone(), given);
      await expectGoesOn(volume, given);
    }
  });

  it('goes on in the same process, with the same cycle, when there is room again', async () => {
    const { volume, vm, delta } = await base();
    const faulty = new FaultFileSystem(volume);
    const site = await openSite(faulty);
    await vm.open(site, delta);
    faulty.inject({ kind: 'write', path: /\.delta$/, code: 'E_CAPACITY', times: Infinity });
    let failure: unknown;
    await vm.push(site, vm.messages(delta, [])).catch((error: unknown) => {
      failure = error;
    });
    expect(failure instanceof DrError && failure.code).to.equal('E_CAPACITY');
    faulty.mend();
    await vm.replicate(site, delta);
    await expectPoint(site, vm, delta);
  });

  it('takes another cycle in the same process after one whose flush failed', async () => {
    const { volume, vm, seed, delta } = await base();
    const faulty = new FaultFileSystem(volume);
    const site = await openSite(faulty);
    await vm.open(site, delta);
    faulty.inject({ kind: 'flush', path: /\.delta$/ });
    await vm.push(site, vm.messages(delta, [])).catch(() => undefined);
    let code: unknown;
    await vm.open(site, delta).catch((error: unknown) => {
      code = error instanceof DrError ? error.code : error;
    });
    expect(code).to.equal('E_IO');
    const next = vm.plan(4, seed.pointId, [[4, 5], [0]]);
    await vm.replicate(site, next);
    await expectPoint(site, vm, next);
  });

  it('reads a store on a volume that takes no writes', async () => {
    const given = await base();
    const faulty = new FaultFileSystem(given.volume);
    for (const kind of ['write', 'create', 'truncate', 'rename', 'remove', 'makeFolder'] as const) {
      faulty.inject({ kind, times: Infinity });
    }
    const { Receiver } = await import('../../dr-receiver/index.js');
    const { silentLog } = await import('../../shared/log.js');
    const { FakeClock } = await import('../support/fake-clock.js');
    const { SeededRandom } = await import('../support/seeded-random.js');
    const receiver = await Receiver.open({
      fs: faulty,
      clock: new FakeClock(),
      random: new SeededRandom(7),
      log: silentLog,
      storeFolder: '/store',
      use: 'read',
    });
    expect((await receiver.allDesks())[0]?.vm.protection.listed.length).to.equal(1);
    await receiver.close();
    const error = await attempt(faulty, given);
    expect(error?.code).to.equal('E_IO');
  });
});
