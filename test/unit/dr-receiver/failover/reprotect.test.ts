// What a receiver does for a reprotect: at the DR site the retired protection tells what its successor has to
// know, and notes that there is one; at the former primary the disks that the VM left are staged, and its
// name becomes free.

import { expect } from 'chai';
import { guidFromWire, guidToWire } from '../../../../shared/bytes/index.js';
import type {
  OperateResponse,
  ReprotectFacts,
  SeedDone,
  SeedHost,
} from '../../../../shared/channel/index.js';
import { refusal } from '../../../support/refusal.js';
import { id, OPERATOR, SOURCE } from '../source-double.js';
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
