// What every command of the failover state machine does on the command line: prints its plan, confirms it
// where that is wanted, tells each step, and says how it ended.

import { writeReport } from './write-report.js';
import { type Command, Option } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type { OperateRequest, OperationDone, OperationPlan } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import {
  flagOf,
  type GivenParameter,
  type ParameterName,
  resolveParameters,
  rowOf,
} from '../shared/params/index.js';
import { addParameterOptions, givenOf } from './agent-options.js';
import type { CliContext } from './context.js';
import type { JsonObject } from './output.js';
import {
  type AccessFlags,
  type ReceiverAccess,
  withAccess,
  withAccessOptions,
} from './receiver-connection.js';
import { withAttachment } from './with-attachment.js';

export interface OperateFlags extends AccessFlags {
  readonly host?: string;
  readonly stateDir?: string;
  readonly plan?: true;
  readonly yes?: true;
  readonly confirm?: string;
}

/** Adds what every such command takes, and the parameters of its own. */
export function withOperateOptions(
  command: Command,
  parameters: readonly ParameterName[],
): Command {
  command.argument('<vm>', 'name or id of the VM');
  addParameterOptions(
    command,
    parameters.filter((name) => rowOf(name).kind !== 'flag'),
  );
  // what is named is meant: `--keep` needs no yes
  for (const name of parameters.filter((each) => rowOf(each).kind === 'flag')) {
    command.addOption(new Option(flagOf(name), rowOf(name).meaning));
  }
  return withAccessOptions(command)
    .option(
      '--host <host>',
      'with --store: the hypervisor of the DR site; otherwise that of the primary',
    )
    .option('--state-dir <dir>', 'at the primary: where its ledgers are')
    .option('--plan', 'print what would be done, and do nothing')
    .option('--yes', 'confirm the plan as it is now')
    .option('--confirm <hash>', 'confirm a plan that was printed before');
}

/** What was given on the command line, by the names of the parameter table. */
export function parametersGiven(
  command: Command,
  parameters: readonly ParameterName[],
): Record<string, string> {
  const given: Record<string, string> = {};
  for (const { key, value } of givenOf(
    command,
    parameters.filter((name) => rowOf(name).kind !== 'flag'),
  )) {
    if (key !== 'dr_psk_file') given[key] = value;
  }
  const options: Readonly<Record<string, unknown>> = command.opts();
  for (const name of parameters.filter((each) => rowOf(each).kind === 'flag')) {
    const camel = name.replace(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase());
    if (options[camel] === true) given[name] = 'yes';
  }
  return given;
}

interface Operation {
  readonly vm: string;
  readonly command: string;
  readonly parameters: Readonly<Record<string, string>>;
  /** A file that the report of a test is written to. */
  readonly report?: string | undefined;
}

/** @throws DrError of the operation, E_CONFIRM, of reaching the receiver */
export async function runOperation(
  context: CliContext,
  operation: Operation,
  flags: OperateFlags,
): Promise<void> {
  const { plan, store, host } = flags;
  if (plan !== true) context.output.expectEvents();
  const access = { ...flags, siteHost: store === undefined ? undefined : host };
  const work = (): Promise<void> =>
    withAccess(context, access, plan === true && host === undefined ? 'read' : 'write', (opened) =>
      carryOut(context, opened, operation, flags),
    );
  // at the primary, its own agent takes part as long as the command runs
  if (store !== undefined || host === undefined) await work();
  else await withAttachment(context, linkValues(operation.vm, flags), work);
}

/** What names a VM at its own site and the receiver that it goes to. @throws DrError E_PARAMETER */
export function linkValues(
  vm: string,
  flags: AccessFlags & Pick<OperateFlags, 'host' | 'stateDir'>,
): ReturnType<typeof resolveParameters>['values'] {
  const texts: Readonly<Record<string, string | undefined>> = {
    vm,
    host: flags.host,
    state_dir: flags.stateDir,
    dr_host: flags.drHost,
    dr_port: flags.drPort,
    dr_psk_file: flags.pskFile,
    dr_tls_ca: flags.drTlsCa,
    dr_tls_cert: flags.drTlsCert,
    dr_tls_key: flags.drTlsKey,
    dr_tls_name: flags.drTlsName,
  };
  const given: GivenParameter[] = [];
  for (const [key, value] of Object.entries(texts)) {
    if (value !== undefined) given.push({ key, value, origin: 'flag', place: flagOf(key) });
  }
  return resolveParameters(given).values;
}

async function carryOut(
  context: CliContext,
  { control }: ReceiverAccess,
  operation: Operation,
  flags: OperateFlags,
): Promise<void> {
  const { output } = context;
  const { vm, command, parameters } = operation;
  const ask = { vm, command, parameters: { ...parameters }, isPlan: true, confirmedHash: '' };
  let planned: OperationPlan | undefined;
  if (flags.plan === true || flags.yes === true) {
    planned = await planOf(control, ask);
    if (flags.plan === true) {
      output.result(planDocument(planned), () => planText(defined(planned)));
      return;
    }
  }
  const confirmedHash = flags.confirm ?? planned?.hash ?? '';
  let done: OperationDone | undefined;
  const signal = context.stopSignal();
  for await (const { step } of control.operate(
    { ...ask, isPlan: false, confirmedHash },
    { signal },
  )) {
    switch (step?.$case) {
      case 'plan':
        output.event({ event: 'plan', ...planDocument(step.value) }, () => planText(step.value));
        break;
      case 'progress': {
        const { step: name, what } = step.value;
        output.event({ event: 'step', step: name, what }, () => `${name}  ${what}`);
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
  const end = defined(done);
  if (operation.report !== undefined) await writeReport(context, operation.report, end.reportJson);
  output.event({ event: 'result', ...doneDocument(operation, end) }, () =>
    doneText(operation, end),
  );
  for (const warning of end.warnings) output.note(warning);
  if (isVerdict(operation) && !end.isPassed) output.exitCode = 1;
}

/** Ending or adopting a test says nothing new of whether it passed. */
function isVerdict({ command, parameters }: Operation): boolean {
  return command === 'test' && !('stop' in parameters) && !('adopt' in parameters);
}

async function planOf(
  control: ReceiverAccess['control'],
  ask: OperateRequest,
): Promise<OperationPlan> {
  for await (const { step } of control.operate(ask)) {
    if (step?.$case === 'plan') return step.value;
  }
  throw new DrError('E_PROTOCOL', 'the receiver answered without a plan');
}

function defined<T>(value: T | undefined): T {
  if (value !== undefined) return value;
  throw new DrError('E_CHANNEL', 'the operation ended without a result');
}

function idOf(bytes: Buffer): string | null {
  return bytes.length === 0 ? null : (guidFromWire(bytes) ?? null);
}

function planDocument(plan: OperationPlan): JsonObject {
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

function planText(plan: OperationPlan): string {
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

function doneDocument({ vm, command }: Operation, done: OperationDone): JsonObject {
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

function doneText(operation: Operation, done: OperationDone): string {
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
