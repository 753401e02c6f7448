// Case 10 of channel.md § 8: whoever tells a source a forged or an old epoch does not stop its VM, does
// not start one that serves elsewhere, and gets nothing done that the source has not allowed.

import { expect } from 'chai';
import { ORDINARY } from '../../dr-receiver/failover/model.js';
import { AttachWorld, OPERATION, orderOf } from '../unit/attach-world.js';
import { refusal } from '../support/refusal.js';
import { boundMemory } from '../support/bounded-memory.js';

describe('hostile: epochs', () => {
  boundMemory();
  let world: AttachWorld;

  beforeEach(async () => {
    world = await AttachWorld.make();
  });
  afterEach(() => world.close());

  /** The receiver's own record says that it serves the VM, under an epoch of its choice. */
  const claimAtReceiver = async (epoch: bigint): Promise<void> => {
    const desk = await world.site.receiver.desk(world.vm.id);
    if (desk === undefined) throw new Error('the VM is protected');
    await desk.vm.change(() =>
      desk.vm.append({
        kind: 'failover',
        atMs: world.clock.now(),
        by: 'thief',
        keyId: 'stolen',
        epoch: epoch.toString(),
        failover: { ...ORDINARY, phase: 'failed-over', activeSite: 'target' },
      }),
    );
  };

  it('case 10: a VM that runs goes on, whatever epoch is claimed, attached or not', async () => {
    await claimAtReceiver(99n);
    const claims: string[] = [];
    world.site.receiver.sources.onClaim = (_vmId, { powerState, epoch }) => {
      claims.push(`${powerState} ${epoch}`);
    };
    await world.attach();
    const word = { ...orderOf(99n), isSourceActive: false, isRetired: false };
    await world.running(world.source.tellEpoch(world.vm.id, word));
    for (const order of [orderOf(99n), orderOf(0n)]) {
      const how = { timeoutMs: 0, mayTurnOff: true };
      const stop = await refusal(() =>
        world.running(world.source.shutDown(world.vm.id, order, how)),
      );
      expect(stop.code).to.be.oneOf(['E_REMOTE_ACTION', 'E_STALE_EPOCH']);
      const fence = await refusal(() => world.running(world.source.fence(world.vm.id, order)));
      expect(fence.code).to.be.oneOf(['E_STATE', 'E_STALE_EPOCH']);
    }
    expect((await refusal(() => world.cycle())).code).to.equal('E_FAILED_OVER');
    expect(world.vm.powerState).to.equal('running');
    expect(world.hypervisor.fences.size).to.equal(0);
    const verbs = new Set(world.hypervisor.calls);
    for (const verb of ['shutDownVm', 'turnOffVm']) expect(verbs.has(verb)).to.equal(false);
    expect(claims[0]).to.equal('running 0');
  });

  it('case 10: an epoch that has ended lifts no fence and starts nothing', async () => {
    world.vm.powerState = 'off';
    await claimAtReceiver(7n);
    await world.attach(['start', 'shutdown', 'failback'], { isAtCommand: true });
    expect(world.hypervisor.fences.get(world.vm.id)?.epoch).to.equal(7n);
    const word = { operationId: OPERATION, epoch: 7n, isSourceActive: false, isRetired: false };
    await world.running(world.source.tellEpoch(world.vm.id, word));
    for (const epoch of [0n, 6n, 7n]) {
      for (const work of [
        () => world.source.unfence(world.vm.id, orderOf(epoch)),
        () => world.source.start(world.vm.id, orderOf(epoch)),
      ]) {
        const { code } = await refusal(() => world.running(work()));
        expect(code).to.equal(epoch === 7n ? 'E_STATE' : 'E_STALE_EPOCH');
      }
    }
    expect(world.hypervisor.fences.has(world.vm.id)).to.equal(true);
    expect(world.vm.powerState).to.equal('off');
  });

  it('a source that comes back by a cycle alone blocks the start of a VM that is off', async () => {
    world.vm.powerState = 'off';
    await claimAtReceiver(4n);
    expect((await refusal(() => world.cycle())).code).to.equal('E_FAILED_OVER');
    expect(world.hypervisor.fences.get(world.vm.id)?.epoch).to.equal(4n);
  });
});
