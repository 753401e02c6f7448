// `hvdr daemon`: pushes for ever, by a config file with a section for each job.

import type { Command } from 'commander';
import {
  doubtsOf,
  type GivenParameter,
  type ParameterName,
  TLS_PARAMETERS,
} from '../shared/params/index.js';
import {
  type ConfigHooks,
  type JobParameters,
  jobsIn,
  totalsLine,
  verdict,
  vmDocument,
  watchConfig,
} from '../source-agent/index.js';
import { addParameterOptions, givenOf, readServiceConfig } from './agent-options.js';
import { runJobs } from './agent-run.js';
import type { CliContext } from './context.js';
import { errorDocument } from '../shared/json.js';
import {
  addServiceOptions,
  runAsService,
  type ServiceFlags,
  type ServiceVoice,
} from './service.js';

const HELP = `
The file has the parameters of \`hvdr push\`, one key=value a line; # begins a comment. What stands
before the first [section] holds for all, each section is a job of its own. A file that changes is
taken over within seconds; one that is wrong then leaves the former one in force, with an error.

Example:
  host=hyperv
  dr_host=dr.example.com
  dr_psk_file=/etc/podheitor/site-a.psk
  [databases]
  vm=SQL*
  push_interval=120
  [others]
  exclude=SQL*
`;

/** What concerns all jobs may stand on the command line and then overrides the file. */
const OVERRIDES: readonly ParameterName[] = [
  'host',
  'state_dir',
  'dr_host',
  'dr_port',
  'dr_psk_file',
  ...TLS_PARAMETERS,
];

interface DaemonFlags extends ServiceFlags {
  readonly config: string;
}

export function registerDaemon(program: Command, context: CliContext): void {
  const command = program
    .command('daemon')
    .summary('push for ever, by a config file')
    .description('Runs cycles until SIGTERM: earliest deadline first, over one connection.')
    .requiredOption('--config <file>', 'config file with a section for each job');
  addServiceOptions(addParameterOptions(command, OVERRIDES))
    .addHelpText('after', HELP)
    .action(async (options: DaemonFlags) => {
      context.output.expectEvents();
      const flags = givenOf(command, OVERRIDES);
      await runAsService(context, options, (voice) => pushForEver(context, options, flags, voice));
    });
}

async function pushForEver(
  context: CliContext,
  { config }: DaemonFlags,
  flags: readonly GivenParameter[],
  voice: ServiceVoice,
): Promise<void> {
  const { output, clock } = context;
  const startedAt = clock.monotonic();
  const text = await readServiceConfig(config, context);
  const jobs = jobsIn(text, config, flags);
  output.event({ event: 'started', jobs: jobs.map(({ name }) => name) }, () => running(jobs));
  tellDoubts(jobs, context);
  const hooks = hooksOf({ name: config, flags, text }, context, voice);
  const log = await context.log();
  const report = await runJobs(jobs, context, (replace, signal) => {
    voice.ready(running(jobs));
    return watchConfig(hooks, { clock, log }, replace, signal);
  });
  const durationMs = Math.round(clock.monotonic() - startedAt);
  output.result({ vms: report.vms.map(vmDocument), durationMs }, () =>
    totalsLine(report, durationMs),
  );
  const { error } = verdict(report, 'warn');
  if (error !== undefined && (!report.isStopped || report.abortedBy !== undefined)) throw error;
}

function running(jobs: readonly JobParameters[]): string {
  return jobs.length === 1 ? 'running 1 job' : `running ${jobs.length} jobs`;
}

function tellDoubts(jobs: readonly JobParameters[], { output }: CliContext): void {
  for (const { name, values } of jobs) {
    for (const doubt of doubtsOf(values)) output.note(`job ${name}: ${doubt}`);
  }
}

interface ConfigFile {
  readonly name: string;
  /** Of the command line; they go before what the file says. */
  readonly flags: readonly GivenParameter[];
  /** What it said when the jobs began. */
  readonly text: string;
}

function hooksOf(
  { name, flags, text }: ConfigFile,
  context: CliContext,
  voice: ServiceVoice,
): ConfigHooks {
  const { output } = context;
  return {
    name,
    text,
    read: () => readServiceConfig(name, context),
    jobsOf: (said) => jobsIn(said, name, flags),
    onApplied: (jobs) => {
      output.event(
        { event: 'config', isApplied: true, jobs: jobs.map((job) => job.name) },
        () => `the configuration has changed, ${running(jobs)}`,
      );
      voice.status(running(jobs));
      tellDoubts(jobs, context);
    },
    onRefused: (error) => {
      voice.status(`the former configuration stays in force, ${error.line}`);
      output.event(
        { event: 'config', isApplied: false, ...errorDocument(error) },
        () => `the former configuration stays in force, ${error.line}`,
      );
    },
  };
}
