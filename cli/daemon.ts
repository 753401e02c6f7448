// `hvdr daemon`: pushes for ever, by a config file with a section for each job.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import { parseConfigSections, resolveParameters } from '../shared/params/index.js';
import { verdict } from '../source-agent/index.js';
import { readConfig } from './agent-options.js';
import { type JobParameters, runJobs, totalsLine, vmDocument } from './agent-run.js';
import type { CliContext } from './context.js';

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

export function registerDaemon(program: Command, context: CliContext): void {
  program
    .command('daemon')
    .summary('push for ever, by a config file')
    .description('Runs cycles until SIGTERM: earliest deadline first, over one connection.')
    .requiredOption('--config <file>', 'config file with a section for each job')
    .addHelpText('after', HELP)
    .action(async ({ config }: { readonly config: string }) => {
      const { output, clock } = context;
      const startedAt = clock.monotonic();
      const jobs = jobsIn(await readConfig(config, context), config);
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

/** The jobs of a daemon's file. @throws DrError E_PARAMETER */
export function jobsIn(text: string, file: string): JobParameters[] {
  const [common, ...sections] = parseConfigSections(text, file);
  const shared = common?.given ?? [];
  const jobs = sections.length === 0 ? [{ name: 'all', given: [] }] : sections;
  return jobs.map(({ name, given }) => {
    const { values, origins } = resolveParameters(given, shared);
    if (origins.push_cycles !== 'default' && values.push_cycles !== 0) {
      throw new DrError('E_PARAMETER', `push_cycles, job ${name}: a daemon pushes for ever`, {
        context: { parameter: 'push_cycles' },
        hint: 'Leave push_cycles out, or use `hvdr push`.',
      });
    }
    return { name, values: { ...values, push_cycles: 0 } };
  });
}
