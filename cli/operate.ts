// What every command of the failover state machine does on the command line: prints its plan, confirms it
// where that is wanted, tells each step, and says how it ended.

import { writeReport } from './write-report.js';
import { type Command, Option } from 'commander';
import {
  carryOutOperation,
  doneDocument,
  doneText,
  isVerdict,
  type Operation,
  planDocument,
  planOperation,
  planText,
} from '../shared/operator/operation.js';
import {
  flagOf,
  type GivenParameter,
  type ParameterName,
  resolveParameters,
  rowOf,
} from '../shared/params/index.js';
import { addParameterOptions, givenOf } from './agent-options.js';
import type { CliContext } from './context.js';
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

interface ReportedOperation extends Operation {
  /** A file that the report of a test is written to. */
  readonly report?: string | undefined;
}

/** @throws DrError of the operation, E_CONFIRM, of reaching the receiver */
export async function runOperation(
  context: CliContext,
  operation: ReportedOperation,
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
  operation: ReportedOperation,
  flags: OperateFlags,
): Promise<void> {
  const { output } = context;
  let confirmedHash = flags.confirm ?? '';
  if (flags.plan === true || flags.yes === true) {
    const planned = await planOperation(control, operation);
    if (flags.plan === true) {
      output.result(planDocument(planned), () => planText(planned));
      return;
    }
    if (flags.confirm === undefined) confirmedHash = planned.hash;
  }
  const end = await carryOutOperation(control, operation, {
    confirmedHash,
    signal: context.stopSignal(),
    onPlan: (plan) => {
      output.event({ event: 'plan', ...planDocument(plan) }, () => planText(plan));
    },
    onStep: ({ name, what }) => {
      output.event({ event: 'step', step: name, what }, () => `${name}  ${what}`);
    },
  });
  if (operation.report !== undefined) await writeReport(context, operation.report, end.reportJson);
  output.event({ event: 'result', ...doneDocument(operation, end) }, () =>
    doneText(operation, end),
  );
  for (const warning of end.warnings) output.note(warning);
  if (isVerdict(operation) && !end.isPassed) output.exitCode = 1;
}
