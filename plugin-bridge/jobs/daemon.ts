// `mode=daemon`: the jobs of a config file, as `hvdr daemon` runs them, until the job is cancelled or
// `run_for` is over. The file lies in the folder that backend.conf names, and says no more than a
// Plugin line could.

import { DrError } from '../../shared/errors.js';
import {
  doubtsOf,
  type GivenParameter,
  type ParameterName,
  type ParameterValues,
  TLS_PARAMETERS,
} from '../../shared/params/index.js';
import {
  type ConfigHooks,
  type FileSink,
  type JobParameters,
  jobsIn,
  type RunReport,
  watchConfig,
} from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import { ofThisHost, readConfigFile } from '../backend-authority.js';
import type { JobInfo } from '../job-info.js';
import { runReceiverJobs } from './receiver-jobs.js';
import { requireReceiver } from './require-receiver.js';
import { warnOfNoEnd } from './time-limit.js';

/** What concerns all jobs may stand in the line, and then overrides the file. */
const OVERRIDES: readonly ParameterName[] = [
  'dr_host',
  'dr_port',
  'dr_psk',
  'dr_psk_file',
  'dr_psk_id',
  ...TLS_PARAMETERS,
];
/** What concerns the job itself. */
const OWN: readonly ParameterName[] = [
  'mode',
  'config_file',
  'run_for',
  'on_partial',
  'host',
  'state_dir',
];

/** @throws DrError E_PARAMETER, as runReceiverJobs() */
export async function runDaemon(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<RunReport> {
  const { files: fs, conf, line, clock, log } = ports;
  const { config_file: named, run_for: runForSeconds } = values;
  if (named === undefined) {
    throw wrong('config_file', 'a daemon has its jobs from a file', 'Give config_file=NAME.');
  }
  const overrides = overridesIn(line);
  const read = (): ReturnType<typeof readConfigFile> => readConfigFile(named, conf, fs);
  const { file, text } = await read();
  const jobsOf = (said: string): readonly JobParameters[] =>
    jobsIn(said, file, overrides, (set) => {
      const allowed = ofThisHost(set, conf);
      requireReceiver(allowed);
      if (allowed.dr_psk !== undefined) log.hide(allowed.dr_psk);
      return allowed;
    });
  const jobs = jobsOf(text);
  warnOfNoEnd('mode=daemon', runForSeconds, sink);
  tellJobs('running', jobs, sink);
  const hooks: ConfigHooks = {
    name: file,
    text,
    read: async () => (await read()).text,
    jobsOf,
    onApplied: (applied) => {
      tellJobs('the configuration has changed, running', applied, sink);
    },
    onRefused: (error) => {
      sink.say('error', `the former configuration stays in force, ${error.line}`);
    },
  };
  return runReceiverJobs(job, values, jobs, sink, ports, (replace, signal) =>
    watchConfig(hooks, { clock, log }, replace, signal),
  );
}

/** @throws DrError E_PARAMETER for what belongs into the file */
function overridesIn(line: readonly GivenParameter[]): GivenParameter[] {
  for (const { key } of line) {
    if ([...OWN, ...OVERRIDES].some((name) => name === key)) continue;
    const hint = `Move it there; the line may name ${OVERRIDES.join(', ')}.`;
    throw wrong(key, 'of a daemon it stands in the config file', hint);
  }
  return line.filter(({ key }) => OVERRIDES.some((name) => name === key));
}

function wrong(parameter: string, why: string, hint: string): DrError {
  return new DrError('E_PARAMETER', `${parameter}: ${why}`, { context: { parameter }, hint });
}

function tellJobs(what: string, jobs: readonly JobParameters[], sink: FileSink): void {
  sink.say('info', `${what} ${jobs.map(({ name }) => `[${name}]`).join(' ')}`);
  for (const { name, values } of jobs) {
    for (const doubt of doubtsOf(values)) sink.say('warning', `job ${name}: ${doubt}`);
  }
}
