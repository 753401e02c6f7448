// A planned failover that waits after its last delta (`hold=synced`): plans of many VMs have all of them
// off before the first comes up.

import { expect } from 'chai';
import { NO_SOURCES, type SourceSite } from '../../../../dr-receiver/failover/ports.js';
import { Run } from '../../../../dr-receiver/failover/run.js';
import { randomGuid } from '../../../../shared/bytes/index.js';
import type { PowerState } from '../../../../shared/hypervisor/index.js';
import { refusal } from '../../../support/refusal.js';
import { SeededRandom } from '../../../support/seeded-random.js';
import { FailoverBench, failoverVolume } from './failover-double.js';

const done = (): Promise<void> => Promise.resolve();

describe('planned failover with hold=synced', () => {
  let bench: FailoverBench;
  let power: PowerState;
  let isFenced: boolean;
  let finalCycle: () => Promise<void>;

  beforeEach(async () => {
    const { volume, plans } = await failoverVolume();
    bench = await FailoverBench.open(volume);
    power = 'running';
    isFenced = false;
    finalCycle = done;
    const head = plans.at(-1)?.pointId ?? randomGuid(new SeededRandom(1));
    const source: SourceSite = {
      describe: () =>
        Promise.resolve({
          ...{ powerState: power, heartbeat: undefined, isFenced },
          ...{ epoch: 1n, allowed: ['shutdown'] },
        }),
      presync: done,
      shutDown: () => {
        power = 'off';
        return done();
      },
      start: () => {
        power = 'running';
        return done();
      },
      fence: () => {
        isFenced = true;
        return done();
      },
      unfence: () => {
        isFenced = false;
        return done();
      },
      tellEpoch: done,
      ...{ failbackStart: done, failbackCommit: done, failbackUndo: done },
      failbackSync: () => Promise.resolve(0),
      finalCycle: async () => {
        await finalCycle();
        return { pointId: head, isCompared: true };
      },
    };
    const { site } = bench.site.receiver.failovers;
    Object.assign(site, { sources: { ...NO_SOURCES, find: () => source } });
  });

  afterEach(async () => {
    await bench.close();
  });

  it('ends the call with the VM off, and goes on when it is resumed', async () => {
    const held = await bench.operate('planned', { hold: 'synced' });
    expect(held.done?.state).to.equal('FAILING_OVER');
    expect(held.steps.at(-1)).to.equal('P5');
    expect(power).to.equal('off');
    // whoever lost the call asks again, and it still waits
    const again = await bench.operate('resume', { hold: 'synced' });
    expect(again.done?.state).to.equal('FAILING_OVER');
    const resumed = await bench.operate('resume');
    expect(resumed.done?.state).to.equal('FAILED_OVER');
    expect(power).to.equal('off');
  });

  it('is given up as any planned failover before P6: the VM runs at the primary site', async () => {
    await bench.operate('planned', { hold: 'synced' });
    const { done: end } = await bench.operate('abort');
    expect(end?.state).to.equal('PROTECTED');
    expect(power).to.equal('running');
  });

  it('does not go on when the VM was started at the primary while it waited', async () => {
    await bench.operate('planned', { hold: 'synced' });
    power = 'running';
    const failure = await refusal(() => bench.operate('resume'));
    expect(failure.code).to.equal('E_FINAL_SYNC_FAILED');
    expect(await bench.phase()).to.equal('ordinary');
    expect(await bench.lab.listVms()).to.deep.equal([]);
  });

  it('does not go on when the fence was lifted while it waited', async () => {
    await bench.operate('planned', { hold: 'synced' });
    isFenced = false;
    const failure = await refusal(() => bench.operate('resume'));
    expect(failure.code).to.equal('E_FINAL_SYNC_FAILED');
    expect(await bench.phase()).to.equal('ordinary');
  });

  it('takes what came to be at the primary while it waited', async () => {
    let cycleCount = 0;
    finalCycle = () => {
      cycleCount++;
      return Promise.resolve();
    };
    await bench.operate('planned', { hold: 'synced' });
    expect(cycleCount).to.equal(1);
    await bench.operate('resume');
    expect(cycleCount).to.equal(2);
  });

  it('without it does not wait', async () => {
    expect((await bench.operate('planned')).done?.state).to.equal('FAILED_OVER');
  });
});

describe('hold of an operation', () => {
  it('is over when it is released before, and ends with the reason of whoever stops it', async () => {
    const random = new SeededRandom(2);
    const free = new Run(randomGuid(random));
    free.release();
    await free.hold('P5', 'waits');
    expect(free.isHeld).to.equal(false);

    const stopped = new Run(randomGuid(random));
    stopped.start(() => stopped.hold('P5', 'waits'));
    await Promise.resolve();
    await stopped.stop(new Error('given up'));
    const { kind } = await stopped.ended();
    expect(kind).to.equal('failed');
    expect(stopped.isHeld).to.equal(false);
  });
});
