// Drives a run of a plan: decides with schedule.ts what comes next, writes that down, begins it, writes
// down how it ended. What the record says is never ahead of what was begun, so that a run which lost its
// orchestrator at any moment goes on with resume(): every VM is asked how far it is itself.
//
//   READY ─▶ CHECKING ─▶ RUNNING ─▶ DONE │ DONE_WITH_ERRORS │ CANCELLED
//                          │  ▲
//                          ▼  │ resume        (tests: RUNNING ─▶ TEST_DONE ─▶ CLEANUP ─▶ READY)
//                  PAUSED, INTERRUPTED

import { assert } from '../assert.js';
import { randomGuid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import {
  type ActionContext,
  type ActionResult,
  type ActionSeams,
  hasReached,
  perform,
} from './actions.js';
import { checkPlan, type PlanCheck, forEachAtOnce } from './check.js';
import { isFinished, type Plan, type PlanKind, type RunRecord, type TaskRecord } from './model.js';
import type { VmLook } from './ports.js';
import { RunState, type RunStateSeams } from './run-state.js';
import { isDone, mayBeLeftOut, nextTasks } from './schedule.js';
import type { Task } from './tasks.js';
import { stopTest, stopTests } from './test-clean-up.js';

export interface RunSeams extends ActionSeams, RunStateSeams {
  readonly random: Random;
  /** Ends the orchestrator; the run is INTERRUPTED then. */
  readonly signal: AbortSignal;
}

export interface BeginOptions {
  readonly kind: PlanKind;
  readonly planHash: string;
  /** Beside what the plan says. */
  readonly isPartial: boolean;
  /** Hash of the check that was confirmed, or `any`; undefined: nothing was. */
  readonly confirmed: string | undefined;
  /** Tests stay as they are until the run is resumed. */
  readonly isKept: boolean;
}

export interface ResumeOptions {
  readonly planHash: string;
  /** What failed is tried again, left as it is, or the whole run is given up. */
  readonly how: 'retry' | 'skip' | 'cancel';
  readonly isKept: boolean;
}

export interface RunEnd {
  readonly record: RunRecord;
  /** Of a run that did not get beyond its check, or that goes on without these. */
  readonly check: PlanCheck | undefined;
}

/** What holds a run that could go on. */
type Hold = 'pause' | 'stop' | 'interrupt';

interface Event {
  readonly task: Task;
  readonly change: Partial<TaskRecord>;
  readonly result?: ActionResult | undefined;
  /** An activity of the task has ended. */
  readonly isEnd: boolean;
}

/** Begins a run. @throws DrError E_STATE (its last run is not finished), E_LOCKED, E_CONFIRM */
export async function beginRun(
  plan: Plan,
  options: BeginOptions,
  seams: RunSeams,
): Promise<RunEnd> {
  const last = await seams.file.read();
  if (last !== undefined && !isFinished(last)) throw unfinished(plan, last);
  const check = await checkPlan(plan, options.kind, seams);
  const nowMs = seams.clock.now();
  const record: RunRecord = {
    ...{ runId: randomGuid(seams.random), planName: plan.name, planHash: options.planHash },
    ...{ kind: options.kind, state: 'READY', outcome: undefined, startedAtMs: nowMs },
    ...{ changedAtMs: nowMs, pause: undefined, tasks: {} },
    vms: check.vms.map(({ step, look, plan: own }) => ({
      ...{ step, vmId: look.vmId, vmName: look.vmName, fromState: look.state },
      ...{ toState: own?.toState ?? look.state, testsBefore: look.testOperationIds },
      ...(own?.isDestructive === true ? { confirmedHash: own.hash } : {}),
    })),
  };
  const run = new Run(plan, record, seams);
  return run.begin(check, options);
}

/** Goes on with the last run of a plan. @throws DrError E_STATE (nothing to resume, another plan) */
export async function resumeRun(
  plan: Plan,
  options: ResumeOptions,
  seams: RunSeams,
): Promise<RunEnd> {
  const last = await seams.file.read();
  if (last === undefined || isFinished(last)) {
    throw new DrError('E_STATE', `no run of the plan ${plan.name} waits to be resumed`);
  }
  if (last.planHash !== options.planHash && options.how !== 'cancel') {
    throw new DrError('E_STATE', `the plan ${plan.name} was changed after its run had begun`, {
      hint: 'Resume it with the file as it was, or give it up with `hvdr plan resume FILE --cancel`.',
    });
  }
  return new Run(plan, last, seams).resume(options);
}

function unfinished(plan: Plan, { state, startedAtMs }: RunRecord): DrError {
  const since = new Date(startedAtMs).toISOString();
  return new DrError(
    'E_STATE',
    `the run of the plan ${plan.name} that began at ${since} is ${state}`,
    {
      hint: 'Bring it to its end with `hvdr plan resume FILE`, or give it up with `hvdr plan resume FILE --cancel`.',
    },
  );
}

class Run {
  readonly #state: RunState;
  readonly #seams: RunSeams;
  #hold: Hold | undefined;
  /** Activities under way, by task; the record of a task that is given up says 'skipped' already. */
  #activityCount = 0;
  readonly #events: Event[] = [];
  #wake: () => void = () => undefined;

  constructor(plan: Plan, record: RunRecord, seams: RunSeams) {
    this.#state = new RunState(plan, record, seams);
    this.#seams = seams;
  }

  async begin(check: PlanCheck, options: BeginOptions): Promise<RunEnd> {
    await this.#state.begin();
    await this.#state.change({ state: 'CHECKING' });
    const isHindered = this.#takeCheck(check, options.isPartial || this.#state.plan.isPartial);
    if (isHindered) {
      await this.#state.change({ state: 'CANCELLED', outcome: 'cancelled' });
      return { record: this.#state.record, check };
    }
    const { confirmed } = options;
    if (check.isDestructive && confirmed !== 'any' && confirmed !== check.hash) {
      await this.#state.change({ state: 'CANCELLED', outcome: 'cancelled' });
      const why = confirmed === undefined ? 'was not confirmed' : 'is not what was confirmed';
      throw new DrError('E_CONFIRM', `what the plan ${this.#state.plan.name} would do ${why}`);
    }
    await this.#state.change({ state: 'RUNNING', tasks: this.#state.record.tasks });
    return this.#drive(options.isKept, check);
  }

  /** Puts what the check found into the record; true when the run cannot begin. */
  #takeCheck(check: PlanCheck, isPartial: boolean): boolean {
    const vmSteps = new Set(check.vms.map(({ step }) => step));
    for (const { step, plan } of check.vms) {
      if (plan !== undefined) continue;
      for (const task of this.#state.tasksOf(step)) this.#state.put(task, { status: 'already' });
    }
    for (const { step, code, message } of check.refusals) {
      const [first] = this.#state.tasksOf(step);
      const isVm = first?.step.action.kind === 'vm' || vmSteps.has(step);
      if (!isPartial || !isVm) return true;
      if (first !== undefined) this.#state.put(first, { status: 'failed', words: message, code });
    }
    return false;
  }

  async resume({ how, isKept }: ResumeOptions): Promise<RunEnd> {
    if (how === 'cancel') return this.#cancel();
    const { state } = this.#state.record;
    if (['TEST_DONE', 'CLEANUP', 'CLEANUP_INCOMPLETE'].includes(state)) {
      return this.#cleanUp(undefined);
    }
    if (state === 'READY' || state === 'CHECKING') {
      // no effect had begun; whoever wants it confirmed begins it anew
      await this.#state.change({ state: 'CANCELLED', outcome: 'cancelled' });
      throw new DrError('E_STATE', 'the run had not got beyond its check, and was given up', {
        done: 'no VM was touched',
        hint: 'Begin it anew with `hvdr plan run FILE`.',
      });
    }
    const { pause } = this.#state.record;
    if (state === 'PAUSED' && pause?.because === 'message') {
      for (const task of this.#state.tasksOf(pause.step)) this.#state.put(task, { status: 'done' });
    }
    await this.#reconcile(how);
    await this.#state.change({ state: 'RUNNING', pause: undefined });
    return this.#drive(isKept, undefined);
  }

  /** Asks every VM how far it is; what it says counts, not the record. */
  async #reconcile(how: 'retry' | 'skip'): Promise<void> {
    const looks = new Map<string, VmLook>();
    await forEachAtOnce(
      this.#state.record.vms,
      this.#state.plan.concurrency,
      async ({ step, vmId }) => {
        looks.set(step, await this.#seams.commands.look(vmId));
      },
    );
    for (const task of this.#state.tasks) {
      const record = this.#state.of(task);
      const look = looks.get(task.step.name);
      const { status } = record;
      // a VM that was given up leaves again only when what failed is tried again
      const isLeftOut = status === 'skipped' && (how === 'retry' || task.part !== 'leave');
      if (status === 'running' || isLeftOut) this.#state.put(task, { status: 'waiting' });
      if (status === 'running' && look !== undefined) this.#findLostTest(task, look);
      if (status === 'failed' && how === 'retry') {
        await stopTest(task, this.#state, this.#seams);
        this.#state.replace(task, { status: 'waiting' });
      }
      if (isDone(record) && look !== undefined && !this.#isStillDone(task, look)) {
        this.#state.replace(task, { status: 'waiting' });
      }
    }
  }

  /** A test that began in the moment in which its orchestrator was lost. */
  #findLostTest(task: Task, look: VmLook): void {
    if (this.#state.record.kind !== 'test' || this.#state.of(task).operationId !== undefined)
      return;
    const before = this.#state.vmOf(task.step.name)?.testsBefore ?? [];
    const operationId = look.testOperationIds.find((id) => !before.includes(id));
    if (operationId !== undefined) this.#state.put(task, { operationId });
  }

  #isStillDone(task: Task, look: VmLook): boolean {
    const { kind } = this.#state.record;
    if (kind === 'test') return true;
    if (task.part === 'leave' && look.state === 'FAILING_OVER') return true;
    return hasReached(kind, look, this.#state.vmOf(task.step.name));
  }

  /** Begins nothing more; what has left starts again at the primary site, and clones of tests go. */
  async #cancel(): Promise<RunEnd> {
    const { kind, state } = this.#state.record;
    if (['TEST_DONE', 'CLEANUP', 'CLEANUP_INCOMPLETE'].includes(state)) {
      return this.#cleanUp(undefined);
    }
    const hasBegun = state !== 'READY' && state !== 'CHECKING';
    if (hasBegun && (kind === 'planned' || kind === 'test')) {
      await this.#reconcile('skip');
      this.#hold = 'stop';
      return this.#drive(false, undefined);
    }
    await this.#state.change({ state: 'CANCELLED', outcome: 'cancelled', pause: undefined });
    return { record: this.#state.record, check: undefined };
  }

  // The loop: one event after the other, each written down before the next is looked at.

  async #drive(isKept: boolean, check: PlanCheck | undefined): Promise<RunEnd> {
    const { signal } = this.#seams;
    const interrupt = (): void => {
      this.#hold = 'interrupt';
      this.#wake();
    };
    signal.addEventListener('abort', interrupt, { once: true });
    if (signal.aborted) interrupt();
    try {
      for (;;) {
        if (this.#isInterrupted()) break;
        await this.#beginNext();
        if (this.#activityCount === 0 && this.#events.length === 0) break;
        await this.#takeEvents();
      }
    } finally {
      signal.removeEventListener('abort', interrupt);
    }
    if (this.#isInterrupted()) {
      await this.#state.change({ state: 'INTERRUPTED', pause: undefined });
      return { record: this.#state.record, check };
    }
    if (this.#hold === 'pause') {
      await this.#state.change({ state: 'PAUSED' });
      return { record: this.#state.record, check };
    }
    return this.#end(isKept, check);
  }

  #isInterrupted(): boolean {
    return this.#hold === 'interrupt';
  }

  async #takeEvents(): Promise<void> {
    if (this.#events.length === 0 && !this.#isInterrupted()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    for (const event of this.#events.splice(0)) {
      if (event.isEnd) this.#activityCount--;
      this.#state.put(event.task, event.change);
      await this.#state.write();
      this.#state.tell(event.task);
      if (event.result?.status === 'failed') this.#onFailure(event.task, event.result);
    }
  }

  #onFailure({ step }: Task, { words = '' }: ActionResult): void {
    if (step.onError === 'continue' || this.#hold === 'stop') return;
    if (step.onError === 'stop') {
      this.#hold = 'stop';
      return;
    }
    this.#hold ??= 'pause';
    const pause = { because: 'error' as const, step: step.name, text: words };
    this.#state.set({ pause: this.#state.record.pause ?? pause });
  }

  async #beginNext(): Promise<void> {
    if (this.#hold === 'pause') return;
    if (this.#hold === 'stop') {
      await this.#skip(
        this.#state.tasks
          .filter((task) => mayBeLeftOut(task, this.#state.record.tasks))
          .map((task) => ({ task, words: 'the run was stopped' })),
      );
      return;
    }
    for (;;) {
      const { begin, skip } = nextTasks(
        this.#state.plan,
        this.#state.tasks,
        this.#state.record.tasks,
      );
      if (skip.length > 0) {
        await this.#skip(skip);
        continue;
      }
      const message = begin.find(({ step }) => step.action.kind === 'message');
      if (message?.step.action.kind === 'message') {
        this.#hold = 'pause';
        const { name, action } = message.step;
        this.#state.set({ pause: { because: 'message', step: name, text: action.text } });
        return;
      }
      for (const task of begin) {
        // a task that a former orchestrator began is the same one still
        const { startedAtMs = this.#seams.clock.now() } = this.#state.of(task);
        this.#state.put(task, { status: 'running', startedAtMs });
      }
      if (begin.length > 0) await this.#state.write();
      for (const task of begin) {
        this.#state.tell(task);
        this.#start(task);
      }
      return;
    }
  }

  async #skip(skip: readonly { readonly task: Task; readonly words: string }[]): Promise<void> {
    if (skip.length === 0) return;
    const endedAtMs = this.#seams.clock.now();
    for (const { task, words } of skip)
      this.#state.put(task, { status: 'skipped', words, endedAtMs });
    await this.#state.write();
    for (const { task } of skip) {
      this.#state.tell(task);
      if (task.part === 'come') this.#giveUp(task);
    }
  }

  /** A VM that left, and will not come, starts again at the primary site. */
  #giveUp(task: Task): void {
    const leave = this.#state.tasks.find(
      ({ part, step }) => part === 'leave' && step.name === task.step.name,
    );
    const { action } = task.step;
    if (leave === undefined || action.kind !== 'vm') return;
    const before = this.#state.of(leave);
    if (before.startedAtMs === undefined || before.status === 'skipped') return;
    this.#activityCount++;
    const { commands, signal } = this.#seams;
    const work = async (): Promise<Partial<TaskRecord>> => {
      const { state } = await commands.look(action.vm);
      if (state !== 'FAILING_OVER') return {};
      await commands.run({
        ...{ vm: action.vm, command: 'abort', parameters: {}, confirmedHash: undefined, signal },
        onStep: () => undefined,
      });
      const words = 'its failover was given up; it runs at the primary site';
      if (before.status === 'failed') return { words: `${before.words ?? ''}; ${words}` };
      return { status: 'skipped', words };
    };
    void work().then(
      (change) => {
        this.#send({ task: leave, change, isEnd: true });
      },
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        const words = `its failover could not be given up: ${why}`;
        const code = error instanceof DrError ? error.code : 'E_INTERNAL';
        this.#send({ task: leave, change: { status: 'failed', words, code }, isEnd: true });
      },
    );
  }

  #start(task: Task): void {
    this.#activityCount++;
    const { name } = task.step;
    const context: ActionContext = {
      ...{
        kind: this.#state.record.kind,
        runId: this.#state.record.runId,
        signal: this.#seams.signal,
      },
      vmOf: (step) => this.#state.vmOf(step),
      recordOf: (step) => this.#state.lastRecordOf(step),
      onStep: (step, operationId) => {
        const isOff = task.part === 'leave' && /^P[5-9]$/.test(step) ? { isOff: true } : {};
        const before = this.#state.of(task);
        const isNew = before.operationId !== operationId || ('isOff' in isOff && !before.isOff);
        if (isNew) this.#send({ task, change: { operationId, ...isOff }, isEnd: false });
      },
    };
    void perform(task, context, this.#seams).then(
      (result) => {
        this.#send({ task, change: this.#changeOf(task, result), result, isEnd: true });
      },
      (error: unknown) => {
        // the signal, which has told the loop already; the task stays 'running'
        assert(this.#seams.signal.aborted, `${name} ends with a result: ${String(error)}`);
      },
    );
  }

  #changeOf(task: Task, { status, words, code, outcome }: ActionResult): Partial<TaskRecord> {
    const isTest = this.#state.record.kind === 'test' && task.step.action.kind === 'vm';
    return {
      status,
      endedAtMs: this.#seams.clock.now(),
      ...(words === undefined || words === '' ? {} : { words }),
      ...(code === undefined ? {} : { code }),
      ...(outcome === undefined
        ? {}
        : {
            ...{ operationId: outcome.operationId, pointId: outcome.pointId },
            ipMap: outcome.ipMap,
          }),
      ...(task.part === 'leave' && status === 'done' ? { isOff: true } : {}),
      ...(isTest && outcome !== undefined ? { isKept: true } : {}),
    };
  }

  #send(event: Event): void {
    this.#events.push(event);
    this.#wake();
  }

  // Ends.

  async #end(isKept: boolean, check: PlanCheck | undefined): Promise<RunEnd> {
    if (this.#state.record.kind === 'test') {
      await this.#state.change({ state: 'TEST_DONE' });
      return isKept ? { record: this.#state.record, check } : this.#cleanUp(check);
    }
    if (this.#hold === 'stop') {
      await this.#state.change({ state: 'CANCELLED', outcome: 'cancelled' });
      return { record: this.#state.record, check };
    }
    const isGood = this.#state.isWhole;
    await this.#state.change({
      state: isGood ? 'DONE' : 'DONE_WITH_ERRORS',
      outcome: isGood ? 'done' : 'with-errors',
    });
    return { record: this.#state.record, check };
  }

  /** Takes the clones of a test away. A crash repeats it; one that has gone is no error. */
  async #cleanUp(check: PlanCheck | undefined): Promise<RunEnd> {
    await this.#state.change({ state: 'CLEANUP' });
    const isClean = await stopTests(this.#state, this.#seams);
    if (!isClean) {
      await this.#state.change({ state: 'CLEANUP_INCOMPLETE' });
      return { record: this.#state.record, check };
    }
    const isStopped = this.#hold === 'stop';
    const outcome = isStopped ? 'cancelled' : this.#state.isWhole ? 'done' : 'with-errors';
    await this.#state.change({ state: 'READY', outcome });
    return { record: this.#state.record, check };
  }
}
