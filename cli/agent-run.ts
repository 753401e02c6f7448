// What `hvdr push` and `hvdr daemon` share: the ports of a job made from its parameters, the run,
// and how it is told.

import path from 'node:path';
import { type Guid, parseGuid } from '../shared/bytes/index.js';
import {
  connect,
  loadKey,
  loadSecret,
  type PreSharedKey,
  replicationService,
  siteService,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { openHypervisor, type SourceHypervisor } from '../shared/hypervisor/index.js';
import {
  type ParameterValues,
  type TlsParameters,
  wantedConsistency,
  wantedSchedule,
} from '../shared/params/index.js';
import {
  Agent,
  Bandwidth,
  type BandwidthPlan,
  type ConnectReceiver,
  type CycleOutcome,
  type CycleResult,
  type Job,
  pinToStore,
  ReceiverLink,
  type RunReport,
  stateFolder,
  verdict,
  type VmReport,
} from '../source-agent/index.js';
import { Attachments, wantedRemoteActions } from './attachments.js';
import type { CliContext } from './context.js';
import { errorDocument, type JsonObject } from './output.js';
import { startProgress } from './progress.js';
import { formatSize } from './sizes.js';
import { clientTls, TLS_PARAMETERS } from './tls.js';

export interface JobParameters {
  readonly name: string;
  readonly values: ParameterValues;
  /** Refuse VMs that have points at the receiver already. Default: no. */
  readonly isSeedOnly?: boolean;
}

/** Exit code of a run that was done with warnings (cli.md). */
const EXIT_WARNED = 3;

/** Takes over other jobs in place of those that run. @throws DrError, and then nothing has changed */
export type ReplaceJobs = (jobs: readonly JobParameters[]) => Promise<void>;

/**
 * Makes the jobs' ports, runs them, closes the ports. `watch`, of a daemon, runs beside them and may
 * replace the jobs, until its signal aborts; its VMs stay attached to their receivers all the time.
 */
export async function runJobs(
  jobs: readonly JobParameters[],
  context: CliContext,
  watch?: (replace: ReplaceJobs, signal: AbortSignal) => Promise<void>,
): Promise<RunReport> {
  const { files, clock, random, output } = context;
  const log = await context.log();
  const ports = new Ports(context);
  const progress = startProgress(output, clock, { label: 'push' });
  const ended = new AbortController();
  const attachments = new Attachments({ fs: files, clock, random, log });
  try {
    const made = await ports.jobs(jobs);
    const agent = new Agent(made, {
      fs: files,
      clock,
      random,
      log,
      signal: context.stopSignal(),
      onOutcome: (vm, job, outcome) => {
        progress.end();
        const { rpoSeconds } = job.cycle;
        output.event(
          { event: 'cycle', job: job.name, ...outcomeDocument(vm, outcome, rpoSeconds) },
          () => outcomeLine(vm.name, outcome, rpoSeconds),
        );
      },
      onSent: (_vmId: Guid, bytes: number) => {
        progress.advance(bytes);
      },
    });
    const replace: ReplaceJobs = async (others) => {
      const ready = await ports.jobs(others);
      attachments.use(ready);
      void ports.closeUnusedAfter(agent.replaceJobs(ready)).catch((error: unknown) => {
        // nothing depends on it any more
        log.warn('cycle.warning', { what: 'a port of former jobs was not closed well', error });
      });
    };
    if (watch !== undefined) attachments.use(made);
    const watching = watch?.(replace, ended.signal);
    try {
      return await agent.run();
    } finally {
      ended.abort();
      await watching;
    }
  } finally {
    progress.end();
    await attachments.close();
    await ports.close();
  }
}

/** Hypervisors and connections, one for each place that jobs name; one budget of bandwidth for all. */
export class Ports {
  readonly #context: CliContext;
  readonly #hypervisors = new Map<string, SourceHypervisor>();
  readonly #links = new Map<string, ReceiverLink>();
  readonly #bandwidth: Bandwidth;
  /** What the jobs of now use. */
  #used = new Set<SourceHypervisor | ReceiverLink>();
  #replacing = 0;

  constructor(context: CliContext) {
    this.#context = context;
    this.#bandwidth = new Bandwidth(context.clock, { bytesPerSecond: 0 });
  }

  /** @throws DrError, and then the budget is the former one */
  async jobs(parameters: readonly JobParameters[]): Promise<Job[]> {
    const jobs: Job[] = [];
    for (const job of parameters) jobs.push(await this.#job(job));
    const plan = planOf(parameters);
    if (plan !== undefined) this.#bandwidth.use(plan);
    this.#used = new Set(jobs.flatMap(({ hypervisor, link }) => [hypervisor, link]));
    return jobs;
  }

  /** Closes what no job uses any more, once no cycle of former jobs is under way. */
  async closeUnusedAfter(ended: Promise<void>): Promise<void> {
    this.#replacing++;
    await ended;
    this.#replacing--;
    if (this.#replacing > 0) return;
    await this.#closeUnless((port) => this.#used.has(port));
  }

  async #job({ name, values, isSeedOnly }: JobParameters): Promise<Job> {
    const { folder } = this.#context;
    // what can be refused without looking at anything comes first
    const link = this.#link(values);
    const hypervisor = await this.#hypervisor(values);
    await this.#checkKeyFile(keyReference(values, folder));
    return {
      name,
      hypervisor,
      link,
      bandwidth: this.#bandwidth,
      stateFolder: await stateFolderOf(values, this.#context),
      vmPattern: values.vm,
      exclude: values.exclude,
      takesRunning: values.online,
      cycle: {
        consistency: wantedConsistency(values),
        timeoutMs: values.timeout * 1000,
        overlap: values.overlap,
        rpoSeconds: values.rpo_seconds,
        maxRestorePoints: values.max_restore_points,
        isSeedOnly,
        retentionGrid: values.retention_grid ?? '',
      },
      cycleCount: values.push_cycles,
      intervalMs: values.push_interval * 1000,
      isAbortingOnError: values.abort_on_error,
      remoteActions: wantedRemoteActions(values),
    };
  }

  /**
   * Reads a key file before the first cycle, so that a daemon does not start that can never send. The
   * connection reads it again, because it may be replaced meanwhile.
   */
  async #checkKeyFile({ file }: KeyReference): Promise<void> {
    if (file === undefined) return;
    const { files: fs, environment } = this.#context;
    await this.#context.keepSecrets();
    await loadKey(file, { fs, environment, log: await this.#context.log() });
  }

  close(): Promise<void> {
    return this.#closeUnless(() => false);
  }

  async #closeUnless(isKept: (port: SourceHypervisor | ReceiverLink) => boolean): Promise<void> {
    for (const [place, link] of this.#links) {
      if (isKept(link)) continue;
      this.#links.delete(place);
      await link.close();
    }
    for (const [place, hypervisor] of this.#hypervisors) {
      if (isKept(hypervisor)) continue;
      this.#hypervisors.delete(place);
      await hypervisor.close();
    }
  }

  async #hypervisor(values: ParameterValues): Promise<SourceHypervisor> {
    const name = hypervisorName(values);
    const known = this.#hypervisors.get(name);
    if (known !== undefined) return known;
    const hypervisor = await openSourceHypervisor(values, this.#context);
    this.#hypervisors.set(name, hypervisor);
    return hypervisor;
  }

  #link(values: ParameterValues): ReceiverLink {
    const { dr_host: host, dr_port: port } = values;
    if (host === undefined) {
      throw new DrError('E_PARAMETER', 'dr_host: nothing says where the receiver is', {
        context: { parameter: 'dr_host' },
        hint: 'Give --dr-host HOST.',
      });
    }
    const key = keyReference(values, this.#context.folder);
    const tls = TLS_PARAMETERS.map((parameter) => values[parameter] ?? null);
    const place = JSON.stringify([host, port, key, tls]);
    const known = this.#links.get(place);
    if (known !== undefined) return known;
    const made = new ReceiverLink(this.#connector(host, port, key, values));
    this.#links.set(place, made);
    return made;
  }

  #connector(
    host: string,
    port: number,
    reference: KeyReference,
    wanted: TlsParameters,
  ): ConnectReceiver {
    const { files: fs, environment, clock, random } = this.#context;
    const bare = host.replace(/^\[(.*)\]$/, '$1');
    let loaded: Promise<PreSharedKey> | undefined;
    return async () => {
      const log = await this.#context.log();
      await this.#context.keepSecrets();
      const keys = { fs, environment, log };
      // A passphrase takes long to stretch and cannot change; a file may have been replaced.
      const key =
        reference.file === undefined
          ? await (loaded ??= loadSecret(reference.secret, reference.keyId, keys))
          : await loadKey(reference.file, keys);
      const tls = await clientTls(wanted, this.#context);
      const connection = await connect({ host: bare, port, key, tls, clock, random, log });
      try {
        const client = connection.client(replicationService);
        const site = connection.client(siteService);
        const close = (): Promise<void> => connection.close();
        const { keyId, receiverId } = key;
        if (receiverId === undefined) return { client, site, close };
        const pin = { storeId: receiverId, keyId, place: `${host}:${port}` };
        const pinned = await pinToStore(client, pin, random);
        return { client: pinned, site, pinnedStoreId: parseGuid(receiverId), close };
      } catch (error) {
        await connection.close();
        throw error;
      }
    };
  }
}

/** The one budget of all jobs; undefined: there is no job. @throws DrError E_PARAMETER */
function planOf([first, ...others]: readonly JobParameters[]): BandwidthPlan | undefined {
  if (first === undefined) return undefined;
  for (const parameter of ['bandwidth', 'bandwidth_schedule'] as const) {
    const rate = first.values[parameter];
    const other = others.find(({ values }) => values[parameter] !== rate);
    if (other === undefined) continue;
    const said = other.values[parameter] ?? 'nothing';
    throw new DrError(
      'E_PARAMETER',
      `${parameter}, job ${other.name}: ${said} is not the ${rate ?? 'nothing'} of job ${first.name}`,
      {
        context: { parameter },
        hint: 'All jobs of a source share one budget: give it once, before the sections.',
      },
    );
  }
  const { values } = first;
  return { bytesPerSecond: values.bandwidth, schedule: wantedSchedule(values) };
}

function hypervisorName({ host }: ParameterValues): string {
  const name = host ?? (process.platform === 'win32' ? 'hyperv' : undefined);
  if (name !== undefined) return name;
  throw new DrError('E_PARAMETER', 'host: nothing says whose VMs are meant', {
    context: { parameter: 'host' },
    hint: 'Give --host lab:DIR or --host hyperv.',
  });
}

/** The hypervisor that `host` names; the caller closes it. @throws DrError E_PARAMETER, … */
export async function openSourceHypervisor(
  values: ParameterValues,
  context: CliContext,
): Promise<SourceHypervisor> {
  const { files: fs, clock, random, folder } = context;
  const name = hypervisorName(values);
  const place = name.startsWith('lab:') ? `lab:${path.resolve(folder, name.slice(4))}` : name;
  return openHypervisor(place, { fs, clock, random, log: await context.log() });
}

/** The folder of ledgers and leases. */
export function stateFolderOf(
  { state_dir: wanted }: ParameterValues,
  { files: fs, random, environment, folder }: CliContext,
): Promise<string> {
  const { platform } = process;
  const chosen = wanted === undefined ? undefined : path.resolve(folder, wanted);
  return stateFolder(chosen, { fs, random, environment, platform });
}

/** The key that the parameters name. @throws DrError E_PARAMETER, E_KEY_FILE, E_NOT_FOUND */
export async function keyOfParameters(
  values: ParameterValues,
  context: CliContext,
): Promise<PreSharedKey> {
  const { files: fs, environment, folder } = context;
  const reference = keyReference(values, folder);
  await context.keepSecrets();
  const keys = { fs, environment, log: await context.log() };
  return reference.file === undefined
    ? loadSecret(reference.secret, reference.keyId, keys)
    : loadKey(reference.file, keys);
}

/** Tells how a run ended, and ends with an error when a VM stayed unprotected. */
export function reportRun(
  { output, clock }: CliContext,
  report: RunReport,
  values: ParameterValues,
  { startedAt, isWarned: wasWarned }: { readonly startedAt: number; readonly isWarned: boolean },
): void {
  const durationMs = Math.round(clock.monotonic() - startedAt);
  const { error, isWarned } = verdict(report, values.on_partial);
  output.result({ vms: report.vms.map(vmDocument), durationMs }, () =>
    totalsLine(report, durationMs),
  );
  if (error !== undefined) throw error;
  if (isWarned || wasWarned) output.exitCode = EXIT_WARNED;
}

type KeyReference =
  | { readonly file: string }
  | { readonly file?: undefined; readonly secret: string; readonly keyId: string | undefined };

function keyReference(values: ParameterValues, folder: string): KeyReference {
  const { dr_psk: secret, dr_psk_file: file, dr_psk_id: keyId } = values;
  if (file !== undefined) {
    if (file.startsWith('env:')) return { file };
    return { file: path.resolve(folder, file.replace(/^file:/, '')) };
  }
  if (secret === undefined) {
    throw new DrError('E_PARAMETER', 'dr_psk_file: nothing says which key to use', {
      context: { parameter: 'dr_psk_file' },
      hint: 'Give --psk-file FILE; `hvdr psk generate --out FILE` makes one.',
    });
  }
  if (secret.startsWith('file:')) return { file: path.resolve(folder, secret.slice(5)) };
  return { secret, keyId };
}

/** `SQL01 delta 42 MiB, 2 disks, app-consistent, RPO 412/600 s, point 1f3a` */
export function outcomeLine(vmName: string, outcome: CycleOutcome, rpoSeconds: number): string {
  switch (outcome.kind) {
    case 'done':
      return doneLine(vmName, outcome.result, rpoSeconds);
    case 'failed':
      return `${vmName} failed, ${outcome.error.line}`;
    case 'skipped':
      return `${vmName} skipped: ${outcome.text}`;
    case 'stopped':
      return `${vmName} stopped; what changed stays owed to the receiver`;
  }
}

function doneLine(vmName: string, result: CycleResult, rpoSeconds: number): string {
  const { kind, bytesSent, disks, consistency, ageSeconds, pointId } = result;
  const repeated = disks.reduce((sum, { repeatedBytes }) => sum + repeatedBytes, 0);
  const reused = disks.reduce((sum, { reusedBytes }) => sum + reusedBytes, 0);
  const parts = [
    `${vmName} ${kind} ${formatSize(bytesSent)}`,
    `${disks.length} ${disks.length === 1 ? 'disk' : 'disks'}`,
    consistency === 'application' ? 'app-consistent' : 'crash-consistent',
    `RPO ${ageSeconds}/${rpoSeconds} s`,
    `point ${pointId.slice(0, 4)}`,
  ];
  if (repeated > 0) parts.push(`${formatSize(repeated)} sent again after a break`);
  if (reused > 0) parts.push(`${formatSize(reused)} taken from what the receiver had`);
  const said = [...result.warnings.map(({ code, text }) => `${code} ${text}`), ...result.notes];
  return [parts.join(', '), ...said.map((text) => `  ${text}`)].join('\n');
}

export function outcomeDocument(
  vm: { readonly id: Guid; readonly name: string },
  outcome: CycleOutcome,
  rpoSeconds: number,
): JsonObject {
  const who = { vm: vm.name, vmId: vm.id };
  switch (outcome.kind) {
    case 'done': {
      const { result } = outcome;
      return {
        ...who,
        kind: result.kind,
        bytesSent: result.bytesSent,
        point: result.pointId,
        cycle: result.cycleId,
        consistency: result.consistency,
        consistentAt: new Date(result.consistentAtMs).toISOString(),
        ageSeconds: result.ageSeconds,
        rpoSeconds,
        durationMs: result.durationMs,
        disks: result.disks.map((disk) => ({ ...disk })),
        warnings: result.warnings.map((warning) => ({ ...warning })),
        notes: result.notes,
      };
    }
    case 'failed':
      return { ...who, kind: 'failed', bytesSent: 0, ...errorDocument(outcome.error) };
    case 'skipped': {
      const { reason, text, isCovered } = outcome;
      return { ...who, kind: 'skipped', bytesSent: 0, reason, text, isCovered };
    }
    case 'stopped':
      return { ...who, kind: 'stopped', bytesSent: 0 };
  }
}

/** One VM at the end of a run: its last cycle, with the counts over all. */
export function vmDocument(report: VmReport): JsonObject {
  const { vmId, vmName, last, rpoSeconds, cycleCount, failureCount, bytesSent } = report;
  return {
    ...outcomeDocument({ id: vmId, name: vmName }, last, rpoSeconds),
    bytesSent,
    cycles: cycleCount,
    failures: failureCount,
  };
}

/** `3 VMs: 2 done, 1 failed; 42 MiB sent, 1.2 s` */
export function totalsLine({ vms, warnings }: RunReport, durationMs: number): string {
  const count = (kind: CycleOutcome['kind']): number =>
    vms.filter(({ last }) => last.kind === kind).length;
  const parts = (['done', 'failed', 'skipped', 'stopped'] as const)
    .map((kind) => [kind, count(kind)] as const)
    .filter(([, number]) => number > 0)
    .map(([kind, number]) => `${number} ${kind}`);
  const bytes = vms.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
  const seconds = (durationMs / 1000).toFixed(1);
  const line = `${vms.length} ${vms.length === 1 ? 'VM' : 'VMs'}: ${parts.join(', ')}; ${formatSize(bytes)} sent, ${seconds} s`;
  return [line, ...warnings].join('\n');
}
