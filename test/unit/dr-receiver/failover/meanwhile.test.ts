// What was so when somebody asked is looked at again where it counts.

import { expect } from 'chai';
import { keepSource } from '../../../../dr-receiver/failover/resolve.js';
import { refusal } from '../../../support/refusal.js';
import { id } from '../source-double.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';

const ASKED = { by: 'operator', keyId: undefined, parameters: {} };

describe('what may have changed meanwhile', function () {
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

  it('a split brain that was decided already is not decided again', async () => {
    await bench.operate('unplanned');
    const desk = await bench.desk();
    const { site } = bench.site.receiver.failovers;
    expect((await refusal(() => keepSource(site, desk, ASKED))).code).to.equal('E_LOCKED');
    expect(desk.vm.protection.epoch).to.equal(2n);
    expect(desk.vm.protection.isCompareDue).to.equal(false);
  });

  it('two who take a failover back at once begin one undo', async () => {
    await bench.lab.setFault('boot-fails');
    await refusal(() => bench.operate('unplanned'));
    await bench.lab.clearFault('boot-fails');
    const { failovers } = bench.site.receiver;
    const desk = await bench.desk();
    const begun = await Promise.allSettled([
      failovers.takeBack(desk, 'abort', ASKED),
      failovers.takeBack(desk, 'abort', ASKED),
    ]);
    const refused = begun.flatMap((each) =>
      each.status === 'rejected' ? [each.reason as { code?: string }] : [],
    );
    expect(refused.map(({ code }) => code)).to.deep.equal(['E_LOCKED']);
    for (const each of begun) if (each.status === 'fulfilled') await each.value.result();
    expect(desk.vm.protection.epoch).to.equal(3n);
    expect(await bench.phase()).to.equal('ordinary');
  });

  it('a point that is not listed any more comes up in no failover and no test', async () => {
    const desk = await bench.desk();
    const [listed] = desk.vm.protection.listed;
    if (listed === undefined) throw new Error('there are points');
    const point = { ...listed, pointId: id(0x999) };
    const { failovers } = bench.site.receiver;
    const error = await refusal(() =>
      failovers.begin(desk, 'unplanned', ASKED, { point, lostSeconds: 0 }),
    );
    expect(error.code).to.equal('E_NO_POINT');
    expect(await bench.phase()).to.equal('ordinary');
    const noTest = await refusal(() => failovers.tests.begin(desk, point, ASKED, () => undefined));
    expect(noTest.code).to.equal('E_NO_POINT');
    expect(desk.vm.protection.tests.size).to.equal(0);
  });

  it('the commit timer that finds the VM unwell tries again after longer and longer times', async () => {
    await bench.operate('unplanned', { commit_policy: 'commit', commit_after: '60' });
    await bench.lab.setFault('no-heartbeat');
    const { clock, receiver } = bench.site;
    await clock.advance(61_000);
    const desk = await bench.desk();
    let recordCount = 0;
    const append = desk.vm.append.bind(desk.vm);
    desk.vm.append = (record) => {
      recordCount++;
      return append(record);
    };
    for (let n = 0; n < 720; n++) {
      await receiver.failovers.tick();
      await receiver.failovers.runOf(desk)?.ended();
      await clock.advance(5000);
    }
    expect(recordCount).to.be.within(2, 20);
    expect(desk.vm.protection.failover.commit?.policy).to.equal('commit');
    await bench.lab.clearFault('no-heartbeat');
    await clock.advance(3_600_000);
    await receiver.failovers.tick();
    await receiver.failovers.runOf(desk)?.result();
    expect(await bench.phase()).to.equal('committed');
  });
});

describe('keeping the disk of a VM that is gone', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  const GONE = { keep_disk: 'monday', force: 'yes', reason: 'somebody removed it' };

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    await bench.operate('unplanned');
    const { id: vmId } = await bench.lab.findVm('VM1');
    await bench.lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 0xab));
    await bench.lab.turnOffVm(vmId);
    await bench.lab.removeVm(vmId);
  });

  afterEach(async () => {
    await bench.close();
  });

  const kept = (): string[] => made.volume.paths.filter((path) => path.includes('/kept/'));

  it('takes what its protective disks have', async () => {
    await bench.operate('undo', GONE);
    expect(kept().map((path) => path.split('/').at(-1))).to.have.members([
      'monday.0.vhdx',
      'monday.1.vhdx',
    ]);
    expect(made.volume.paths.filter((path) => path.includes('protective'))).to.deep.equal([]);
  });

  it('is refused when they are gone too, and says so', async () => {
    const [lost] = made.volume.paths.filter((path) => path.endsWith('.1.protective.vhdx'));
    await made.volume.remove(lost ?? '');
    const error = await refusal(() => bench.operate('undo', GONE));
    expect(error.code).to.equal('E_STATE');
    expect(error.message).to.include('monday');
    expect(await bench.phase()).to.equal('undoing');
  });

  it('is refused when a checkpoint stands above, of which nobody knows whether it was the last', async () => {
    const [one] = made.volume.paths.filter((path) => path.endsWith('.0.protective.vhdx'));
    made.volume.put((one ?? '').replace('.vhdx', '_01234567.avhdx'), Buffer.alloc(10));
    expect((await refusal(() => bench.operate('undo', GONE))).code).to.equal('E_STATE');
    expect(kept()).to.deep.equal([]);
  });
});
