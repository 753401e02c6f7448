// What was done at the primary site for a failover that came to nothing is owed to it, whatever cut it off.

import { expect } from 'chai';
import { DrError } from '../../../../shared/errors.js';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { FakeSource } from './fake-source.js';

describe('what a failover did at the source', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  let source: FakeSource;

  beforeEach(async () => {
    made = await failoverVolume();
    source = new FakeSource();
    const [, , newest] = made.plans;
    source.onFinalCycle = () =>
      newest === undefined
        ? Promise.reject(new Error('no point'))
        : Promise.resolve(newest.pointId);
    bench = await FailoverBench.open(made.volume);
    bench.site.receiver.sources.find = () => source;
  });

  afterEach(async () => {
    await bench.close();
  });

  /** The receiver dies at the end of the next call of that name, before it writes anything. */
  const dieAfter = async (call: 'shutDown' | 'fence'): Promise<void> => {
    const { vm } = await bench.desk();
    const effect = source[call].bind(source) as (...args: unknown[]) => Promise<void>;
    source[call] = async (...args: unknown[]) => {
      await effect(...args);
      vm.append = () => Promise.reject(new Error('killed'));
    };
  };

  const restarted = async (): Promise<void> => {
    await bench.close();
    bench = await FailoverBench.open(made.volume);
    bench.site.receiver.sources.find = () => source;
    await bench.site.receiver.failovers.resumeAll();
    await bench.site.receiver.failovers.tick();
  };

  /** The question of a failover that is under way comes to an answer that is none. */
  const confuseUnplanned = (): void => {
    const describe = source.describe.bind(source);
    source.describe = async () => {
      const { operation } = (await bench.desk()).vm.protection.failover;
      if (operation?.kind === 'unplanned') throw new DrError('E_PROTOCOL', 'it says nonsense');
      return describe();
    };
  };

  it('a VM that was shut down to fence it runs again when the receiver died right after', async () => {
    await dieAfter('shutDown');
    await bench.operate('unplanned', { fence_source: 'yes' }).catch(() => undefined);
    expect(source.powerState).to.equal('off');
    await restarted();
    expect(await bench.phase()).to.equal('ordinary');
    expect(source.powerState).to.equal('running');
    expect((await bench.desk()).vm.protection.failover.isSourceStopped).to.equal(false);
  });

  it('a VM that would not stop is not started, and nothing is owed', async () => {
    source.failures.set('shutDown', new DrError('E_SHUTDOWN_TIMEOUT', 'it goes on'));
    await refusal(() => bench.operate('unplanned', { fence_source: 'yes' }));
    expect(source.calls).to.deep.equal(['shutDown']);
    const { failover } = (await bench.desk()).vm.protection;
    expect(failover).to.deep.include({ phase: 'ordinary', isSourceStopped: false, owed: [] });
  });

  it('the fence of a planned failover is lifted by the unplanned one that took its place', async () => {
    source.powerState = 'off';
    await bench.operate('planned', { hold: 'synced' });
    expect(source.isFenced).to.equal(true);
    confuseUnplanned();
    expect((await refusal(() => bench.operate('unplanned'))).code).to.equal('E_PROTOCOL');
    expect(await bench.phase()).to.equal('ordinary');
    expect(source.isFenced).to.equal(false);
    // whoever had stopped it before does not want it started
    expect(source.powerState).to.equal('off');
  });

  it('so is the VM that it had stopped, also when the receiver died in between', async () => {
    await bench.operate('planned', { hold: 'synced' });
    confuseUnplanned();
    const { vm } = await bench.desk();
    const append = vm.append.bind(vm);
    vm.append = async (record) => {
      await append(record);
      if (vm.protection.failover.operation?.kind !== 'unplanned') return;
      vm.append = () => Promise.reject(new Error('killed'));
    };
    await bench.operate('unplanned').catch(() => undefined);
    await restarted();
    expect(await bench.phase()).to.equal('ordinary');
    expect({ power: source.powerState, isFenced: source.isFenced }).to.deep.equal({
      power: 'running',
      isFenced: false,
    });
  });

  it('the VM of a planned failover that had not stopped it yet is nobody’s to start', async () => {
    source.failures.set('presync', new DrError('E_IO', 'the volume failed'));
    const begun = refusal(() => bench.operate('planned'));
    await begun;
    expect(source.calls).to.deep.equal(['presync']);
    expect((await bench.desk()).vm.protection.failover.isSourceStopped).to.equal(false);
  });

  /** An agent that is attached and answers nothing. */
  const hang = (): void => {
    const never = (): Promise<never> => new Promise(() => undefined);
    Object.assign(source, { describe: never, tellEpoch: never, fence: never, start: never });
  };
  const FORCED = { force: 'yes', reason: 'the site burns' };

  it('what is forced waits for no answer of it, and owes it the word', async () => {
    hang();
    const run = await bench.operate('unplanned', FORCED);
    expect(run.done?.state).to.equal('FAILED_OVER');
    const owed = async (): Promise<string[]> =>
      (await bench.desk()).vm.protection.failover.owed.map(({ kind }) => kind);
    expect(await owed()).to.deep.equal(['fence']);
    expect((await bench.operate('undo', FORCED)).done?.state).to.equal('PROTECTED');
    expect(await owed()).to.deep.equal(['unfence']);
  });

  it('a source that refuses what it is owed is asked after longer and longer times, and at once when it has news', async () => {
    source.powerState = 'off';
    await bench.operate('planned');
    source.failures.set('unfence', new DrError('E_STATE', 'the fence is not ours'));
    await bench.operate('undo');
    const { receiver, clock } = bench.site;
    const { vm } = await bench.desk();
    const count = (): number => source.calls.filter((call) => call === 'unfence').length;
    const before = count();
    for (let n = 0; n < 720; n++) {
      await receiver.failovers.tick();
      await clock.advance(5000);
    }
    expect(count() - before).to.be.within(4, 9);
    const asked = count();
    await receiver.failovers.onClaim(vm.vmId);
    expect(count()).to.equal(asked + 1);
    expect(vm.protection.failover.owed.map(({ kind }) => kind)).to.deep.equal(['unfence']);
    source.failures.clear();
    await receiver.failovers.onClaim(vm.vmId);
    expect(vm.protection.failover.owed).to.deep.equal([]);
    expect(source.isFenced).to.equal(false);
  });
});
