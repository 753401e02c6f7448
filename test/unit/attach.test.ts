// The control connection: orders of the DR site reach the agent of the VM's owner, are done once, and
// only as far as the primary site allows.

import { join } from 'node:path';
import { expect } from 'chai';
import { DrError } from '../../shared/errors.js';
import { refusal } from '../support/refusal.js';
import { Attachment } from '../../dr-receiver/attach/attachment.js';
import { FakeClock } from '../support/fake-clock.js';
import { caller, OPERATOR, SOURCE } from './dr-receiver/source-double.js';
import { AttachWorld, OPERATION, orderOf } from './attach-world.js';
import { testGuid } from '../support/fake-source-hypervisor.js';
import { StoppedNote, stoppedFileName } from '../../source-agent/remote/stopped-note.js';
import { STATE } from './source-agent/agent-world.js';

describe('attach', () => {
  let world: AttachWorld;

  beforeEach(async () => {
    world = await AttachWorld.make();
  });
  afterEach(() => world.close());

  const refused = (work: () => Promise<unknown>): Promise<DrError> =>
    refusal(() => world.running(work()));

  it('finds the agent of the owner, and no other', async () => {
    expect(world.find()).to.equal(undefined);
    await world.attach([], { as: caller('somebody else') });
    expect(world.find()).to.equal(undefined);
    await world.attach();
    expect(world.find()).not.to.equal(undefined);
    expect(world.find('another owner')).to.equal(undefined);
  });

  it('lets the agent that came last answer, and the one before it when it has gone', async () => {
    await world.attach(['shutdown']);
    const daemon = world.source;
    const command = await world.attach([], { as: OPERATOR, isAtCommand: true });
    expect(world.source).not.to.equal(daemon);
    const { allowed } = await world.running(world.source.describe(world.vm.id));
    // whoever runs a command at the primary site allows what it does
    expect(allowed).to.deep.equal(['shutdown', 'start', 'failback']);
    await command.stop();
    expect(world.source).to.equal(daemon);
  });

  it('does nothing that remote_actions does not name, unless somebody at the site asks', async () => {
    await world.attach(['start']);
    const how = { timeoutMs: 1000, mayTurnOff: true };
    const error = await refused(() => world.source.shutDown(world.vm.id, orderOf(1n), how));
    expect(error.code).to.equal('E_REMOTE_ACTION');
    expect(world.vm.powerState).to.equal('running');
    await world.attach([], { isAtCommand: true });
    await world.running(world.source.shutDown(world.vm.id, orderOf(1n), how));
    expect(world.vm.powerState).to.equal('off');
  });

  it('turns a VM off only when it may, and not before the guest had its time', async () => {
    await world.attach(['shutdown']);
    world.hypervisor.onCall = (verb) => {
      if (verb === 'shutDownVm') throw new DrError('E_SHUTDOWN_TIMEOUT', 'the guest goes on');
    };
    const shutDown = (mayTurnOff: boolean): Promise<void> =>
      world.source.shutDown(world.vm.id, orderOf(1n), { timeoutMs: 1000, mayTurnOff });
    expect((await refused(() => shutDown(false))).code).to.equal('E_SHUTDOWN_TIMEOUT');
    expect(world.vm.powerState).to.equal('running');
    await world.running(shutDown(true));
    expect(world.vm.powerState).to.equal('off');
  });

  it('brings the last of a VM that is off and fenced, once, and says which point has all of it', async () => {
    await world.attach(['shutdown']);
    const { source, vm } = world;
    const early = await refused(() => source.finalCycle(vm.id, orderOf(1n)));
    expect(early.code).to.equal('E_STATE');
    await world.running(source.presync(vm.id, orderOf(1n)));
    world.hypervisor.write(vm, 0, 3 * 65_536, Buffer.alloc(512, 9));
    await world.running(
      source.shutDown(vm.id, orderOf(1n), { timeoutMs: 1000, mayTurnOff: false }),
    );
    await world.running(source.fence(vm.id, orderOf(1n)));
    const final = await world.running(source.finalCycle(vm.id, orderOf(1n)));
    expect(final.isCompared).to.equal(true);
    const desk = await world.site.receiver.desk(vm.id);
    expect(desk?.vm.protection.head?.pointId).to.equal(final.pointId);
    const count = await world.pointCount();
    // its answer was lost
    expect(await world.running(source.finalCycle(vm.id, orderOf(1n)))).to.deep.equal(final);
    expect(await world.pointCount()).to.equal(count);
  });

  it('does an order once that comes again while it runs', async () => {
    await world.attach(['shutdown']);
    const how = { timeoutMs: 1000, mayTurnOff: false };
    const { source, vm } = world;
    const both = [1, 2].map(() => source.shutDown(vm.id, orderOf(1n), how));
    await world.running(Promise.all(both));
    await world.running(source.shutDown(vm.id, orderOf(1n), how));
    expect(world.hypervisor.calls.filter((verb) => verb === 'shutDownVm')).to.have.length(1);
  });

  it('says that the source is unreachable when the agent goes in the middle of an order', async () => {
    const agent = await world.attach(['shutdown']);
    world.hypervisor.onCall = async (verb) => {
      if (verb === 'shutDownVm') await world.clock.sleep(60_000);
    };
    const how = { timeoutMs: 100_000, mayTurnOff: false };
    const order = world.source.shutDown(world.vm.id, orderOf(1n), how);
    order.catch(() => undefined);
    await world.clock.advance(100);
    await agent.stop();
    expect((await refused(() => order)).code).to.equal('E_SOURCE_UNREACHABLE');
    expect(world.find()).to.equal(undefined);
    // it was done nevertheless, and is asked for again
    await world.attach(['shutdown']);
    await world.running(world.source.shutDown(world.vm.id, orderOf(1n), how));
    expect(world.vm.powerState).to.equal('off');
  });

  it('gives an agent up that says nothing, and does not mind its late answer', async () => {
    await world.attach();
    let release: () => void = () => undefined;
    const hangs = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { source, vm } = world;
    world.hypervisor.onCall = () => hangs;
    const asked = source.fence(vm.id, orderOf(1n));
    asked.catch(() => undefined);
    await world.site.clock.advance(11 * 60_000);
    expect((await refused(() => asked)).message).to.contain('said nothing');
    world.hypervisor.onCall = () => undefined;
    release();
    expect((await world.running(source.describe(vm.id))).powerState).to.equal('running');
  });

  it('starts what the same operation has shut down, and lifts the fence before', async () => {
    await world.attach(['shutdown']);
    const { source, vm } = world;
    const how = { timeoutMs: 1000, mayTurnOff: false };
    await world.running(source.shutDown(vm.id, orderOf(1n), how));
    await world.running(source.fence(vm.id, orderOf(1n)));
    expect((await refused(() => source.start(vm.id, orderOf(1n)))).code).to.equal('E_FENCED');
    await world.running(source.unfence(vm.id, orderOf(1n)));
    await world.running(source.start(vm.id, orderOf(1n)));
    expect(vm.powerState).to.equal('running');
    // whoever stops it then is not the DR site
    vm.powerState = 'off';
    expect((await refused(() => source.start(vm.id, orderOf(1n)))).code).to.equal(
      'E_REMOTE_ACTION',
    );
  });

  it('an undo starts what the failover has shut down, by an agent that was restarted in between', async () => {
    const agent = await world.attach(['shutdown']);
    const { vm } = world;
    const how = { timeoutMs: 1000, mayTurnOff: false };
    await world.running(world.source.shutDown(vm.id, orderOf(1n), how));
    await world.running(world.source.fence(vm.id, orderOf(1n)));
    const word = { ...orderOf(2n), isRetired: false };
    await world.running(world.source.tellEpoch(vm.id, { ...word, isSourceActive: false }));
    await agent.stop();
    await world.attach(['shutdown']);
    const undo = orderOf(3n, testGuid(0xdead));
    const back = { ...undo, isSourceActive: true, isRetired: false };
    await world.running(world.source.tellEpoch(vm.id, back));
    await world.running(world.source.unfence(vm.id, undo));
    await world.running(world.source.start(vm.id, undo));
    expect(vm.powerState).to.equal('running');
    const state = await world.files.list(STATE);
    expect(state.filter((name) => name.includes('.stopped.'))).to.deep.equal([]);
  });

  it('starts nothing that was off before, and nothing by the note of another DR site', async () => {
    await world.attach(['shutdown']);
    const { source, vm } = world;
    const start = async (): Promise<string> =>
      (await refused(() => source.start(vm.id, orderOf(2n)))).code;
    const how = { timeoutMs: 1000, mayTurnOff: false };
    vm.powerState = 'off';
    await world.running(source.shutDown(vm.id, orderOf(2n), how));
    expect(await start()).to.equal('E_REMOTE_ACTION');
    const note = new StoppedNote(STATE, vm.id, { fs: world.files, random: world.random });
    const { storeId } = world.site.receiver.store;
    const by = { storeId, operationId: OPERATION, epoch: 2n };
    for (const strange of [
      { ...by, storeId: testGuid(0xbad) },
      { ...by, epoch: 3n },
    ]) {
      await note.write(strange);
      expect(await start()).to.equal('E_REMOTE_ACTION');
    }
    world.files.put(join(STATE, stoppedFileName(vm.id)), Buffer.from('{"nothing": 1}'));
    expect(await start()).to.equal('E_FILE_DAMAGED');
    await note.write(by);
    await world.running(source.start(vm.id, orderOf(2n)));
    expect(vm.powerState).to.equal('running');
  });

  it('keeps the epoch that it is told, blocks the start, and refuses what is older', async () => {
    await world.attach(['shutdown', 'start']);
    const { source, vm } = world;
    vm.powerState = 'off';
    const word = { ...orderOf(2n), isSourceActive: false, isRetired: false };
    await world.running(source.tellEpoch(vm.id, word));
    expect(world.hypervisor.fences.get(vm.id)?.epoch).to.equal(2n);
    const told = await world.running(source.describe(vm.id));
    expect(told).to.include({ epoch: 2n, isFenced: true });
    for (const work of [
      () => source.unfence(vm.id, orderOf(1n)),
      () => source.start(vm.id, orderOf(1n)),
      () => source.tellEpoch(vm.id, { ...word, epoch: 1n, isSourceActive: true }),
      () => source.tellEpoch(vm.id, { ...word, isSourceActive: true }),
    ]) {
      expect((await refused(work)).code).to.equal('E_STALE_EPOCH');
    }
    expect((await refused(() => source.unfence(vm.id, orderOf(2n)))).code).to.equal('E_STATE');
    await world.running(source.tellEpoch(vm.id, { ...word, epoch: 3n, isSourceActive: true }));
    await world.running(source.unfence(vm.id, orderOf(3n)));
    expect(world.hypervisor.fences.has(vm.id)).to.equal(false);
  });

  it('leaves a VM that runs alone when another site is said to be active', async () => {
    await world.attach();
    const { source, vm } = world;
    const word = { operationId: OPERATION, epoch: 9n, isSourceActive: false, isRetired: false };
    await world.running(source.tellEpoch(vm.id, word));
    expect(vm.powerState).to.equal('running');
    expect(world.hypervisor.fences.has(vm.id)).to.equal(false);
    // the receiver is not at that epoch: it contradicts itself
    expect((await refused(() => world.cycle())).code).to.equal('E_HALTED');
  });

  it('skips the cycles of a VM that is retired', async () => {
    await world.attach();
    const { source, vm } = world;
    const word = { operationId: OPERATION, epoch: 1n, isSourceActive: true, isRetired: true };
    await world.running(source.tellEpoch(vm.id, word));
    const error = await refused(() => world.cycle());
    expect(error.context['state']).to.equal('committed');
  });

  it('tells the power state again when it changes', async () => {
    const claims: string[] = [];
    world.site.receiver.sources.onClaim = (vmId, { powerState }) => {
      claims.push(`${vmId === world.vm.id} ${powerState}`);
    };
    await world.attach();
    await world.clock.advance(1000);
    world.vm.powerState = 'off';
    for (let step = 0; step < 30 && claims.at(-1) !== 'true off'; step++) {
      await world.clock.advance(1000);
    }
    expect([claims[0], claims.at(-1)]).to.deep.equal(['true running', 'true off']);
  });

  it('tells a command why the receiver does not take its VMs, instead of trying for ever', async () => {
    const viewer = caller('somebody', 'viewer');
    const error = await refused(() => world.attach([], { as: viewer, isAtCommand: true }));
    expect(error.code).to.equal('E_AUTH');
    expect(error.message).to.contain('viewer');
  });

  it('takes no claim of a VM from whom it does not belong to', async () => {
    let count = 0;
    world.site.receiver.sources.onClaim = () => count++;
    await world.attach([], { as: caller('somebody else') });
    await world.clock.advance(1000);
    expect(count).to.equal(0);
  });
});

describe('an agent that says again and again that it is at it', () => {
  const patience = { questionMs: 30_000, quickMs: 60_000, longMs: 600_000 };
  const vmId = testGuid(0x51);
  let clock: FakeClock;
  let attachment: Attachment;

  beforeEach(() => {
    clock = new FakeClock();
    attachment = new Attachment(SOURCE, clock, patience);
  });

  /** Progress every ten seconds, for five minutes. */
  const chatter = async (): Promise<void> => {
    for (let n = 0; n < 30; n++) {
      await clock.advance(10_000);
      attachment.take({
        number: 1n,
        outcome: { $case: 'progress', value: { doneBytes: 1n, totalBytes: 2n } },
      });
    }
  };

  it('keeps nobody waiting who asks how the VM is', async () => {
    const asked = refusal(() => attachment.describe(vmId));
    await chatter();
    const error = await asked;
    expect(error.code).to.equal('E_SOURCE_UNREACHABLE');
    expect(error.message).to.include('within 30 s');
  });

  it('has its time for what takes time', async () => {
    let isOver = false;
    const ordered = refusal(() => attachment.fence(vmId, orderOf(1n))).finally(() => {
      isOver = true;
    });
    await chatter();
    expect(isOver).to.equal(false);
    attachment.end();
    await ordered;
  });
});
