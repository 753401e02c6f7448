// `hvdr failback`: a VM that serves at the DR site goes home. `hvdr failover permanent` and `undo` end it, or
// take it back.

import type { Command } from 'commander';
import { COMMAND_PARAMETERS } from '../shared/operator/commands.js';
import type { CliContext } from './context.js';
import { type OperateFlags, parametersGiven, runOperation, withOperateOptions } from './operate.js';

const PARAMETERS = COMMAND_PARAMETERS.failback;

export function registerFailback(program: Command, context: CliContext): void {
  const command = program
    .command('failback')
    .summary('bring a VM that serves at the DR site home')
    .description(
      'Brings the old disks of the primary level while the VM serves at the DR site, shuts it down there,\n' +
        'takes the rest, compares both sides, and starts it at the primary. With --stage sync it stops before\n' +
        'the VM is shut down; the same command again goes on. Afterwards `hvdr failover permanent` makes it\n' +
        'final, `hvdr failover undo` takes it back. The agent of the primary has to be attached: its daemon\n' +
        'with remote_actions=failback, or this command run there with --host.',
    );
  withOperateOptions(command, PARAMETERS)
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr failback SQL01 --stage sync --dr-host dr1 --psk-file operator.psk\n' +
        '  hvdr failback SQL01 --dr-host dr1 --psk-file operator.psk\n',
    )
    .action((vm: string, flags: OperateFlags) => {
      const parameters = parametersGiven(command, PARAMETERS);
      return runOperation(context, { vm, command: 'failback', parameters }, flags);
    });
}
