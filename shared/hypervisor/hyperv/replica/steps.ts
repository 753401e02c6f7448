// What each order to Hyper-V Replica consists of, and in which states it is valid (hyperv.md § 4.3). A step is
// done when the state shows it, whoever did it: an order that was cut off finds its first steps done.

import type { Guid } from '../../../bytes/index.js';
import { DrError, type ErrorCode } from '../../../errors.js';
import type { ReplicaOrder, ReplicaRelation, ReplicaView } from '../../replica.js';
import type { Step } from './act.js';
import { crossed } from './extension.js';
import type { StateName } from './states.js';

export interface Course {
  /** Why the order is not valid now. */
  readonly refuse: (view: ReplicaView) => DrError | undefined;
  readonly steps: readonly Step[];
  readonly isDestructive: boolean;
}

type Side = 'primary' | 'replica';
/** What stands at a host: side and state, or no relation at all. */
type Known = ReplicaRelation & { readonly side: Side };

const SEEDING: readonly StateName[] = [
  'ReadyForInitialReplication',
  'InitialReplicationInProgress',
  'WaitingForInitialReplication',
];
/** A replica has points in these, and no failover is open. */
const WITH_POINTS: readonly StateName[] = [
  'Replicating',
  'Suspended',
  'Error',
  'WaitingForStartResynchronize',
  'Resynchronizing',
  'ResynchronizeSuspended',
  'WaitingForUpdateCompletion',
  'UpdateError',
];

export function courseOf(order: ReplicaOrder): Course {
  const course = courseAlone(order);
  return { ...course, refuse: (view) => crossed(view, course.steps, order) ?? course.refuse(view) };
}

/** What an order is, of a VM that has one relation. */
function courseAlone(order: ReplicaOrder): Course {
  switch (order.verb) {
    case 'enable':
      return enableCourse(order);
    case 'accept':
      return {
        isDestructive: false,
        refuse: (view) =>
          view.relation !== undefined && sideOf(view.relation) !== 'replica'
            ? refusal('E_STATE', view, 'it is no replica here', ['remove'])
            : halted(view),
        steps: [
          {
            name: 'accept',
            what: 'take this VM as the replica of one that comes from elsewhere',
            isDone: ({ relation }) => relation !== undefined,
            act: { do: 'accept' },
          },
        ],
      };
    case 'import':
      return {
        isDestructive: false,
        refuse: at('replica', (view, { state }) =>
          isIn(state, [...SEEDING, 'Replicating'])
            ? undefined
            : refusal('E_STATE', view, 'it waits for no first copy', []),
        ),
        steps: [
          {
            name: 'import',
            what: `take the first copy from ${order.folder}`,
            isDone: stateOtherThan(SEEDING),
            act: { do: 'import-initial', folder: order.folder },
          },
        ],
      };
    case 'prepare':
      return {
        isDestructive: false,
        refuse: at('primary', (view, { state }) =>
          isIn(state, ['Replicating', 'PreparedForFailover'])
            ? undefined
            : refusal('E_STATE', view, 'a planned failover wants a VM that replicates', ['resume']),
        ),
        steps: [
          {
            name: 'shut down',
            what: 'shut the guest down',
            isDone: ({ powerState }) => powerState === 'off',
            act: {
              do: 'shut-down',
              timeoutMs: order.shutdownMs,
              mayTurnOff: order.mayTurnOff,
            },
          },
          {
            name: 'prepare',
            what: 'send what is left to the replica, and hold the VM off',
            isDone: stateIs('PreparedForFailover'),
            act: { do: 'prepare' },
          },
        ],
      };
    case 'planned':
      return { isDestructive: false, refuse: refusePlanned, steps: plannedSteps() };
    case 'unplanned':
      return {
        isDestructive: true,
        refuse: at('replica', (view, { state, test }) => {
          if (isIn(state, SEEDING)) return noPoint(view);
          if (isIn(state, ['FailedOverWaitingCompletion', 'FailedOver'])) return undefined;
          return test === undefined ? undefined : testRuns(view);
        }),
        steps: [failoverStep(order.pointId), START],
      };
    case 'test':
      return {
        isDestructive: false,
        refuse: at('replica', (view, { state }) => {
          if (isIn(state, SEEDING)) return noPoint(view);
          if (isIn(state, WITH_POINTS)) return undefined;
          return refusal('E_STATE', view, 'a failover is open', ['undo', 'complete']);
        }),
        steps: [
          {
            name: 'test VM',
            what: 'make a VM of its own from the recovery point',
            isDone: ({ relation }) => relation?.test !== undefined,
            act: { do: 'test', pointId: order.pointId },
          },
          {
            name: 'start test VM',
            what: 'see that no network of production is connected to it, and start it',
            isDone: ({ relation }) => relation?.test?.powerState === 'running',
            act: { do: 'start-test-vm' },
          },
        ],
      };
    case 'test-stop':
      return {
        isDestructive: false,
        refuse: at('replica', (view, { state }) =>
          // one cmdlet ends both, so that a failover must not stand behind the test
          isIn(state, ['FailedOverWaitingCompletion', 'FailedOver'])
            ? refusal('E_STATE', view, 'a failover is open, and would be ended instead', ['undo'])
            : undefined,
        ),
        steps: [
          {
            name: 'end test',
            what: 'delete the test VM and what it wrote',
            isDone: ({ relation }) => relation?.test === undefined,
            act: { do: 'stop-failover' },
          },
        ],
      };
    case 'undo':
      return {
        isDestructive: true,
        refuse: at('replica', (view, { state }) => {
          if (state === 'FailedOver') {
            return refusal('E_COMMITTED', view, 'it was completed', ['reverse']);
          }
          return state === 'FailedOverWaitingCompletion'
            ? undefined
            : refusal('E_NOTHING_TO_UNDO', view, 'no failover is open', []);
        }),
        steps: [
          {
            name: 'undo',
            what: 'turn the VM off and throw away what it wrote here',
            isDone: isNotOpen,
            act: { do: 'stop-failover' },
          },
        ],
      };
    case 'complete':
      return {
        isDestructive: true,
        refuse: at('replica', (view, { state }) =>
          isIn(state, ['FailedOverWaitingCompletion', 'FailedOver'])
            ? undefined
            : refusal('E_NOT_FAILED_OVER', view, 'no failover is open', ['unplanned']),
        ),
        steps: [
          {
            name: 'complete',
            what: 'let the VM stay here; its other recovery points go, and there is no way back',
            isDone: isNotOpen,
            act: { do: 'complete' },
          },
        ],
      };
    case 'reverse':
      return {
        isDestructive: true,
        refuse: (view) => {
          const { relation } = view;
          if (relation === undefined) return unprotected(view);
          if (relation.mode === 'primary') return halted(view);
          return at('replica', (_view, { state }) =>
            isIn(state, ['FailedOverWaitingCompletion', 'FailedOver'])
              ? undefined
              : refusal('E_NOT_FAILED_OVER', view, 'no failover is open', ['unplanned']),
          )(view);
        },
        steps: [REVERSE, INITIAL_AFTER_REVERSE],
      };
    case 'cancel':
      return {
        isDestructive: false,
        refuse: at('primary', (view, { state }) =>
          isIn(state, ['PreparedForFailover', 'InitialReplicationInProgress']) ||
          (order.startsVm && isIn(state, ['Replicating', 'ReadyForInitialReplication']))
            ? undefined
            : refusal('E_NOTHING_TO_UNDO', view, 'no failover is prepared here', ['prepare']),
        ),
        steps: [
          {
            name: 'cancel first copy',
            what: 'end the first copy that is under way',
            isDone: stateOtherThan(['InitialReplicationInProgress']),
            act: { do: 'stop-initial' },
          },
          {
            name: 'cancel',
            what: 'take the preparation back; changes are sent again',
            isDone: stateOtherThan(['PreparedForFailover']),
            act: { do: 'stop-failover' },
          },
          ...(order.startsVm ? [START] : []),
        ],
      };
    case 'pause':
      return {
        isDestructive: false,
        refuse: at(undefined, (view, { state }) =>
          isIn(state, [...WITH_POINTS, 'InitialReplicationInProgress'])
            ? undefined
            : refusal('E_STATE', view, 'nothing is sent now', []),
        ),
        steps: [
          {
            name: 'pause',
            what: 'send nothing until it is resumed',
            isDone: stateIn(['Suspended', 'ResynchronizeSuspended']),
            act: { do: 'suspend' },
          },
        ],
      };
    case 'resume':
      return {
        isDestructive: false,
        refuse: at(undefined, (view, { state }) => {
          if (state === 'WaitingForStartResynchronize') {
            return refusal('E_STATE', view, 'both sides have to be compared first', ['resync']);
          }
          return isIn(state, [...WITH_POINTS, ...SEEDING])
            ? undefined
            : refusal('E_STATE', view, 'it is not paused', []);
        }),
        steps: [
          {
            name: 'resume',
            what: 'send changes again',
            isDone: stateOtherThan(['Suspended', 'Error', 'ResynchronizeSuspended']),
            act: { do: 'resume', resynchronizes: false },
          },
        ],
      };
    case 'resync':
      return {
        isDestructive: false,
        refuse: at('primary', (view, { state }) =>
          isIn(state, WITH_POINTS)
            ? undefined
            : refusal('E_STATE', view, 'there is no replica to compare with', ['resume']),
        ),
        steps: [
          {
            name: 'resync',
            what: 'compare both sides and send what differs',
            isDone: stateIn(['Resynchronizing', 'Replicating']),
            act: { do: 'resume', resynchronizes: true },
          },
        ],
      };
    case 'remove':
      return {
        isDestructive: true,
        refuse: (view) => halted(view),
        steps: [
          {
            name: 'remove',
            what: 'end the replication at this side; the files of the VM stay',
            isDone: ({ relation }) => relation === undefined,
            act: { do: 'remove' },
          },
        ],
      };
  }
}

const START: Step = {
  name: 'start',
  what: 'start the VM here',
  isDone: ({ powerState }) => powerState === 'running',
  act: { do: 'start-vm' },
};

const REVERSE: Step = {
  name: 'reverse',
  what: 'replicate from here to the former primary, whose VM has to be off',
  isDone: ({ relation }) => relation?.mode === 'primary',
  act: { do: 'reverse' },
};

const INITIAL_AFTER_REVERSE: Step = {
  name: 'first copy',
  what: 'send the VM to the former primary, where that is asked for',
  isDone: stateOtherThan(['ReadyForInitialReplication']),
  act: { do: 'start-initial', folder: '', usesBackup: false },
};

function failoverStep(pointId: Guid | undefined): Step {
  return {
    name: 'failover',
    what: pointId === undefined ? 'fail over to the newest point' : `fail over to ${pointId}`,
    isDone: ({ relation }) =>
      relation?.mode === 'primary' ||
      isIn(relation?.state ?? '', ['FailedOverWaitingCompletion', 'FailedOver']),
    act: { do: 'failover', pointId },
  };
}

function plannedSteps(): readonly Step[] {
  return [failoverStep(undefined), REVERSE, INITIAL_AFTER_REVERSE, START];
}

/** At the replica after the primary was prepared; or at the new primary, for what is left to do. */
function refusePlanned(view: ReplicaView): DrError | undefined {
  const { relation } = view;
  if (relation === undefined) return unprotected(view);
  if (relation.mode === 'primary') {
    if (relation.state !== 'PreparedForFailover') return halted(view);
    const hint = `Go on at ${relation.replicaServer}: \`hvdr replica failover planned ${view.vmName} --host hyperv\`; or take it back here: \`hvdr replica cancel ${view.vmName}\`.`;
    return new DrError('E_STATE', `${view.vmName} is prepared at this host, which it is to leave`, {
      hint,
    });
  }
  return at('replica', (_view, { state, isLastPlanned, test, primaryServer }) => {
    if (isIn(state, ['FailedOverWaitingCompletion', 'FailedOver'])) return undefined;
    if (isIn(state, SEEDING)) return noPoint(view);
    if (test !== undefined) return testRuns(view);
    if (state === 'PreparedForFailover' || isLastPlanned) return undefined;
    return new DrError('E_STATE', `${view.vmName} (${state}) was not prepared at its primary`, {
      hint: `First at ${primaryServer}: \`hvdr replica failover prepare ${view.vmName} --host hyperv\`. Without it: \`hvdr replica failover unplanned\`.`,
    });
  })(view);
}

function enableCourse(order: Extract<ReplicaOrder, { verb: 'enable' }>): Course {
  const { settings, initial } = order;
  const how = {
    network: 'over the network',
    media: initial.by === 'media' ? `to ${initial.folder}` : '',
    backup: 'from the copy that the other host has',
  }[initial.by];
  return {
    isDestructive: false,
    refuse: (view) => {
      const { relation } = view;
      if (relation === undefined) return undefined;
      const other = at('primary', () => undefined)(view);
      if (other !== undefined) return other;
      // the host may say the full name of a server that was given by its short one
      const [asked, present] = [settings.replicaServer, relation.replicaServer].map(
        (name) => name.toLowerCase().split('.')[0],
      );
      return asked === present
        ? undefined
        : refusal('E_STATE', view, `it replicates to ${relation.replicaServer}`, ['remove']);
    },
    steps: [
      {
        name: 'enable',
        what: `try the connection to ${settings.replicaServer}:${settings.port}, and replicate there`,
        isDone: ({ relation }) => relation !== undefined,
        act: { do: 'enable', order },
      },
      {
        name: 'first copy',
        what: `begin the first copy, ${how}`,
        isDone: stateOtherThan(['ReadyForInitialReplication']),
        act: {
          do: 'start-initial',
          folder: initial.by === 'media' ? initial.folder : '',
          usesBackup: initial.by === 'backup',
        },
      },
    ],
  };
}

/** Refuses at the other side, and in states that nobody knows; then what `then` says. */
function at(
  side: Side | undefined,
  then: (view: ReplicaView, relation: Known) => DrError | undefined,
): Course['refuse'] {
  return (view) => {
    const { relation } = view;
    if (relation === undefined) return unprotected(view);
    const isHalted = halted(view);
    if (isHalted !== undefined) return isHalted;
    const here = sideOf(relation);
    if (here === undefined) {
      return refusal('E_STATE', view, `this is ${relation.mode}, which takes no orders`, []);
    }
    if (side !== undefined && side !== here) {
      const where = side === 'primary' ? relation.primaryServer : relation.replicaServer;
      return new DrError('E_STATE', `this host has the ${here} of ${view.vmName}`, {
        context: { state: relation.state, mode: relation.mode },
        hint: `This is done at the side of the ${side}: run the command at ${where}.`,
      });
    }
    return then(view, { ...relation, side: here });
  };
}

function sideOf({ mode }: ReplicaRelation): Side | undefined {
  if (mode === 'primary') return 'primary';
  return mode === 'replica' || mode === 'extended-replica' ? 'replica' : undefined;
}

/** @see failover.md § 4: any state that we do not know is HALTED, and nothing is done. */
export function halted(view: ReplicaView): DrError | undefined {
  const { vmName, relation } = view;
  if (relation?.phase !== 'HALTED') return undefined;
  return new DrError('E_HALTED', `${vmName} is ${relation.state} at Hyper-V Replica`, {
    context: { state: relation.state, mode: relation.mode },
    hint: 'Nothing of ours leads to this state: look at the VM in Hyper-V Manager, and go on there.',
  });
}

function unprotected({ vmName }: ReplicaView): DrError {
  return new DrError('E_NOT_PROTECTED', `Hyper-V does not replicate ${vmName}`, {
    hint: `\`hvdr replica enable ${vmName} --hvr-server HOST --host hyperv\` begins.`,
  });
}

function noPoint(view: ReplicaView): DrError {
  return refusal('E_NO_POINT', view, 'the first copy is not whole yet', []);
}

function testRuns(view: ReplicaView): DrError {
  return new DrError('E_STATE', `a test of ${view.vmName} is open`, {
    hint: `End it first: \`hvdr replica failover test ${view.vmName} --stop --host hyperv\`.`,
  });
}

const COMMANDS: Readonly<Record<string, string>> = {
  undo: 'failover undo',
  complete: 'failover complete',
  prepare: 'failover prepare',
  unplanned: 'failover unplanned',
};

function refusal(
  code: ErrorCode,
  { vmName, relation }: ReplicaView,
  why: string,
  valid: readonly string[],
): DrError {
  const { state = 'Disabled', mode = 'none' } = relation ?? {};
  const commands = valid.map((verb) => `\`hvdr replica ${COMMANDS[verb] ?? verb} ${vmName}\``);
  const hint =
    commands.length === 0
      ? `\`hvdr replica status ${vmName} --host hyperv\` shows when that changes.`
      : `Valid now: ${commands.join(', ')}.`;
  return new DrError(code, `${vmName} is ${state} (${mode}): ${why}`, {
    context: { state, mode },
    hint,
  });
}

function isIn(state: string, states: readonly StateName[]): boolean {
  return states.some((name) => name === state);
}

function stateIn(states: readonly StateName[]): Step['isDone'] {
  return ({ relation }) => isIn(relation?.state ?? '', states);
}

function stateIs(state: StateName): Step['isDone'] {
  return stateIn([state]);
}

/** No failover waits for a decision; what else may stand then is left to the host. */
function isNotOpen({ relation }: ReplicaView): boolean {
  return relation?.state !== 'FailedOverWaitingCompletion';
}

function stateOtherThan(states: readonly StateName[]): Step['isDone'] {
  return ({ relation }) => relation !== undefined && !isIn(relation.state, states);
}
