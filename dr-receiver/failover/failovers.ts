// The operations of a receiver: begins them, goes on with them after a start, ends those whose time has
// come. One operation for each VM, and any number of tests beside; what is under way stands in the
// journal, and is here only as long as somebody works at it.

import { randomGuid, type Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { LogEvent } from '../../shared/log-events.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Point } from '../store/point.js';
import { listedPoint } from '../store/point-sources.js';
import type { Actor } from '../store/records.js';
import { afterFailure, runSteps, StepFailure } from './engine.js';
import { appendFailover, FailoverBook, type FailoverPatch, owedAfter } from './failover-book.js';
import type { Permitted, Standing } from './refusals.js';
import { requireAnswer } from './refusals.js';
import { removeInstanceDisks } from './instance-files.js';
import type {
  Command,
  FailoverRecord,
  Instance,
  Operation,
  OperationKind,
  Phase,
} from './model.js';
import {
  firstStepOf,
  isCommitting,
  isWorked,
  kindOf,
  phaseOf,
  tableOf,
  type WorkedKind,
} from './operation-kinds.js';
import { afterChecks, newInstance, RETIRED } from './operations/come-up.js';
import { payDebts } from './operations/debts.js';
import { afterFailback, isStandingLevel } from './operations/failback.js';
import { LEFT_AT } from './operations/failback-undo.js';
import { type Asked, valuesOf, Work, type WorkTable } from './operations/work.js';
import { Run } from './run.js';
import { keepReplica, keepSource } from './resolve.js';
import { isSame, parametersOnResume } from './resume-parameters.js';
import type { FailoverSite } from './site.js';
import {
  giveBackOf,
  isBeforeShutdown,
  isSameStanding,
  LOST_SECONDS,
  mayBeFenced,
  type OperationResult,
  resultOf,
  standing,
  TOUCHES_SOURCE,
} from './standing.js';
import { changedMeanwhile, halted, rolledBack, stays, stopped } from './operation-errors.js';
import { stepRule } from './steps.js';
import { Tests } from './tests.js';
import { Watch } from './watch.js';
import { isFailback, REPLACES, wayBack } from './way-back.js';

/** A step that waits for the other site does not hold up the end of the receiver. */
const STOP_PATIENCE_MS = 5000;

export interface Desks {
  desk(vmId: Guid): Promise<VmDesk | undefined>;
  allDesks(): Promise<readonly VmDesk[]>;
}

/** What was found before an operation begins. */
export interface Chosen {
  readonly point: Point | undefined;
  readonly lostSeconds: number;
  /** The VM that gives up its name. */
  readonly retired?: Guid | undefined;
}

export class Failovers {
  readonly site: FailoverSite;
  readonly tests: Tests;
  readonly #desks: Desks;
  readonly #runs = new Map<Guid, Run<OperationResult>>();
  readonly #closing = new AbortController();
  #watching: Promise<void> | undefined;
  readonly #watch: Watch;

  constructor(site: FailoverSite, desks: Desks) {
    this.site = site;
    this.#desks = desks;
    this.tests = new Tests(site);
    this.#watch = new Watch(site, {
      desks,
      tests: this.tests,
      begin: (desk, command, asked) =>
        this.begin(desk, command, asked, { point: undefined, lostSeconds: 0 }),
    });
  }

  async standingOf(desk: VmDesk): Promise<Standing> {
    const { vm } = desk;
    const isBegun = vm.protection.head === undefined && (await desk.hasUnfinished());
    return standing(desk, isBegun);
  }

  /** The run of the VM's operation, as long as it is worked at here. */
  runOf({ vm }: VmDesk): Run<OperationResult> | undefined {
    const run = this.#runs.get(vm.vmId);
    return run?.isOver === false ? run : undefined;
  }

  /**
   * Begins what the answer of the state machine says; durable on return. `point`: what comes up.
   * @throws DrError with the code of the table, when the state is another one by now
   */
  async begin(
    desk: VmDesk,
    command: Command,
    asked: Asked,
    chosen: Chosen,
  ): Promise<Run<OperationResult>> {
    const answer = requireAnswer(await this.standingOf(desk), command);
    switch (answer.kind) {
      case 'start':
      case 'otherPoint':
      case 'supersede':
        return this.#beginNew(desk, command, answer, asked, chosen);
      case 'takeBack':
        return this.takeBack(desk, command, asked);
      case 'resume':
        await this.#goOnWith(desk, command, asked);
        return this.resume(desk);
      case 'cycle':
      case 'session':
      case 'note':
      case 'done':
        throw new DrError('E_STATE', `${command} is no operation of its own now`);
    }
  }

  async #beginNew(
    desk: VmDesk,
    command: Command,
    answer: Permitted,
    asked: Asked,
    { point, lostSeconds, retired }: Chosen,
  ): Promise<Run<OperationResult>> {
    const kind = kindOf(command, desk.vm.protection.failover);
    // a disaster does not wait for a test that cannot be ended
    if (kind === 'planned') await this.tests.endAll(desk, false);
    if (kind === 'unplanned') await this.tests.endAll(desk, true);
    // a step that waits for a source which does not answer is not waited for: its next word is refused
    if (answer.kind === 'supersede') this.#abandon(desk, 'another failover takes its place');
    const operationId = randomGuid(this.site.seams.random);
    let left: Instance | undefined;
    await desk.vm.change(async () => {
      const now = requireAnswer(standing(desk, false), command);
      if (now.kind !== answer.kind) throw changedMeanwhile(desk);
      const { failover } = desk.vm.protection;
      // retention may have forgotten it since it was chosen
      if (point !== undefined) listedPoint(desk.vm, point.pointId);
      left = failover.replacement;
      const isReplacing = kind === 'unplanned' && failover.instance !== undefined;
      const replacement =
        isReplacing && point !== undefined ? newInstance(desk.vm, point, operationId) : undefined;
      const operation = this.#newOperation(kind, operationId, asked, point, {
        ...(isReplacing ? { [REPLACES]: 'yes' } : {}),
        ...(kind === 'failback-undo' ? { [LEFT_AT]: 'F5' } : {}),
        ...(mayBeFenced(failover) ? { [TOUCHES_SOURCE]: 'yes' } : {}),
        ...(retired === undefined ? {} : { [RETIRED]: retired }),
        [LOST_SECONDS]: String(lostSeconds),
      });
      const phase = phaseOf(kind) ?? failover.phase;
      // what serves keeps its timer until it is gone
      const timer = isCommitting(kind) || isReplacing ? {} : { commit: undefined };
      // what an earlier one stopped, and could not start again yet, stays ours to start
      const isSourceStopped =
        (failover.isSourceStopped && !isBeforeShutdown(failover)) ||
        failover.owed.some((debt) => debt.kind === 'start');
      const change = { ...timer, phase, operation, replacement, isSourceStopped };
      const { instance } = failover;
      // its end, an operation of its own, says which one it ends
      const meant =
        kind === 'failback' && instance
          ? { instance: { ...instance, failbackId: operationId } }
          : {};
      const record = { ...failover, ...change, ...meant, halted: undefined };
      await this.#append(desk, record, asked);
    });
    await this.#dropDisks(desk, left);
    this.#log(desk, 'failover.began', { kind, operationId, by: asked.by });
    return this.#work(desk, undefined);
  }

  #newOperation(
    kind: WorkedKind,
    operationId: Guid,
    { by, keyId, parameters }: Asked,
    point: Point | undefined,
    facts: Operation['facts'],
  ): Operation {
    const startedAtMs = this.site.seams.clock.now();
    const step = firstStepOf(kind);
    const pointId = point?.pointId;
    return { operationId, kind, step, startedAtMs, by, keyId, parameters, pointId, facts };
  }

  /** Takes back a failover that nobody has committed: nothing came up, or undo does the rest. */
  async takeBack(desk: VmDesk, command: Command, asked: Asked): Promise<Run<OperationResult>> {
    await this.#stop(desk, 'it is taken back');
    const answer = requireAnswer(await this.standingOf(desk), command);
    if (answer.kind !== 'takeBack') throw changedMeanwhile(desk);
    const seen = desk.vm.protection.failover;
    const { operation } = seen;
    const way = wayBack(command, answer, seen);
    if ((way === 'given-up' || way === 'kept') && operation !== undefined) {
      const run = new Run<OperationResult>(operation.operationId);
      return run.start(async () => {
        await this.#giveUp(desk, operation, asked);
        return resultOf(desk, operation);
      });
    }
    await this.#enterUndo(desk, asked, seen);
    return this.#work(desk, undefined);
  }

  /** `seen`: what was so when it was decided. @throws DrError E_LOCKED when it is not so any more */
  async #enterUndo(desk: VmDesk, asked: Asked, seen: FailoverRecord): Promise<void> {
    const operationId = randomGuid(this.site.seams.random);
    const kind = isFailback(seen) ? 'failback-undo' : 'undo';
    await desk.vm.change(async () => {
      const { failover: now } = desk.vm.protection;
      if (!isSameStanding(now, seen)) throw changedMeanwhile(desk);
      const facts = kind === 'undo' ? {} : { [LEFT_AT]: now.operation?.step ?? 'F5' };
      const operation = this.#newOperation(kind, operationId, asked, undefined, facts);
      const phase = phaseOf(kind) ?? 'undoing';
      const change = { phase, commit: undefined, halted: undefined } as const;
      await this.#append(desk, { ...now, ...change, operation }, asked);
    });
    this.#log(desk, 'failover.began', { kind, operationId, by: asked.by });
  }

  /** Before this site was the active one: as if nothing had been, and the source is told so. */
  async #giveUp(desk: VmDesk, operation: Operation, by: Actor): Promise<void> {
    const { operationId, kind, step, facts } = operation;
    const { vm } = desk;
    let left: Instance | undefined;
    await vm.change(async () => {
      const { failover } = vm.protection;
      if (failover.operation?.operationId !== operationId) throw changedMeanwhile(desk);
      left = failover.replacement;
      const isReturn = isCommitting(kind) || facts[REPLACES] === 'yes';
      const before = kind === 'failback-commit' ? 'failed-back' : 'failed-over';
      const phase: Phase = isReturn ? before : 'ordinary';
      const isTouched = mayBeFenced(failover) || (failover.isSourceStopped && kind !== 'planned');
      const owes = !isTouched || isReturn ? [] : giveBackOf(failover);
      const owed = owedAfter(failover.owed, { owes }, operationId);
      const isSourceStopped = isReturn ? failover.isSourceStopped : false;
      const gone = { operation: undefined, replacement: undefined, halted: undefined };
      await this.#append(desk, { ...failover, ...gone, phase, isSourceStopped, owed }, by);
    });
    await this.#dropDisks(desk, left);
    this.#log(desk, 'failover.given-up', { kind, operationId, step });
    await this.#payDebts(desk, operation);
  }

  /** What is forced waits for nobody: the source is told beside, and again at its next contact. */
  async #payDebts(desk: VmDesk, { parameters }: Operation): Promise<void> {
    const paying = payDebts(this.site, desk);
    if (!valuesOf(parameters).force) {
      await paying;
      return;
    }
    paying.catch((error: unknown) => {
      this.#log(desk, 'failover.step-failed', { step: 'tell', reason: String(error) });
    });
  }

  /** Of a VM that never came up. What cannot be removed now is a leftover, which no record names. */
  async #dropDisks(desk: VmDesk, left: Instance | undefined): Promise<void> {
    if (left === undefined) return;
    try {
      await removeInstanceDisks(this.site.seams.fs, desk.vm, left.operationId);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      this.#log(desk, 'failover.step-failed', { step: 'remove', reason: error.message });
    }
  }

  /**
   * Decides whose data count. `side`: `source` or `replica`, of which nothing is left to do but to hear
   * the warnings. @throws DrError E_USAGE, E_SOURCE_ALIVE, …
   */
  async resolve(
    desk: VmDesk,
    side: string,
    asked: Asked,
  ): Promise<Run<OperationResult> | { readonly warnings: readonly string[] }> {
    requireAnswer(await this.standingOf(desk), 'resolve');
    if (side === 'replica') {
      const warnings = await keepReplica(this.site, desk, asked);
      const { vmId, protection } = desk.vm;
      const { vmName, epoch } = protection;
      this.site.log.warn('failover.orphan', { vmId, vmName, epoch, reason: warnings.join('; ') });
      return { warnings };
    }
    if (side !== 'source') throw new DrError('E_USAGE', 'keep either source or replica');
    const seen = desk.vm.protection.failover;
    const parameters = await keepSource(this.site, desk, asked);
    await this.#enterUndo(desk, { ...asked, parameters }, seen);
    return this.#work(desk, undefined);
  }

  /** What is asked for again may be told more: how far, or with force. @throws DrError E_LOCKED, E_PARAMETER */
  async #goOnWith(desk: VmDesk, command: Command, { parameters, by, keyId }: Asked): Promise<void> {
    const isWorkedAt = this.runOf(desk) !== undefined;
    await desk.vm.change(async () => {
      const { failover } = desk.vm.protection;
      const { operation } = failover;
      if (operation === undefined) return;
      const next = parametersOnResume(operation, command, parameters);
      if (next === undefined || isSame(next, operation.parameters)) return;
      if (isWorkedAt) throw changedMeanwhile(desk);
      const record = { ...failover, operation: { ...operation, parameters: next } };
      await this.#append(desk, record, { by, keyId });
    });
  }

  /** Goes on with what the journal says is under way. @throws DrError E_STATE when nothing is */
  async resume(desk: VmDesk): Promise<Run<OperationResult>> {
    const running = this.runOf(desk);
    if (running !== undefined) return running;
    const { operation, halted } = desk.vm.protection.failover;
    if (operation === undefined) {
      throw new DrError('E_STATE', `nothing is under way for ${desk.vm.protection.vmName}`);
    }
    if (halted !== undefined) {
      await desk.vm.change(async () => {
        const { failover } = desk.vm.protection;
        const record = { ...failover, phase: halted.phase, halted: undefined };
        await this.#append(desk, record, operation);
      });
    }
    return this.#work(desk, operation.step);
  }

  /** Works at the operation that stands in the journal; `entered`: its step was entered before. */
  #work(desk: VmDesk, entered: string | undefined): Run<OperationResult> {
    const { operation } = desk.vm.protection.failover;
    if (operation === undefined) throw new Error('an operation stands in the journal');
    const live = this.runOf(desk);
    // two who ask at once get the same run
    if (live?.operationId === operation.operationId) return live;
    const table = tableOf(operation);
    const run = new Run<OperationResult>(operation.operationId);
    this.#runs.set(desk.vm.vmId, run);
    const first = entered ?? operation.step;
    return run.start(() => this.#runTable(desk, table, operation, run, first));
  }

  async #runTable(
    desk: VmDesk,
    table: WorkTable,
    operation: Operation,
    run: Run,
    first: string,
  ): Promise<OperationResult> {
    const { by, keyId, operationId, kind } = operation;
    const book = new FailoverBook(desk.vm, this.site.seams.clock, operationId, { by, keyId });
    const work = new Work(this.site, desk, book, run);
    let last: Operation;
    let wrong: DrError | undefined;
    try {
      const isAtEnd = first === table.end.name;
      const found = isAtEnd ? [] : await runSteps(table.steps, work, book, run, first);
      last = book.operation;
      if (table.isStanding === true) {
        for (const patch of found) await book.note(patch);
        return resultOf(desk, last);
      }
      await book.end([...found, table.endPatch(work)]);
      run.tell(table.end.name, table.end.what);
      wrong = this.#proof(work, kind, found);
    } catch (error) {
      throw await this.#afterError(desk, book, run, operation, error);
    }
    this.#log(desk, 'failover.ended', { kind, operationId });
    const result = resultOf(desk, last);
    await this.#payDebts(desk, operation);
    if (wrong === undefined) return result;
    const seen = desk.vm.protection.failover;
    // a failback has no instance of its own: what serves there is its VM at the primary
    const isStill =
      kind === 'failback'
        ? seen.phase === 'failed-back'
        : seen.instance?.operationId === operationId;
    if (seen.commit?.policy === 'rollback' && isStill) {
      await this.#enterUndo(desk, { by: 'commit policy', keyId: undefined, parameters: {} }, seen);
      await this.#work(desk, undefined).ended();
      if (desk.vm.protection.failover.phase === 'ordinary') throw rolledBack(desk, wrong);
    }
    throw wrong;
  }

  #proof(work: Work, kind: OperationKind, found: readonly FailoverPatch[]): DrError | undefined {
    if (kind === 'failback') return afterFailback(work, found);
    const isComeUp = kind === 'planned' || kind === 'unplanned' || kind === 'failback-undo';
    return isComeUp ? afterChecks(work) : undefined;
  }

  /** What the caller is told; the journal says what may be done next. */
  async #afterError(
    desk: VmDesk,
    book: FailoverBook,
    run: Run,
    operation: Operation,
    error: unknown,
  ): Promise<unknown> {
    if (!(error instanceof StepFailure)) return error;
    // whoever stopped it knows what comes next
    if (run.signal.aborted) return error.cause;
    const { step, cause } = error as StepFailure<Work, FailoverPatch>;
    const message = cause instanceof Error ? cause.message : String(cause);
    const recovery = afterFailure(error as StepFailure<Work, FailoverPatch>);
    this.#log(desk, 'failover.step-failed', { step: step.name, recovery, reason: message });
    switch (recovery) {
      case 'back':
        await this.#goBack(desk, book.operation, operation);
        return cause;
      case 'halt':
        await book.halt(message, ['resume']);
        return halted(desk, step.name, cause);
      case 'stay':
        await book.noteFailure(message);
        return stays(desk, step.name, cause);
    }
  }

  async #goBack(desk: VmDesk, at: Operation, asked: Asked): Promise<void> {
    if (stepRule(at.kind === 'resolve' ? 'undo' : at.kind, at.step)?.recovery === 'back') {
      await this.#giveUp(desk, at, asked);
      return;
    }
    const seen = desk.vm.protection.failover;
    if (seen.activeSite === 'source') {
      await this.#giveUp(desk, at, asked);
      return;
    }
    if (seen.operation?.operationId !== at.operationId) throw changedMeanwhile(desk);
    await this.#enterUndo(desk, { ...asked, parameters: {} }, seen);
    await this.#work(desk, undefined).ended();
  }

  /** Goes on, in the background, with what was under way when the receiver ended. */
  async resumeAll(): Promise<void> {
    for (const desk of await this.#desks.allDesks()) {
      if (desk.vm.halt !== undefined || this.runOf(desk) !== undefined) continue;
      await this.#resumeOne(desk).catch((error: unknown) => {
        this.#log(desk, 'failover.step-failed', { step: 'resume', reason: String(error) });
      });
    }
    this.#watching ??= this.#watch.run(this.#closing.signal);
  }

  async #resumeOne(desk: VmDesk): Promise<void> {
    await this.tests.resume(desk);
    const { operation, phase } = desk.vm.protection.failover;
    if (operation === undefined || phase === 'halted' || !isWorked(operation.kind)) return;
    if (isStandingLevel(operation)) return;
    this.#log(desk, 'failover.resumed', { kind: operation.kind, step: operation.step });
    if (stepRule(operation.kind, operation.step)?.recovery === 'back') {
      await this.#giveUp(desk, operation, operation);
      return;
    }
    this.#work(desk, operation.step);
  }

  /** One look at what acts by itself. */
  async tick(): Promise<void> {
    await this.#watch.tick();
  }

  /** A VM at the primary was seen running whose failover is permanent. */
  isRetiredRunning(vmId: Guid): boolean {
    return this.#watch.isRetiredRunning(vmId);
  }

  /** An agent of the primary says that it serves this VM, or that something of it has changed. */
  async onClaim(vmId: Guid): Promise<void> {
    const desk = await this.#desks.desk(vmId);
    if (desk?.vm.halt === undefined && desk !== undefined) await this.#watch.settleWithSource(desk);
  }

  /** Ends the run without waiting for the step that it is at. */
  #abandon(desk: VmDesk, why: string): void {
    const run = this.runOf(desk);
    if (run !== undefined) void run.stop(stopped(desk, why));
  }

  async #stop(desk: VmDesk, why: string): Promise<void> {
    await this.runOf(desk)?.stop(stopped(desk, why));
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the receiver ends'));
    const all: Promise<void>[] = [this.tests.close(), this.#watching ?? Promise.resolve()];
    for (const [vmId, run] of this.#runs) {
      if (run.isOver) continue;
      const reason = new DrError('E_STATE', `the receiver ends; ${vmId} goes on at its next start`);
      all.push(run.stop(reason));
    }
    const patience = new AbortController();
    const { clock } = this.site.seams;
    await Promise.race([
      Promise.all(all),
      clock.sleep(STOP_PATIENCE_MS, patience.signal).catch(() => undefined),
    ]);
    patience.abort();
  }

  async #append(desk: VmDesk, record: FailoverRecord, { by, keyId }: Actor): Promise<void> {
    const { vm } = desk;
    await appendFailover(vm, this.site.seams.clock, record, vm.protection.epoch, { by, keyId });
  }

  #log(desk: VmDesk, event: LogEvent, fields: Readonly<Record<string, string>>): void {
    const { vmId, protection } = desk.vm;
    this.site.log.info(event, { vmId, vmName: protection.vmName, ...fields });
  }
}
