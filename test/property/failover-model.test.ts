// Random lives of a protected VM at two sites against a model: failovers of each kind, tests, undo, restarts
// of the receiver, a source that goes away and comes back, a VM that is started by hand, a hypervisor that
// does not boot. Engine, agent, channel and both labs are the real ones. After every command the state and
// the error are those of the model, I1 to I5 hold, and who serves has the bytes that it should.

import { expect } from 'chai';
import fc from 'fast-check';
import { aReturn } from '../support/failback-acts.js';
import { type Act, act, applyWrites, serves, World } from '../support/failover-life.js';
import { FailoverModel, type Outcome } from '../support/failover-model.js';
import { FailoverPair, guestWritesOf, pairVolumes } from '../support/failover-pair.js';

const SLOW = process.env['SLOW'] === '1';
const RUNS = SLOW ? 300 : 10;
const COMMANDS_MAX = SLOW ? 40 : 18;
const TESTS_MAX = 2;

const give =
  (command: string, parameters: Readonly<Record<string, string>> = {}) =>
  ({ pair }: World): Promise<unknown> =>
    pair.operate(command, parameters);

/** The oldest point that is listed. */
async function unplannedToOldest({ pair }: World, isFencing: boolean): Promise<unknown> {
  const [oldest] = [...(await pair.desk()).vm.protection.listed].sort(
    (one, other) => one.consistentAtMs - other.consistentAtMs,
  );
  const fencing = isFencing ? { fence_source: 'yes' } : {};
  return pair.operate('unplanned', { ...fencing, point: oldest?.pointId ?? '' });
}

const nothing = (): Outcome => undefined;
const flag = fc.boolean();

const anAct: fc.Arbitrary<Act> = fc.oneof(
  { weight: 7, arbitrary: aReturn },
  {
    weight: 4,
    arbitrary: fc.nat(10_000).map((seed) =>
      act(
        `the guest at the primary writes (${seed})`,
        nothing,
        async ({ pair, home }) => {
          await pair.guestWrites(seed, 3);
          applyWrites(home, guestWritesOf(seed, 3));
        },
        ({ isSourceRunning }) => isSourceRunning,
      ),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.nat(10_000).map((seed) =>
      act(
        `the guest at the DR site writes (${seed})`,
        nothing,
        async ({ pair, serving }) => {
          await pair.targetWrites(seed, 3);
          applyWrites(serving, guestWritesOf(seed, 3));
        },
        serves,
      ),
    ),
  },
  {
    weight: 5,
    arbitrary: fc.constant(
      act(
        'cycle',
        (model) => model.cycle(),
        ({ pair }) => pair.cycle(),
        ({ isAttached }) => isAttached,
      ),
    ),
  },
  {
    weight: 5,
    arbitrary: fc.constant(act('planned', (model) => model.planned(), give('planned'))),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(flag, flag).map(([isFencing, hasPoint]) =>
      act(
        `unplanned${isFencing ? ', stops the source' : ''}${hasPoint ? ', oldest point' : ''}`,
        (model) => model.unplanned({ isFencing, hasPoint }),
        (world) =>
          hasPoint
            ? unplannedToOldest(world, isFencing)
            : world.pair.operate('unplanned', isFencing ? { fence_source: 'yes' } : {}),
      ),
    ),
  },
  {
    weight: 6,
    arbitrary: fc
      .constantFrom('undo' as const, 'abort' as const, 'undo' as const)
      .map((command) => act(command, (model) => model.takeBack(command), give(command))),
  },
  {
    weight: 1,
    arbitrary: fc.constant(act('permanent', (model) => model.permanent(), give('permanent'))),
  },
  {
    weight: 2,
    arbitrary: fc.constant(act('resume', (model) => model.resume(), give('resume'))),
  },
  {
    weight: 2,
    arbitrary: flag.map((isPaused) => {
      const command = isPaused ? 'pause' : 'unpause';
      return act(command, (model) => model.pause(isPaused), give(command));
    }),
  },
  {
    weight: 2,
    arbitrary: fc.constant(act('test', (model) => model.test(), give('test'))),
  },
  {
    weight: 2,
    arbitrary: fc.constant(
      act(
        'test that is kept',
        (model) => model.test(),
        async ({ pair }, model) => {
          const before = new Set(model.tests);
          await pair.operate('test', { keep: 'yes' });
          const { tests } = (await pair.desk()).vm.protection;
          model.tests = [...tests.keys()];
          expect(model.tests.filter((id) => !before.has(id))).to.have.length(1);
        },
        ({ tests }) => tests.length < TESTS_MAX,
      ),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constant(
      act(
        'stop of a test',
        nothing,
        ({ pair }, model) => pair.operate('test', { stop: model.tests.shift() ?? '' }),
        ({ tests }) => tests.length > 0,
      ),
    ),
  },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom('source' as const, 'replica' as const)
      .map((side) =>
        act(`resolve for the ${side}`, (model) => model.resolve(side), give('resolve', { side })),
      ),
  },
  {
    weight: 3,
    arbitrary: fc.constant(
      act(
        'the receiver is started again',
        (model) => {
          model.restart();
          return undefined;
        },
        async (world, { isAttached }) => {
          await world.pair.close();
          const { primary, dr, history } = world;
          world.pair = await FailoverPair.open({ primary, dr, history, isAttached });
          await world.pair.settle();
        },
      ),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.constant(
      act(
        'the source goes away, or comes back',
        (model) => {
          model.isAttached = !model.isAttached;
          return undefined;
        },
        async ({ pair }, { isAttached }) => (isAttached ? pair.attach() : pair.detach()),
      ),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.constant({
      check: ({ state }: Readonly<FailoverModel>) =>
        state !== 'FAILING_BACK' && state !== 'FAILED_BACK',
      run: startByHand,
      toString: () => 'somebody starts or stops the VM at the primary',
    }),
  },
  {
    weight: 2,
    arbitrary: fc.constant(
      act(
        'the hypervisor of the DR site begins or ends to fail at power-on',
        (model) => {
          model.isBootFailing = !model.isBootFailing;
          return undefined;
        },
        async ({ pair: { target } }, { isBootFailing }) =>
          isBootFailing ? target.setFault('boot-fails') : target.clearFault('boot-fails'),
      ),
    ),
  },
);

/** The same lives, with more of what leads home. */
const onTheWayHome = fc.oneof({ weight: 1, arbitrary: anAct }, { weight: 1, arbitrary: aReturn });

/** Whether it starts is what the fence at the primary says, which the state alone does not tell. */
async function startByHand(model: FailoverModel, world: World): Promise<void> {
  const { source, vmId } = world.pair;
  const isFenced = (await source.fenceOf(vmId)) !== undefined;
  const isStart = !model.isSourceRunning;
  const label = isStart ? 'somebody starts the VM' : 'somebody stops the VM';
  await act(
    label,
    () => {
      if (isStart && isFenced) return 'E_FENCED';
      model.isSourceRunning = isStart;
      return undefined;
    },
    () => (isStart ? source.startVm(vmId) : source.turnOffVm(vmId)),
  ).run(model, world);
}

/** Lives that begin with what `first` does. */
async function expectAsTheModel(
  anAct: fc.Arbitrary<Act>,
  numRuns: number,
  first: readonly Act[],
): Promise<void> {
  const base = await pairVolumes(2);
  await fc.assert(
    fc.asyncProperty(
      fc.commands([anAct], { maxCommands: COMMANDS_MAX, size: 'max' }),
      async (commands) => {
        const volumes = {
          primary: base.primary.clone(),
          dr: base.dr.clone(),
          history: new Map(base.history),
        };
        const world = await World.begin(volumes, await FailoverPair.open(volumes));
        const model = new FailoverModel();
        try {
          for (const each of first) await each.run(model, world);
          await fc.asyncModelRun(() => ({ model, real: world }), commands);
        } finally {
          await world.pair.close();
        }
      },
    ),
    { numRuns },
  );
}

describe('property: failovers of two sites', function () {
  this.timeout(SLOW ? 7_200_000 : 240_000);

  it('go as the model says, whatever comes', () => expectAsTheModel(anAct, RUNS, []));

  it('and so do their ways home', () =>
    expectAsTheModel(onTheWayHome, RUNS, [
      act('planned', (model) => model.planned(), give('planned')),
    ]));
});
