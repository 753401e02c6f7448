// `hvdr end-failback`'s work: the DR site is gone while the VM is failed back, or while its disks are being
// brought level.

import { expect } from 'chai';
import { silentLog } from '../../../shared/log.js';
import { systemClock } from '../../../shared/clock.js';
import { collectSourceGarbage, endHere, type EndSeams } from '../../../source-agent/index.js';
import { STATE } from './agent-world.js';
import { FailbackWorld } from './failback-world.js';
import { refusal } from '../../support/refusal.js';

describe('a failback whose DR site is gone', function () {
  this.timeout(60_000);
  let world: FailbackWorld;
  let seams: EndSeams;

  beforeEach(async () => {
    world = await FailbackWorld.make();
    world.rounds = world.site.receiver.servingRounds;
    await world.attach(['shutdown', 'start', 'failback']);
    await world.operate('planned', { boot_timeout: '1' });
    const { signal } = new AbortController();
    const { files: fs, lab: hypervisor, random } = world;
    const stateFolder = STATE;
    seams = { hypervisor, fs, clock: systemClock, random, log: silentLog, stateFolder, signal };
  });
  afterEach(() => world.close());

  it('leaves a VM that was started on its disks, and every store is owed all cells', async () => {
    await world.operate('failback');
    await world.detach();
    await world.guestWrites(0, 9);
    const wrote = await world.views();
    expect((await refusal(() => world.cycle())).hint).to.contain('hvdr end-failback');
    const left = await collectSourceGarbage({ ...seams, isPlan: true, isForgetting: false });
    const record = left.find(({ kind }) => kind === 'failback-record');
    expect(record?.because).to.contain('hvdr end-failback');
    expect(record?.isRemovable).to.equal(false);

    expect(await endHere(world.vm, undefined, seams)).to.equal('kept');
    expect(await endHere(world.vm, undefined, seams)).to.equal(undefined);
    expect(await world.views()).to.deep.equal(wrote);
    const { chains, reference } = await world.ledger();
    expect(reference).to.equal(undefined);
    for (const { disks } of chains.values()) {
      expect([...disks.values()].map(({ pending }) => pending)).to.deep.equal(['all', 'all']);
    }
  });

  it('leaves a VM that was not started on its former disks, and removes the others', async () => {
    const before = await world.views();
    await world.operate('failback', { stage: 'sync' });
    await world.detach();
    expect(await endHere(world.vm, undefined, seams)).to.equal('dropped');
    expect(await world.filesOfFailback()).to.deep.equal([]);
    expect(await world.views()).to.deep.equal(before);
  });
});
