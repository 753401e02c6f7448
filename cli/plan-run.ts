// What the commands of `hvdr plan` do: read the file, open the way to the receiver, drive the run, tell
// how it ended.

import { createHash } from 'node:crypto';
import path from 'node:path';
import { CATALOGUE, DrError } from '../shared/errors.js';
import { readSmall } from '../shared/files/index.js';
import { openHypervisor } from '../shared/hypervisor/index.js';
import {
  beginRun,
  checkPlan,
  type HeartbeatOf,
  parsePlan,
  type Plan,
  PLAN_BYTES_MAX,
  type PlanCheck,
  type PlanKind,
  type PlanRunSeams,
  resumeRun,
  type RunChange,
  type RunEnd,
  RunFile,
  type RunRecord,
} from '../shared/plan/index.js';
import { connectTcp, runScript } from '../shared/probe/index.js';
import { stateFolder } from '../source-agent/index.js';
import type { CliContext } from './context.js';
import type { JsonObject } from '../shared/json.js';
import { vmCommands } from './plan-commands.js';
import { type AccessFlags, withAccess } from './receiver-connection.js';

export interface PlanFlags extends AccessFlags {
  readonly kind?: PlanKind;
  readonly partial?: true;
  readonly keep?: true;
  readonly yes?: true;
  readonly confirm?: string;
  readonly skip?: true;
  readonly cancel?: true;
  readonly stateDir?: string;
  readonly scriptDir?: string;
  readonly host?: string;
}

const EXIT_NOT_WHOLE = 1;

interface PlanFile {
  readonly plan: Plan;
  readonly hash: string;
}

/** @throws DrError E_PARAMETER (with line and column), E_NOT_FOUND */
async function readPlan(context: CliContext, name: string): Promise<PlanFile> {
  const file = path.resolve(context.folder, name);
  const bytes = await readSmall(context.files, file, PLAN_BYTES_MAX);
  if (bytes === undefined) {
    throw new DrError('E_NOT_FOUND', `${name} is not there`, { context: { path: file } });
  }
  const hash = createHash('sha256').update(bytes).digest('hex');
  return { plan: parsePlan(bytes.toString(), name), hash };
}

type WorldSeams = Omit<PlanRunSeams, 'file' | 'onChange' | 'signal'>;

/** Runs `work` with everything open that a run reaches out to. */
async function withWorld<T>(
  context: CliContext,
  flags: PlanFlags,
  use: 'read' | 'write',
  work: (seams: WorldSeams) => Promise<T>,
): Promise<T> {
  const { files: fs, clock, random, folder } = context;
  const scriptFolder =
    flags.scriptDir === undefined ? undefined : path.resolve(folder, flags.scriptDir);
  return withAccess(context, flags, use, ({ control }) =>
    withHeartbeats(context, flags.host, (heartbeatOf) =>
      work({
        ...{ commands: vmCommands(control), clock, fs, random, heartbeatOf, scriptFolder },
        ...{ connect: connectTcp, runScript },
      }),
    ),
  );
}

async function withHeartbeats<T>(
  context: CliContext,
  host: string | undefined,
  work: (heartbeatOf: HeartbeatOf | undefined) => Promise<T>,
): Promise<T> {
  if (host === undefined) return work(undefined);
  const { files: fs, clock, random, folder } = context;
  const log = await context.log();
  const place = host.startsWith('lab:') ? `lab:${path.resolve(folder, host.slice(4))}` : host;
  const hypervisor = await openHypervisor(place, { fs, clock, random, log });
  try {
    return await work(async (vmName) => {
      const vm = (await hypervisor.listVms()).find(({ name }) => name === vmName);
      return vm !== undefined && (await hypervisor.heartbeat(vm.id)) === 'ok';
    });
  } finally {
    await hypervisor.close();
  }
}

/** Runs `work` with the run of the plan taken for this process. */
async function withRun(
  context: CliContext,
  flags: PlanFlags,
  { plan }: PlanFile,
  work: (seams: PlanRunSeams) => Promise<RunEnd>,
): Promise<RunEnd> {
  const { files: fs, random, environment, folder, output } = context;
  const signal = context.stopSignal();
  output.expectEvents();
  const wanted = flags.stateDir === undefined ? undefined : path.resolve(folder, flags.stateDir);
  const { platform } = process;
  const state = await stateFolder(wanted, { fs, random, environment, platform });
  const file = await RunFile.open(plan.name, { fs, random, folder: path.join(state, 'plans') });
  try {
    return await withWorld(context, flags, 'write', (seams) =>
      work({
        ...{ ...seams, file, signal },
        onChange: (record, change) => {
          tell(context, record, change);
        },
      }),
    );
  } finally {
    await file.close();
  }
}

function tell({ output }: CliContext, record: RunRecord, change: RunChange): void {
  if (change.kind === 'state') {
    const { state } = record;
    output.event({ event: 'state', state }, () => state);
    return;
  }
  const { task, record: of } = change;
  const { status, words, code } = of;
  const what = { leave: 'leaves the primary site: ', come: '', run: '' }[task.part];
  output.event(
    { event: 'step', step: task.step.name, part: task.part, status, words, code },
    () => `  ${task.step.name}: ${what}${status}${words === undefined ? '' : ` (${words})`}`,
  );
}

export async function checkPlanFile(
  name: string,
  flags: PlanFlags,
  context: CliContext,
): Promise<void> {
  const { output } = context;
  const { plan } = await readPlan(context, name);
  const { kind = 'planned' } = flags;
  const check = await withWorld(context, flags, 'read', (seams) => checkPlan(plan, kind, seams));
  if (check.refusals.length > 0) output.exitCode = exitCodeOf(check);
  output.result(
    { plan: plan.name, kind, ...checkDocument(check) },
    () => `${plan.name}, ${kind}\n${checkText(check)}`,
  );
}

export async function runPlanFile(
  name: string,
  flags: PlanFlags,
  context: CliContext,
): Promise<void> {
  const file = await readPlan(context, name);
  const { kind = 'planned' } = flags;
  const confirmed = flags.yes === true ? 'any' : flags.confirm;
  const options = { kind, planHash: file.hash, confirmed };
  const how = { isPartial: flags.partial === true, isKept: flags.keep === true };
  const end = await withRun(context, flags, file, (seams) =>
    beginRun(file.plan, { ...options, ...how }, seams),
  );
  report(context, end);
}

export async function resumePlanFile(
  name: string,
  flags: PlanFlags,
  context: CliContext,
): Promise<void> {
  const file = await readPlan(context, name);
  const how = flags.cancel === true ? 'cancel' : flags.skip === true ? 'skip' : 'retry';
  const options = { planHash: file.hash, how, isKept: flags.keep === true } as const;
  const end = await withRun(context, flags, file, (seams) => resumeRun(file.plan, options, seams));
  report(context, end);
}

/** The code of a refusal that all share, as the command of one VM would end with it. */
function exitCodeOf({ refusals, vms }: PlanCheck): number {
  const codes = new Set(refusals.map(({ code }) => code));
  const refused = new Set(refusals.map(({ step }) => step));
  const isForAll = vms.every(({ step }) => refused.has(step));
  const [code] = codes;
  return codes.size === 1 && isForAll && code !== undefined
    ? CATALOGUE[code].exitCode
    : EXIT_NOT_WHOLE;
}

function checkDocument({ vms, refusals, isDestructive, hash }: PlanCheck): JsonObject {
  return {
    vms: vms.map(({ step, look, plan }) => ({
      ...{ step, vm: look.vmName, state: look.state, isReached: plan === undefined },
      ...(plan === undefined ? {} : { to: plan.toState, lostSeconds: plan.lostSeconds }),
      ...(plan === undefined || plan.notes.length === 0 ? {} : { notes: plan.notes }),
    })),
    refusals: refusals.map(({ step, code, message }) => ({ step, code, message })),
    ...{ isDestructive, hash },
  };
}

function checkText({ vms, refusals, isDestructive, hash }: PlanCheck): string {
  const lines = vms.map(({ step, look, plan }) => {
    if (plan === undefined) return `  ${step}: is ${look.state} already`;
    const lost = plan.lostSeconds === 0 ? '' : `, ${plan.lostSeconds} s of changes would be lost`;
    const notes = plan.notes.map((note) => `\n      ${note}`).join('');
    return `  ${step}: ${look.state} → ${plan.toState}${lost}${notes}`;
  });
  return [
    ...lines,
    ...refusals.map(({ step, code, message }) => `  ${step} refuses: ${code}: ${message}`),
    refusals.length === 0 ? 'nothing hinders it' : `${refusals.length} refusals`,
    `hash ${hash}${isDestructive ? ' (has to be confirmed: --yes, or --confirm with this hash)' : ''}`,
  ].join('\n');
}

function report({ output }: CliContext, { record, check }: RunEnd): void {
  const { outcome, state, pause, tasks } = record;
  if (outcome !== 'done') output.exitCode = EXIT_NOT_WHOLE;
  const isHindered = check !== undefined && check.refusals.length > 0;
  if (isHindered && outcome === 'cancelled') output.exitCode = exitCodeOf(check);
  const steps = Object.entries(tasks).map(([key, task]) => {
    const [part = '', ...name] = key.split(' ');
    return { step: name.join(' '), part, ...task };
  });
  const count = (status: string): number => steps.filter((step) => step.status === status).length;
  output.result(
    {
      ...{ plan: record.planName, kind: record.kind, runId: record.runId, state, outcome },
      ...(pause === undefined ? {} : { pause: { ...pause } }),
      steps: steps.map((step) => ({ ...step })),
      ...(isHindered ? { refusals: check.refusals.map((refusal) => ({ ...refusal })) } : {}),
    },
    () =>
      [
        `${record.planName}, ${record.kind}: ${state}`,
        `  ${count('done')} done, ${count('already')} already, ${count('failed')} failed, ${count('skipped')} left out`,
        ...(isHindered
          ? check.refusals.map(
              ({ step, code, message }) => `  ${step} refuses: ${code}: ${message}`,
            )
          : []),
        ...steps
          .filter(({ status }) => status === 'failed' || status === 'skipped')
          .map(({ step, part, status, words = '' }) => `  ${step} (${part}) ${status}: ${words}`),
        ...(pause === undefined ? [] : [`${pause.step}: ${pause.text}`]),
        ...(outcome === undefined ? ['`hvdr plan resume FILE` goes on'] : []),
      ].join('\n'),
  );
}
