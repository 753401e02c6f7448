// A failback that its DR site does not end as it began: a forced way back, a split brain, a DR site that
// gives the VM back, or is gone. What the VM wrote at the primary goes only when somebody says so.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { refusal } from '../../support/refusal.js';
import { FailbackWorld } from './failback-world.js';

const FORCED = { force: 'yes', reason: 'the primary does not answer' };

describe('a failback that was taken back by force', function () {
  this.timeout(60_000);
  let world: FailbackWorld;

  /** FAILED_BACK, then taken back without the primary, whose VM goes on writing: a split brain. */
  beforeEach(async () => {
    world = await FailbackWorld.make();
    world.rounds = world.site.receiver.servingRounds;
    await world.attach(['shutdown', 'start', 'failback']);
    await world.operate('planned', { boot_timeout: '1' });
    await world.operate('failback');
    await world.detach();
    await world.operate('undo', FORCED);
    await world.guestWrites(0, 9);
    await world.attach(['shutdown', 'start', 'failback']);
    await world.site.receiver.failovers.tick();
    expect((await world.desk()).vm.protection.failover.phase).to.equal('split-brain');
  });
  afterEach(() => world.close());

  it('is not thrown away by a later one that nobody confirmed, nor by its abort', async () => {
    await world.operate('resolve', { side: 'replica' });
    const wrote = await world.views();
    const plan = await world.planOf('failback');
    expect(plan?.isDestructive).to.equal(true);
    expect(plan?.notes.join('\n')).to.contain('what was written at the primary');
    await world.site.receiver.failovers.tick();
    expect(await world.stage()).to.equal('started');
    expect(await world.views()).to.deep.equal(wrote);

    await world.detach();
    await world.attach([]);
    expect((await refusal(() => world.operate('failback'))).code).to.equal('E_REMOTE_ACTION');
    expect(await world.stage()).to.equal('started');
    await world.detach();
    await world.attach(['failback']);
    // confirmed
    expect(await world.operate('failback', { stage: 'sync' })).to.equal('FAILING_BACK');
    expect(await world.stage()).to.equal('syncing');
    expect(await world.operate('abort')).to.equal('FAILED_OVER');
    expect(await world.stage()).to.equal(undefined);
    expect((await world.desk()).vm.protection.failover.owed).to.deep.equal([]);
  });

  it('ends at the primary when that is kept: the VM stays on its disks, and all is compared', async () => {
    const wrote = await world.views();
    expect(await world.operate('resolve', { side: 'source' })).not.to.equal('SPLIT_BRAIN');
    await world.site.receiver.failovers.tick();
    const { failover } = (await world.desk()).vm.protection;
    expect({ phase: failover.phase, owed: failover.owed }).to.deep.equal({
      phase: 'ordinary',
      owed: [],
    });
    expect(await world.stage()).to.equal(undefined);
    expect(await world.views()).to.deep.equal(wrote);
    const { kind } = await world.cycle();
    expect(kind).to.equal('resync');
    const [{ id } = { id: world.vm.id }] = await world.lab.listVms();
    await world.lab.guestWrite(id, 0, 0, Buffer.alloc(CELL_BYTES, 7));
    expect((await world.cycle()).kind).to.equal('delta');
  });
});
