// ControlService.Operate: one command of the failover state machine, from its plan to its end. The caller
// hears the plan, then each step, then how it ended; what he began goes on when he goes away.

import { guidToWire } from '../../shared/bytes/index.js';
import type {
  Caller,
  OperateRequest,
  OperateResponse,
  OperationPlan as WirePlan,
} from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import { findVm } from '../find-vm.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Receiver } from '../receiver.js';
import { actorOf } from '../actor.js';
import { planToWire } from '../wire.js';
import { flattenInstance } from './flatten.js';
import { Collector } from './collector.js';
import { forget, lookBeforeForget } from './forget.js';
import { answerTo, rowOf } from './machine.js';
import { type Command, COMMANDS, type StateName, type TestSession } from './model.js';
import { noteCommand } from './note-command.js';
import { type Asked, valuesOf } from './operations/work.js';
import { type OperationPlan, planOf, requireConfirmed } from './plan.js';
import { type Findings, lookBefore, lookBeforeTakingBack } from './preconditions.js';
import { requireAnswer, type Permitted } from './refusals.js';
import { reprotectFacts } from './reprotect.js';
import { Run } from './run.js';

/** What a command is told beside the parameters of the table. */
interface Extras {
  /** Of `test`: the session that is to be ended. */
  readonly stop: string | undefined;
  /** Of `test`: the session whose VM stays for good. */
  readonly adopt: string | undefined;
  /** Of `resolve`: `source` or `replica`. */
  readonly side: string | undefined;
}

interface Asking {
  readonly receiver: Receiver;
  readonly caller: Caller;
  readonly desk: VmDesk;
  readonly command: Command;
  readonly asked: Asked;
  readonly extras: Extras;
}

export async function* operate(
  receiver: Receiver,
  request: OperateRequest,
  caller: Caller,
  signal: AbortSignal,
): AsyncGenerator<OperateResponse> {
  const desk = await findVm(receiver, request.vm);
  desk.vm.requireSound();
  const { stop, adopt, side, ...parameters } = Object.fromEntries(
    Object.entries(request.parameters),
  );
  const { by, keyId } = actorOf(caller);
  const command = commandOf(request.command);
  const asked = { parameters, by, keyId };
  const asking = { receiver, desk, command, asked, caller, extras: { stop, adopt, side } };
  if (stop !== undefined && command === 'test') {
    yield* stopTest(asking, stop, request.isPlan);
    return;
  }
  if (adopt !== undefined && command === 'test') {
    yield* adoptTest(asking, adopt, request.isPlan);
    return;
  }
  const { plan, findings, answer } = await planFor(asking);
  yield { step: { $case: 'plan', value: planToWire(plan, findings.network) } };
  if (command === 'reprotect' && answer !== undefined) {
    const value = await reprotectFacts(receiver.failovers.site, desk);
    yield { step: { $case: 'reprotect', value } };
  }
  if (request.isPlan) return;
  requireConfirmed(plan, request.confirmedHash);
  if (answer === undefined) throw new Error('what is refused is not confirmed');
  yield* carryOut(asking, answer, findings, signal);
}

function commandOf(text: string): Command {
  const found = COMMANDS.find((command) => command === text && command !== 'cycle');
  if (found !== undefined) return found;
  throw new DrError('E_USAGE', `there is no failover command "${text.slice(0, 64)}"`);
}

const NOTHING_FOUND: Findings = {
  ...{ refusals: [], notes: [], point: undefined, lostSeconds: 0 },
  ...{ network: undefined, retired: undefined },
};

async function planFor({ receiver, desk, command, asked, extras }: Asking): Promise<{
  readonly plan: OperationPlan;
  readonly findings: Findings;
  readonly answer: Permitted | undefined;
}> {
  const { failovers } = receiver;
  const { site } = failovers;
  const standing = await failovers.standingOf(desk);
  const values = valuesOf(asked.parameters);
  const answer = answerTo(rowOf(standing.state, standing.failover), command, standing.failover);
  const isNew = ['start', 'otherPoint', 'supersede', 'session'].includes(answer.kind);
  const findings: Findings = isNew
    ? await lookBefore({ site, desk, command, parameters: asked.parameters, values })
    : NOTHING_FOUND;
  const returning = new Collector();
  if (answer.kind === 'takeBack') await lookBeforeTakingBack({ site, desk, values }, returning);
  const forgetting =
    command === 'forget' && answer.kind === 'note'
      ? await lookBeforeForget(site, desk, values)
      : NOTHING_FOUND;
  const { vmId, protection } = desk.vm;
  const { parameters } = asked;
  const given = extras.side === undefined ? parameters : { ...parameters, side: extras.side };
  const base = planOf({
    ...{ standing, vmId, command, epoch: protection.epoch, parameters: given },
    ...{ pointId: findings.point?.pointId, lostSeconds: findings.lostSeconds },
  });
  const plan = {
    ...base,
    refusals: [
      ...base.refusals,
      ...findings.refusals,
      ...returning.refusals,
      ...forgetting.refusals,
    ],
    notes: [...base.notes, ...findings.notes, ...forgetting.notes],
    timedNotes: timedNotes(command, desk, site.seams.clock.now()),
  };
  const isRefused = answer.kind === 'refuse' || answer.kind === 'asHalted';
  return { plan, findings, answer: isRefused ? undefined : answer };
}

/** How long it ran here is what an undo throws away. */
function timedNotes(command: Command, { vm }: VmDesk, nowMs: number): readonly string[] {
  const { instance, phase } = vm.protection.failover;
  if (instance === undefined || instance.poweredOnAtMs === 0) return [];
  if (command !== 'undo' && command !== 'unplanned' && command !== 'abort') return [];
  // what it wrote here is what is gone back to
  if (phase === 'failing-back' || phase === 'failed-back') return [];
  const seconds = Math.round((nowMs - instance.poweredOnAtMs) / 1000);
  return [`${instance.vmName} ran here for ${seconds} s; what it wrote since then is thrown away`];
}

async function* carryOut(
  asking: Asking,
  answer: Permitted,
  findings: Findings,
  signal: AbortSignal,
): AsyncGenerator<OperateResponse> {
  const { receiver, desk, command, asked } = asking;
  const { failovers } = receiver;
  switch (answer.kind) {
    case 'session': {
      const { point } = findings;
      if (point === undefined) throw new Error('a test has a point');
      const standing = await failovers.standingOf(desk);
      const run = await failovers.tests.begin(desk, point, asked, () => {
        const { failover } = desk.vm.protection;
        requireAnswer({ ...standing, failover }, command);
      });
      yield* told(run, signal);
      const outcome = await run.result();
      yield await done(asking, {
        operationId: outcome.operationId,
        pointId: outcome.pointId,
        instanceName: outcome.instanceName,
        instanceVmId: outcome.instanceVmId,
        isPassed: outcome.isPassed,
        reportJson: outcome.reportJson,
      });
      return;
    }
    case 'note':
      if (command === 'forget') {
        const standing = await failovers.standingOf(desk);
        const warnings = await forget(receiver, desk, standing, asked, valuesOf(asked.parameters));
        yield doneResponse('UNPROTECTED', { warnings });
        return;
      }
      await noteCommand(receiver, desk, command, asked);
      yield await done(asking, {});
      return;
    case 'done':
    case 'cycle':
      yield await done(asking, {});
      return;
    case 'start':
      if (command === 'flatten') {
        await flattenInstance(failovers.site, desk, asked);
        yield await done(asking, {});
        return;
      }
      if (command === 'resolve') {
        const resolving = await failovers.resolve(desk, asking.extras.side ?? '', asked);
        if (resolving instanceof Run) {
          yield* told(resolving, signal);
          yield await done(asking, await resolving.result());
        } else {
          yield await done(asking, resolving);
        }
        return;
      }
      yield* begun(asking, findings, signal);
      return;
    case 'otherPoint':
    case 'supersede':
    case 'takeBack':
    case 'resume':
      yield* begun(asking, findings, signal);
  }
}

async function* begun(
  asking: Asking,
  findings: Findings,
  signal: AbortSignal,
): AsyncGenerator<OperateResponse> {
  const { receiver, desk, command, asked } = asking;
  const run = await receiver.failovers.begin(desk, command, asked, findings);
  const isToHold = asked.parameters['hold'] !== undefined;
  if (!isToHold) run.release();
  yield* told(run, signal, isToHold);
  if (isToHold && run.isHeld) {
    yield await done(asking, { operationId: run.operationId });
    return;
  }
  yield await done(asking, await run.result());
}

/** The steps as they come, up to a hold when that is waited for; the run goes on without whoever listens. */
async function* told(
  run: Run,
  signal: AbortSignal,
  isToHold = false,
): AsyncGenerator<OperateResponse> {
  const operationId = guidToWire(run.operationId);
  for await (const { step, what } of run.progress(signal)) {
    yield { step: { $case: 'progress', value: { operationId, step, what } } };
    if (isToHold && run.isHeld) return;
  }
  if (signal.aborted)
    throw new DrError('E_CHANNEL', 'the call was given up; the operation goes on');
}

interface Ended {
  readonly operationId?: Run['operationId'];
  readonly pointId?: Run['operationId'] | undefined;
  readonly instanceName?: string;
  readonly instanceVmId?: Run['operationId'] | undefined;
  readonly lostSeconds?: number;
  readonly warnings?: readonly string[];
  readonly isPassed?: boolean;
  readonly reportJson?: string;
}

async function done({ receiver, desk }: Asking, ended: Ended): Promise<OperateResponse> {
  const { state } = await receiver.failovers.standingOf(desk);
  return doneResponse(state, ended);
}

function doneResponse(state: StateName, ended: Ended): OperateResponse {
  const id = (value: Run['operationId'] | undefined): Buffer =>
    value === undefined ? Buffer.alloc(0) : guidToWire(value);
  const value = {
    operationId: id(ended.operationId),
    state,
    instanceVmId: id(ended.instanceVmId),
    instanceName: ended.instanceName ?? '',
    pointId: id(ended.pointId),
    lostSeconds: BigInt(ended.lostSeconds ?? 0),
    warnings: [...(ended.warnings ?? [])],
    isPassed: ended.isPassed ?? false,
    reportJson: ended.reportJson ?? '',
  };
  return { step: { $case: 'done', value } };
}

async function* stopTest(
  asking: Asking,
  name: string,
  isPlan: boolean,
): AsyncGenerator<OperateResponse> {
  const { receiver, desk, asked } = asking;
  const { tests } = receiver.failovers;
  const session = tests.find(desk, name);
  yield await planOfSession(asking, session, `power off and remove ${session.instance.vmName}`);
  if (isPlan) return;
  const isForced = valuesOf(asked.parameters).force;
  if (isForced) receiver.requireRole(asking.caller, ['operator']);
  await tests.stop(desk, session, isForced);
  const { operationId, instance } = session;
  const isPassed = desk.vm.protection.proof?.isPassed ?? false;
  const { pointId, vmName } = instance;
  yield await done(asking, { operationId, pointId, instanceName: vmName, isPassed });
}

async function* adoptTest(
  asking: Asking,
  name: string,
  isPlan: boolean,
): AsyncGenerator<OperateResponse> {
  const { receiver, desk, caller } = asking;
  receiver.requireRole(caller, ['operator']);
  const { tests } = receiver.failovers;
  const session = tests.find(desk, name);
  const { operationId, instance } = session;
  const { pointId, vmName, vmId } = instance;
  yield await planOfSession(asking, session, `let the disks of ${vmName} stand alone; it stays`);
  if (isPlan) return;
  await tests.adopt(desk, session);
  const isPassed = desk.vm.protection.proof?.isPassed ?? false;
  const end = { operationId, pointId, instanceName: vmName, instanceVmId: vmId, isPassed };
  yield await done(asking, end);
}

/** What is done with a session that stands: one step, which nothing hinders. */
async function planOfSession(
  { receiver, desk }: Asking,
  { instance }: TestSession,
  what: string,
): Promise<OperateResponse> {
  const { state } = await receiver.failovers.standingOf(desk);
  const value: WirePlan = {
    ...{ command: 'test', vmName: desk.vm.protection.vmName, fromState: state, toState: state },
    steps: [{ name: 'T7', what }],
    ...{ refusals: [], notes: [], pointId: guidToWire(instance.pointId) },
    ...{ lostSeconds: 0n, isDestructive: false, hash: '', addresses: [] },
  };
  return { step: { $case: 'plan', value } };
}
