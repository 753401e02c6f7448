// `hvdr rebind`: gives a protected VM to another principal, for a host or a key that was replaced.

import type { Command } from 'commander';
import type { CliContext } from './context.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';

interface Flags extends AccessFlags {
  readonly to: string;
}

export function registerRebind(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('rebind')
      .summary('give a VM to another principal')
      .description(
        'From now on the keys of another principal may push for the VM, and those of the former one no\n' +
          'more; a cycle of the former one that is under way is stopped. Points, pins and policy stay. What\n' +
          'the VM stores counts to the quota of the new principal. Who did it stands in the journal.',
      )
      .argument('<vm>', 'name or id of the VM')
      .requiredOption('--to <principal>', 'principal of the keys that push for it from now on'),
  )
    .addHelpText(
      'after',
      '\nExample:\n  hvdr rebind SQL01 --to site-b --dr-host dr1 --psk-file operator.psk\n',
    )
    .action((vm: string, flags: Flags) => rebind(context, vm, flags));
}

async function rebind(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const { formerOwner } = await withAccess(context, flags, 'write', ({ control }) =>
    control.rebind({ vm, owner: flags.to }),
  );
  context.output.result({ vm, owner: flags.to, formerOwner }, () =>
    formerOwner === flags.to
      ? `${vm} belongs to ${flags.to} already`
      : `${vm} belongs to ${flags.to}; before to ${formerOwner}`,
  );
}
