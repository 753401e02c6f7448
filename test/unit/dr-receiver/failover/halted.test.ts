// HALTED: a step that can go neither on nor back, what is told of it, and every way out.

import { expect } from 'chai';
import { failoverDocument } from '../../../../shared/operator/status-failover.js';
import type { ProtectionStatus } from '../../../../shared/channel/index.js';
import type { DrError } from '../../../../shared/errors.js';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';

describe('a halted step', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    await bench.operate('unplanned');
    await bench.lab.setFault('turn-off-fails');
  });

  afterEach(async () => {
    await bench.close();
  });

  const halt = (command: string, parameters = {}): Promise<DrError> =>
    refusal(() => bench.operate(command, parameters));
  const status = async (): Promise<ProtectionStatus> => {
    for await (const { page } of bench.site.control().statusPages({ vm: 'VM1' })) {
      if (page !== undefined) for (const each of page.protections) return each;
    }
    throw new Error('there is no VM');
  };

  it('of an undo that cannot power off says its cause and what is allowed next', async () => {
    const error = await halt('undo');
    expect(error).to.include({ code: 'E_HALTED', exitCode: 26 });
    expect(error.message).to.include('N2').and.include('turn-off-fails');
    expect(error.hint).to.include('hvdr resume VM1').and.include('Valid now are: resume.');
    const told = await status();
    expect(told).to.include({ failoverState: 'HALTED', health: 'critical' });
    expect(told.haltedBecause).to.include('turn-off-fails');
    expect(failoverDocument(told)['validCommands']).to.deep.equal(['resume']);
    const again = await refusal(() => bench.operate('permanent'));
    expect(again.code).to.equal('E_HALTED');
    expect(again.message).to.include('turn-off-fails');
    expect(again.hint).to.equal('Valid now are: resume.');
  });

  it('touches neither the VM nor its disks, nor the epoch', async () => {
    const before = await bench.guest('VM1');
    await halt('undo');
    const { epoch, failover } = (await bench.desk()).vm.protection;
    expect(epoch).to.equal(2n);
    expect(failover.activeSite).to.equal('target');
    const after = await bench.guest('VM1');
    for (const [disk, view] of before.entries()) expect(after[disk]?.equals(view)).to.equal(true);
  });

  it('goes on when its cause is mended, and halts again when it is not', async () => {
    await halt('undo');
    expect((await halt('resume')).code).to.equal('E_HALTED');
    await bench.lab.clearFault('turn-off-fails');
    expect((await bench.operate('resume')).done?.state).to.equal('PROTECTED');
    expect(await bench.lab.listVms()).to.deep.equal([]);
  });

  it('waits for people over a restart', async () => {
    await halt('undo');
    await bench.close();
    await bench.lab.clearFault('turn-off-fails');
    bench = await FailoverBench.open(made.volume);
    await bench.site.receiver.failovers.resumeAll();
    expect(await bench.phase()).to.equal('halted');
    expect((await bench.operate('resume')).done?.state).to.equal('PROTECTED');
  });

  it('on the way to another point lets a failover to any point take its place', async () => {
    const [first, second] = made.plans.map(({ pointId }) => ({ point: pointId }));
    const error = await halt('unplanned', first);
    expect(error.code).to.equal('E_HALTED');
    expect(error.hint).to.include('Valid now are: unplanned, resume.');
    await bench.lab.clearFault('turn-off-fails');
    expect((await bench.operate('unplanned', second)).done?.state).to.equal('FAILED_OVER');
    const [view] = await bench.guest('VM1');
    expect(view?.equals(made.plans[1]?.images[0] ?? Buffer.alloc(0))).to.equal(true);
    expect(await bench.lab.listVms()).to.have.length(1);
  });
});

describe('the commit policy rollback', function () {
  this.timeout(60_000);

  it('takes a failover back whose checks fail, and says which', async () => {
    const { volume } = await failoverVolume();
    const bench = await FailoverBench.open(volume);
    await bench.lab.setFault('no-heartbeat');
    const parameters = { commit_policy: 'rollback', checks: 'heartbeat', boot_timeout: '1' };
    const failing = refusal(() => bench.operate('unplanned', parameters));
    failing.catch(() => undefined);
    // the wait for a heartbeat ends
    for (let n = 0; n < 50; n++) await bench.site.clock.advance(1000);
    expect((await failing).line).to.include('not all checks passed; it was taken back');
    expect(await bench.phase()).to.equal('ordinary');
    expect(await bench.lab.listVms()).to.deep.equal([]);
    await bench.close();
  });

  it('asks when it is overdue after a restart, and says so in the status', async () => {
    const { volume } = await failoverVolume();
    let bench = await FailoverBench.open(volume);
    await bench.operate('unplanned', { commit_policy: 'rollback', commit_after: '60' });
    const { clock } = bench.site;
    await bench.close();
    await clock.advance(61_000);
    bench = await FailoverBench.open(volume, { clock });
    await bench.site.receiver.failovers.tick();
    expect(await bench.phase()).to.equal('failed-over');
    const { protections } = await bench.site.control().status({ vm: 'VM1' });
    expect(protections[0]?.reasons.join('\n')).to.include('undo it, or make it permanent');
    expect((await bench.operate('undo')).done?.state).to.equal('PROTECTED');
    await bench.close();
  });
});
