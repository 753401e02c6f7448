// Hyper-V Replica against a model of its two sides: each order in each state, cut off between any two calls.

import { expect } from 'chai';
import { DrError } from '../../../../shared/errors.js';
import { Fields } from '../../../../shared/hypervisor/fields.js';
import type { ReplicaOrder, ReplicaStep } from '../../../../shared/hypervisor/index.js';
import { courseOf } from '../../../../shared/hypervisor/hyperv/replica/steps.js';
import {
  readHealth,
  readMode,
  readState,
  STATES,
} from '../../../../shared/hypervisor/hyperv/replica/states.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { refusal } from '../../../support/refusal.js';
import {
  Killed,
  POINT,
  RECORDED,
  relationOf,
  ReplicaPair,
  type ReplicaSide,
  VM,
} from '../../../support/replica/pair.js';

const ENABLE: ReplicaOrder = {
  verb: 'enable',
  settings: {
    ...{ replicaServer: 'hv2', port: 80, authentication: 'Kerberos' },
    ...{ certificateThumbprint: undefined, intervalSeconds: 300, recoveryPoints: 4, vssHours: 0 },
    excludedDiskPaths: [],
  },
  initial: { by: 'network' },
};
const PREPARE: ReplicaOrder = { verb: 'prepare', shutdownMs: 1000, mayTurnOff: false };
const ORDERS: readonly ReplicaOrder[] = [
  ENABLE,
  { verb: 'accept' },
  { verb: 'import', folder: '/seed' },
  PREPARE,
  { verb: 'planned' },
  { verb: 'unplanned', pointId: undefined },
  { verb: 'test', pointId: undefined },
  { verb: 'test-stop' },
  { verb: 'undo' },
  { verb: 'complete' },
  { verb: 'reverse' },
  { verb: 'cancel', startsVm: false },
  { verb: 'pause' },
  { verb: 'resume' },
  { verb: 'resync' },
  { verb: 'remove' },
];

async function give(side: ReplicaSide, order: ReplicaOrder): Promise<string[]> {
  const steps: ReplicaStep[] = [];
  const { signal } = new AbortController();
  await side.host().carryOut(VM, order, { onStep: (step) => steps.push(step), signal });
  return steps.map(({ name }) => name);
}

type Story = readonly (readonly ['primary' | 'replica', ReplicaOrder])[];

async function tell(pair: ReplicaPair, story: Story): Promise<void> {
  for (const [side, order] of story) await give(pair[side], order);
}

describe('Hyper-V Replica', () => {
  it('has a phase of ours for each state that Windows names', () => {
    expect(Object.keys(STATES)).to.have.members(RECORDED.states.names);
    expect(readState('22')).to.deep.equal({ phase: 'HALTED', state: 'unknown(22)' });
    expect(readState('toString').phase).to.equal('HALTED');
    expect([readMode('7'), readHealth('9')]).to.deep.equal(['unknown(7)', 'critical']);
  });

  it('is enabled and copied once, however often it is asked for', async () => {
    const pair = new ReplicaPair();
    expect(await give(pair.primary, ENABLE)).to.deep.equal(['enable', 'first copy']);
    expect(await give(pair.primary, ENABLE)).to.deep.equal([]);
    expect(pair.primary.trace).to.deep.equal(['replica.enable', 'replica.startInitial']);
    const elsewhere: ReplicaOrder = {
      ...ENABLE,
      settings: { ...ENABLE.settings, replicaServer: 'hv3' },
    };
    const error = await refusal(() => give(pair.primary, elsewhere));
    expect(error.code).to.equal('E_STATE');
    expect(error.hint).to.contain('hvdr replica remove');
  });

  it('takes a first copy from a folder, and from a copy that was restored', async () => {
    const pair = new ReplicaPair();
    await give(pair.primary, { ...ENABLE, initial: { by: 'media', folder: '/seed' } });
    expect(pair.primary.relation?.state).to.equal('InitialReplicationInProgress');
    await give(pair.replica, { verb: 'import', folder: '/seed' });
    expect(pair.replica.relation?.state).to.equal('Replicating');

    const restored = new ReplicaPair();
    await give(restored.replica, { verb: 'accept' });
    await give(restored.primary, { ...ENABLE, initial: { by: 'backup' } });
    expect(restored.replica.relation?.state).to.equal('Replicating');
  });

  for (const replicaShowsPrepared of [true, false]) {
    it(`moves a VM in the documented order (replica shows the preparation: ${replicaShowsPrepared})`, async () => {
      const pair = ReplicaPair.replicating();
      pair.replicaShowsPrepared = replicaShowsPrepared;
      expect(await give(pair.primary, PREPARE)).to.deep.equal(['shut down', 'prepare']);
      expect(await give(pair.replica, { verb: 'planned' })).to.deep.equal([
        ...['failover', 'reverse', 'start'],
      ]);
      expect(pair.primary.trace).to.deep.equal(['shut down', 'replica.prepare']);
      expect(pair.replica.trace).to.deep.equal([
        ...['replica.failover', 'replica.reverse', 'start VM'],
      ]);
      expect([pair.primary.power, pair.replica.power]).to.deep.equal(['off', 'running']);
    });
  }

  it('moves home again by the same orders with the sides swapped', async () => {
    const pair = ReplicaPair.replicating();
    await tell(pair, [
      ['primary', PREPARE],
      ['replica', { verb: 'planned' }],
      ['replica', PREPARE],
      ['primary', { verb: 'planned' }],
    ]);
    expect([pair.primary.power, pair.replica.power]).to.deep.equal(['running', 'off']);
    expect(pair.primary.relation?.mode).to.equal('Primary');
  });

  it('makes no planned failover of a VM that was not prepared, nor at the side it leaves', async () => {
    const pair = ReplicaPair.replicating();
    const unprepared = await refusal(() => give(pair.replica, { verb: 'planned' }));
    expect(unprepared.code).to.equal('E_STATE');
    expect(unprepared.hint).to.contain(
      'First at hv1.example: `hvdr replica failover prepare SQL01',
    );
    await give(pair.primary, PREPARE);
    const wrong = await refusal(() => give(pair.primary, { verb: 'planned' }));
    expect(wrong.hint).to.contain('Go on at hv2.example');
    expect(pair.primary.power).to.equal('off');
  });

  it('names the other side when an order is given to the wrong one', async () => {
    const pair = ReplicaPair.replicating();
    const error = await refusal(() => give(pair.replica, PREPARE));
    expect(error.line).to.contain('run the command at hv1.example');
    expect(pair.replica.trace).to.deep.equal([]);
  });

  it('turns a guest off that does not stop only where that is allowed', async () => {
    const pair = ReplicaPair.replicating();
    pair.primary.isStubborn = true;
    expect((await refusal(() => give(pair.primary, PREPARE))).code).to.equal('E_SHUTDOWN_TIMEOUT');
    expect(pair.primary.power).to.equal('running');
    await give(pair.primary, { ...PREPARE, mayTurnOff: true });
    expect(pair.primary.relation?.state).to.equal('PreparedForFailover');
  });

  it('fails over to a chosen point and says what is lost', async () => {
    const pair = ReplicaPair.replicating();
    const order: ReplicaOrder = { verb: 'unplanned', pointId: POINT };
    const plan = await pair.replica.host().plan(VM, order);
    expect(plan.losesAfterMs).to.equal(Date.UTC(2026, 0, 1));
    expect(plan.isDestructive).to.equal(true);
    expect(pair.replica.trace, 'a plan does nothing').to.deep.equal([]);
    await give(pair.replica, order);
    expect(pair.replica.power).to.equal('running');
    const unknown: ReplicaOrder = { verb: 'unplanned', pointId: VM };
    const error = await refusal(() => pair.replica.host().plan(VM, unknown));
    expect(error.code).to.equal('E_NO_POINT');
  });

  it('starts no test VM that production could see', async () => {
    const pair = ReplicaPair.replicating();
    pair.replica.testSwitch = 'LAN';
    const test: ReplicaOrder = { verb: 'test', pointId: undefined };
    const error = await refusal(() => give(pair.replica, test));
    expect(error.code).to.equal('E_NOT_ISOLATED');
    expect(pair.replica.testPower).to.equal('off');
    await give(pair.replica, { verb: 'test-stop' });
    pair.replica.testSwitch = 'Bubble';
    await give(pair.replica, test);
    expect(pair.replica.testPower).to.equal('running');
  });

  it('starts no test VM on one of two switches of a name, unless both are private', async () => {
    const pair = ReplicaPair.replicating();
    pair.replica.switches.push({ name: 'Bubble', isPrivate: false });
    pair.replica.testSwitch = 'Bubble';
    const test: ReplicaOrder = { verb: 'test', pointId: undefined };
    expect((await refusal(() => give(pair.replica, test))).code).to.equal('E_NOT_ISOLATED');
    expect(pair.replica.testPower).to.equal('off');
  });

  it('never ends a failover where a test was meant, nor the other way round', async () => {
    const pair = ReplicaPair.replicating();
    await give(pair.replica, { verb: 'test', pointId: undefined });
    for (const verb of ['unplanned', 'planned'] as const) {
      const order: ReplicaOrder = verb === 'planned' ? { verb } : { verb, pointId: undefined };
      expect((await refusal(() => give(pair.replica, order))).code).to.equal('E_STATE');
    }
    expect((await refusal(() => give(pair.replica, { verb: 'undo' }))).code).to.equal(
      'E_NOTHING_TO_UNDO',
    );
    await give(pair.replica, { verb: 'test-stop' });
    await give(pair.replica, { verb: 'unplanned', pointId: undefined });
    expect((await refusal(() => give(pair.replica, { verb: 'test-stop' }))).code).to.equal(
      'E_STATE',
    );
    expect(pair.replica.power).to.equal('running');
  });

  describe('of a VM with an extended replica at a third host', () => {
    const extended = (state = 'Replicating'): ReplicaPair => {
      const pair = ReplicaPair.replicating();
      pair.replica.extension = relationOf(state, 'Replica');
      return pair;
    };

    it('shows both relations, whichever comes first, and the third host its own', async () => {
      const { relation, extension } = await extended('Suspended').replica.host().view(VM);
      expect([relation?.state, relation?.replicaServer]).to.deep.equal([
        'Replicating',
        'hv2.example',
      ]);
      expect([extension?.state, extension?.replicaServer]).to.deep.equal([
        'Suspended',
        'hv3.example',
      ]);
      const third = new ReplicaPair();
      third.replica.extension = relationOf('Replicating', 'ExtendedReplica');
      const there = await third.replica.host().view(VM);
      expect([there.relation?.relationship, there.extension]).to.deep.equal([
        'Extended',
        undefined,
      ]);
    });

    it('gives no order to the second, also when the first has gone', async () => {
      for (const order of [{ verb: 'pause' }, { verb: 'resume' }, { verb: 'remove' }] as const) {
        const pair = extended();
        if (order.verb === 'resume') await give(pair.replica, { verb: 'pause' });
        await give(pair.replica, order);
        await give(pair.replica, order).catch(() => undefined);
        expect(pair.replica.extension, order.verb).to.deep.equal(
          relationOf('Replicating', 'Replica'),
        );
      }
      const pair = extended();
      await give(pair.replica, { verb: 'remove' });
      expect(pair.replica.relation).to.equal(undefined);
      expect(await give(pair.replica, { verb: 'remove' })).to.deep.equal([]);
      for (const order of [ENABLE, { verb: 'accept' }] as const) {
        const error = await refusal(() => give(pair.replica, order));
        expect(error.code).to.equal('E_STATE');
        expect(error.message).to.contain('hv3.example');
      }
      expect(pair.replica.trace).to.deep.equal(['replica.remove']);
    });

    it('refuses what may reach the second while that one fails over, and does it else', async () => {
      for (const order of [
        { verb: 'unplanned', pointId: undefined },
        { verb: 'test', pointId: undefined },
        { verb: 'undo' },
        { verb: 'complete' },
      ] as const) {
        const pair = extended('PreparedForFailover');
        const error = await refusal(() => give(pair.replica, order));
        expect(error.code, order.verb).to.equal('E_STATE');
        expect(error.message).to.contain('hv3.example');
        expect(pair.replica.trace, order.verb).to.deep.equal([]);
      }
      const pair = extended();
      await give(pair.replica, { verb: 'unplanned', pointId: undefined });
      expect(pair.replica.power).to.equal('running');
    });

    it('says so when two relations cannot be told apart', async () => {
      const pair = extended();
      const { replica } = pair;
      const run = replica.run.bind(replica);
      replica.run = async (operation, args) => {
        const answer = await run(operation, args);
        return Object.assign({}, answer, {
          relations: (answer as { relations: object[] }).relations.map((each) => ({
            ...each,
            relationship: 'Simple',
          })),
        });
      };
      const error = await refusal(() => replica.host().view(VM));
      expect(error.code).to.equal('E_HYPERVISOR');
    });
  });

  it('has one answer for each order in each state, and none at all in a state nobody knows', async () => {
    for (const state of [...RECORDED.states.names, '22']) {
      for (const mode of ['Primary', 'Replica', 'TestReplica', 'ExtendedReplica', '9']) {
        for (const order of ORDERS) {
          const pair = ReplicaPair.replicating();
          pair.primary.power = 'off';
          Object.assign(pair.primary.relation ?? {}, { state, mode });
          const plan = await pair.primary.host().plan(VM, order);
          const where = `${order.verb} in ${state} of ${mode}`;
          expect(plan.steps.length + (plan.refusal === undefined ? 0 : 1), where).to.be.at.least(
            plan.view.relation?.phase === 'HALTED' ? 1 : 0,
          );
          if (plan.view.relation?.phase === 'HALTED') {
            expect(plan.refusal?.exitCode, where).to.be.oneOf([10, 26]);
            await refusal(() => give(pair.primary, order));
            expect(pair.primary.trace, where).to.deep.equal([]);
          }
        }
      }
    }
  });

  it('says for a VM that is not replicated how that begins', async () => {
    const pair = new ReplicaPair();
    for (const order of ORDERS) {
      const view = await pair.primary.host().view(VM);
      const refused = courseOf(order).refuse(view);
      if (['enable', 'accept', 'remove'].includes(order.verb)) expect(refused).to.equal(undefined);
      else expect(refused?.code, order.verb).to.equal('E_NOT_PROTECTED');
    }
  });

  it('gives up, and says where it stands, when the state does not follow the command', async () => {
    const pair = ReplicaPair.replicating();
    const clock = new FakeClock();
    pair.replica.run = async (operation, args) => {
      if (operation.name === 'replica.suspend')
        return operation.read(
          new Fields({ done: 'yes' }, (field) => new DrError('E_HYPERVISOR', field)),
        );
      return pair.primary.run(operation, args);
    };
    const run = refusal(() =>
      pair.replica
        .host(clock)
        .carryOut(
          VM,
          { verb: 'pause' },
          { onStep: () => undefined, signal: new AbortController().signal },
        ),
    );
    await clock.advance(400_000);
    const error = await run;
    expect(error.code).to.equal('E_STALLED');
    expect(error.message).to.contain('SQL01 is still Replicating after "pause"');
  });

  it('has another plan as soon as anything has changed', async () => {
    const pair = ReplicaPair.replicating();
    const hash = async (order: ReplicaOrder): Promise<string> =>
      (await pair.replica.host().plan(VM, order)).hash;
    const before = await hash({ verb: 'unplanned', pointId: undefined });
    expect(await hash({ verb: 'unplanned', pointId: undefined })).to.equal(before);
    expect(await hash({ verb: 'unplanned', pointId: POINT })).not.to.equal(before);
    Object.assign(pair.replica.relation ?? {}, { state: 'Suspended' });
    expect(await hash({ verb: 'unplanned', pointId: undefined })).not.to.equal(before);
  });

  describe('cut off between any two calls and given again', () => {
    const stories: Readonly<
      Record<string, { readonly start: () => ReplicaPair; readonly story: Story }>
    > = {
      enable: { start: () => new ReplicaPair(), story: [['primary', ENABLE]] },
      planned: {
        start: () => ReplicaPair.replicating(),
        story: [
          ['primary', PREPARE],
          ['replica', { verb: 'planned' }],
        ],
      },
      'cancelled preparation': {
        start: () => ReplicaPair.replicating(),
        story: [
          ['primary', PREPARE],
          ['primary', { verb: 'cancel', startsVm: true }],
        ],
      },
      'unplanned, complete, reverse': {
        start: () => {
          const pair = ReplicaPair.replicating();
          pair.primary.power = 'off';
          return pair;
        },
        story: [
          ['replica', { verb: 'unplanned', pointId: undefined }],
          ['replica', { verb: 'complete' }],
          ['replica', { verb: 'reverse' }],
        ],
      },
      'unplanned, undo': {
        start: () => ReplicaPair.replicating(),
        story: [
          ['replica', { verb: 'unplanned', pointId: POINT }],
          ['replica', { verb: 'undo' }],
        ],
      },
      test: {
        start: () => ReplicaPair.replicating(),
        story: [
          ['replica', { verb: 'test', pointId: POINT }],
          ['replica', { verb: 'test-stop' }],
        ],
      },
      'pause, resync, remove': {
        start: () => ReplicaPair.replicating(),
        story: [
          ['primary', { verb: 'pause' }],
          ['primary', { verb: 'resync' }],
          ['primary', { verb: 'remove' }],
        ],
      },
    };
    for (const [name, { start, story }] of Object.entries(stories)) {
      it(`${name} comes to the same end, with each call made once`, async () => {
        const whole = start();
        await tell(whole, story);
        let killAt = 0;
        for (; ; killAt++) {
          const pair = start();
          pair.killAt = killAt;
          let kills = 0;
          for (const [side, order] of story) kills += await untilDone(pair[side], order);
          expect(pair.outcome, `killed at ${killAt}`).to.deep.equal(whole.outcome);
          for (const side of ['primary', 'replica'] as const) {
            expect(pair[side].trace, `killed at ${killAt}`).to.deep.equal(whole[side].trace);
          }
          if (kills === 0) break;
        }
        expect(killAt).to.be.at.least(2);
      });
    }
  });
});

/** How often it was cut off. A repeated undo finds nothing to undo when it was cut off behind its effect. */
async function untilDone(side: ReplicaSide, order: ReplicaOrder): Promise<number> {
  try {
    await give(side, order);
    return 0;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  }
  try {
    await give(side, order);
  } catch (error) {
    const isUndo = order.verb === 'undo' && error instanceof Error;
    if (!isUndo || !error.message.includes('no failover is open')) throw error;
  }
  return 1;
}
