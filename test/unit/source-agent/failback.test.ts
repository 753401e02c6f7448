// A failback at the primary: disks brought level, the VM started on them, committed or undone, by the
// orders of the receiver.

import { expect } from 'chai';
import { expectViews } from '../../support/lab-model.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { refusal } from '../../support/refusal.js';
import { FailbackWorld } from './failback-world.js';

describe('failback at the primary', function () {
  this.timeout(60_000);
  let world: FailbackWorld;

  beforeEach(async () => {
    world = await FailbackWorld.planned();
  });
  afterEach(() => world.close());

  const power = async (): Promise<string | undefined> => (await world.lab.listVms())[0]?.powerState;

  it('brings the disks level, starts the VM on them, and goes on from there with a delta', async () => {
    expect(await world.sync()).to.equal(3);
    await world.servingWrites(0, 4);
    await world.stopServing();
    expect(await world.sync({ isLast: true })).to.equal(1);
    const wanted = await world.servingViews();
    const epoch = await world.makeActive();
    const order = await world.order({ epoch });
    await world.source.failbackStart(world.vm.id, order);
    expect(await power()).to.equal('running');
    expectViews(await world.views(), wanted, 'after the start');
    expect((await refusal(() => world.cycle())).code).to.equal('E_STATE');

    const point = await world.recordPoint(wanted);
    await world.guestWrites(0, 7);
    await world.attach([]);
    await world.source.failbackCommit(world.vm.id, order, point);
    await world.source.failbackCommit(world.vm.id, order, point);
    const { kind, disks } = await world.cycle();
    expect({ kind, how: disks.map(({ how }) => how) }).to.deep.equal({
      kind: 'delta',
      how: ['dirty', 'dirty'],
    });
    expect(disks[0]?.dataBytes).to.equal(CELL_BYTES);
  });
});
