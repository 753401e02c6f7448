// `hvdr daemon`: pushes for ever, by a config file with a section for each job.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import {
  doubtsOf,
  type GivenParameter,
  type ParameterName,
  parseConfigSections,
  resolveParameters,
} from '../shared/params/index.js';
import { verdict } from '../source-agent/index.js';
import { addParameterOptions, givenOf, readConfig } from './agent-options.js';
import {
  type JobParameters,
  type ReplaceJobs,
  runJobs,
  totalsLine,
  vmDocument,
} from './agent-run.js';
import type { CliContext } from './context.js';
import { errorDocument } from './output.js';
import { TLS_PARAMETERS } from './tls.js';

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

export function registerDaemon(program: Command, context: CliContext): void {
  const command = program
    .command('daemon')
    .summary('push for ever, by a config file')
    .description('Runs cycles until SIGTERM: earliest deadline first, over one connection.')
    .requiredOption('--config <file>', 'config file with a section for each job');
  addParameterOptions(command, OVERRIDES)
    .addHelpText('after', HELP)
    .action(async ({ config }: { readonly config: string }) => {
      const { output, clock } = context;
      const startedAt = clock.monotonic();
      output.expectEvents();
      const flags = givenOf(command, OVERRIDES);
      const text = await readConfig(config, context);
      const jobs = jobsIn(text, config, flags);
      output.event({ event: 'started', jobs: jobs.map(({ name }) => name) }, () => running(jobs));
      tellDoubts(jobs, context);
      const file: ConfigFile = { name: config, flags, text };
      const report = await runJobs(jobs, context, (replace, signal) =>
        watchConfig(file, context, replace, signal),
      );
      const durationMs = Math.round(clock.monotonic() - startedAt);
      output.result({ vms: report.vms.map(vmDocument), durationMs }, () =>
        totalsLine(report, durationMs),
      );
      const { error } = verdict(report, 'warn');
      if (error !== undefined && (!report.isStopped || report.abortedBy !== undefined)) throw error;
    });
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

/** How often the file is read. Its times tell nothing: a file system may not have fine ones. */
const LOOK_EVERY_MS = 2000;

/**
 * Takes over what the file says when that changes. A file that is still being written is waited for:
 * it counts when it says the same twice.
 */
async function watchConfig(
  { name, flags, text: inForce }: ConfigFile,
  context: CliContext,
  replace: ReplaceJobs,
  signal: AbortSignal,
): Promise<void> {
  const { clock, output } = context;
  const log = await context.log();
  let settled = inForce;
  let last = inForce;
  const refuse = (error: DrError): void => {
    log.error('config.refused', { file: name, error });
    output.event(
      { event: 'config', isApplied: false, ...errorDocument(error) },
      () => `the former configuration stays in force, ${error.line}`,
    );
  };
  for (;;) {
    try {
      await clock.sleep(LOOK_EVERY_MS, signal);
    } catch {
      return;
    }
    let text: string;
    let failure: DrError | undefined;
    try {
      text = await readConfig(name, context);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      // told once, as a text is
      text = error.message;
      failure = error;
    }
    const isNew = text !== settled && text === last;
    last = text;
    if (!isNew) continue;
    settled = text;
    try {
      if (failure !== undefined) throw failure;
      const jobs = jobsIn(text, name, flags);
      await replace(jobs);
      log.info('config.applied', { file: name, jobs: jobs.map((job) => job.name) });
      output.event(
        { event: 'config', isApplied: true, jobs: jobs.map((job) => job.name) },
        () => `the configuration has changed, ${running(jobs)}`,
      );
      tellDoubts(jobs, context);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      refuse(error);
    }
  }
}

/**
 * The jobs of a daemon's file; `flags` override what it says. @throws DrError E_PARAMETER
 */
export function jobsIn(
  text: string,
  file: string,
  flags: readonly GivenParameter[] = [],
): JobParameters[] {
  const isOverridden = ({ key }: GivenParameter): boolean => flags.some((flag) => flag.key === key);
  const [common, ...sections] = parseConfigSections(text, file);
  const shared = common?.given ?? [];
  const jobs = sections.length === 0 ? [{ name: 'all', given: [] }] : sections;
  return jobs.map(({ name, given }) => {
    const own = [...flags, ...given.filter((each) => !isOverridden(each))];
    const { values, origins } = resolveParameters(own, shared);
    if (origins.push_cycles !== 'default' && values.push_cycles !== 0) {
      throw new DrError('E_PARAMETER', `push_cycles, job ${name}: a daemon pushes for ever`, {
        context: { parameter: 'push_cycles' },
        hint: 'Leave push_cycles out, or use `hvdr push`.',
      });
    }
    return { name, values: { ...values, push_cycles: 0 } };
  });
}
