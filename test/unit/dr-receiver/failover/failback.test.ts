// Failback at the receiver: the primary is brought level while the VM serves here, the VM moves, and stays
// there or comes back. Bytes are compared at every station.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../../shared/delta/index.js';
import type { FailoverRecord } from '../../../../dr-receiver/failover/model.js';
import { isShortEnough } from '../../../../dr-receiver/failover/operations/failback.js';
import { Watch } from '../../../../dr-receiver/failover/watch.js';
import { Gate } from '../../../support/gate.js';
import { refusal } from '../../../support/refusal.js';
import { expectPoint, readPoint } from '../source-double.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { failedOver, Primary, writeHere } from './primary-double.js';

describe('failback', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
  });

  afterEach(async () => {
    await bench.close();
  });

  const record = async (): Promise<FailoverRecord> => (await bench.desk()).vm.protection.failover;
  const powerHere = async (): Promise<string | undefined> =>
    (await bench.lab.listVms())[0]?.powerState;
  const expectSame = (found: readonly Buffer[], wanted: readonly Buffer[]): void => {
    expect(found.length).to.equal(wanted.length);
    for (const [disk, view] of wanted.entries()) {
      for (let at = 0; at < view.length; at += CELL_BYTES) {
        const cell = `disk ${disk}, cell ${at / CELL_BYTES}`;
        const end = at + CELL_BYTES;
        expect(found[disk]?.subarray(at, end).equals(view.subarray(at, end)), cell).to.equal(true);
      }
    }
  };
  /** The return point equals what the primary started with, and nothing before it was touched. */
  const expectReturned = async (views: readonly Buffer[]): Promise<void> => {
    const { vm } = await bench.desk();
    const { head } = vm.protection;
    const found = await Promise.all(
      views.map((_, disk) => readPoint(bench.site, 'VM1', head?.pointId ?? '', disk)),
    );
    expectSame(found, views);
    expect(head?.cycleKind).to.equal('failback');
    expect(head?.parentPointId).to.equal(made.plans[2]?.pointId);
    for (const plan of made.plans) await expectPoint(bench.site, made.source, plan);
    const request = { vm: 'VM1', point: 'all', isRepair: false };
    for await (const { step } of bench.site.control().verify(request)) {
      if (step?.$case === 'done') expect(step.value.damagedPointIds).to.deep.equal([]);
    }
  };

  it('brings everything home; the VM runs there, and is kept from running here', async () => {
    const primary = await failedOver(bench, made.source);
    const views = await bench.guest('VM1');
    const run = await bench.operate('failback');
    expect(run.done?.state).to.equal('FAILED_BACK');
    expect(run.steps).to.deep.equal(['F1', 'F2', 'F3', 'F4', 'F5']);
    expect(primary.calls).to.deep.equal([
      ...['failbackSync', 'failbackSync last', 'tellEpoch', 'failbackStart'],
    ]);
    expectSame(primary.views, views);
    const { powerState, epoch, isActive } = primary;
    expect({ powerState, epoch, isActive }).to.deep.equal({
      powerState: 'running',
      epoch: 3n,
      isActive: true,
    });
    const { activeSite, owed, operation, instance } = await record();
    expect({ activeSite, owed, operation }).to.deep.equal({
      activeSite: 'source',
      owed: [],
      operation: undefined,
    });
    expect(await powerHere()).to.equal('off');
    const { id } = await bench.lab.findVm('VM1');
    expect((await refusal(() => bench.lab.startVm(id))).code).to.equal('E_FENCED');
    expect(instance?.servedUntilMs).to.be.greaterThan(0);
    expect(bench.site.receiver.servingRounds.size).to.equal(0);
    expect(await bench.lab.listCheckpoints(id)).to.deep.equal([]);
  });

  it('made permanent it is a point over the head, and nothing of the VM is left here', async () => {
    const primary = await failedOver(bench, made.source);
    const views = await bench.guest('VM1');
    await bench.operate('failback');
    const servedUntilMs = (await record()).instance?.servedUntilMs;
    await bench.site.clock.advance(3_600_000);
    const run = await bench.operate('permanent');
    expect(run.done?.state).to.equal('PROTECTED');
    expect(run.steps).to.deep.equal(['F6', 'F7', 'F8', 'F9', 'F10']);
    await expectReturned(views);
    const { head } = (await bench.desk()).vm.protection;
    // as of the moment at which nobody served, whenever it was made permanent
    expect(head?.consistentAtMs).to.equal(servedUntilMs);
    expect(primary.committed).to.deep.equal({
      pointId: head?.pointId,
      consistentAtMs: servedUntilMs,
    });
    expect(await bench.lab.listVms()).to.deep.equal([]);
    const { phase, instance, isSourceStopped, activeSite } = await record();
    expect({ phase, instance, isSourceStopped, activeSite }).to.deep.equal({
      phase: 'ordinary',
      instance: undefined,
      isSourceStopped: false,
      activeSite: 'source',
    });
    const { items } = await bench.site.control().collectGarbage({ isPlan: true, olderThanMs: 0n });
    expect(items).to.deep.equal([]);
  });

  it('a cycle of the source goes on from the return point', async () => {
    await failedOver(bench, made.source);
    const views = await bench.guest('VM1');
    await bench.operate('failback');
    await bench.operate('permanent');
    for (const [disk, view] of views.entries()) view.copy(made.source.bytes(disk));
    made.source.write(0, 4, 4242);
    const { head, epoch } = (await bench.desk()).vm.protection;
    const plan = made.source.plan(9, head?.pointId, [[4], []], { epoch });
    await made.source.replicate(bench.site, plan);
    await expectPoint(bench.site, made.source, plan);
  });

  it('undone it serves here again with what it had, and the primary has its old disks', async () => {
    const primary = await failedOver(bench, made.source);
    const views = await bench.guest('VM1');
    await bench.operate('failback');
    const { epoch } = (await bench.desk()).vm.protection;
    const plan = await bench.operate('undo');
    expect(plan.plan?.notes).to.deep.equal([
      'what was written at the primary since it was started there is thrown away',
    ]);
    expect(plan.done?.state).to.equal('FAILED_OVER');
    expect(plan.steps).to.deep.equal(['B1', 'B2', 'B3', 'B4']);
    expect({ power: primary.powerState, isFenced: primary.isFenced }).to.deep.equal({
      power: 'off',
      isFenced: true,
    });
    expect(primary.views).to.equal(primary.disks);
    expectSame(primary.views, made.plans[2]?.images ?? []);
    expect(await powerHere()).to.equal('running');
    expectSame(await bench.guest('VM1'), views);
    const { vm } = await bench.desk();
    expect(vm.protection.epoch).to.equal(epoch + 1n);
    expect(primary.epoch).to.equal(epoch + 1n);
    const { instance, activeSite, owed } = await record();
    expect({ served: instance?.servedUntilMs, activeSite, owed }).to.deep.equal({
      served: 0,
      activeSite: 'target',
      owed: [],
    });
    // and the whole of it can be done again, with what was written since
    await writeHere(bench, 5);
    const later = await bench.guest('VM1');
    await bench.operate('failback');
    expectSame(primary.views, later);
    await bench.operate('permanent');
    await expectReturned(later);
  });

  it('what an older point lacks comes home as well, and the return point says so', async () => {
    const primary = await failedOver(bench, made.source, { point: made.plans[0]?.pointId ?? '' });
    const views = await bench.guest('VM1');
    expect(views[0]?.equals(made.source.bytes(0))).to.equal(false);
    await bench.operate('failback', { compare: 'changed' });
    expectSame(primary.views, views);
    await bench.operate('permanent');
    await expectReturned(views);
  });

  it('checkpoints of the user here change nothing, and go with the VM', async () => {
    const primary = await failedOver(bench, made.source);
    const { id } = await bench.lab.findVm('VM1');
    await bench.lab.addUserCheckpoint(id, 'before the patch');
    await writeHere(bench, 3);
    await bench.lab.addUserCheckpoint(id, 'after the patch');
    await bench.lab.guestZero(id, 0, 2 * CELL_BYTES, CELL_BYTES + 4096);
    const views = await bench.guest('VM1');
    await bench.operate('failback', { compare: 'changed' });
    expectSame(primary.views, views);
    await bench.operate('permanent');
    await expectReturned(views);
    expect(await bench.lab.listVms()).to.deep.equal([]);
  });

  it('a VM that is paused goes home like any other', async () => {
    await failedOver(bench, made.source);
    const views = await bench.guest('VM1');
    const { vm } = await bench.desk();
    await vm.change(() => vm.append({ kind: 'pause', atMs: 1, isPaused: true, by: 'operator' }));
    await bench.operate('failback');
    await bench.operate('permanent');
    await expectReturned(views);
  });

  it('sync stops while the VM serves; the same command again goes on', async () => {
    const primary = await failedOver(bench, made.source);
    const run = await bench.operate('failback', { stage: 'sync' });
    expect(run.plan?.steps.map(({ name }) => name)).to.deep.equal(['F1']);
    expect([run.plan?.toState, run.done?.state]).to.deep.equal(['FAILING_BACK', 'FAILING_BACK']);
    expect(await powerHere()).to.equal('running');
    await writeHere(bench, 2);
    // nothing goes on by itself
    await bench.site.receiver.failovers.resumeAll();
    expect(bench.site.receiver.failovers.runOf(await bench.desk())).to.equal(undefined);
    await bench.operate('failback', { stage: 'sync' });
    expect(await powerHere()).to.equal('running');
    await writeHere(bench, 6);
    const views = await bench.guest('VM1');
    const done = await bench.operate('failback');
    expect(done.done?.state).to.equal('FAILED_BACK');
    expectSame(primary.views, views);
    // what was known of the rounds before was used
    expect(primary.rounds.map(({ compare }) => compare)).to.deep.equal([
      ...['full', 'changed', 'changed', 'changed'],
    ]);
  });

  it('rounds go on while the guest writes and they get smaller', async () => {
    const primary = await failedOver(bench, made.source);
    const counts = [40, 20, 9, 0];
    primary.onRound = async ({ isLast }) => {
      if (isLast) return;
      await writeHere(bench, primary.rounds.length + 1);
      await bench.site.clock.advance((counts[primary.rounds.length - 1] ?? 0) * 1000);
    };
    const { lab } = bench;
    await bench.operate('failback', { switch_window: '10' });
    const { id } = await lab.findVm('VM1');
    expectSame(primary.views, await bench.view(id));
    expect(primary.rounds.map(({ isLast }) => isLast).slice(-2)).to.deep.equal([false, true]);
  });

  it('a round is short enough within the window, when it shrinks no more, or after eight', () => {
    const round = (cellCount: number, elapsedMs: number) => ({ cellCount, elapsedMs });
    expect(isShortEnough([round(100, 999)], 1000)).to.equal(true);
    expect(isShortEnough([round(100, 5000)], 1000)).to.equal(false);
    expect(isShortEnough([round(100, 5000), round(60, 3000)], 1000)).to.equal(false);
    expect(isShortEnough([round(100, 5000), round(100, 5000)], 1000)).to.equal(true);
    const shrinking = Array.from({ length: 8 }, (_, n) => round(100 - n, 5000));
    expect(isShortEnough(shrinking.slice(0, 7), 1000)).to.equal(false);
    expect(isShortEnough(shrinking, 1000)).to.equal(true);
  });

  it('after a planned failover only what is known as changed is fetched', async () => {
    const primary = new Primary(bench, made.source);
    primary.powerState = 'running';
    bench.site.receiver.sources.find = () => primary;
    primary.onFinalCycle = async () => {
      made.source.write(0, 10, 991);
      const plan = made.source.plan(8, made.plans[2]?.pointId, [[10], []]);
      await made.source.replicate(bench.site, plan);
      made.source.bytes(0).copy(primary.disks[0] ?? Buffer.alloc(0));
      return plan.pointId;
    };
    await bench.operate('planned');
    await writeHere(bench, 1);
    const views = await bench.guest('VM1');
    await bench.operate('failback');
    expect(primary.rounds[0]?.compare).to.equal('changed');
    expectSame(primary.views, views);
  });

  it('the commit timer of a failback acts, and an overdue rollback asks', async () => {
    const primary = await failedOver(bench, made.source);
    await bench.operate('failback', { commit_policy: 'commit', commit_after: '60' });
    await bench.site.clock.advance(61_000);
    const { failovers } = bench.site.receiver;
    await failovers.tick();
    await failovers.runOf(await bench.desk())?.result();
    expect(await bench.phase()).to.equal('ordinary');
    expect(primary.committed).to.not.equal(undefined);
  });

  it('no commit timer acts while the guest at the primary gives no sign of life', async () => {
    const primary = await failedOver(bench, made.source);
    await bench.operate('failback', { commit_policy: 'commit', commit_after: '60' });
    await bench.site.clock.advance(61_000);
    primary.heartbeat = 'absent';
    await bench.site.receiver.failovers.tick();
    bench.site.receiver.sources.find = () => undefined;
    await bench.site.receiver.failovers.tick();
    const { phase, operation } = await record();
    expect({ phase, operation }).to.deep.equal({ phase: 'failed-back', operation: undefined });
  });

  it('an agent that hangs at the deadline of one VM keeps no other from being looked at', async () => {
    const primary = await failedOver(bench, made.source);
    await bench.operate('failback', { commit_policy: 'commit', commit_after: '60' });
    const { clock, receiver } = bench.site;
    await clock.advance(61_000);
    const answer = await primary.describe();
    const gate = new Gate();
    primary.describe = async () => {
      await gate.pass();
      return answer;
    };
    let looks = 0;
    const allDesks = (): ReturnType<typeof receiver.allDesks> => {
      looks++;
      return receiver.allDesks();
    };
    const { site, tests } = receiver.failovers;
    const begin = (): Promise<void> => Promise.resolve();
    const watch = new Watch(site, { desks: { allDesks }, tests, begin });
    const stop = new AbortController();
    const running = watch.run(stop.signal);
    await gate.reached;
    // each round looks twice, for deadlines and for what sources are owed; a hanging one would be the last
    while (looks < 6) await clock.advance(5000);
    stop.abort();
    gate.open();
    await running;
  });

  it('no rollback timer stops the VM where the primary does not let that be done', async () => {
    const primary = await failedOver(bench, made.source);
    await bench.operate('failback', { commit_policy: 'rollback', commit_after: '60' });
    primary.allowed = [];
    await bench.site.clock.advance(61_000);
    await bench.site.receiver.failovers.tick();
    const { phase, operation } = await record();
    expect({ phase, operation }).to.deep.equal({ phase: 'failed-back', operation: undefined });
    expect(primary.powerState).to.equal('running');
    expect(primary.calls).not.to.contain('failbackUndo');
  });

  it('an overdue rollback of a failback asks after a restart', async () => {
    const primary = await failedOver(bench, made.source);
    await bench.operate('failback', { commit_policy: 'rollback', commit_after: '60' });
    await bench.close();
    const { clock } = bench.site;
    await clock.advance(61_000);
    bench = await FailoverBench.open(made.volume, { clock });
    bench.site.receiver.sources.find = () => primary;
    await bench.site.receiver.failovers.tick();
    expect(await bench.phase()).to.equal('failed-back');
    expect(primary.powerState).to.equal('running');
  });
});
