// One command of the failover state machine, given to a receiver: its plan, its steps as they come, how it
// ended, and all of that as documents and as text.

import { guidFromWire } from '../bytes/index.js';
import type {
  CallOptions,
  ControlService,
  OperationDone,
  OperationPlan,
  ServiceClient,
} from '../channel/index.js';
import { DrError } from '../errors.js';
import type { JsonObject } from '../json.js';

type Control = Pick<ServiceClient<ControlService>, 'operate'>;

export interface Operation {
  /** Name or id. */
  readonly vm: string;
  readonly command: string;
  /** Names of the parameter table with their values as text, and what the command takes besides. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface OperationRun {
  /** Hash of a plan that was printed before; empty: nothing is confirmed. */
  readonly confirmedHash: string;
  /** Ends the call, not the operation. */
  readonly signal: AbortSignal;
  /** The plan that is carried out; comes before the first step. */
  readonly onPlan: (plan: OperationPlan) => void;
  readonly onStep: (step: OperationStep) => void;
}

export interface OperationStep {
  /** undefined: the receiver does not say it. */
  readonly operationId: string | undefined;
  readonly name: string;
  readonly what: string;
}

/** What the command would do now; nothing is done. @throws DrError of the receiver */
export async function planOperation(
  control: Control,
  { vm, command, parameters }: Operation,
  options: CallOptions = {},
): Promise<OperationPlan> {
  const ask = { vm, command, parameters: { ...parameters }, isPlan: true, confirmedHash: '' };
  for await (const { step } of control.operate(ask, options)) {
    if (step?.$case === 'plan') return step.value;
  }
  throw new DrError('E_PROTOCOL', 'the receiver answered without a plan');
}

/** Has it done, to its end. @throws DrError of the operation, E_CONFIRM, E_CHANNEL */
export async function carryOutOperation(
  control: Control,
  { vm, command, parameters }: Operation,
  { confirmedHash, signal, onPlan, onStep }: OperationRun,
): Promise<OperationDone> {
  const ask = { vm, command, parameters: { ...parameters }, isPlan: false, confirmedHash };
  let done: OperationDone | undefined;
  for await (const { step } of control.operate(ask, { signal })) {
    switch (step?.$case) {
      case 'plan':
        onPlan(step.value);
        break;
      case 'progress': {
        const { operationId, step: name, what } = step.value;
        onStep({ operationId: guidFromWire(operationId), name, what });
        break;
      }
      case 'done':
        done = step.value;
        break;
      case 'reprotect':
      case undefined:
        break;
    }
  }
  if (done !== undefined) return done;
  throw new DrError('E_CHANNEL', 'the operation ended without a result');
}

/** Ending or adopting a test says nothing new of whether it passed. */
export function isVerdict({ command, parameters }: Operation): boolean {
  return command === 'test' && !('stop' in parameters) && !('adopt' in parameters);
}

function idOf(bytes: Buffer): string | null {
  return bytes.length === 0 ? null : (guidFromWire(bytes) ?? null);
}

export function planDocument(plan: OperationPlan): JsonObject {
  return {
    command: plan.command,
    vm: plan.vmName,
    from: plan.fromState,
    to: plan.toState,
    steps: plan.steps.map(({ name, what }) => ({ name, what })),
    refusals: plan.refusals.map(({ code, message }) => ({ code, message })),
    notes: plan.notes,
    point: idOf(plan.pointId),
    lostSeconds: Number(plan.lostSeconds),
    isDestructive: plan.isDestructive,
    hash: plan.hash,
  };
}

export function planText(plan: OperationPlan): string {
  const point = idOf(plan.pointId);
  return [
    `${plan.command} ${plan.vmName}: ${plan.fromState} → ${plan.toState}`,
    ...plan.steps.map(({ name, what }) => `  ${name}  ${what}`),
    ...(point === null ? [] : [`  point ${point}`]),
    ...(plan.lostSeconds === 0n ? [] : [`  changes of ${plan.lostSeconds} s are lost`]),
    ...plan.notes.map((note) => `  note: ${note}`),
    ...plan.refusals.map(({ code, message }) => `  refused: ${code}: ${message}`),
    ...(plan.hash === '' ? [] : [`  hash ${plan.hash}${plan.isDestructive ? ' (wants it)' : ''}`]),
  ].join('\n');
}

export function doneDocument({ vm, command }: Operation, done: OperationDone): JsonObject {
  return {
    vm,
    command,
    state: done.state,
    operation: idOf(done.operationId),
    instance: done.instanceName === '' ? null : done.instanceName,
    instanceId: idOf(done.instanceVmId),
    point: idOf(done.pointId),
    lostSeconds: Number(done.lostSeconds),
    warnings: done.warnings,
    ...(command === 'test' ? { isPassed: done.isPassed } : {}),
  };
}

export function doneText(operation: Operation, done: OperationDone): string {
  const { vm, parameters } = operation;
  const lines = [`${vm} is ${done.state}`];
  if ('adopt' in parameters) {
    lines.push(`${done.instanceName} is no test any more; its disks stand alone`);
  } else if (done.instanceName !== '' && idOf(done.instanceVmId) !== null) {
    lines.push(`${done.instanceName} runs here from point ${idOf(done.pointId) ?? ''}`);
  }
  if (done.lostSeconds > 0n) lines.push(`changes of ${done.lostSeconds} s were lost`);
  if (isVerdict(operation)) {
    lines.push(`test ${idOf(done.operationId) ?? ''}: ${done.isPassed ? 'passed' : 'FAILED'}`);
  }
  return lines.join('\n');
}
