// `hvdr failover planned|unplanned|test|undo|permanent`: VMs come up at the DR site, go off there again,
// or stay.

import { type Command, Option } from 'commander';
import { COMMAND_PARAMETERS } from '../shared/operator/commands.js';
import type { CliContext } from './context.js';
import { type OperateFlags, parametersGiven, runOperation, withOperateOptions } from './operate.js';

interface FailoverCommand {
  readonly summary: string;
  readonly description: string;
  readonly example: string;
}

/** Of `test` alone. */
interface SessionFlags {
  readonly stop?: string;
  readonly adopt?: string;
  readonly report?: string;
}

const NAMES = ['planned', 'unplanned', 'test', 'undo', 'permanent'] as const;

const COMMANDS: Readonly<Record<(typeof NAMES)[number], FailoverCommand>> = {
  planned: {
    summary: 'move a VM to the DR site without losing anything',
    description:
      'Shuts the guest down at the primary, takes its last changes, compares both sides, and starts the VM\n' +
      'at the DR site. Whatever goes wrong before that, the VM is started again at the primary. The agent\n' +
      'of the primary has to be attached: its daemon, or this command run there with --host.',
    example: 'hvdr failover planned SQL01 --dr-host dr1 --psk-file operator.psk',
  },
  unplanned: {
    summary: 'start a VM at the DR site from a restore point',
    description:
      'The primary is lost, or is given up. What changed there after the point is lost. From the second\n' +
      'step on the former source is refused, and starts no VM when it comes back.',
    example:
      'hvdr failover unplanned SQL01 --point last-clean --dr-host dr1 --psk-file operator.psk',
  },
  test: {
    summary: 'prove that a VM comes up from a restore point',
    description:
      'Starts a VM of its own in a network of its own, checks it, writes a signed report, and takes\n' +
      'everything away again. Replication goes on. Ends with 1 when a check failed.',
    example: 'hvdr failover test SQL01 --report sql01.html --dr-host dr1 --psk-file operator.psk',
  },
  undo: {
    summary: 'take a failover back, as if it had not been',
    description:
      'Powers the VM off at the DR site and throws away what it wrote there. The primary is the active site\n' +
      'again; its VM is started when the failover had stopped it. Wants confirmation.',
    example: 'hvdr failover undo SQL01 --yes --dr-host dr1 --psk-file operator.psk',
  },
  permanent: {
    summary: 'let a VM stay at the DR site',
    description:
      'The VM owns its disks from now on and its protection is retired. No data moves. Wants confirmation.',
    example: 'hvdr failover permanent SQL01 --yes --dr-host dr1 --psk-file operator.psk',
  },
};

export function registerFailover(program: Command, context: CliContext): void {
  const failover = program
    .command('failover')
    .summary('start VMs at the DR site, test that, take it back')
    .description('Operations of the failover state machine (docs/failover.md).')
    .addHelpText(
      'after',
      '\nExample:\n  hvdr failover test SQL01 --dr-host dr1 --psk-file operator.psk\n',
    );
  for (const name of NAMES) {
    const { summary, description, example } = COMMANDS[name];
    const parameters = COMMAND_PARAMETERS[name];
    const command = failover.command(name).summary(summary).description(description);
    withOperateOptions(command, parameters);
    if (name === 'test') {
      command
        .addOption(
          new Option('--stop <operation>', 'end a test that was kept running').conflicts('adopt'),
        )
        .option('--adopt <operation>', 'keep the VM of a test, which is off, for good')
        .option('--report <file>', 'write the report there, .json or .html');
    }
    command
      .addHelpText('after', `\nExample:\n  ${example}\n`)
      .action((vm: string, flags: OperateFlags & SessionFlags) => {
        const given = parametersGiven(command, parameters);
        const { stop, adopt, report } = flags;
        const all = {
          ...given,
          ...(stop === undefined ? {} : { stop }),
          ...(adopt === undefined ? {} : { adopt }),
        };
        return runOperation(context, { vm, command: name, parameters: all, report }, flags);
      });
  }
}
