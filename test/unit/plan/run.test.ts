// Runs of plans against a receiver that is a double: order, failures, pauses, and what a run that lost
// its orchestrator does when it is resumed.

import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import type { RunEnd } from '../../../shared/plan/index.js';
import { PlanWorld } from '../../support/plan-world.js';
import { refusal } from '../../support/refusal.js';

const APP = `
version: 1
name: App
concurrency: 10
on_error: continue
steps:
  - group: databases
    steps: [{vm: DB1}, {vm: DB2}]
  - {vm: APP, depends_on: DB1}
  - {vm: WEB, depends_on: APP}
`;

const statuses = ({ record }: RunEnd): Record<string, string> =>
  Object.fromEntries(Object.entries(record.tasks).map(([key, { status }]) => [key, status]));

describe('run of a plan, unplanned', () => {
  it('starts in the order of the plan, members of a group beside each other', async () => {
    const world = new PlanWorld(APP);
    const end = await world.begin('unplanned');
    expect(end.record).to.include({ state: 'DONE', outcome: 'done' });
    expect(world.commands.effects.map(({ vm, atMs }) => `${vm} ${atMs / 1000}`)).to.deep.equal([
      ...['DB1 9', 'DB2 9', 'APP 18', 'WEB 27'],
    ]);
    expect(world.seen.filter((word) => !word.includes(':'))).to.deep.equal([
      ...['READY', 'CHECKING', 'RUNNING', 'DONE'],
    ]);
  });

  it('leaves out only what depends on a member that failed, and names it', async () => {
    const world = new PlanWorld(APP);
    world.commands.vm('DB2').failsAt = 'unplanned';
    const other = await world.begin('unplanned');
    expect(statuses(other)).to.deep.equal({
      ...{ 'run DB1': 'done', 'run DB2': 'failed', 'run APP': 'done', 'run WEB': 'done' },
    });
    expect(other.record).to.include({ state: 'DONE_WITH_ERRORS', outcome: 'with-errors' });

    const again = new PlanWorld(APP);
    again.commands.vm('DB1').failsAt = 'unplanned';
    const { record } = await again.begin('unplanned');
    expect(record.tasks['run DB2']?.status).to.equal('done');
    expect(record.tasks['run APP']).to.deep.include({
      status: 'skipped',
      words: 'it depends on DB1, which failed',
    });
    expect(record.tasks['run WEB']?.words).to.equal('it depends on APP, which was left out');
  });

  it('skips and counts VMs that are where it leads', async () => {
    const world = new PlanWorld(APP);
    world.commands.vm('DB1').state = 'FAILED_OVER';
    const end = await world.begin('unplanned');
    expect(statuses(end)['run DB1']).to.equal('already');
    expect(end.record.outcome).to.equal('done');
    expect(world.commands.timesOf('DB1', 'unplanned')).to.deep.equal([]);
  });

  it('touches nothing when one VM refuses, unless the run is partial', async () => {
    const world = new PlanWorld(APP);
    world.commands.vm('APP').refusal = { code: 'E_NO_POINT', message: 'it has no point' };
    const refused = await world.begin('unplanned');
    expect(refused.record).to.include({ state: 'CANCELLED', outcome: 'cancelled' });
    expect(refused.check?.refusals).to.deep.equal([
      { step: 'APP', code: 'E_NO_POINT', message: 'it has no point' },
    ]);
    expect(world.commands.effects).to.deep.equal([]);

    const partial = await world.begin('unplanned', { isPartial: true });
    expect(statuses(partial)).to.deep.equal({
      ...{ 'run DB1': 'done', 'run DB2': 'done', 'run APP': 'failed', 'run WEB': 'skipped' },
    });
    expect(partial.record.outcome).to.equal('with-errors');
  });

  it('refuses members that would have one address, unless both keep what they had', async () => {
    const address = { adapter: 'nic', switchName: 'DR', from: '2001:db8:1::5/64', isByRule: true };
    const check = async (
      kind: 'unplanned' | 'test',
      first: object,
      second: object,
    ): Promise<string[]> => {
      const world = new PlanWorld(APP);
      world.commands.vm('DB1').addresses = [{ ...address, to: '2001:db8::5/64', ...first }];
      world.commands.vm('WEB').addresses = [{ ...address, to: '2001:DB8:0::5/48', ...second }];
      const { check: found } = await world.begin(kind);
      return (found?.refusals ?? []).map(({ step, code, message }) => `${step} ${code} ${message}`);
    };
    const told = ['WEB E_REIP_CONFLICT adapter nic of WEB is to have 2001:DB8:0::5/48, as is DB1'];
    const kept = { isByRule: false };
    expect(await check('unplanned', {}, {})).to.deep.equal(told);
    expect(await check('unplanned', kept, { switchName: 'DR2' })).to.deep.equal(told);
    expect(await check('unplanned', kept, kept)).to.deep.equal([]);
    expect(await check('unplanned', {}, { switchName: '' })).to.deep.equal([]);
    expect(await check('test', {}, {})).to.deep.equal(told);
    expect(await check('test', {}, { switchName: 'other' })).to.deep.equal([]);
  });

  it('keeps to the concurrency of plan and groups', async () => {
    const vms = Array.from({ length: 12 }, (_, i) => `{vm: V${i}}`).join(', ');
    const text = (own: string): string =>
      `version: 1\nname: P\nconcurrency: 5\nsteps:\n  - group: g\n${own}    steps: [${vms}]\n`;
    const world = new PlanWorld(text(''));
    await world.begin('unplanned');
    expect(world.commands.busyMax).to.equal(5);
    const narrow = new PlanWorld(text('    concurrency: 2\n'));
    await narrow.begin('unplanned');
    expect(narrow.commands.busyMax).to.equal(2);
  });

  it('holds a VM for one run at a time', async () => {
    const world = new PlanWorld(
      `version: 1\nname: One\nsteps: [{vm: A}, {message: wait}, {vm: B}]\n`,
    );
    expect((await world.begin('unplanned')).record.state).to.equal('PAUSED');
    expect((await refusal(() => world.begin('unplanned'))).code).to.equal('E_STATE');

    const other = new PlanWorld(`version: 1\nname: Two\nsteps: [{vm: B}]\n`);
    for (const file of world.fs.paths)
      other.fs.put(file, world.fs.content(file) ?? Buffer.alloc(0));
    const sameVm = world.commands.vm('B');
    other.commands.vms.set('B', sameVm);
    const { code, message } = await refusal(() => other.begin('unplanned'));
    expect(code).to.equal('E_LOCKED');
    expect(message).to.contain('B belongs to the run of the plan One');
  });
});

describe('steps between the VMs of a plan', () => {
  const text = `
version: 1
name: Steps
on_error: stop
steps:
  - vm: DB
  - wait-for: {tcp: "10.9.0.1:5432", timeout: 60}
    name: db-answers
  - script: {name: dns.sh, about: DB}
  - delay: 30
  - vm: APP
    depends_on: db-answers
`;

  it('are done in their place', async () => {
    const world = new PlanWorld(text);
    let tries = 0;
    world.connect = () => (++tries < 4 ? Promise.reject(new Error('refused')) : Promise.resolve());
    const { record } = await world.begin('unplanned');
    expect(record.state).to.equal('DONE');
    // 9 s for the VM, three times 2 s of waiting, 30 s of delay, 9 s for the VM
    expect(world.commands.timesOf('APP', 'unplanned')).to.deep.equal([54_000]);
    expect(world.scripts).to.deep.equal(['/scripts/dns.sh']);
  });

  it('stop the run with on_error: stop when they fail', async () => {
    const world = new PlanWorld(text);
    world.connect = () => Promise.reject(new Error('refused'));
    const { record } = await world.begin('unplanned');
    expect(record).to.include({ state: 'CANCELLED', outcome: 'cancelled' });
    expect(record.tasks['run db-answers']).to.deep.include({ status: 'failed', code: 'E_STALLED' });
    expect(record.tasks['run APP']?.status).to.equal('skipped');
    expect(world.scripts).to.deep.equal([]);
  });

  it('are refused at the check when a script is not there', async () => {
    const world = new PlanWorld(text);
    await world.fs.remove('/scripts/dns.sh');
    const { record, check } = await world.begin('unplanned', { isPartial: true });
    expect(record.outcome).to.equal('cancelled');
    expect(check?.refusals.map(({ code }) => code)).to.deep.equal(['E_NOT_FOUND']);
  });

  it('pause the run for a message until it is resumed', async () => {
    const world = new PlanWorld(
      `version: 1\nname: M\nsteps:\n  - vm: A\n  - message: Plug in the cable\n  - vm: B\n`,
    );
    const paused = await world.begin('unplanned');
    expect(paused.record).to.deep.include({
      state: 'PAUSED',
      pause: { because: 'message', step: 'message 2', text: 'Plug in the cable' },
    });
    expect(world.commands.vm('B').state).to.equal('PROTECTED');
    const end = await world.resume();
    expect(end.record.state).to.equal('DONE');
    expect(world.commands.timesOf('A', 'unplanned')).to.have.length(1);
  });
});

describe('run of a plan with on_error: ask', () => {
  const text = APP.replace('continue', 'ask');
  const failing = async (): Promise<PlanWorld> => {
    const world = new PlanWorld(text);
    world.commands.vm('DB1').failsAt = 'unplanned';
    const { record } = await world.begin('unplanned');
    expect(record.state).to.equal('PAUSED');
    expect(record.pause).to.include({ because: 'error', step: 'DB1' });
    // what was under way came to its end, and nothing new began
    expect(record.tasks['run DB2']?.status).to.equal('done');
    expect(record.tasks['run APP']).to.equal(undefined);
    return world;
  };

  it('tries again what failed', async () => {
    const world = await failing();
    world.commands.vm('DB1').failsAt = undefined;
    const { record } = await world.resume('retry');
    expect(record.state).to.equal('DONE');
    expect(world.commands.timesOf('DB2', 'unplanned')).to.have.length(1);
  });

  it('goes on without it', async () => {
    const world = await failing();
    const { record } = await world.resume('skip');
    expect(record.state).to.equal('DONE_WITH_ERRORS');
    expect(record.tasks['run WEB']?.status).to.equal('skipped');
    expect(world.commands.timesOf('DB1', 'unplanned failed')).to.have.length(1);
  });

  it('gives the run up, and frees its VMs', async () => {
    const world = await failing();
    const { record } = await world.resume('cancel');
    expect(record).to.include({ state: 'CANCELLED', outcome: 'cancelled' });
    expect((await refusal(() => world.resume())).code).to.equal('E_STATE');
    world.commands.vm('DB1').failsAt = undefined;
    expect((await world.begin('unplanned')).record.state).to.equal('DONE');
  });

  it('is not resumed with another text', async () => {
    const world = await failing();
    const { code } = await refusal(() => world.resume('retry', { planHash: 'other' }));
    expect(code).to.equal('E_STATE');
  });
});

describe('run of a plan, planned', () => {
  it('powers off in reverse order, sends last deltas beside each other, starts in order', async () => {
    const world = new PlanWorld(APP);
    const { record } = await world.begin('planned');
    expect(record.state).to.equal('DONE');
    const at = (vm: string, what: string): number | undefined =>
      world.commands.timesOf(vm, `planned ${what}`)[0];
    expect(['WEB', 'APP', 'DB1', 'DB2'].map((vm) => at(vm, 'off'))).to.deep.equal([
      ...[3000, 6000, 9000, 9000],
    ]);
    expect(['DB1', 'DB2', 'APP', 'WEB'].map((vm) => at(vm, 'up'))).to.deep.equal([
      ...[15_000, 15_000, 18_000, 21_000],
    ]);
  });

  it('starts at the primary site again what was shut down for nothing', async () => {
    const world = new PlanWorld(APP);
    world.commands.vm('DB1').failsAt = 'planned';
    const { record } = await world.begin('planned');
    expect(record.state).to.equal('DONE_WITH_ERRORS');
    expect(record.tasks['leave DB1']).to.include({ status: 'failed', code: 'E_HYPERVISOR' });
    for (const vm of ['DB1', 'APP', 'WEB']) {
      expect(world.commands.vm(vm).state, vm).to.equal('PROTECTED');
      expect(world.commands.timesOf(vm, 'abort'), vm).to.have.length(1);
    }
    expect(record.tasks['leave APP']?.words).to.contain('runs at the primary site');
    expect(world.commands.vm('DB2').state).to.equal('FAILED_OVER');
  });

  it('stops a VM that is still leaving only when it has left', async () => {
    const world = new PlanWorld(APP.replace('continue', 'stop'));
    world.commands.vm('WEB').durationMs = 90_000;
    world.commands.vm('DB1').failsAt = 'planned';
    const { record } = await world.begin('planned');
    expect(record.state).to.equal('CANCELLED');
    for (const vm of world.commands.vms.values()) expect(vm.state, vm.vmName).to.equal('PROTECTED');
  });

  it('given up while it waits, starts everything at the primary site that has not come up', async () => {
    const world = new PlanWorld(
      APP.replace('  - {vm: WEB', '  - message: look\n  - {vm: WEB').replace('continue', 'ask'),
    );
    const paused = await world.begin('planned');
    expect(paused.record.pause?.because).to.equal('message');
    expect(world.commands.vm('WEB').state).to.equal('FAILING_OVER');
    const { record } = await world.resume('cancel');
    expect(record).to.include({ state: 'CANCELLED', outcome: 'cancelled' });
    expect(world.commands.vm('WEB').state).to.equal('PROTECTED');
    expect(world.commands.vm('APP').state).to.equal('FAILED_OVER');
  });
});

describe('run of a plan, undo and permanent', () => {
  it('undoes in reverse order, the VMs alone', async () => {
    const world = new PlanWorld(APP.replace('  - {vm: APP', '  - script: dns.sh\n  - {vm: APP'));
    for (const vm of world.commands.vms.values()) vm.state = 'FAILED_OVER';
    const { record } = await world.begin('undo');
    expect(record.state).to.equal('DONE');
    expect(world.commands.effects.map(({ vm, atMs }) => `${vm} ${atMs / 1000}`)).to.deep.equal([
      ...['WEB 9', 'APP 18', 'DB2 27', 'DB1 27'],
    ]);
  });

  it('counts VMs that are not failed over, and does not undo under what still runs', async () => {
    const world = new PlanWorld(APP);
    for (const vm of world.commands.vms.values()) vm.state = 'FAILED_OVER';
    world.commands.vm('WEB').state = 'PROTECTED';
    world.commands.vm('APP').failsAt = 'undo';
    const end = await world.begin('undo');
    expect(statuses(end)).to.deep.equal({
      ...{ 'run WEB': 'already', 'run APP': 'failed', 'run DB1': 'skipped', 'run DB2': 'done' },
    });
  });

  it('wants the check confirmed that it carries out', async () => {
    const world = new PlanWorld(APP);
    for (const vm of world.commands.vms.values()) vm.state = 'FAILED_OVER';
    const wrong = await refusal(() => world.begin('permanent', { confirmed: 'another' }));
    expect(wrong.code).to.equal('E_CONFIRM');
    expect(world.commands.effects).to.deep.equal([]);
    expect((await world.begin('permanent')).record.state).to.equal('DONE');
  });
});

describe('run of a plan as a test', () => {
  it('keeps all clones until every check was made, then takes them away', async () => {
    const world = new PlanWorld(APP);
    const end = await world.begin('test');
    expect(end.record).to.include({ state: 'READY', outcome: 'done' });
    expect(world.seen.filter((word) => !word.includes(':')).slice(-3)).to.deep.equal([
      ...['TEST_DONE', 'CLEANUP', 'READY'],
    ]);
    for (const vm of world.commands.vms.values()) {
      expect(vm.tests.size).to.equal(0);
      expect(vm.state).to.equal('PROTECTED');
    }
  });

  it('waits with the clones when it is told to', async () => {
    const world = new PlanWorld(APP);
    const kept = await world.begin('test', { isKept: true });
    expect(kept.record).to.include({ state: 'TEST_DONE', outcome: undefined });
    expect(world.commands.vm('DB1').tests.size).to.equal(1);
    expect((await world.resume()).record).to.include({ state: 'READY', outcome: 'done' });
    expect(world.commands.vm('DB1').tests.size).to.equal(0);
  });

  it('ends with errors when a VM does not pass', async () => {
    const world = new PlanWorld(APP);
    world.commands.vm('DB1').isTestBad = true;
    const { record } = await world.begin('test');
    expect(record).to.include({ state: 'READY', outcome: 'with-errors' });
    expect(record.tasks['run APP']?.status).to.equal('skipped');
    expect(world.commands.vm('DB1').tests.size).to.equal(0);
  });

  it('says when a clone is still there, and tries again', async () => {
    const world = new PlanWorld(APP);
    world.commands.vm('DB1').failsAt = 'stop';
    const { record } = await world.begin('test');
    expect(record).to.include({ state: 'CLEANUP_INCOMPLETE', outcome: undefined });
    expect(record.tasks['run DB1']?.words).to.contain('could not be removed');
    world.commands.vm('DB1').failsAt = undefined;
    expect((await world.resume()).record).to.include({ state: 'READY', outcome: 'done' });
  });
});

describe('run of a plan whose receiver goes away', () => {
  it('asks the VM what became of the command, and goes on', async () => {
    const world = new PlanWorld(APP);
    const { commands } = world;
    const run = commands.run.bind(commands);
    let lostCount = 0;
    commands.run = async (order) => {
      const outcome = await run(order);
      if (order.vm !== 'DB1' || ++lostCount > 1) return outcome;
      throw new DrError('E_CHANNEL', 'the connection was lost');
    };
    const { record } = await world.begin('unplanned');
    expect(record.outcome).to.equal('done');
    expect(commands.timesOf('DB1', 'unplanned')).to.have.length(1);
  });

  it('gives a VM up after a while', async () => {
    const world = new PlanWorld(APP);
    let tryCount = 0;
    world.commands.run = () => {
      tryCount++;
      return Promise.reject(new DrError('E_CHANNEL', 'the connection was lost'));
    };
    const { record } = await world.begin('unplanned');
    expect(record.tasks['run DB1']).to.include({ status: 'failed', code: 'E_CHANNEL' });
    expect(tryCount).to.equal(12);
  });
});

describe('run of a plan that is stopped', () => {
  it('is INTERRUPTED at once, and goes on where its VMs are', async () => {
    const world = new PlanWorld(APP);
    const stop = new AbortController();
    void world.clock.sleep(12_000).then(() => {
      stop.abort(new Error('SIGINT'));
    });
    const { record } = await world.begin('unplanned', { signal: stop.signal });
    expect(record).to.include({ state: 'INTERRUPTED', outcome: undefined });
    expect(record.tasks['run APP']?.status).to.equal('running');
    const end = await world.resume();
    expect(end.record.state).to.equal('DONE');
    for (const vm of ['DB1', 'DB2', 'APP', 'WEB']) {
      expect(world.commands.timesOf(vm, 'unplanned'), vm).to.have.length(1);
    }
  });
});
