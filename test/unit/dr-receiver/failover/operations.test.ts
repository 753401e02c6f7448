// Failover, undo, permanent and test on the real engine with a lab host, through the control service.

import { expect } from 'chai';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';

describe('operations of the failover state machine', function () {
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

  const expectGuest = async (name: string, index: number): Promise<void> => {
    const views = await bench.guest(name);
    for (const [disk, view] of views.entries()) {
      expect(
        view.equals(made.plans[index]?.images[disk] ?? Buffer.alloc(0)),
        `disk ${disk}`,
      ).to.equal(true);
    }
  };

  it('unplanned: the newest point runs here, and the source is refused from then on', async () => {
    const run = await bench.operate('unplanned');
    expect(run.steps).to.deep.equal(['U1', 'U2', 'U3', 'U4', 'U5', 'U6', 'U7']);
    expect(run.plan?.steps.map(({ name }) => name)).to.deep.equal(run.steps);
    expect(run.done?.state).to.equal('FAILED_OVER');
    expect(run.done?.instanceName).to.equal('VM1');
    await expectGuest('VM1', 2);
    const { protection } = (await bench.desk()).vm;
    expect(protection.epoch).to.equal(2n);
    expect(protection.failover.activeSite).to.equal('target');
    expect(protection.failover.owed.map(({ kind }) => kind)).to.deep.equal(['fence']);
    const { source, plans } = made;
    const next = source.plan(4, plans[2]?.pointId, [[1], [1]]);
    expect((await refusal(() => source.replicate(bench.site, next))).code).to.equal(
      'E_STALE_EPOCH',
    );
  });

  it('undo: as if it had not been, but for the epoch; the next cycle is a delta', async () => {
    const point = made.plans[0]?.pointId ?? '';
    await bench.operate('unplanned', { point });
    await expectGuest('VM1', 0);
    const { id } = await bench.lab.findVm('VM1');
    await bench.lab.guestWrite(id, 0, 100, Buffer.alloc(5000, 9));
    const run = await bench.operate('undo');
    expect(run.done?.state).to.equal('PROTECTED');
    expect(await bench.lab.listVms()).to.deep.equal([]);
    const { protection } = (await bench.desk()).vm;
    expect(protection.epoch).to.equal(3n);
    expect(protection.failover.instance).to.equal(undefined);
    expect(protection.failover.owed.map(({ kind }) => kind)).to.deep.equal(['unfence']);
    const { source, plans } = made;
    source.write(0, 8, 77);
    await source.replicate(bench.site, source.plan(4, plans[2]?.pointId, [[8], []], { epoch: 3n }));
    const leftovers = [...made.volume.paths].filter((path) => path.includes('protective'));
    expect(leftovers).to.deep.equal([]);
  });

  it('undo keeps what was written here under a name that is asked for', async () => {
    await bench.operate('unplanned');
    const { id } = await bench.lab.findVm('VM1');
    await bench.lab.guestWrite(id, 0, 0, Buffer.alloc(512, 0xab));
    await bench.operate('undo', { keep_disk: 'monday' });
    const kept = [...made.volume.paths].filter((path) => path.includes('/kept/'));
    expect(kept.map((path) => path.split('/').at(-1))).to.have.members([
      'monday.0.vhdx',
      'monday.1.vhdx',
    ]);
  });

  it('to another point: what runs goes away, in one operation', async () => {
    await bench.operate('unplanned');
    const run = await bench.operate('unplanned', { point: made.plans[1]?.pointId ?? '' });
    expect(run.steps).to.include.members(['N2', 'N3', 'U4']);
    await expectGuest('VM1', 1);
    expect(await bench.phase()).to.equal('failed-over');
  });

  it('permanent: the VM here owns its disks; nothing else is possible then', async () => {
    await bench.operate('unplanned');
    const run = await bench.operate('permanent');
    expect(run.done?.state).to.equal('COMMITTED');
    expect((await bench.operate('permanent')).done?.state).to.equal('COMMITTED');
    expect((await refusal(() => bench.operate('undo'))).code).to.equal('E_COMMITTED');
  });

  it('test: production does not notice, and nothing stays', async () => {
    const run = await bench.operate('test');
    expect(run.done?.isPassed).to.equal(true);
    expect(run.steps).to.deep.equal(['T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7']);
    expect(JSON.parse(run.done?.reportJson ?? '')).to.have.nested.property(
      'report.verdict',
      'passed',
    );
    expect(await bench.lab.listVms()).to.deep.equal([]);
    const { protection } = (await bench.desk()).vm;
    expect(protection.tests.size).to.equal(0);
    expect(protection.proof?.isPassed).to.equal(true);
    expect(protection.epoch).to.equal(1n);
  });

  it('tests beside each other are kept until they are stopped; cycles go on', async () => {
    const first = await bench.operate('test', { keep: 'yes' });
    const second = await bench.operate('test', {
      keep: 'yes',
      point: made.plans[0]?.pointId ?? '',
    });
    await expectGuest(first.done?.instanceName ?? '', 2);
    await expectGuest(second.done?.instanceName ?? '', 0);
    const { source, plans } = made;
    source.write(0, 8, 77);
    await source.replicate(bench.site, source.plan(4, plans[2]?.pointId, [[8], []]));
    const desk = await bench.desk();
    for (const operationId of [...desk.vm.protection.tests.keys()]) {
      await bench.operate('test', { stop: operationId });
    }
    expect(await bench.lab.listVms()).to.deep.equal([]);
    expect(desk.vm.protection.tests.size).to.equal(0);
  });

  it('a live failover ends the tests first', async () => {
    await bench.operate('test', { keep: 'yes' });
    await bench.operate('unplanned');
    expect((await bench.lab.listVms()).map(({ name }) => name)).to.deep.equal(['VM1']);
  });

  it('a step that fails leaves the VM at it: abort takes it back, resume goes on', async () => {
    await bench.lab.setFault('boot-fails');
    const failure = await refusal(() => bench.operate('unplanned'));
    expect(failure.code).to.equal('E_HYPERVISOR');
    expect(await bench.phase()).to.equal('failing-over');
    await bench.lab.clearFault('boot-fails');
    expect((await bench.operate('resume')).done?.state).to.equal('FAILED_OVER');
    await bench.operate('undo');
    expect(await bench.phase()).to.equal('ordinary');
  });

  it('all refusals are told at once, and a plan changes nothing', async () => {
    const failure = await refusal(() =>
      bench.operate('unplanned', { point: 'ffff', force: 'yes', checks: 'nonsense' }),
    );
    expect(failure.message).to.include('reason').and.include('ffff').and.include('nonsense');
    expect(await bench.phase()).to.equal('ordinary');
  });
});
