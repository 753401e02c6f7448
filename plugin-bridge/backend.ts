// The backend of the Bacula plugin: from what the file daemon asks to the functions that do it. One
// process serves one job; the streams, signals and the end of the process belong to whoever starts it.

import path from 'node:path';
import type { Clock, Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import type { FileSystem } from '../shared/files/index.js';
import {
  openHypervisor,
  type SourceHypervisor,
  type TargetHypervisor,
} from '../shared/hypervisor/index.js';
import { type Log, openLog, silentLog } from '../shared/log.js';
import {
  type GivenParameter,
  OPERATIONS,
  type ParameterSet,
  type ParameterValues,
} from '../shared/params/index.js';
import { Bandwidth, type FileSink, stateFolder } from '../source-agent/index.js';
import { authorised } from './backend-authority.js';
import { BACKEND_LOG, type BackendConf, backendConfPath, readBackendConf } from './backend-conf.js';
import { answersOf, estimateOf, listingOf } from './backend-listing.js';
import type { JobInfo } from './job-info.js';
import { PluginLink } from './ptcomm/link.js';
import type { ByteDestination } from './ptcomm/packet.js';
import { type JobRequest, type OpenedJob, serve, type SessionEnd } from './ptcomm/session.js';
import type { RestoreWork } from './restore/index.js';
import { readRestoreOptions, withRestoreOptions } from './restore-options.js';

/** The process around a backend. */
export interface BackendSurroundings {
  readonly input: AsyncIterable<Uint8Array>;
  /** Told each chunk of the input that nobody uses any more. */
  readonly release: (chunk: Buffer) => void;
  readonly output: ByteDestination;
  readonly files: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
  /** Cancel by the file daemon. */
  readonly cancel: AbortSignal;
  /** Lines are added to the file; undefined when it cannot be opened. */
  readonly openLogFile: (file: string) => { write(line: string): unknown } | undefined;
  /** Called with the log of the job, for what goes wrong outside of it. */
  readonly takeLog?: (log: Log) => void;
  /** Of the product, for reports. */
  readonly programVersion: string;
}

/** What a job's function works with. */
export interface JobPorts {
  readonly hypervisor: SourceHypervisor & TargetHypervisor;
  readonly files: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
  readonly programVersion: string;
  readonly stateFolder: string;
  readonly bandwidth: Bandwidth;
  readonly restoreRoots: readonly string[] | undefined;
  /** What the job was given, and how. */
  readonly parameters: ParameterSet;
  readonly conf: BackendConf;
  /** What stands in the Plugin line itself. */
  readonly line: readonly GivenParameter[];
  readonly signal: AbortSignal;
  readonly say: (kind: 'info' | 'warning' | 'error', text: string) => void;
}

/** Ends when the job's work is done; throws what makes the job red. */
export type RunMode = (
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
) => Promise<unknown>;

export interface JobFunctions {
  readonly modes: Readonly<Partial<Record<ParameterValues['mode'], RunMode>>>;
  openRestore(job: JobInfo, values: ParameterValues, ports: JobPorts): Promise<RestoreWork>;
}

/** Serves the one conversation on the standard streams. Never throws. */
export async function runBackend(
  surroundings: BackendSurroundings,
  functions: JobFunctions,
): Promise<SessionEnd & { readonly inputEnded: Promise<void> }> {
  const { input, release, output, clock, cancel } = surroundings;
  const link = new PluginLink({ input, release, output, clock, cancel });
  const end = await serve(link, (request) => openJob(request, surroundings, functions));
  return { ...end, inputEnded: link.inputEnded };
}

async function openJob(
  request: JobRequest,
  surroundings: BackendSurroundings,
  functions: JobFunctions,
): Promise<OpenedJob> {
  const { files: fs, environment, platform, random } = surroundings;
  const { greeting, parameters } = request;
  // an adapter need not say what its greeting has said
  const job = { ...request.job, namespace: greeting.namespace };
  if (request.job.namespace !== '' && request.job.namespace !== greeting.namespace) {
    throw new DrError('E_VERSION', `the plugin ${greeting.plugin} brings another namespace`, {
      hint: 'Install plugin and backend of one release.',
    });
  }
  const conf = await readBackendConf(fs, backendConfPath(environment, platform));
  const isRestore = job.type === 'R';
  const given = isRestore ? await changedLine(request, conf, fs) : parameters.given;
  const set = await authorised(given, conf, { fs, isRestore });
  const { values, line } = set;
  for (const warning of set.warnings) request.say('warning', warning);
  const state = await stateFolder(values.state_dir, { fs, random, environment, platform });
  const log = await jobLog(request, surroundings, conf, state);
  if (values.dr_psk !== undefined) log.hide(values.dr_psk);
  surroundings.takeLog?.(log);
  log.info('run.started', { job: job.name, type: job.type, mode: values.mode });
  const hypervisor = await openHypervisor(conf.host, { ...surroundings, fs, log });
  const ports: JobPorts = {
    ...surroundings,
    hypervisor,
    log,
    stateFolder: state,
    bandwidth: new Bandwidth(surroundings.clock, { bytesPerSecond: values.bandwidth }),
    restoreRoots: conf.restoreRoots,
    parameters: set,
    conf,
    line,
    signal: request.signal,
    say: (kind, text) => {
      request.say(kind, text);
    },
  };
  return openedJob({ ...request, job }, values, ports, functions);
}

/** The words of a restore's Plugin line, with what stands in the folder that it goes to. */
async function changedLine(
  request: JobRequest,
  { restoreRoots: roots }: BackendConf,
  fs: FileSystem,
): Promise<readonly GivenParameter[]> {
  const { where } = request.job;
  const options = await readRestoreOptions(fs, { where, roots });
  for (const { key, value, place } of options) request.say('info', `${place}: ${key}=${value}`);
  return withRestoreOptions(request.parameters.given, options);
}

function openedJob(
  { job, greeting }: JobRequest,
  values: ParameterValues,
  ports: JobPorts,
  functions: JobFunctions,
): OpenedJob {
  const { namespace } = greeting;
  return {
    async backup(sink) {
      const run = namespace === '@hyperv' ? functions.modes[values.mode] : undefined;
      if (run === undefined) {
        throw new DrError('E_PARAMETER', `mode=${values.mode} is no backup of ${greeting.plugin}`, {
          hint:
            namespace === '@hyperv'
              ? 'Run it from the command line: `hvdr --help`.'
              : `${greeting.plugin} restores only; back VMs up with podheitor-hyperv.`,
        });
      }
      await run(job, values, sink, ports);
    },
    estimate: () => (isOrder(values) ? nothing() : estimateOf(values, namespace, ports)),
    listing: (place) => listingOf(place, values, namespace, ports),
    query: (question) => answersOf(question, values, ports),
    restore: () => functions.openRestore(job, values, ports),
    async close() {
      ports.log.info('run.ended', { job: job.name });
      await ports.hypervisor.close();
    },
  };
}

/** Whether the job only asks a receiver or Hyper-V, or gives orders: its few small files are not known before. */
function isOrder({ mode }: ParameterValues): boolean {
  const onlyAsks = ['replication-status', 'async-hvr'].includes(mode);
  return onlyAsks || Object.hasOwn(OPERATIONS, mode);
}

async function* nothing(): AsyncGenerator<never> {
  // no entry
}

async function jobLog(
  request: JobRequest,
  { openLogFile, clock }: BackendSurroundings,
  conf: BackendConf,
  state: string,
): Promise<Log> {
  const file = conf.logFile ?? path.join(state, BACKEND_LOG);
  const destination = openLogFile(file);
  if (destination === undefined) {
    request.say('warning', `${file} cannot be written: this job has no log`);
    return silentLog;
  }
  return openLog({ destination, level: 'info', clock });
}
