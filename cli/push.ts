// `hvdr push`: one or more cycles of the VMs that match, towards a DR receiver.

import type { Command } from 'commander';
import { addParameterOptions, parametersOf, PUSH_PARAMETERS } from './agent-options.js';
import { reportRun, runJobs } from './agent-run.js';
import type { CliContext } from './context.js';

const EXAMPLES = `
Examples:
  hvdr push --vm 'SQL*' --host hyperv --dr-host dr.example.com --psk-file /etc/podheitor/a.psk
  hvdr push --vm web --host lab:./lab --dr-host 127.0.0.1 --psk-file ./a.psk --push-cycles 4
  hvdr push --config-file ./nightly.conf --vm SQL01 --json
`;

export function registerPush(program: Command, context: CliContext): void {
  const command = program
    .command('push')
    .summary('bring VMs level with a DR receiver')
    .description(
      'Takes a checkpoint of every VM that matches, sends what changed since the last point, and ' +
        'gives the checkpoint back. The first time everything is sent.',
    )
    .addHelpText('after', EXAMPLES);
  addParameterOptions(command, PUSH_PARAMETERS).action(async () => {
    const { output, clock } = context;
    const startedAt = clock.monotonic();
    output.expectEvents();
    const { values, warnings } = await parametersOf(command, PUSH_PARAMETERS, context);
    for (const warning of warnings) output.note(warning);
    const report = await runJobs([{ name: 'push', values }], context);
    reportRun(context, report, values, { startedAt, isWarned: warnings.length > 0 });
  });
}
