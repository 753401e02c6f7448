// The end of a test session that does not want to end: nothing that may still run is forgotten, and
// nobody who has better things to do waits for it.

import { expect } from 'chai';
import { DrError } from '../../../../shared/errors.js';
import { leftoverInstanceFiles } from '../../../../dr-receiver/failover/instance-files.js';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';

describe('a test that cannot be ended', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  let operationId: string;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    await bench.operate('test', { keep: 'yes', test_timeout: '3600' });
    const [session] = (await bench.desk()).vm.protection.tests.values();
    operationId = session?.operationId ?? '';
    breakPower();
  });

  afterEach(async () => {
    await bench.close();
  });

  const breakPower = (): void => {
    bench.lab.turnOffVm = () => Promise.reject(new DrError('E_HYPERVISOR', 'it does not answer'));
  };

  const mended = async (): Promise<void> => {
    await bench.close();
    bench = await FailoverBench.open(made.volume);
  };

  const isHeld = async (): Promise<boolean> => {
    const { vm } = await bench.desk();
    return vm.protection.segments.all.every((segment) =>
      vm.baseHolds.isHeld(segment, vm.protection),
    );
  };

  const gc = async (): Promise<(readonly [boolean, string])[]> => {
    const control = bench.site.control();
    const { items } = await control.collectGarbage({ isPlan: false, olderThanMs: 0n });
    return items.map(({ isRemoved, because }) => [isRemoved, because] as const);
  };

  it('stands as CLEANUP_FAILED, and says why', async () => {
    expect((await refusal(() => bench.operate('test', { stop: operationId }))).code).to.equal(
      'E_HYPERVISOR',
    );
    const [session] = (await bench.desk()).vm.protection.tests.values();
    expect(session?.phase).to.equal('cleanup-failed');
    expect(session?.cause).to.include('does not answer');
  });

  it('by force is forgotten, but not its VM: the base stays held and its files stay', async () => {
    await bench.operate('test', { stop: operationId, force: 'yes', reason: 'it hangs' });
    const { vm } = await bench.desk();
    expect(vm.protection.tests.size).to.equal(0);
    expect(await isHeld()).to.equal(true);
    const files = await leftoverInstanceFiles(made.volume, vm);
    expect(files).to.have.length(4);
    const left = await gc();
    expect(left.map(([isRemoved]) => isRemoved)).to.deep.equal([false, false, false, false]);
    expect(left[0]?.[1]).to.include('VM1-test-');
    expect(await leftoverInstanceFiles(made.volume, vm)).to.have.length(4);
  });

  it('by force is held over a restart too, until the hypervisor knows of no VM any more', async () => {
    await bench.operate('test', { stop: operationId, force: 'yes', reason: 'it hangs' });
    await mended();
    await bench.site.receiver.maintenance.maintain();
    expect(await isHeld()).to.equal(true);
    expect((await gc()).some(([isRemoved]) => isRemoved)).to.equal(false);
    const [left] = await bench.lab.listVms();
    if (left === undefined) throw new Error('its VM is there');
    await bench.lab.turnOffVm(left.id);
    await bench.lab.removeVm(left.id);
    expect((await gc()).every(([isRemoved]) => isRemoved)).to.equal(true);
    expect(await isHeld()).to.equal(false);
    expect(await leftoverInstanceFiles(made.volume, (await bench.desk()).vm)).to.deep.equal([]);
  });

  it('leaves its files alone as long as the hypervisor does not answer', async () => {
    await bench.operate('test', { stop: operationId, force: 'yes', reason: 'it hangs' });
    bench.lab.listVms = () => Promise.reject(new DrError('E_HYPERVISOR', 'it does not answer'));
    const left = await gc();
    expect(left.map(([isRemoved]) => isRemoved)).to.deep.equal([false, false, false, false]);
    expect(left[0]?.[1]).to.include('does not answer');
  });

  it('does not hold up an unplanned failover', async () => {
    const run = await bench.operate('unplanned');
    expect(run.done?.state).to.equal('FAILED_OVER');
    const { protection } = (await bench.desk()).vm;
    const [session] = protection.tests.values();
    expect(session?.phase).to.equal('cleanup-failed');
  });

  it('does not hold up an unplanned failover either when it hangs', async () => {
    const state = { isAsked: false, isDone: false };
    bench.lab.turnOffVm = () => {
      state.isAsked = true;
      return new Promise(() => undefined);
    };
    const failover = bench.operate('unplanned').finally(() => {
      state.isDone = true;
    });
    while (!state.isDone) {
      await new Promise(setImmediate);
      if (state.isAsked) await bench.site.clock.advance(1000);
    }
    expect((await failover).done?.state).to.equal('FAILED_OVER');
    expect((await bench.desk()).vm.protection.tests.size).to.equal(1);
    expect(await isHeld()).to.equal(true);
  });

  it('holds up a planned failover, which can wait', async () => {
    const { failovers } = bench.site.receiver;
    const by = { by: 'operator', keyId: undefined, parameters: {} };
    const nothing = { point: undefined, lostSeconds: 0 };
    const desk = await bench.desk();
    expect((await refusal(() => failovers.begin(desk, 'planned', by, nothing))).code).to.equal(
      'E_HYPERVISOR',
    );
    expect(await bench.phase()).to.equal('ordinary');
  });

  it('is tried again after longer and longer times, and what does not change is not written', async () => {
    await refusal(() => bench.operate('test', { stop: operationId }));
    const { clock, receiver } = bench.site;
    await clock.advance(3_600_000);
    const { vm } = await bench.desk();
    let recordCount = 0;
    const append = vm.append.bind(vm);
    vm.append = (record) => {
      recordCount++;
      return append(record);
    };
    let tryCount = 0;
    bench.lab.turnOffVm = () => {
      tryCount++;
      return Promise.reject(new DrError('E_HYPERVISOR', 'it does not answer'));
    };
    for (let n = 0; n < 720; n++) {
      await receiver.failovers.tick();
      await clock.advance(5000);
    }
    expect(tryCount).to.be.within(2, 10);
    expect(recordCount).to.equal(0);
  });
});
