// A failback as the receiver's operations drive it at a real agent: what both sides hold against mistakes
// of the other one, and against whoever holds its key.

import { expect } from 'chai';
import { expectViews } from '../../support/lab-model.js';
import { refusal } from '../../support/refusal.js';
import { FailbackWorld, VM_NAME } from './failback-world.js';

describe('failback of a receiver and an agent', function () {
  this.timeout(60_000);
  let world: FailbackWorld;

  beforeEach(async () => {
    world = await FailbackWorld.driven();
  });
  afterEach(() => world.close());

  const fails = async (
    command: string,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<string> => (await refusal(() => world.operate(command, parameters))).code;
  /** At the primary and where it serves. */
  const powers = async (): Promise<(string | undefined)[]> => [
    (await world.lab.listVms())[0]?.powerState,
    (await world.targetLab.listVms())[0]?.powerState,
  ];

  it('what an applied checkpoint took back is found by its hashes, as no tracking tells it', async () => {
    const { id } = await world.targetLab.findVm(VM_NAME);
    await world.targetLab.addUserCheckpoint(id, 'before');
    await world.servingWrites(0, 8);
    await world.operate('failback', { stage: 'sync' });
    // nobody tells what is taken back by that as changed
    await world.targetLab.applyUserCheckpoint(id, 'before');
    const views = await world.servingViews();
    expect(await world.operate('failback')).to.equal('FAILED_BACK');
    expect(await powers()).to.deep.equal(['running', 'off']);
    expectViews(await world.views(), views, 'after the start');
  });

  describe('when the VM serves at the primary again', () => {
    beforeEach(async () => {
      await world.operate('failback');
      expect(await powers()).to.deep.equal(['running', 'off']);
      await world.guestWrites(0, 3);
    });

    const expectServingThere = async (): Promise<void> => {
      expect(await powers()).to.deep.equal(['running', 'off']);
      expect(await world.stage()).to.equal('started');
      expect(await world.filesOfFailback()).to.have.length(2);
      expect((await world.desk()).vm.protection.failover.phase).to.equal('failed-back');
    };

    it('an undo stops it only where the primary lets that be done', async () => {
      await world.detach();
      await world.attach(['start']);
      expect(await fails('undo')).to.equal('E_REMOTE_ACTION');
      expect(await fails('undo', { force: 'yes', reason: 'a test' })).to.equal('E_REMOTE_ACTION');
      await expectServingThere();
      // whoever asks the agent itself is told the same
      const given = { ...(await world.order()), failbackId: undefined, dropsWrites: true };
      const error = await refusal(() => world.source.failbackUndo(world.vm.id, given));
      expect(error.code).to.equal('E_REMOTE_ACTION');
      await expectServingThere();
      await world.detach();
      await world.attach(['shutdown']);
      expect(await world.operate('undo')).to.equal('FAILED_OVER');
      expect(await powers()).to.deep.equal(['off', 'running']);
    });

    it('an undo that could not put its former disks back leaves it running', async () => {
      await world.lab.addUserCheckpoint(world.vm.id, 'nightly');
      const error = await refusal(() => world.operate('undo'));
      expect(error.code).to.equal('E_STATE');
      expect(error.hint).to.contain('Remove its checkpoints');
      expect(await powers()).to.deep.equal(['running', 'off']);
      await world.lab.removeUserCheckpoint(world.vm.id, 'nightly');
      expect(await world.operate('resume')).to.equal('FAILED_OVER');
      expect(await powers()).to.deep.equal(['off', 'running']);
      expect(await world.filesOfFailback()).to.deep.equal([]);
    });
  });
});
