// What a receiver does for a reprotect: at the DR site the retired protection tells what its successor has to
// know, and notes that there is one; at the former primary the disks that the VM left are staged, and its
// name becomes free.

import { expect } from 'chai';
import { defined } from '../../../../shared/assert.js';
import { type Guid, guidFromWire, guidToWire } from '../../../../shared/bytes/index.js';
import type {
  OperateResponse,
  ReprotectFacts,
  SeedDone,
  SeedHost,
} from '../../../../shared/channel/index.js';
import { CELL_BYTES } from '../../../../shared/delta/index.js';
import { refusal } from '../../../support/refusal.js';
import { id, OPERATOR, SOURCE } from '../source-double.js';
import { FakeSource } from './fake-source.js';
import { FailoverBench, type FailoverVolume, failoverVolume } from './failover-double.js';

describe('failover: reprotect', () => {
  let made: FailoverVolume;
  let bench: FailoverBench;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    await bench.operate('unplanned');
  });
  afterEach(async () => {
    await bench.close();
  });

  const facts = async (): Promise<ReprotectFacts> => {
    const ask = {
      vm: 'VM1',
      command: 'reprotect',
      parameters: {},
      isPlan: true,
      confirmedHash: '',
    };
    const steps: OperateResponse['step'][] = [];
    for await (const { step } of bench.site.control(OPERATOR).operate(ask)) steps.push(step);
    const found = steps.find((step) => step?.$case === 'reprotect');
    if (found === undefined) throw new Error('no facts came');
    return found.value;
  };

  const seed = async (host: Partial<SeedHost>, as = OPERATOR): Promise<SeedDone> => {
    const value = { vm: 'VM1', diskIds: [], isPlan: false, ...host };
    const request = {
      ...{ vm: 'NEW', vmId: guidToWire(id(77)), principal: 'site-b', isRestart: false },
      from: { $case: 'host', value } as const,
    };
    for await (const { step } of bench.site.control(as).seed(request)) {
      if (step?.$case === 'done') return step.value;
    }
    throw new Error('the seed had no end');
  };

  const turnOff = async (): Promise<void> => {
    await bench.lab.turnOffVm((await bench.lab.findVm('VM1')).id);
  };

  it('only a protection that is committed is retired', async () => {
    expect((await refusal(() => bench.operate('reprotect'))).code).to.equal('E_UNCOMMITTED');
    await bench.operate('undo');
    expect((await refusal(() => bench.operate('reprotect'))).code).to.equal('E_NOT_FAILED_OVER');
  });

  it('the successor hears which VM it is; the note is made once, and outlives a restart', async () => {
    await bench.operate('permanent');
    const { vmId, instanceVmId, reprotectedAtMs, networkRefusal } = await facts();
    const desk = await bench.desk();
    expect(guidFromWire(vmId)).to.equal(desk.vm.vmId);
    expect(guidFromWire(instanceVmId)).to.equal((await bench.lab.findVm('VM1')).id);
    expect(networkRefusal).to.equal('');
    expect(reprotectedAtMs).to.equal(0n);
    await bench.operate('reprotect', { safety_hold: '60' });
    const noted = desk.vm.protection.failover.reprotected;
    expect((noted?.safetyUntilMs ?? 0) - (noted?.atMs ?? 0)).to.equal(60_000);
    await bench.operate('reprotect', { safety_hold: '1' });
    const { clock } = bench.site;
    await bench.close();
    bench = await FailoverBench.open(made.volume, { clock });
    expect((await bench.desk()).vm.protection.failover.reprotected).to.deep.equal(noted);
    expect(await bench.phase()).to.equal('committed');
    const { protections } = await bench.site.control().status({ vm: 'VM1' });
    expect(protections[0]?.safetyUntilMs).to.equal(BigInt(noted?.safetyUntilMs ?? 0));
  });

  it('the disks of a VM that is off are staged as they are, and nothing of it changes', async () => {
    await bench.operate('permanent');
    expect((await refusal(() => seed({}))).code).to.equal('E_SOURCE_ALIVE');
    expect((await refusal(() => seed({ vm: 'nobody' }))).code).to.equal('E_NO_MATCH');
    expect((await refusal(() => seed({}, SOURCE))).code).to.equal('E_AUTH');
    await turnOff();
    const before = await bench.guest('VM1');
    expect(Number((await seed({ isPlan: true })).stagedBytes)).to.equal(0);
    expect((await bench.site.receiver.allDesks()).length, 'a plan begins nothing').to.equal(1);
    const done = await seed({});
    expect(done.owner).to.equal('site-b');
    expect(Number(done.stagedBytes)).to.be.greaterThan(0);
    expect(done.disks.map(({ diskId }) => guidFromWire(diskId))).to.deep.equal(
      made.source.disks.map(({ diskId }) => diskId),
    );
    const after = await bench.guest('VM1');
    for (const [disk, view] of before.entries()) expect(after[disk]?.equals(view)).to.equal(true);
  });

  it('the disks may be given other ids, one for each', async () => {
    await bench.operate('permanent');
    await turnOff();
    const one = [guidToWire(id(501))];
    expect((await refusal(() => seed({ diskIds: one }))).code).to.equal('E_USAGE');
    const done = await seed({ diskIds: [...one, guidToWire(id(502))] });
    expect(done.disks.map(({ diskId }) => guidFromWire(diskId))).to.deep.equal([id(501), id(502)]);
  });

  it('discarded, nothing of the seed is left, and the same seed can be staged again', async () => {
    await bench.operate('permanent');
    await turnOff();
    await seed({});
    const request = {
      ...{ vm: 'NEW', vmId: guidToWire(id(77)), principal: '', isRestart: false },
      from: { $case: 'discard', value: {} } as const,
    };
    const cases: (string | undefined)[] = [];
    for await (const { step } of bench.site.control().seed(request)) cases.push(step?.$case);
    expect(cases).to.deep.equal(['done']);
    const before = await bench.guest('VM1');
    await seed({});
    const after = await bench.guest('VM1');
    for (const [disk, view] of before.entries()) expect(after[disk]?.equals(view)).to.equal(true);
  });
});

describe('failover: a VM comes home, and its name is taken', () => {
  let made: FailoverVolume;
  let bench: FailoverBench;
  let source: FakeSource;
  let retiredId: Guid;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    source = new FakeSource();
    bench.site.receiver.sources.find = () => source;
    source.onFinalCycle = lastCycle;
    // what an earlier failover left: a VM on disks of its own
    const disks = [{ source: { sizeBytes: 4 * CELL_BYTES } }];
    retiredId = await bench.lab.createVm({ name: 'VM1', disks });
  });
  afterEach(async () => {
    await bench.close();
  });

  const lastCycle = async (): Promise<Guid> => {
    const { plans, source: vm } = made;
    vm.write(0, 10, 991);
    const plan = vm.plan(8, plans[2]?.pointId, [[10], []]);
    await vm.replicate(bench.site, plan);
    return plan.pointId;
  };
  const replacing = { replace_retired: 'yes' };
  const fence = (protectionId = retiredId): Promise<void> =>
    bench.lab.fenceVm(retiredId, { tag: { protectionId, operationId: id(2) }, epoch: 1n });

  it('one that is not fenced by us, or runs, is never replaced', async () => {
    const unfenced = await refusal(() => bench.operate('planned', replacing));
    expect(unfenced.code).to.equal('E_EXISTS');
    expect(unfenced.message).to.include('not fenced by us');
    await fence(id(1));
    const foreign = await refusal(() => bench.operate('planned', replacing));
    expect(foreign.message).to.include('not fenced by us');
    await bench.lab.unfenceVm(retiredId);
    await bench.lab.startVm(retiredId);
    const running = await refusal(() => bench.operate('planned', replacing));
    expect(running.message).to.include('it is running');
    expect((await bench.lab.listVms()).map(({ id: each }) => each)).to.deep.equal([retiredId]);
    expect(await bench.phase()).to.equal('ordinary');
  });

  it('the retired one is replaced when that is wanted; its disk files stay', async () => {
    await fence();
    const refused = await refusal(() => bench.operate('planned'));
    expect(refused.code).to.equal('E_EXISTS');
    expect(refused.message).to.include('--replace-retired removes it');
    const { disks } = await bench.lab.describeVm(retiredId);
    const { plan, done } = await bench.operate('planned', replacing);
    expect(plan?.notes.join()).to.include(`the retired VM VM1, ${retiredId}, is removed`);
    expect(done?.state).to.equal('FAILED_OVER');
    const [only, ...others] = await bench.lab.listVms();
    expect(others).to.deep.equal([]);
    expect(only?.id).not.to.equal(retiredId);
    for (const { path } of disks) expect(await made.volume.status(path)).not.to.equal(undefined);
  });

  it('another VM that has the name by then is not removed; once it is gone, resume goes on', async () => {
    await fence();
    const source = new FakeSource();
    bench.site.receiver.sources.find = () => source;
    let otherId: Guid | undefined;
    source.onFinalCycle = async () => {
      await bench.lab.removeVm(retiredId);
      const disks = [{ source: { sizeBytes: 4 * CELL_BYTES } }];
      otherId = await bench.lab.createVm({ name: 'vm1', disks });
      const tag = { protectionId: otherId, operationId: id(3) };
      await bench.lab.fenceVm(otherId, { tag, epoch: 1n });
      return lastCycle();
    };
    const refused = await refusal(() => bench.operate('planned', replacing));
    expect(refused.message).to.include(`${otherId}, is at this site`).and.include(retiredId);
    expect((await bench.lab.listVms()).map(({ id: each }) => each)).to.deep.equal([otherId]);
    await bench.lab.removeVm(defined(otherId, 'the last cycle came'));
    const { done } = await bench.operate('resume');
    expect(done?.state).to.equal('FAILED_OVER');
  });

  it('the one that was planned is not removed when its fence is lifted by then', async () => {
    await fence();
    source.onFinalCycle = async () => {
      await bench.lab.unfenceVm(retiredId);
      return lastCycle();
    };
    const refused = await refusal(() => bench.operate('planned', replacing));
    expect(refused.message).to.include('it is not as it was planned');
    expect((await bench.lab.listVms()).map(({ id: each }) => each)).to.deep.equal([retiredId]);
    await fence();
    expect((await bench.operate('resume')).done?.state).to.equal('FAILED_OVER');
  });

  it('an unplanned failover replaces nothing', async () => {
    await fence();
    const forced = { ...replacing, force: 'yes', reason: 'test' };
    expect((await refusal(() => bench.operate('unplanned', forced))).code).to.equal('E_EXISTS');
  });
});
