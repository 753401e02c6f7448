// One task of a run, done: a command for a VM, a script, a wait. Whatever was begun before a crash is
// looked at first, so that the same task may be given again.

import type { Clock } from '../clock.js';
import { DrError, type ErrorCode } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { type ConnectTcp, findScript, type RunScript, type ScriptContext } from '../probe/index.js';
import type { Action, Condition, PlanKind, RunVm, ScriptCall, TaskRecord } from './model.js';
import type { HeartbeatOf, VmCommands, VmLook, VmOutcome } from './ports.js';
import type { Task } from './tasks.js';

export interface ActionSeams {
  readonly commands: VmCommands;
  readonly clock: Clock;
  readonly fs: FileSystem;
  readonly connect: ConnectTcp;
  readonly runScript: RunScript;
  /** undefined: no hypervisor was named that could be asked. */
  readonly heartbeatOf: HeartbeatOf | undefined;
  readonly scriptFolder: string | undefined;
}

/** What a task may know of its run. */
export interface ActionContext {
  readonly kind: PlanKind;
  readonly runId: string;
  readonly vmOf: (step: string) => RunVm | undefined;
  readonly recordOf: (step: string) => TaskRecord;
  readonly signal: AbortSignal;
  readonly onStep: (step: string, operationId: string) => void;
}

export interface ActionResult {
  readonly status: 'done' | 'already' | 'failed';
  readonly words?: string;
  readonly code?: ErrorCode;
  readonly outcome?: VmOutcome;
}

const POLL_MS = 2000;
const CONNECT_TRY_MS = 5000;
/** A receiver that is started again is back within these. */
const RECONNECT_WAITS_MS = [2000, 5000, 10_000, 30_000, 60_000];
/** A test that its orchestrator lost is waited for as long as its own deadlines may take. */
const LOST_TEST_MS = 2 * 60 * 60 * 1000;
const WORDS_MAX = 1000;

/** Where a VM of ours is already, whatever it was when the run began. */
const REACHED: Readonly<Record<PlanKind, readonly string[]>> = {
  planned: ['FAILED_OVER', 'COMMITTED'],
  unplanned: ['FAILED_OVER', 'COMMITTED'],
  test: [],
  permanent: ['COMMITTED'],
  failback: ['FAILED_BACK'],
  undo: ['UNPROTECTED', 'SEEDING', 'PROTECTED', 'RESYNC'],
};

/** True when a VM stands where the run leads, so that nothing is left to do with it. */
export function hasReached(kind: PlanKind, look: VmLook, vm: RunVm | undefined): boolean {
  if (look.operation !== '') return false;
  if (REACHED[kind].includes(look.state)) return true;
  const { fromState, toState } = vm ?? {};
  return kind !== 'test' && toState === look.state && toState !== fromState;
}

/** Does a task; never throws but for the reason of the signal. */
export async function perform(
  task: Task,
  context: ActionContext,
  seams: ActionSeams,
): Promise<ActionResult> {
  try {
    return await act(task, context, seams);
  } catch (error) {
    context.signal.throwIfAborted();
    return failure(error);
  }
}

function failure(error: unknown): ActionResult {
  const isKnown = error instanceof DrError;
  const words = (error instanceof Error ? error.message : String(error)).slice(0, WORDS_MAX);
  return { status: 'failed', words, code: isKnown ? error.code : 'E_INTERNAL' };
}

function act(task: Task, context: ActionContext, seams: ActionSeams): Promise<ActionResult> {
  const { action } = task.step;
  switch (action.kind) {
    case 'vm':
      return commandVmUntilAnswered(task, action, context, seams);
    case 'script':
      return callScript(action.script, context, seams);
    case 'delay':
      return seams.clock
        .sleep(action.durationMs, context.signal)
        .then((): ActionResult => ({ status: 'done' }));
    case 'wait-for':
      return waitFor(action.condition, action.timeoutMs, context, seams);
    case 'message':
      return Promise.resolve({ status: 'done', words: action.text });
  }
}

/** When the connection failed, what became of the command is asked of the VM, and it goes on. */
async function commandVmUntilAnswered(
  task: Task,
  action: Extract<Action, { kind: 'vm' }>,
  context: ActionContext,
  seams: ActionSeams,
): Promise<ActionResult> {
  for (let tryIndex = 0; ; tryIndex++) {
    try {
      const result = await commandVm(task, action, context, seams);
      return tryIndex > 0 && result.status === 'already' ? { ...result, status: 'done' } : result;
    } catch (error) {
      const isLost = error instanceof DrError && error.retry === 'reconnect';
      const waitMs = RECONNECT_WAITS_MS[tryIndex];
      if (!isLost || waitMs === undefined) throw error;
      await seams.clock.sleep(waitMs, context.signal);
    }
  }
}

async function commandVm(
  task: Task,
  action: Extract<Action, { kind: 'vm' }>,
  context: ActionContext,
  { commands, clock }: ActionSeams,
): Promise<ActionResult> {
  const { kind, signal, onStep } = context;
  const { name } = task.step;
  const look = await commands.look(action.vm);
  if (hasReached(kind, look, context.vmOf(name))) return { status: 'already', words: look.state };
  if (kind === 'test') {
    const lost = await lostTest(look, action.vm, context.recordOf(name), {
      commands,
      clock,
      signal,
    });
    if (lost !== undefined) return lost;
  }
  const isUnderWay = look.operation !== '' || task.part === 'come';
  const held: Readonly<Record<string, string>> = task.part === 'leave' ? { hold: 'synced' } : {};
  const kept: Readonly<Record<string, string>> = kind === 'test' ? { keep: 'yes' } : {};
  const outcome = await commands.run({
    vm: action.vm,
    command: isUnderWay ? 'resume' : kind,
    parameters: { ...(isUnderWay ? {} : action.parameters), ...held, ...kept },
    confirmedHash: isUnderWay ? undefined : await confirmedHash(name, action, context, commands),
    ...{ signal, onStep },
  });
  const words = outcome.warnings.join('; ').slice(0, WORDS_MAX);
  if (kind === 'test' && !outcome.isPassed) {
    const why = words === '' ? 'the report names what failed' : words;
    return { status: 'failed', words: `the test did not pass: ${why}`, outcome };
  }
  return { status: 'done', outcome, ...(words === '' ? {} : { words }) };
}

/** The hash to confirm with, of the plan as it is now, when it is still the one that was confirmed. */
async function confirmedHash(
  step: string,
  action: Extract<Action, { kind: 'vm' }>,
  { kind, vmOf }: ActionContext,
  commands: VmCommands,
): Promise<string | undefined> {
  const confirmed = vmOf(step)?.confirmedHash;
  if (confirmed === undefined) return undefined;
  const { hash } = await commands.plan(action.vm, kind, action.parameters);
  if (hash === confirmed) return hash;
  throw new DrError('E_CONFIRM', `${action.vm} is not as it was when the plan was confirmed`, {
    context: { vm: action.vm },
  });
}

/** How a test ended that this task began before a crash; undefined when it began none. */
async function lostTest(
  look: VmLook,
  vm: string,
  { operationId, startedAtMs = 0 }: TaskRecord,
  { commands, clock, signal }: Pick<ActionSeams, 'commands' | 'clock'> & { signal: AbortSignal },
): Promise<ActionResult | undefined> {
  if (operationId === undefined) return undefined;
  const endsAt = clock.monotonic() + LOST_TEST_MS;
  let now = look;
  for (;;) {
    if (now.provenAtMs >= startedAtMs) {
      if (now.isProofPassed) return { status: 'done' };
      return { status: 'failed', words: 'the test did not pass: its report names what failed' };
    }
    // it came to no verdict; a new one is made
    if (!now.testOperationIds.includes(operationId) || clock.monotonic() >= endsAt)
      return undefined;
    await clock.sleep(POLL_MS, signal);
    now = await commands.look(vm);
  }
}

async function callScript(
  { name, args, timeoutMs, about }: ScriptCall,
  context: ActionContext,
  { fs, runScript, scriptFolder, clock }: ActionSeams,
): Promise<ActionResult> {
  const file = await findScript(fs, scriptFolder, name);
  const { signal } = context;
  const end = await runScript({
    ...{ file, args, timeoutMs, clock, signal, context: scriptContext(about, context) },
  });
  const said = end.output === '' ? '' : `: ${end.output}`;
  if (end.exitCode === 0) return { status: 'done', words: end.output.slice(0, WORDS_MAX) };
  const how = end.isTimedOut
    ? `was stopped after ${timeoutMs / 1000} s`
    : end.exitCode === undefined
      ? 'did not end by itself'
      : `ended with exit code ${end.exitCode}`;
  throw new DrError('E_TOOL_FAILED', `the script ${name} ${how}${said}`, {
    context: { script: name },
  });
}

function scriptContext(about: string | undefined, context: ActionContext): ScriptContext {
  const { kind, runId } = context;
  // runs that lead to the primary site work on VMs alone
  const site = 'target';
  if (about === undefined) return { kind, site, ipMap: {}, operationId: runId };
  const { operationId = runId, pointId, ipMap = {} } = context.recordOf(about);
  const vm = context.vmOf(about)?.vmName ?? about;
  return { kind, site, vm, ipMap, point: pointId, operationId };
}

async function waitFor(
  condition: Condition,
  timeoutMs: number,
  context: ActionContext,
  seams: ActionSeams,
): Promise<ActionResult> {
  const { clock } = seams;
  const { signal } = context;
  const endsAt = clock.monotonic() + timeoutMs;
  let last = '';
  for (;;) {
    const leftMs = endsAt - clock.monotonic();
    if (leftMs <= 0) break;
    const found = await withLimit(
      (limited) => ask(condition, { ...context, signal: limited }, seams),
      Math.min(leftMs, condition.kind === 'script' ? leftMs : CONNECT_TRY_MS),
      { clock, signal },
    );
    if (found === undefined) return { status: 'done' };
    last = found;
    await clock.sleep(Math.min(POLL_MS, Math.max(1, endsAt - clock.monotonic())), signal);
  }
  throw new DrError(
    'E_STALLED',
    `${conditionWords(condition)} did not come within ${timeoutMs / 1000} s: ${last}`,
  );
}

/** Words for why not, or undefined for yes. @throws the reason of the signal */
async function withLimit(
  work: (signal: AbortSignal) => Promise<void>,
  limitMs: number,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<string | undefined> {
  const settled = new AbortController();
  const limit = new AbortController();
  const over = clock.sleep(limitMs, AbortSignal.any([settled.signal, signal])).then(
    () => {
      limit.abort(new Error('no answer'));
    },
    () => undefined,
  );
  try {
    const limited = AbortSignal.any([limit.signal, signal]);
    await Promise.race([work(limited), over.then(() => limited.throwIfAborted())]);
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return (error instanceof Error ? error.message : String(error)).slice(0, WORDS_MAX);
  } finally {
    settled.abort();
    await over;
  }
}

async function ask(
  condition: Condition,
  context: ActionContext,
  seams: ActionSeams,
): Promise<void> {
  switch (condition.kind) {
    case 'tcp':
      return seams.connect(condition, context.signal);
    case 'script':
      await callScript(condition.script, context, seams);
      return;
    case 'heartbeat': {
      const vm = context.vmOf(condition.step);
      if (vm === undefined || seams.heartbeatOf === undefined) {
        throw new DrError('E_PARAMETER', 'no hypervisor was named that could be asked');
      }
      const { instanceName } = await seams.commands.look(vm.vmId);
      if (!(await seams.heartbeatOf(instanceName === '' ? vm.vmName : instanceName))) {
        throw new DrError('E_STATE', 'the guest gives no sign of life');
      }
    }
  }
}

function conditionWords(condition: Condition): string {
  switch (condition.kind) {
    case 'heartbeat':
      return `the heartbeat of ${condition.step}`;
    case 'tcp':
      return `a connection to ${condition.host}:${condition.port}`;
    case 'script':
      return `exit code 0 of ${condition.script.name}`;
  }
}
