// Runs the cycles of many VMs: which are due, who comes first, how many at a time. Knows nothing of
// how a cycle works. A job that runs for ever matches its VMs anew at every round, so that new ones
// are taken along.
//
//   due       start to start, ± 5 % by chance; a cycle that takes longer is followed at once
//   first     the earliest deadline: the time at which the newest point gets older than the RPO
//   at once   at most four VMs; one budget of bandwidth, one connection

import type { Guid } from '../shared/bytes/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import type { FileSystem } from '../shared/files/index.js';
import type { PowerState, SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';
import { matchesPattern } from '../shared/params/index.js';
import type { Bandwidth } from './bandwidth.js';
import { type CycleSettings, CycleStopped, runCycle } from './cycle.js';
import { newestConfirmedMs } from './ledger-store.js';
import { chance, type ReceiverLink } from './receiver-link.js';
import { addOutcome, type CycleOutcome, type RunReport, type VmReport } from './run-report.js';

export interface Job {
  /** For messages; a daemon has several. */
  readonly name: string;
  readonly hypervisor: SourceHypervisor;
  readonly link: ReceiverLink;
  readonly bandwidth: Bandwidth;
  readonly stateFolder: string;
  readonly vmPattern: string;
  readonly exclude: readonly string[];
  /** No: running VMs are left out. */
  readonly takesRunning: boolean;
  readonly cycle: CycleSettings;
  /** 0: for ever. */
  readonly cycleCount: number;
  readonly intervalMs: number;
  readonly isAbortingOnError: boolean;
}

export interface AgentSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Aborting ends the run: cycles under way stop at their next safe point. */
  readonly signal: AbortSignal;
  /** Told after every cycle. */
  readonly onOutcome?: ((vm: VmSummary, job: Job, outcome: CycleOutcome) => void) | undefined;
  readonly onSent?: ((vmId: Guid, bytes: number) => void) | undefined;
}

const PARALLEL_MAX = 4;
const JITTER = 0.05;

/**
 * Runs the jobs until their cycles are done or the signal aborts; cycles that fail are in the
 * report. The state folders must exist.
 * @throws DrError E_NO_MATCH for a job of finitely many cycles that matches no VM; what listing the
 *   VMs throws at the first round
 */
export function runAgent(jobs: readonly Job[], seams: AgentSeams): Promise<RunReport> {
  return new Agent(jobs, seams).run();
}

interface Task {
  readonly key: string;
  readonly job: Job;
  vm: VmSummary;
  startedCount: number;
  /** On the monotonic clock. */
  nextAtMs: number;
  deadlineMs: number;
  isRunning: boolean;
}

class Agent {
  readonly #jobs: readonly Job[];
  readonly #seams: AgentSeams;
  readonly #tasks = new Map<string, Task>();
  readonly #reports = new Map<string, VmReport>();
  readonly #running = new Set<Promise<void>>();
  readonly #refreshAt = new Map<Job, number>();
  readonly #warnings = new Set<string>();
  readonly #stop = new AbortController();
  #abortedBy: DrError | undefined;
  #bug: { readonly error: unknown } | undefined;
  #wake = new AbortController();

  constructor(jobs: readonly Job[], seams: AgentSeams) {
    this.#jobs = jobs;
    this.#seams = seams;
  }

  async run(): Promise<RunReport> {
    const { signal } = this.#seams;
    const stop = (): void => {
      this.#stop.abort(signal.reason);
      this.#wake.abort();
    };
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      await this.#loop();
    } finally {
      this.#stop.abort();
      await Promise.all(this.#running);
      signal.removeEventListener('abort', stop);
    }
    if (this.#bug !== undefined) throw this.#bug.error;
    return {
      vms: [...this.#reports.values()],
      abortedBy: this.#abortedBy,
      isStopped: signal.aborted,
      warnings: [...this.#warnings],
    };
  }

  async #loop(): Promise<void> {
    const { clock } = this.#seams;
    while (!this.#stop.signal.aborted) {
      // what ends from here on ends the pause below, too
      this.#wake = new AbortController();
      for (const job of this.#jobs) await this.#refreshWhenDue(job);
      this.#startDue();
      const open = [...this.#tasks.values()].filter((task) => !isDone(task));
      const isForEver = this.#jobs.some(({ cycleCount }) => cycleCount === 0);
      if (open.length === 0 && this.#running.size === 0 && !isForEver) return;
      const wakeAt = Math.min(
        // a VM that is being worked on wakes the loop when that ends
        ...open.filter(({ vm }) => !this.#isWorkedOn(vm.id)).map(({ nextAtMs }) => nextAtMs),
        ...[...this.#refreshAt.values()],
      );
      const isFull = this.#running.size >= PARALLEL_MAX;
      const waitMs = isFull ? 60_000 : Math.max(0, wakeAt - clock.monotonic());
      try {
        await clock.sleep(Math.min(waitMs, 3_600_000), this.#wake.signal);
      } catch {
        // a cycle ended, or a stop came
      }
    }
  }

  /** Matches the job's VMs anew when its interval is over. */
  async #refreshWhenDue(job: Job): Promise<void> {
    const { clock, log } = this.#seams;
    const due = this.#refreshAt.get(job);
    if (due !== undefined && clock.monotonic() < due) return;
    const isFirst = due === undefined;
    const isForEver = job.cycleCount === 0;
    const next = isForEver ? clock.monotonic() + job.intervalMs : Number.POSITIVE_INFINITY;
    this.#refreshAt.set(job, next);
    let vms: readonly VmSummary[];
    try {
      vms = await job.hypervisor.listVms();
    } catch (error) {
      if (isFirst || !(error instanceof DrError)) throw error;
      log.error('cycle.failed', { job: job.name, what: 'the VMs could not be listed', error });
      return;
    }
    const matched = vms.filter((vm) => isMatched(job, vm));
    if (matched.length === 0) this.#noMatch(job, vms.length);
    const keys = new Set(matched.map((vm) => keyOf(job, vm)));
    for (const task of this.#tasks.values()) {
      if (task.job === job && !task.isRunning && !keys.has(task.key)) this.#tasks.delete(task.key);
    }
    for (const vm of matched) this.#addTask(job, vm);
  }

  #addTask(job: Job, vm: VmSummary): void {
    const { clock } = this.#seams;
    const key = keyOf(job, vm);
    const known = this.#tasks.get(key);
    if (known !== undefined) {
      known.vm = vm;
      return;
    }
    const now = clock.monotonic();
    const task: Task = {
      key,
      job,
      vm,
      startedCount: 0,
      nextAtMs: now,
      deadlineMs: now,
      isRunning: false,
    };
    this.#tasks.set(key, task);
  }

  #noMatch(job: Job, vmCount: number): void {
    const text = `no VM of ${job.hypervisor.name} matches "${job.vmPattern}"`;
    const error = new DrError('E_NO_MATCH', `${text}; it has ${vmCount} VMs`, {
      context: { pattern: job.vmPattern, vmCount },
    });
    if (job.cycleCount !== 0) throw error;
    this.#warnings.add(`job ${job.name}: ${text}`);
    this.#seams.log.warn('cycle.warning', { job: job.name, error });
  }

  #startDue(): void {
    const now = this.#seams.clock.monotonic();
    while (this.#running.size < PARALLEL_MAX && !this.#stop.signal.aborted) {
      const due = [...this.#tasks.values()]
        .filter((task) => !task.isRunning && !isDone(task) && task.nextAtMs <= now)
        // two jobs never work on one VM at once: the second would only meet the lease
        .filter(({ vm }) => !this.#isWorkedOn(vm.id))
        .sort((one, other) => one.deadlineMs - other.deadlineMs)[0];
      if (due === undefined) return;
      this.#start(due);
    }
  }

  #isWorkedOn(vmId: Guid): boolean {
    return [...this.#tasks.values()].some(({ vm, isRunning }) => isRunning && vm.id === vmId);
  }

  #start(task: Task): void {
    const { clock, random } = this.#seams;
    const startedAt = clock.monotonic();
    const jitter = 1 + JITTER * (2 * chance(random) - 1);
    task.startedCount++;
    task.nextAtMs = startedAt + task.job.intervalMs * jitter;
    task.isRunning = true;
    const running: Promise<void> = this.#runTask(task, startedAt)
      .catch((error: unknown) => {
        // no DrError: a bug of ours ends the run
        this.#bug ??= { error };
        this.#stop.abort();
      })
      .finally(() => {
        task.isRunning = false;
        this.#running.delete(running);
        this.#wake.abort();
      });
    this.#running.add(running);
  }

  async #runTask(task: Task, startedAt: number): Promise<void> {
    const { vm, job } = task;
    const outcome = await this.#outcomeOf(vm, job);
    if (outcome.kind === 'done') task.deadlineMs = startedAt + job.cycle.rpoSeconds * 1000;
    const { rpoSeconds } = job.cycle;
    const facts = { vmId: vm.id, vmName: vm.name, rpoSeconds };
    this.#reports.set(task.key, addOutcome(this.#reports.get(task.key), facts, outcome));
    this.#seams.onOutcome?.(vm, job, outcome);
    if (outcome.kind === 'failed' && job.isAbortingOnError) {
      this.#abortedBy ??= outcome.error;
      this.#stop.abort();
      this.#wake.abort();
    }
  }

  async #outcomeOf(vm: VmSummary, job: Job): Promise<CycleOutcome> {
    const { fs, clock, random, log, onSent } = this.#seams;
    try {
      const power = job.takesRunning ? 'off' : await powerOf(vm, job.hypervisor);
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
        signal: this.#stop.signal,
        onSent,
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

function isDone(task: Task): boolean {
  const { cycleCount } = task.job;
  return cycleCount !== 0 && task.startedCount >= cycleCount;
}

function keyOf(job: Job, vm: VmSummary): string {
  return `${job.name}/${vm.id}`;
}

/** As it is now: a VM may have been started since the round in which it was matched. */
async function powerOf(vm: VmSummary, hypervisor: SourceHypervisor): Promise<PowerState> {
  const vms = await hypervisor.listVms();
  return vms.find(({ id }) => id === vm.id)?.powerState ?? vm.powerState;
}

function isMatched(job: Job, vm: VmSummary): boolean {
  if (!matchesPattern(job.vmPattern, vm.name)) return false;
  return !job.exclude.some((pattern) => matchesPattern(pattern, vm.name));
}
