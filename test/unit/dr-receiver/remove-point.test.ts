// A point that an operator removes by hand: what may go, and what stays whatever he says.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { all } from '../../support/channel.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { FailoverBench, failoverVolume } from './failover/failover-double.js';
import {
  caller,
  type CyclePlan,
  expectPoint,
  openSite,
  OPERATOR,
  pointIds,
  type Site,
  SourceVm,
} from './source-double.js';

describe('removing a point by hand', () => {
  let files: MemoryFileSystem;
  let clock: FakeClock;
  let site: Site;
  let vm: SourceVm;
  let plans: CyclePlan[];

  beforeEach(async () => {
    files = new MemoryFileSystem();
    clock = new FakeClock();
    site = await openSite(files, { clock });
    vm = new SourceVm(1, [6 * CELL_BYTES]);
    plans = [];
    for (let n = 1; n <= 4; n++) {
      vm.write(0, n, n);
      const cells = n === 1 ? [undefined] : [[n]];
      const plan = vm.plan(n, plans.at(-1)?.pointId, cells, { maxRestorePoints: 20 });
      await vm.replicate(site, plan);
      plans.push(plan);
    }
  });

  afterEach(async () => {
    await site.receiver.close();
  });

  const idOf = (index: number): string => plans[index]?.pointId ?? '';
  const remove = (point: string, isPlan = false): Promise<{ readonly leftCount: number }> =>
    site.control(OPERATOR).removePoint({ vm: vm.name, point, isPlan });
  const left = (): Promise<readonly string[]> => pointIds(site, vm.name);

  it('is gone for good, after a start as well, and the others read as before', async () => {
    expect((await remove(idOf(1), true)).leftCount).to.equal(3);
    expect(await left()).to.have.length(4);
    expect((await remove(idOf(1))).leftCount).to.equal(3);
    const others = [plans[0], plans[2], plans[3]].filter((plan) => plan !== undefined);
    for (const time of ['now', 'merged', 'after a start']) {
      expect(await left(), time).to.deep.equal(others.map(({ pointId }) => pointId));
      for (const plan of others) await expectPoint(site, vm, plan);
      if (time === 'now') await all(site.control().compact({ vm: vm.name }));
      if (time !== 'merged') continue;
      await site.receiver.close();
      site = await openSite(files, { clock });
    }
    expect((await refusal(() => remove(idOf(1)))).code).to.equal('E_NO_POINT');
  });

  it('is no newest, no only and no first point of its day, until the day is seven days past', async () => {
    const newest = await refusal(() => remove(idOf(3)));
    expect([newest.code, newest.message]).to.deep.equal([
      'E_RETENTION_FLOOR',
      `point ${idOf(3)} of ${vm.name} is the newest point`,
    ]);
    const guard = await refusal(() => remove(idOf(0), true));
    expect(guard.message).to.include('first point of its day');
    await clock.advance(8 * 24 * 3_600_000);
    await remove(idOf(0));
    await remove(idOf(1));
    await remove(idOf(2));
    expect((await refusal(() => remove(idOf(3)))).message).to.include('only point');
    expect(await left()).to.deep.equal([idOf(3)]);
  });

  it('is not pinned, and not the last one that was read back and found whole', async () => {
    const control = site.control(OPERATOR);
    await control.pinPoint({ vm: vm.name, point: idOf(1), isPinned: true });
    expect((await refusal(() => remove(idOf(1)))).code).to.equal('E_POINT_PINNED');
    await control.pinPoint({ vm: vm.name, point: idOf(1), isPinned: false });
    const verify = { vm: vm.name, point: idOf(1), isRepair: false };
    await all(control.verify(verify));
    const verified = await refusal(() => remove(idOf(1)));
    expect([verified.code, verified.message]).to.deep.equal([
      'E_RETENTION_FLOOR',
      `point ${idOf(1)} of ${vm.name} is the last verified point`,
    ]);
    await all(control.verify({ ...verify, point: idOf(2) }));
    await remove(idOf(1));
    expect(await left()).to.have.length(3);
  });

  it('is named by its id, and by an operator', async () => {
    for (const name of ['latest', 'last-clean', '2026-01-01', '', 'abc']) {
      expect((await refusal(() => remove(name))).code, name).to.equal('E_USAGE');
    }
    const drill = site.control(caller('drills', 'drill'));
    const asked = { vm: vm.name, point: idOf(1), isPlan: true };
    expect((await refusal(() => drill.removePoint(asked))).code).to.equal('E_AUTH');
    expect(await left()).to.have.length(4);
  });

  it('carries neither a VM that was failed over nor a test', async () => {
    const made = await failoverVolume();
    const bench = await FailoverBench.open(made.volume);
    const point = made.plans[1]?.pointId ?? '';
    const refused = (): ReturnType<typeof refusal> =>
      refusal(() => bench.site.control(OPERATOR).removePoint({ vm: 'VM1', point, isPlan: false }));
    try {
      await bench.operate('unplanned', { point });
      const used = await refused();
      expect(used.code).to.equal('E_STATE');
      expect(used.message).to.include('the VM runs on it');
      await bench.operate('undo');
      await bench.operate('test', { point, keep: 'yes' });
      expect((await refused()).message).to.include('a test runs on it');
    } finally {
      await bench.close();
    }
  });
});
