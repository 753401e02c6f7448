// Failovers in which the agent of the primary takes part: planned, fenced, refused, seen running.

import { expect } from 'chai';
import { Protection } from '../../../../dr-receiver/store/protection.js';
import { encodeState, parseStateRecord } from '../../../../dr-receiver/store/state-record.js';
import { guidFromWire } from '../../../../shared/bytes/index.js';
import { DrError } from '../../../../shared/errors.js';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { FakeSource } from './fake-source.js';

describe('failovers with the source', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  let source: FakeSource;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    source = new FakeSource();
    bench.site.receiver.sources.find = () => source;
    source.onFinalCycle = async () => {
      const { plans, source: vm } = made;
      vm.write(0, 10, 991);
      const plan = vm.plan(8, plans[2]?.pointId, [[10], []]);
      await vm.replicate(bench.site, plan);
      return plan.pointId;
    };
  });

  afterEach(async () => {
    await bench.close();
  });

  it('planned: shut down, fenced, compared, and only then this site is the active one', async () => {
    const run = await bench.operate('planned');
    expect(run.done?.state).to.equal('FAILED_OVER');
    expect(source.calls).to.deep.equal([
      ...['presync', 'shutDown', 'fence', 'finalCycle', 'tellEpoch'],
    ]);
    const views = await bench.guest('VM1');
    expect(views[0]?.equals(made.source.bytes(0))).to.equal(true);
    const { failover } = (await bench.desk()).vm.protection;
    expect(failover.owed).to.deep.equal([]);
    expect({ isFenced: source.isFenced, epoch: source.epoch }).to.deep.equal({
      isFenced: true,
      epoch: 2n,
    });
    await bench.operate('undo');
    expect({ power: source.powerState, isFenced: source.isFenced }).to.deep.equal({
      power: 'running',
      isFenced: false,
    });
  });

  it('planned: the point of the last delta is the final one, and stays it in a journal written anew', async () => {
    const finals = async (): Promise<readonly (readonly [string, boolean])[]> => {
      const { points } = await bench.site.control().listPoints({ vm: 'VM1' });
      return points.map(({ pointId, isFinal }) => [guidFromWire(pointId) ?? '', isFinal] as const);
    };
    await bench.operate('planned', { hold: 'synced' });
    expect((await finals()).map(([, isFinal]) => isFinal)).to.not.include(true);
    await bench.operate('resume');
    const before = await finals();
    expect(before.filter(([, isFinal]) => isFinal)).to.deep.equal([before.at(-1)]);
    const { vm } = await bench.desk();
    const mark = { sequence: 1, chain: '00' };
    const again = new Protection(vm.vmId);
    for (const record of encodeState(vm.protection.state, 1, mark)) {
      const parsed = parseStateRecord(JSON.parse(JSON.stringify(record)));
      if (parsed === undefined || 'wrong' in parsed) throw new Error('the state does not parse');
      expect(again.apply(parsed)).to.equal(undefined);
    }
    expect(again.listed.map(({ pointId, isFinal }) => [pointId, isFinal])).to.deep.equal(before);
    await bench.operate('undo');
    expect(await finals()).to.deep.equal(before);
  });

  it('planned: without the last delta the VM is started again at the primary', async () => {
    source.failures.set('finalCycle', new DrError('E_IO', 'the volume failed'));
    const failure = await refusal(() => bench.operate('planned'));
    expect(failure.code).to.equal('E_FINAL_SYNC_FAILED');
    expect(await bench.phase()).to.equal('ordinary');
    expect({ power: source.powerState, isFenced: source.isFenced }).to.deep.equal({
      power: 'running',
      isFenced: false,
    });
    expect((await bench.desk()).vm.protection.epoch).to.equal(1n);
  });

  it('planned: a guest that does not stop is left as it is', async () => {
    source.failures.set('shutDown', new DrError('E_SHUTDOWN_TIMEOUT', 'it did not stop'));
    const failure = await refusal(() => bench.operate('planned'));
    expect(failure.code).to.equal('E_SHUTDOWN_TIMEOUT');
    expect(await bench.phase()).to.equal('ordinary');
    expect(source.powerState).to.equal('running');
  });

  it('the source dies at P4: an unplanned failover takes the place of the planned one', async () => {
    source.failures.set('fence', new DrError('E_SOURCE_UNREACHABLE', 'it is gone'));
    expect((await refusal(() => bench.operate('planned'))).code).to.equal('E_SOURCE_UNREACHABLE');
    expect(await bench.phase()).to.equal('failing-over');
    bench.site.receiver.sources.find = () => undefined;
    const run = await bench.operate('unplanned');
    expect(run.done?.state).to.equal('FAILED_OVER');
  });

  it('a planned failover that stands before P6 is aborted without a trace', async () => {
    source.failures.set('fence', new DrError('E_SOURCE_UNREACHABLE', 'it is gone'));
    await refusal(() => bench.operate('planned'));
    source.failures.clear();
    const run = await bench.operate('abort');
    expect(run.done?.state).to.equal('PROTECTED');
    expect(source.powerState).to.equal('running');
    expect((await bench.desk()).vm.protection.epoch).to.equal(1n);
  });

  it('unplanned: a VM that runs is in the way, unless it may be stopped', async () => {
    expect((await refusal(() => bench.operate('unplanned'))).code).to.equal('E_SOURCE_ALIVE');
    await bench.operate('unplanned', { fence_source: 'yes' });
    expect(source.isFenced).to.equal(true);
    source.allowed = [];
    expect(await bench.phase()).to.equal('failed-over');
  });

  it('a source that comes back running is a split brain; people decide, whoever it is', async () => {
    bench.site.receiver.sources.find = () => undefined;
    await bench.operate('unplanned');
    bench.site.receiver.sources.find = () => source;
    await bench.site.receiver.failovers.tick();
    expect(await bench.phase()).to.equal('split-brain');
    expect(source.powerState).to.equal('running');
    expect((await refusal(() => bench.operate('undo'))).code).to.equal('E_SPLIT_BRAIN');
    const run = await bench.operate('resolve', { side: 'source' });
    expect(run.done?.state).to.equal('RESYNC');
    expect(made.volume.paths.some((path) => path.includes('/kept/orphan-2.0'))).to.equal(true);
    expect(source.isActive).to.equal(true);
  });

  it('resolve for the replica works with the loser dead, and fences it at its return', async () => {
    bench.site.receiver.sources.find = () => undefined;
    await bench.operate('unplanned');
    bench.site.receiver.sources.find = () => source;
    await bench.site.receiver.failovers.tick();
    bench.site.receiver.sources.find = () => undefined;
    const run = await bench.operate('resolve', { side: 'replica' });
    expect(run.done?.state).to.equal('FAILED_OVER');
    expect(run.done?.warnings[0]).to.include('wrote at the primary').and.include('there only');
    expect(run.done?.warnings[1]).to.include('at the next contact');
    expect((await bench.desk()).vm.protection.failover.orphanEpoch).to.equal('2');
    source.powerState = 'off';
    bench.site.receiver.sources.find = () => source;
    await bench.site.receiver.failovers.tick();
    expect(source.isFenced).to.equal(true);
    expect((await bench.desk()).vm.protection.failover.owed).to.deep.equal([]);
  });

  it('resolve for the replica stops the source where it may, and an undo starts it again', async () => {
    bench.site.receiver.sources.find = () => undefined;
    await bench.operate('unplanned');
    bench.site.receiver.sources.find = () => source;
    await bench.site.receiver.failovers.tick();
    await bench.operate('resolve', { side: 'replica' });
    expect({ power: source.powerState, isFenced: source.isFenced }).to.deep.equal({
      power: 'off',
      isFenced: true,
    });
    await bench.operate('undo');
    expect({ power: source.powerState, isFenced: source.isFenced }).to.deep.equal({
      power: 'running',
      isFenced: false,
    });
  });

  it('unplanned: what it had stopped when the receiver died is started again', async () => {
    const dead = new Error('the process is dead');
    const { vm } = await bench.desk();
    source.shutDown = () => {
      source.powerState = 'off';
      vm.append = () => Promise.reject(dead);
      return Promise.reject(dead);
    };
    await bench.operate('unplanned', { fence_source: 'yes' }).catch((error: unknown) => {
      expect(error).to.equal(dead);
    });
    await bench.close();
    bench = await FailoverBench.open(made.volume);
    bench.site.receiver.sources.find = () => source;
    await bench.site.receiver.failovers.resumeAll();
    expect(await bench.phase()).to.equal('ordinary');
    expect(source.powerState).to.equal('running');
  });

  it('what an earlier operation stopped and could not start again is started by a later undo', async () => {
    source.onFinalCycle = () => {
      bench.site.receiver.sources.find = () => undefined;
      return Promise.reject(new DrError('E_SOURCE_UNREACHABLE', 'it is gone'));
    };
    const failure = await refusal(() => bench.operate('planned'));
    expect(failure.code).to.equal('E_FINAL_SYNC_FAILED');
    expect(source.powerState).to.equal('off');
    await bench.operate('unplanned');
    bench.site.receiver.sources.find = () => source;
    await bench.operate('undo');
    expect({ power: source.powerState, isFenced: source.isFenced }).to.deep.equal({
      power: 'running',
      isFenced: false,
    });
  });

  it('the commit timer makes permanent what nobody took back', async () => {
    source.powerState = 'off';
    await bench.operate('unplanned', { commit_policy: 'commit', commit_after: '60' });
    await bench.site.clock.advance(61_000);
    await bench.site.receiver.failovers.tick();
    await bench.site.receiver.failovers.runOf(await bench.desk())?.result();
    expect(await bench.phase()).to.equal('committed');
    expect(source.isRetired).to.equal(true);
  });

  it('an overdue rollback asks after a restart', async () => {
    source.powerState = 'off';
    await bench.operate('unplanned', { commit_policy: 'rollback', commit_after: '60' });
    await bench.close();
    const { clock } = bench.site;
    await clock.advance(61_000);
    bench = await FailoverBench.open(made.volume, { clock });
    await bench.site.receiver.failovers.tick();
    expect(await bench.phase()).to.equal('failed-over');
  });

  it('flatten: the disks stand alone, and the VM sees the same bytes', async () => {
    source.powerState = 'off';
    await bench.operate('unplanned');
    await bench.operate('permanent');
    const before = await bench.guest('VM1');
    expect((await refusal(() => bench.operate('flatten'))).code).to.equal('E_STATE');
    const { id } = await bench.lab.findVm('VM1');
    await bench.lab.turnOffVm(id);
    await bench.operate('flatten');
    const after = await bench.guest('VM1');
    for (const [disk, view] of before.entries()) expect(after[disk]?.equals(view)).to.equal(true);
  });

  it('permanent: an original that somebody starts is told of, and nothing is stopped', async () => {
    const told = async (): Promise<string> => {
      await bench.site.receiver.failovers.tick();
      const { protections } = await bench.site.control().status({ vm: 'VM1' });
      const [{ health, reasons } = { health: 'none', reasons: [] }] = protections;
      return `${health}: ${reasons.join()}`;
    };
    await bench.operate('planned');
    await bench.operate('permanent');
    expect(await told()).to.equal('ok: ');
    source.powerState = 'running';
    expect(await told()).to.match(/^critical: its retired original runs at the primary as well/);
    expect(await bench.phase()).to.equal('committed');
    expect([source.powerState, (await bench.lab.listVms())[0]?.powerState]).to.deep.equal([
      ...['running', 'running'],
    ]);
    source.powerState = 'off';
    expect(await told()).to.equal('ok: ');
  });
});
