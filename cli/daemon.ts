// `hvdr daemon`: pushes for ever, by a config file with a section for each job.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import {
  type GivenParameter,
  type ParameterName,
  parseConfigSections,
  resolveParameters,
} from '../shared/params/index.js';
import { verdict } from '../source-agent/index.js';
import { addParameterOptions, givenOf, readConfig } from './agent-options.js';
import { type JobParameters, runJobs, totalsLine, vmDocument } from './agent-run.js';
import type { CliContext } from './context.js';
import { TLS_PARAMETERS } from './tls.js';

const HELP = `
The file has the parameters of \`hvdr push\`, one key=value a line; # begins a comment. What stands
before the first [section] holds for all, each section is a job of its own. It is read once.

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
      const jobs = jobsIn(await readConfig(config, context), config, flags);
      output.event({ event: 'started', jobs: jobs.map(({ name }) => name) }, () =>
        jobs.length === 1 ? 'running 1 job' : `running ${jobs.length} jobs`,
      );
      const report = await runJobs(jobs, context);
      const durationMs = Math.round(clock.monotonic() - startedAt);
      output.result({ vms: report.vms.map(vmDocument), durationMs }, () =>
        totalsLine(report, durationMs),
      );
      const { error } = verdict(report, 'warn');
      if (error !== undefined && !report.isStopped) throw error;
    });
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
