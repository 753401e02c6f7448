// What a command would do, as a plain value: printed by `--plan`, and by its hash what a destructive
// command has to be confirmed with. Nothing is remembered between plan and confirmation: the hash contains
// whatever matters, so it is another one as soon as the world is.

import { createHash } from 'node:crypto';
import type { Guid } from '../../shared/bytes/index.js';
import { DrError, type ErrorCode, type ErrorContext } from '../../shared/errors.js';
import { type Answer, answerTo, rowOf } from './machine.js';
import type { Command, StateName } from './model.js';
import { refusal, type Standing } from './refusals.js';
import { isTooLateToStay, TOO_LATE_TO_STAY } from './resume-parameters.js';
import { STEPS, type SteppedKind } from './steps.js';
import { wayBack } from './way-back.js';

export interface PlannedStep {
  readonly name: string;
  readonly what: string;
}

export interface PlanRefusal {
  readonly code: ErrorCode;
  readonly message: string;
  /** What to do next, where that is said better than the catalogue does. */
  readonly hint?: string | undefined;
  readonly context?: ErrorContext | undefined;
}

export interface OperationPlan {
  readonly command: Command;
  readonly vmName: string;
  readonly fromState: StateName;
  readonly toState: StateName;
  readonly steps: readonly PlannedStep[];
  /** Why it cannot be done now; the first one is what the command would end with. */
  readonly refusals: readonly PlanRefusal[];
  /** What goes with it that people should know. */
  readonly notes: readonly string[];
  /** Notes that speak of times, as how long the VM ran here: said, and not part of the hash. */
  readonly timedNotes: readonly string[];
  /** The point that would come up; undefined: none is concerned. */
  readonly pointId: Guid | undefined;
  /** Changes that would be lost, by the consistency time of the point; not part of the hash. */
  readonly lostSeconds: number;
  readonly isDestructive: boolean;
  /** What else the hash holds, by name: epoch, ids, values of parameters; no times and no secrets. */
  readonly basis: Readonly<Record<string, string>>;
}

export interface PlanInput {
  readonly standing: Standing;
  readonly vmId: Guid;
  readonly epoch: bigint;
  readonly command: Command;
  /** Names of the parameter table with their values as text. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly pointId?: Guid | undefined;
  readonly lostSeconds?: number;
}

/** Parameters that say how a command is given, and not what it does. */
const NOT_OF_THE_WORLD: ReadonlySet<string> = new Set(['yes', 'confirm', 'plan', 'reason']);

/** The plan as far as the table and the record tell it; who knows more adds refusals and notes. */
export function planOf(input: PlanInput): OperationPlan {
  const { standing, command, parameters, pointId, vmId, epoch } = input;
  const { vmName, state, failover } = standing;
  const row = rowOf(state, failover);
  const answer = answerTo(row, command, failover);
  const { operation, instance } = failover;
  const values = Object.entries(parameters)
    .filter(([name]) => !NOT_OF_THE_WORLD.has(name))
    .map(([name, value]) => [`parameter ${name}`, value]);
  return {
    command,
    vmName,
    fromState: state,
    ...endOf(input, answer),
    refusals: refusalsOf(input, answer),
    notes: [...notesOf(command, answer, standing), ...dropNotes(command, answer, standing)],
    timedNotes: [],
    pointId,
    lostSeconds: input.lostSeconds ?? 0,
    isDestructive: isDestructive(command, answer, standing, parameters),
    basis: {
      vmId,
      epoch: epoch.toString(),
      row,
      ...(operation === undefined
        ? {}
        : { operationId: operation.operationId, step: operation.step }),
      ...(instance === undefined ? {} : { instance: instance.operationId }),
      ...(Object.fromEntries(values) as Record<string, string>),
    },
  };
}

function refusalsOf(
  { standing, command, parameters }: PlanInput,
  answer: Answer,
): readonly PlanRefusal[] {
  const refused = (code: ErrorCode): PlanRefusal[] => [refusal(standing, command, code)];
  if (answer.kind === 'refuse') return refused(answer.code);
  if (answer.kind === 'asHalted') return refused('E_HALTED');
  const { operation } = standing.failover;
  if (command === 'failback' && operation && isTooLateToStay(operation, parameters)) {
    return [{ code: 'E_STATE', message: TOO_LATE_TO_STAY }];
  }
  const isPointMissing =
    answer.kind === 'start' && answer.wantsPoint === true && !('point' in parameters);
  if (!isPointMissing) return [];
  return [
    {
      code: 'E_RESYNC_RUNNING',
      message: `${standing.vmName} is being compared: name an older verified point with --point`,
    },
  ];
}

/** The steps, and the state behind them: a failback may stop where the VM still serves here. */
function endOf(
  { command, standing, parameters }: PlanInput,
  answer: Answer,
): Pick<OperationPlan, 'toState' | 'steps'> {
  const { state, failover } = standing;
  const steps = stepsOf(command, answer, standing);
  const isSync = command === 'failback' && parameters['stage'] === 'sync';
  if (isSync && steps[0]?.name === 'F1') {
    return { toState: 'FAILING_BACK', steps: steps.slice(0, 1) };
  }
  if (answer.kind === 'takeBack' && wayBack(command, answer, failover) === 'kept') {
    return { toState: 'FAILED_OVER', steps };
  }
  return { toState: stateAfter(state, answer, failover.operation?.kind), steps };
}

/** Where an operation of each kind ends. */
const END: Readonly<Record<SteppedKind | 'resolve', StateName>> = {
  planned: 'FAILED_OVER',
  unplanned: 'FAILED_OVER',
  undo: 'PROTECTED',
  permanent: 'COMMITTED',
  failback: 'FAILED_BACK',
  'failback-commit': 'PROTECTED',
  'failback-undo': 'FAILED_OVER',
  resolve: 'PROTECTED',
  test: 'PROTECTED',
};

function stateAfter(
  state: StateName,
  answer: Answer,
  underWay: keyof typeof END | undefined,
): StateName {
  switch (answer.kind) {
    case 'start':
    case 'supersede':
    case 'takeBack':
    case 'otherPoint':
    case 'note':
      return answer.to;
    case 'resume':
      return underWay === undefined ? state : END[underWay];
    case 'cycle':
    case 'session':
    case 'done':
    case 'asHalted':
    case 'refuse':
      return state;
  }
}

function stepsOf(
  command: Command,
  answer: Answer,
  { state, failover }: Standing,
): readonly PlannedStep[] {
  const { operation } = failover;
  const of = (kind: SteppedKind, from = 0): readonly PlannedStep[] =>
    STEPS[kind].slice(from).map(({ name, what }) => ({ name, what }));
  switch (answer.kind) {
    case 'start':
      // leaving FAILED_BACK is the end of a failback, or its way back
      if (state === 'FAILED_BACK') {
        return of(command === 'permanent' ? 'failback-commit' : 'failback-undo');
      }
      return command in STEPS ? of(command as SteppedKind) : [];
    case 'session':
      return of('test');
    case 'supersede':
      return of('unplanned');
    case 'otherPoint':
      return [...of('undo').slice(1, 3), ...of('unplanned')];
    case 'takeBack': {
      const way = wayBack(command, answer, failover);
      if (way === 'kept') return KEEP;
      return way === 'given-up' ? GIVE_UP : of(way);
    }
    case 'resume': {
      if (operation === undefined || operation.kind === 'resolve') return [];
      const at = STEPS[operation.kind].findIndex(({ name }) => name === operation.step);
      return of(operation.kind, Math.max(0, at));
    }
    case 'cycle':
    case 'note':
    case 'done':
    case 'asHalted':
    case 'refuse':
      return [];
  }
}

/** Of a failover that never came as far as this site being the active one. */
const GIVE_UP: readonly PlannedStep[] = [
  { name: 'A1', what: 'tell the source that it was given up: it lifts its fence' },
  { name: 'A2', what: 'the source starts the VM again if we had stopped it; protected' },
];

/** Of a failover to another point that has not touched what serves. */
const KEEP: readonly PlannedStep[] = [
  { name: 'A1', what: 'remove what was made for the other point; the VM here serves on' },
];

function notesOf(
  command: Command,
  answer: Answer,
  { vmName, state, failover: { operation } }: Standing,
): readonly string[] {
  if (answer.kind === 'done') return [`nothing is to be done for ${vmName}`];
  if (mayRunAtPrimary(state, operation) && (command === 'undo' || command === 'abort')) {
    return ['what was written at the primary since it was started there is thrown away'];
  }
  if (answer.kind === 'otherPoint') {
    return ['what was written here since the failover is thrown away'];
  }
  return answer.kind === 'supersede' && operation !== undefined
    ? [`the ${operation.kind} operation is given up for it`]
    : [];
}

/** What a failback that was taken back by force left at the primary, where the VM may have run since. */
function dropNotes(command: Command, answer: Answer, { failover }: Standing): readonly string[] {
  if (command !== 'failback' || answer.kind !== 'start') return [];
  return failover.owed
    .filter(({ mayHaveRun }) => mayHaveRun === true)
    .map(
      ({ failbackId }) =>
        `what was written at the primary since failback ${failbackId ?? ''} started it there is thrown away`,
    );
}

/** Whether it throws away or decides something, so that the plan's hash is wanted. */
function isDestructive(
  command: Command,
  answer: Answer,
  standing: Standing,
  parameters: Readonly<Record<string, string>>,
): boolean {
  const { state, failover } = standing;
  const { instance, operation } = failover;
  if (answer.kind === 'done') return false;
  if (dropNotes(command, answer, standing).length > 0) return true;
  if (parameters['force'] === 'yes' || parameters['replace_retired'] === 'yes') return true;
  if (answer.kind === 'resume') return false;
  if (['undo', 'permanent', 'resolve', 'forget'].includes(command)) return true;
  if (answer.kind === 'otherPoint') return true;
  // a VM that has run here, or at the primary since it went home, may have written something
  const mayHaveWritten =
    state === 'FAILING_BACK'
      ? mayRunAtPrimary(state, operation)
      : (instance?.poweredOnAtMs ?? 0) > 0;
  return (answer.kind === 'takeBack' || answer.kind === 'supersede') && mayHaveWritten;
}

/** Once a failback has asked the primary to start the VM. */
function mayRunAtPrimary(state: StateName, operation: Standing['failover']['operation']): boolean {
  if (state === 'FAILED_BACK') return true;
  return state === 'FAILING_BACK' && operation?.kind === 'failback' && operation.step >= 'F4';
}

/** SHA-256 over all of a plan but its times, as hex. Equal plans have equal hashes. */
export function planHash(plan: OperationPlan): string {
  const { command, vmName, fromState, toState, steps, refusals, notes, pointId, isDestructive } =
    plan;
  const canonical = JSON.stringify({
    ...{ version: 1, command, vmName, fromState, toState },
    steps: steps.map(({ name, what }) => [name, what]),
    refusals: refusals.map(({ code, message }) => [code, message]),
    ...{ notes, pointId: pointId ?? null, isDestructive },
    basis: Object.entries(plan.basis).toSorted(([one], [other]) => (one < other ? -1 : 1)),
  });
  return createHash('sha256').update(canonical).digest('hex');
}

/** Digits that a person has to give at least. */
const SHORTEST_HASH = 12;

/**
 * Returns when the plan may be carried out.
 * @throws DrError with the code of the first refusal; E_CONFIRM
 */
export function requireConfirmed(plan: OperationPlan, confirmedHash: string): void {
  const [first, ...others] = plan.refusals;
  if (first !== undefined) {
    const besides = others.map(({ code, message }) => `${code}: ${message}`);
    const { context = {}, hint } = first;
    throw new DrError(first.code, [first.message, ...besides].join('; and besides '), {
      context,
      ...(hint === undefined ? {} : { hint }),
    });
  }
  if (!plan.isDestructive) return;
  if (confirmedHash === '') {
    throw new DrError('E_CONFIRM', `${plan.command} of ${plan.vmName} was not confirmed`);
  }
  const isSame = confirmedHash.length >= SHORTEST_HASH && planHash(plan).startsWith(confirmedHash);
  if (isSame) return;
  throw new DrError(
    'E_CONFIRM',
    `the plan of ${plan.command} of ${plan.vmName} is another one than the confirmed one`,
    { hint: 'Look at the plan again with --plan: the world has changed.' },
  );
}
