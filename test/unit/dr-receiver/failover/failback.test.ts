// Failback at the receiver: the primary is brought level while the VM serves here, the VM moves, and comes
// back or stays there.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../../shared/delta/index.js';
import { DrError } from '../../../../shared/errors.js';
import { refusal } from '../../../support/refusal.js';
import { SeededRandom } from '../../../support/seeded-random.js';
import { expectPoint, readPoint } from '../source-double.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { Primary } from './primary-double.js';

describe('failback', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  let primary: Primary;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    primary = new Primary(bench, made.source);
    bench.site.receiver.sources.find = () => primary;
  });

  afterEach(async () => {
    await bench.close();
  });

  const failedOver = async (parameters: Readonly<Record<string, string>> = {}): Promise<void> => {
    await bench.operate('unplanned', parameters);
    await writeHere(1);
    primary.calls.length = 0;
  };

  /** A cell, a part of one, zeros over data, and a discard over zeros. */
  const writeHere = async (seed: number): Promise<void> => {
    const { id } = await bench.lab.findVm('VM1');
    const bytes = Buffer.alloc(CELL_BYTES + 512);
    new SeededRandom(seed).fill(bytes);
    await bench.lab.guestWrite(id, 0, 7 * CELL_BYTES, bytes);
    await bench.lab.guestZero(id, 0, CELL_BYTES, CELL_BYTES);
    await bench.lab.guestWrite(id, 1, 512 * seed, bytes.subarray(0, 512));
  };

  const expectHome = (views: readonly Buffer[]): void => {
    for (const [disk, view] of views.entries()) {
      expect(primary.views[disk]?.equals(view), `disk ${disk}`).to.equal(true);
    }
  };

  const record = async () => (await bench.desk()).vm.protection.failover;

  it('brings everything home, and the VM runs there and not here', async () => {
    await failedOver();
    const views = await bench.guest('VM1');
    const run = await bench.operate('failback');
    expect(run.done?.state).to.equal('FAILED_BACK');
    expect(run.steps).to.deep.equal(['F1', 'F2', 'F3', 'F4', 'F5']);
    expectHome(views);
    expect(primary.powerState).to.equal('running');
    expect({ epoch: primary.epoch, isActive: primary.isActive }).to.deep.equal({
      epoch: 3n,
      isActive: true,
    });
    const [vm] = await bench.lab.listVms();
    expect(vm?.powerState).to.equal('off');
    const { activeSite, owed, operation, instance } = await record();
    expect({ activeSite, owed, operation }).to.deep.equal({
      activeSite: 'source',
      owed: [],
      operation: undefined,
    });
    expect(instance?.servedUntilMs).to.be.greaterThan(0);
    expect(
      (await refusal(() => bench.lab.startVm(instance?.vmId ?? (primary.disks[0] as never)))).code,
    ).to.equal('E_FENCED');
    expect(bench.site.receiver.servingRounds.size).to.equal(0);
  });

  it('made permanent it is a point over the head, and nothing of the VM is left here', async () => {
    await failedOver();
    const views = await bench.guest('VM1');
    await bench.operate('failback');
    const run = await bench.operate('permanent');
    expect(run.done?.state).to.equal('PROTECTED');
    const { vm } = await bench.desk();
    const { head } = vm.protection;
    expect(primary.committed?.pointId).to.equal(head?.pointId);
    expect(head?.parentPointId).to.equal(made.plans[2]?.pointId);
    for (const [disk, view] of views.entries()) {
      const bytes = await readPoint(bench.site, 'VM1', head?.pointId ?? '', disk);
      expect(bytes.equals(view), `disk ${disk}`).to.equal(true);
    }
    for (const plan of made.plans) await expectPoint(bench.site, made.source, plan);
    expect(await bench.lab.listVms()).to.deep.equal([]);
    const { phase, instance, isSourceStopped, activeSite } = await record();
    expect({ phase, instance, isSourceStopped, activeSite }).to.deep.equal({
      phase: 'ordinary',
      instance: undefined,
      isSourceStopped: false,
      activeSite: 'source',
    });
  });

  it('undone it serves here again, with what it had, and the primary has its old disks', async () => {
    await failedOver();
    const views = await bench.guest('VM1');
    await bench.operate('failback');
    const run = await bench.operate('undo');
    expect(run.done?.state).to.equal('FAILED_OVER');
    expect(primary.powerState).to.equal('off');
    expectHome(primary.disks);
    const [vm] = await bench.lab.listVms();
    expect(vm?.powerState).to.equal('running');
    const after = await bench.guest('VM1');
    for (const [disk, view] of views.entries()) expect(after[disk]?.equals(view)).to.equal(true);
    expect(DrError).to.not.equal(undefined);
  });
});
