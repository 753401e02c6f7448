// What a source learns by a cycle alone of which site is active, and whose word lifts a fence.

import { expect } from 'chai';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { refusal } from '../../support/refusal.js';
import { FailbackWorld, OPERATION } from './failback-world.js';

describe('what a source hears', function () {
  this.timeout(60_000);
  let world: FailbackWorld;
  const OTHER = testGuid(0x77);

  beforeEach(async () => {
    world = await FailbackWorld.planned();
    await world.detach();
  });
  afterEach(() => world.close());

  const isFenced = async (): Promise<boolean> =>
    (await world.lab.fenceOf(world.vm.id)) !== undefined;
  const power = async (): Promise<string | undefined> => (await world.lab.listVms())[0]?.powerState;

  it('of an undo while it was away: the cycle goes on, the fence is lifted, nothing is started', async () => {
    expect((await refusal(() => world.cycle())).code).to.equal('E_FAILED_OVER');
    expect(await world.operate('undo')).to.equal('PROTECTED');
    expect(await isFenced()).to.equal(true);
    const { kind } = await world.cycle();
    expect(kind).to.equal('nothing');
    expect(await isFenced()).to.equal(false);
    expect(await power()).to.equal('off');
    expect((await world.cycle()).kind).to.equal('nothing');
  });

  it('of a store does not lift a fence while the DR site of another one serves the VM', async () => {
    await world.tellOfStore(OTHER, { epoch: 1n, isSourceActive: false });
    await world.operate('undo');
    await world.cycle();
    expect(await isFenced()).to.equal(true);
    await world.attach(['start', 'failback']);
    const order = { operationId: OPERATION, epoch: await world.epoch() };
    for (const work of [
      () => world.source.unfence(world.vm.id, order),
      () => world.source.start(world.vm.id, order),
      () => world.source.failbackStart(world.vm.id, order),
    ]) {
      const error = await refusal(work);
      expect(error.code).to.equal('E_STATE');
      expect(error.message).to.contain(OTHER);
    }
    expect({ power: await power(), isFenced: await isFenced() }).to.deep.equal({
      power: 'off',
      isFenced: true,
    });
  });

  it('lifts no fence of a later epoch, and none that is not its protection’s', async () => {
    await world.operate('undo');
    const tag = { protectionId: world.vm.id, operationId: OPERATION };
    await world.lab.fenceVm(world.vm.id, { tag, epoch: 99n });
    await world.cycle();
    expect(await isFenced()).to.equal(true);
  });

  it('of a take-over by a cycle alone is kept, so that another store’s word changes nothing', async () => {
    await world.close();
    world = await FailbackWorld.make();
    await world.lab.turnOffVm(world.vm.id);
    await world.operate('unplanned', { force: 'yes', reason: 'the site is gone' });
    expect((await refusal(() => world.cycle())).code).to.equal('E_FAILED_OVER');
    const [chain] = (await world.ledger()).chains.values();
    expect(chain?.standing.activeSite).to.equal('target');
    expect(chain?.epoch).to.equal(await world.epoch());
    expect(await isFenced()).to.equal(true);
  });

  it('of a take-over while the VM runs is not agreed to', async () => {
    await world.close();
    world = await FailbackWorld.make();
    await world.operate('unplanned', { force: 'yes', reason: 'the site is gone' });
    expect((await refusal(() => world.cycle())).code).to.equal('E_FAILED_OVER');
    const [chain] = (await world.ledger()).chains.values();
    expect(chain?.standing.activeSite).to.equal('source');
    expect(await power()).to.equal('running');
  });

  it('of a VM that is retired for good stays, whatever epoch follows', async () => {
    const [ours] = (await world.ledger()).chains.values();
    await world.retire();
    await world.operate('undo');
    expect((await refusal(() => world.cycle())).code).to.equal('E_FAILED_OVER');
    expect(await isFenced()).to.equal(true);
    expect((await world.ledger()).chains.get(ours?.key ?? '')?.epoch).to.equal(ours?.epoch);
  });
});
