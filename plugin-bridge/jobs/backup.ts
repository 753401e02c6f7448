// `mode=backup`: all VMs that match, one after the other, into the files of a Bacula job.

import type { Clock, Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { SourceHypervisor, VmSummary } from '../../shared/hypervisor/index.js';
import type { Log } from '../../shared/log.js';
import {
  matchesPattern,
  type ParameterValues,
  wantedConsistency,
} from '../../shared/params/index.js';
import {
  addOutcome,
  type Bandwidth,
  type BackupLevel,
  type CycleOutcome,
  type CycleResult,
  CycleStopped,
  type FileSink,
  type JobRequest,
  noteJob,
  powerOf,
  runFileCycle,
  type RunReport,
  type VmReport,
} from '../../source-agent/index.js';
import type { JobInfo } from '../job-info.js';
import { colour } from './colour.js';

export interface BackupPorts {
  readonly hypervisor: SourceHypervisor;
  readonly files: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Must exist. */
  readonly stateFolder: string;
  readonly bandwidth: Bandwidth;
}

const LEVELS: Readonly<Record<NonNullable<JobInfo['level']>, BackupLevel>> = {
  F: 'full',
  I: 'incremental',
  D: 'differential',
};

/**
 * One point of every VM that matches. What went wrong with single VMs is told through the sink; a job
 * that left one unprotected is never plain OK.
 * @throws DrError E_NO_MATCH; with on_partial=fail, with abort_on_error, or when every VM failed: the
 *   failure
 */
export async function runBackup(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: BackupPorts,
): Promise<RunReport> {
  const run = await BackupRun.begin(job, values, sink, ports, undefined);
  await run.round();
  return run.end();
}

/** The rounds of one job; each makes one point of every VM that matches. */
export class BackupRun {
  readonly #request: JobRequest;
  readonly #values: ParameterValues;
  readonly #sink: FileSink;
  readonly #ports: BackupPorts;
  readonly #rpoSeconds: number | undefined;
  readonly #reports = new Map<string, VmReport>();
  #abortedBy: DrError | undefined;

  private constructor(
    request: JobRequest,
    values: ParameterValues,
    sink: FileSink,
    ports: BackupPorts,
    rpoSeconds: number | undefined,
  ) {
    this.#request = request;
    this.#values = values;
    this.#sink = new OneFileAtATime(sink);
    this.#ports = ports;
    this.#rpoSeconds = rpoSeconds;
  }

  /** @throws DrError E_USAGE when the job is no backup; E_IO, E_CAPACITY */
  static async begin(
    job: JobInfo,
    values: ParameterValues,
    sink: FileSink,
    ports: BackupPorts,
    rpoSeconds: number | undefined,
  ): Promise<BackupRun> {
    if (job.type !== 'B' || job.level === undefined) {
      throw new DrError('E_USAGE', `the job ${job.name} is no backup of a level that is known`);
    }
    const level = LEVELS[job.level];
    const built = level === 'full' || job.prevJobName === '' ? undefined : job.prevJobName;
    const { files: fs, random, stateFolder } = ports;
    const builtOn = await noteJob({ fs, random, stateFolder }, { name: job.name, builtOn: built });
    const request = { name: job.name, level, builtOn };
    return new BackupRun(request, values, sink, ports, rpoSeconds);
  }

  /** @throws DrError E_NO_MATCH, what listing the VMs throws */
  async round(): Promise<void> {
    const { hypervisor } = this.#ports;
    const { vm: pattern, exclude } = this.#values;
    const all = await hypervisor.listVms();
    const matched = all.filter(
      ({ name }) =>
        matchesPattern(pattern, name) && !exclude.some((other) => matchesPattern(other, name)),
    );
    if (matched.length === 0) {
      throw new DrError(
        'E_NO_MATCH',
        `no VM of ${hypervisor.name} matches "${pattern}"; it has ${all.length} VMs`,
        { context: { pattern, vmCount: all.length } },
      );
    }
    for (const vm of matched) {
      if (this.isOver()) return;
      const outcome = await this.#outcomeOf(vm, all);
      this.#say(vm, outcome);
      const facts = { vmId: vm.id, vmName: vm.name, rpoSeconds: this.#values.rpo_seconds };
      this.#reports.set(vm.id, addOutcome(this.#reports.get(vm.id), facts, outcome));
      if (outcome.kind === 'failed' && this.#values.abort_on_error) this.#abortedBy = outcome.error;
    }
  }

  isOver(): boolean {
    return this.#sink.signal.aborted || this.#abortedBy !== undefined;
  }

  /** Totals, and the failure that makes the job red. @throws DrError */
  end(): RunReport {
    const report: RunReport = {
      vms: [...this.#reports.values()],
      abortedBy: this.#abortedBy,
      isStopped: this.#sink.signal.aborted,
      warnings: [],
    };
    const bytes = report.vms.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
    const count = (kind: CycleOutcome['kind']): number =>
      report.vms.filter(({ last }) => last.kind === kind).length;
    const kinds = (['done', 'failed', 'skipped', 'stopped'] as const).filter(
      (kind) => count(kind) > 0,
    );
    const parts = kinds.map((kind) => `${count(kind)} ${kind}`).join(', ');
    this.#sink.say('info', `${report.vms.length} VMs: ${parts}; ${bytes} bytes`);
    colour(report, this.#values, this.#sink);
    return report;
  }

  async #outcomeOf(vm: VmSummary, all: readonly VmSummary[]): Promise<CycleOutcome> {
    const { hypervisor, log } = this.#ports;
    const { online, overlap, timeout } = this.#values;
    try {
      const power = online ? 'off' : ((await powerOf(vm.id, hypervisor)) ?? vm.powerState);
      if (power !== 'off') {
        const text = `${vm.name} is ${power} and online=no leaves it out`;
        return { kind: 'skipped', reason: 'running', text, isCovered: true };
      }
      const settings = {
        job: this.#request,
        consistency: wantedConsistency(this.#values),
        timeoutMs: timeout * 1000,
        overlap,
        rpoSeconds: this.#rpoSeconds,
      };
      const { files: fs } = this.#ports;
      const seams = { ...this.#ports, fs, sink: this.#sink, signal: this.#sink.signal };
      return { kind: 'done', result: await runFileCycle(vm, all, settings, seams) };
    } catch (error) {
      if (error instanceof CycleStopped) return { kind: 'stopped' };
      if (!(error instanceof DrError)) throw error;
      if (error.context['isLease'] === true && overlap === 'skip') {
        const { message: text } = error;
        // this job has no point of it
        return { kind: 'skipped', reason: 'locked', text, isCovered: false };
      }
      log.error('cycle.failed', { vmId: vm.id, vmName: vm.name, error });
      return { kind: 'failed', error };
    }
  }

  #say(vm: VmSummary, outcome: CycleOutcome): void {
    switch (outcome.kind) {
      case 'done': {
        const { result } = outcome;
        this.#sink.say('info', doneLine(result));
        for (const { code, text } of result.warnings) {
          this.#sink.say('warning', `${vm.name}: ${code} ${text}`);
        }
        for (const text of result.notes) this.#sink.say('info', `${vm.name}: ${text}`);
        break;
      }
      case 'failed':
        this.#sink.say('error', `${vm.name} failed, ${outcome.error.line}`);
        break;
      case 'skipped':
        this.#sink.say(outcome.isCovered ? 'warning' : 'error', `skipped: ${outcome.text}`);
        break;
      case 'stopped':
        this.#sink.say('error', `${vm.name} stopped; what changed stays owed to the job`);
        break;
    }
  }
}

function doneLine({ vmName, kind, bytesSent, disks, consistency, pointId }: CycleResult): string {
  const how = kind === 'seed' ? 'whole' : kind;
  return `${vmName} ${how}, ${bytesSent} bytes, ${disks.length} disks, ${consistency}-consistent, point ${pointId.slice(0, 8)}`;
}

/** A file that was given up while its sink still waits must not be followed by another one. */
class OneFileAtATime implements FileSink {
  readonly #sink: FileSink;
  #isBusy = false;

  constructor(sink: FileSink) {
    this.#sink = sink;
  }

  get signal(): AbortSignal {
    return this.#sink.signal;
  }

  async file(...[entry, content]: Parameters<FileSink['file']>): Promise<void> {
    if (this.#isBusy) {
      throw new DrError('E_STALLED', `the file before ${entry.path} is not taken yet`, {
        done: 'nothing of this file was sent',
      });
    }
    this.#isBusy = true;
    await this.#sink.file(entry, content).finally(() => {
      this.#isBusy = false;
    });
  }

  say(kind: 'info' | 'warning' | 'error', text: string): void {
    this.#sink.say(kind, text);
  }

  async pluginObject(object: Parameters<NonNullable<FileSink['pluginObject']>>[0]): Promise<void> {
    await this.#sink.pluginObject?.(object);
  }
}
