// Runs the cycles of many VMs: matches them, lets them begin in their turns (turns.ts), keeps the
// report. Knows nothing of how a cycle works. A job that runs for ever matches its VMs anew at every
// round, so that new ones are taken along; its jobs may be replaced while it runs.
//
// What goes wrong stays where it belongs: a host that does not tell its VMs is asked again, a job that
// ends at its first failure ends alone, and nobody waits for a host that hangs but its own VMs.

import type { Guid } from '../shared/bytes/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import type { FileSystem } from '../shared/files/index.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import { matchesPattern } from '../shared/params/index.js';
import type { Bandwidth } from './bandwidth.js';
import { type CycleSettings, runCycle } from './cycle.js';
import { type CycleResult, CycleStopped } from './cycle-result.js';
import { newestConfirmedMs } from './ledger-store.js';
import { chance, type ReceiverLink } from './receiver-link.js';
import type { RemoteAction } from './remote/remote-actions.js';
import { MEASURED_CYCLES, OutlookMemory, rpoOutlook } from './rpo-outlook.js';
import { addOutcome, type CycleOutcome, type RunReport, type VmReport } from './run-report.js';
import { powerOf } from './start-block.js';
import {
  isDone,
  isRunning,
  nextLookMs,
  nextTurn,
  PARALLEL_MAX,
  STALL_MS,
  type Turn,
} from './turns.js';

export interface Job {
  /** Names the job for good; a daemon has several. */
  readonly name: string;
  readonly hypervisor: SourceHypervisor;
  readonly link: ReceiverLink;
  readonly bandwidth: Bandwidth;
  readonly stateFolder: string;
  readonly vmPattern: string;
  readonly exclude: readonly string[];
  /** Only this one of those that match: names are not unique. Default: all of them. */
  readonly vmId?: Guid | undefined;
  /** No: running VMs are left out. */
  readonly takesRunning: boolean;
  readonly cycle: CycleSettings;
  /** 0: for ever. */
  readonly cycleCount: number;
  readonly intervalMs: number;
  /** Its first failure ends the job. */
  readonly isAbortingOnError: boolean;
  /** What the DR site may do with its VMs. Default: nothing. */
  readonly remoteActions?: readonly RemoteAction[] | undefined;
}

export interface AgentSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Aborting ends the run: cycles under way stop at their next safe point. */
  readonly signal: AbortSignal;
  /**
   * Aborting closes the run: cycles under way end as they began, a VM that had none yet gets its first,
   * no other cycle begins.
   */
  readonly closing?: AbortSignal | undefined;
  /** Told after every cycle. */
  readonly onOutcome?: ((vm: VmSummary, job: Job, outcome: CycleOutcome) => void) | undefined;
  readonly onSent?: ((vmId: Guid, bytes: number) => void) | undefined;
}

const JITTER = 0.05;
/** A host that did not tell its VMs is asked again so soon at the latest. */
const LIST_AGAIN_MS = 60_000;
const LONGEST_PAUSE_MS = 3_600_000;

interface Task extends Turn<Job> {
  readonly key: string;
  /** What its last ordinary cycles took. */
  durationsMs: number[];
  /** Ends the cycle under way. */
  stop: AbortController | undefined;
}

interface JobState {
  job: Job;
  /** When its VMs are matched again; undefined: now. */
  refreshAtMs: number | undefined;
  isListing: boolean;
  /** Its first failure ended it. */
  isEnded: boolean;
}

/** One run. The state folders of its jobs must exist. */
export class Agent {
  readonly #seams: AgentSeams;
  readonly #jobs = new Map<string, JobState>();
  readonly #tasks = new Map<string, Task>();
  readonly #reports = new Map<string, VmReport>();
  /** Cycles and listings under way. */
  readonly #running = new Set<Promise<void>>();
  readonly #outlooks = new OutlookMemory();
  /** By what they are about, so that their number is bounded. */
  readonly #warnings = new Map<string, string>();
  #isStopping = false;
  #abortedBy: DrError | undefined;
  #bug: { readonly error: unknown } | undefined;
  #wake = new AbortController();

  constructor(jobs: readonly Job[], seams: AgentSeams) {
    this.#seams = seams;
    for (const job of jobs) this.#addJob(job);
  }

  /**
   * Runs the jobs until their cycles are done or the signal aborts; cycles that fail are in the
   * report.
   * @throws DrError E_NO_MATCH for a job of finitely many cycles that matches no VM; for such a job
   *   also what listing the VMs throws
   */
  async run(): Promise<RunReport> {
    const { signal, closing } = this.#seams;
    const stop = (): void => {
      this.#stopAll();
    };
    const close = (): void => {
      this.#wake.abort();
    };
    signal.addEventListener('abort', stop, { once: true });
    closing?.addEventListener('abort', close, { once: true });
    if (signal.aborted) stop();
    try {
      await this.#loop();
    } finally {
      this.#stopAll();
      await Promise.all(this.#running);
      signal.removeEventListener('abort', stop);
      closing?.removeEventListener('abort', close);
    }
    if (this.#bug !== undefined) throw this.#bug.error;
    return {
      vms: [...this.#reports.values()],
      abortedBy: this.#abortedBy,
      isStopped: signal.aborted,
      warnings: [...this.#warnings.values()],
    };
  }

  /**
   * From now on these are the jobs. Cycles under way end as they began; a job of the same name goes on
   * with its VMs, and one that a failure had ended begins again. Settles when no cycle of before is
   * under way any more.
   */
  async replaceJobs(jobs: readonly Job[]): Promise<void> {
    const names = new Set(jobs.map(({ name }) => name));
    for (const name of this.#jobs.keys()) if (!names.has(name)) this.#jobs.delete(name);
    for (const task of this.#tasks.values()) {
      if (!names.has(task.job.name)) this.#retire(task);
    }
    for (const job of jobs) {
      const known = this.#jobs.get(job.name);
      if (known === undefined || known.isEnded) {
        this.#addJob(job);
        continue;
      }
      known.job = job;
      known.refreshAtMs = undefined;
      for (const task of this.#tasks.values()) if (task.job.name === job.name) task.job = job;
    }
    const former = [...this.#running];
    this.#wake.abort();
    await Promise.all(former);
  }

  #addJob(job: Job): void {
    const state = { job, refreshAtMs: undefined, isListing: false, isEnded: false };
    this.#jobs.set(job.name, state);
  }

  #stopAll(): void {
    this.#isStopping = true;
    for (const { stop } of this.#tasks.values()) stop?.abort();
    this.#wake.abort();
  }

  async #loop(): Promise<void> {
    const { clock } = this.#seams;
    while (!this.#isStopping) {
      // what ends from here on ends the pause below, too
      this.#wake = new AbortController();
      for (const state of this.#jobs.values()) this.#refreshWhenDue(state);
      if (this.#isClosing) this.#retireServed();
      this.#startDue();
      if (this.#running.size === 0 && this.#isOver()) return;
      const now = clock.monotonic();
      const refreshes = [...this.#jobs.values()]
        .filter((state) => this.#willRefresh(state))
        .map(({ refreshAtMs }) => refreshAtMs ?? now);
      const wakeAt = Math.min(nextLookMs(this.#tasks.values(), now), ...refreshes);
      const pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(0, wakeAt - now));
      try {
        await clock.sleep(pauseMs, this.#wake.signal);
      } catch {
        // a cycle ended, the jobs were replaced, or a stop came
      }
    }
  }

  #isOver(): boolean {
    const live = [...this.#jobs.values()].filter(({ isEnded }) => !isEnded);
    if (!this.#isClosing && live.some(({ job }) => job.cycleCount === 0)) return false;
    return [...this.#tasks.values()].every(isDone);
  }

  get #isClosing(): boolean {
    return this.#seams.closing?.aborted === true;
  }

  /** When the run closes: those that had a cycle have no other one. */
  #retireServed(): void {
    for (const task of this.#tasks.values()) {
      if (task.startedCount > 0 || this.#reports.has(task.key)) this.#retire(task);
    }
  }

  /** Its VMs will be matched (again). A run that closes does so once at most. */
  #willRefresh({ isListing, isEnded, refreshAtMs }: JobState): boolean {
    return !isListing && !isEnded && !(this.#isClosing && refreshAtMs !== undefined);
  }

  /** What runs beside the loop. What it throws ends the run. */
  #run(work: Promise<void>): void {
    const running: Promise<void> = work
      .catch((error: unknown) => {
        this.#bug ??= { error };
        this.#stopAll();
      })
      .finally(() => {
        this.#running.delete(running);
        this.#wake.abort();
      });
    this.#running.add(running);
  }

  /** Matches the job's VMs anew when its interval is over, beside the cycles. */
  #refreshWhenDue(state: JobState): void {
    const { clock } = this.#seams;
    const { job, refreshAtMs } = state;
    if (!this.#willRefresh(state)) return;
    if (refreshAtMs !== undefined && clock.monotonic() < refreshAtMs) return;
    state.isListing = true;
    state.refreshAtMs =
      job.cycleCount === 0 ? clock.monotonic() + job.intervalMs : Number.POSITIVE_INFINITY;
    this.#run(
      this.#refresh(state, job).finally(() => {
        state.isListing = false;
      }),
    );
  }

  async #refresh(state: JobState, job: Job): Promise<void> {
    const { clock, log } = this.#seams;
    let vms: readonly VmSummary[];
    try {
      vms = await job.hypervisor.listVms();
    } catch (error) {
      if (job.cycleCount !== 0 || !(error instanceof DrError)) throw error;
      log.error('cycle.failed', { job: job.name, what: 'the VMs could not be listed', error });
      const text = `job ${job.name}: the VMs of ${job.hypervisor.name} could not be listed: ${error.message}`;
      this.#warnings.set(`list ${job.name}`, text);
      // the cycles of VMs that are known go on
      state.refreshAtMs = clock.monotonic() + Math.min(job.intervalMs, LIST_AGAIN_MS);
      return;
    }
    this.#warnings.delete(`list ${job.name}`);
    // it was replaced meanwhile: what the new one matches is asked anew
    if (state.job !== job || state.isEnded || this.#jobs.get(job.name) !== state) return;
    const matched = vms.filter((vm) => isMatched(job, vm));
    if (matched.length === 0) this.#noMatch(job, vms.length);
    const keys = new Set(matched.map((vm) => keyOf(job, vm)));
    for (const task of this.#tasks.values()) {
      if (task.job.name === job.name && !keys.has(task.key)) this.#retire(task);
    }
    for (const vm of matched) this.#addTask(job, vm);
  }

  #retire(task: Task): void {
    task.isRetired = true;
    if (!isRunning(task)) this.#tasks.delete(task.key);
  }

  #addTask(job: Job, vm: VmSummary): void {
    const key = keyOf(job, vm);
    const known = this.#tasks.get(key);
    if (known !== undefined) {
      known.vm = vm;
      known.job = job;
      known.isRetired = false;
      return;
    }
    this.#tasks.set(key, {
      key,
      job,
      vm,
      seenAtMs: this.#seams.clock.monotonic(),
      startedCount: 0,
      startedAtMs: undefined,
      jitter: 1,
      hasPoint: false,
      isSuspect: false,
      movedAtMs: undefined,
      isRetired: false,
      durationsMs: [],
      stop: undefined,
    });
  }

  #noMatch(job: Job, vmCount: number): void {
    const text = `no VM of ${job.hypervisor.name} matches "${job.vmPattern}"`;
    const error = new DrError('E_NO_MATCH', `${text}; it has ${vmCount} VMs`, {
      context: { pattern: job.vmPattern, vmCount },
    });
    if (job.cycleCount !== 0) throw error;
    this.#warnings.set(`job ${job.name}`, `job ${job.name}: ${text}`);
    this.#seams.log.warn('cycle.warning', { job: job.name, error });
  }

  #startDue(): void {
    const { clock } = this.#seams;
    while (!this.#isStopping) {
      const task = nextTurn(this.#tasks.values(), clock.monotonic());
      if (task === undefined) return;
      this.#run(this.#runTask(task));
    }
  }

  async #runTask(task: Task): Promise<void> {
    const { clock, random } = this.#seams;
    const { vm, job } = task;
    const startedAtMs = clock.monotonic();
    task.startedCount++;
    task.startedAtMs = startedAtMs;
    task.jitter = 1 + JITTER * (2 * chance(random) - 1);
    task.movedAtMs = startedAtMs;
    const stop = new AbortController();
    task.stop = stop;
    const onProgress = (): void => {
      task.movedAtMs = clock.monotonic();
    };
    let outcome: CycleOutcome;
    try {
      outcome = await this.#outcomeOf(vm, job, stop.signal, onProgress);
    } finally {
      task.movedAtMs = undefined;
      task.stop = undefined;
      if (task.isRetired) this.#tasks.delete(task.key);
    }
    task.hasPoint = outcome.kind === 'done';
    task.isSuspect = outcome.kind === 'failed' && clock.monotonic() - startedAtMs >= STALL_MS;
    const { rpoSeconds } = job.cycle;
    const facts = { vmId: vm.id, vmName: vm.name, rpoSeconds };
    this.#reports.set(task.key, addOutcome(this.#reports.get(task.key), facts, outcome));
    this.#seams.onOutcome?.(vm, job, outcome);
    if (outcome.kind === 'done') this.#measure(task, outcome.result);
    if (outcome.kind === 'failed' && job.isAbortingOnError) this.#endJob(job, outcome.error);
  }

  /** After a failure with abort_on_error: the other jobs go on. */
  #endJob({ name }: Job, error: DrError): void {
    const state = this.#jobs.get(name);
    if (state === undefined || state.isEnded) return;
    state.isEnded = true;
    this.#abortedBy ??= error;
    for (const task of this.#tasks.values()) {
      if (task.job.name !== name) continue;
      task.stop?.abort();
      this.#retire(task);
    }
    this.#seams.log.error('job.ended', { job: name, error });
  }

  /** Says when the cycles cannot keep what was asked for. */
  #measure(task: Task, { kind, durationMs }: CycleResult): void {
    if (kind !== 'delta' && kind !== 'nothing') return;
    task.durationsMs = [...task.durationsMs, durationMs].slice(-MEASURED_CYCLES);
    const paces = [...this.#tasks.values()]
      // one cycle for each point that somebody asks for is no pace
      .filter(({ job, isRetired }) => job.cycleCount !== 1 && !isRetired)
      .map(({ key, vm, job, durationsMs }) => ({
        key,
        vmName: vm.name,
        rpoSeconds: job.cycle.rpoSeconds,
        durationsMs,
      }));
    for (const { key, text } of this.#outlooks.news(rpoOutlook(paces, PARALLEL_MAX))) {
      this.#warnings.set(`rpo ${key}`, text);
      this.#seams.log.warn('rpo.out-of-reach', { text });
    }
  }

  async #outcomeOf(
    vm: VmSummary,
    job: Job,
    signal: AbortSignal,
    onProgress: () => void,
  ): Promise<CycleOutcome> {
    const { fs, clock, random, log, onSent } = this.#seams;
    try {
      // it may have been started since the round in which it was matched
      const power = job.takesRunning
        ? 'off'
        : ((await powerOf(vm.id, job.hypervisor)) ?? vm.powerState);
      if (power !== 'off') {
        const text = `${vm.name} is ${power} and online=no leaves it out`;
        return { kind: 'skipped', reason: 'running', text, isCovered: true };
      }
      const result = await runCycle(vm, job.cycle, {
        hypervisor: job.hypervisor,
        link: job.link,
        fs,
        clock,
        random,
        log,
        bandwidth: job.bandwidth,
        stateFolder: job.stateFolder,
        signal,
        onSent,
        onProgress,
      });
      return { kind: 'done', result };
    } catch (error) {
      if (error instanceof CycleStopped) return { kind: 'stopped' };
      if (!(error instanceof DrError)) throw error;
      return this.#failure(vm, job, error);
    }
  }

  async #failure(vm: VmSummary, job: Job, error: DrError): Promise<CycleOutcome> {
    const { fs, clock, log } = this.#seams;
    if (error.code === 'E_LOCKED' && error.context['isLease'] === true) {
      if (job.cycle.overlap === 'skip') {
        const newest = await newestConfirmedMs(fs, job.stateFolder, vm.id);
        const ageSeconds = newest === undefined ? undefined : (clock.now() - newest) / 1000;
        const isCovered = ageSeconds !== undefined && ageSeconds <= job.cycle.rpoSeconds;
        return { kind: 'skipped', reason: 'locked', text: error.message, isCovered };
      }
    }
    if (error.code === 'E_FAILED_OVER' && error.context['state'] === 'committed') {
      const text = `W_RETIRED_SKIPPED the protection of ${vm.name} is retired: it runs at the DR site for good`;
      return { kind: 'skipped', reason: 'retired', text, isCovered: true };
    }
    log.error('cycle.failed', { vmId: vm.id, vmName: vm.name, error });
    return { kind: 'failed', error };
  }
}

function keyOf(job: Job, vm: VmSummary): string {
  return `${job.name}/${vm.id}`;
}

/** The job takes the VM. */
export function isMatched(job: Job, vm: VmSummary): boolean {
  if (job.vmId !== undefined && job.vmId !== vm.id) return false;
  if (!matchesPattern(job.vmPattern, vm.name)) return false;
  return !job.exclude.some((pattern) => matchesPattern(pattern, vm.name));
}
