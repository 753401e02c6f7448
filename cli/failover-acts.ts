// Commands about an operation that is under way, or about a protection as a whole: `hvdr resume`, `abort`,
// `resolve`, `forget`, `flatten`.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { ParameterName } from '../shared/params/index.js';
import type { CliContext } from './context.js';
import { type OperateFlags, parametersGiven, runOperation, withOperateOptions } from './operate.js';

const ACTS: Readonly<Record<string, { readonly summary: string; readonly description: string }>> = {
  resume: {
    summary: 'go on with an operation that stands at a step',
    description:
      'Does the step again at which an operation failed or was halted, and goes on from there.',
  },
  abort: {
    summary: 'take back an operation that is under way',
    description:
      'Before this site became the active one: as if nothing had been. After that: as an undo.',
  },
  resolve: {
    summary: 'decide whose data count when a VM ran at both sites',
    description: 'Wants confirmation, and --keep source or --keep replica.',
  },
  flatten: {
    summary: 'let the disks of a VM that stays at the DR site stand alone',
    description: 'Only then its points may be forgotten. The VM has to be off.',
  },
  forget: {
    summary: 'give up a protection',
    description:
      'All points of the VM and its files in the store are removed; a source that pushes it again begins anew.\n' +
      'Wants confirmation. Not while a VM of the protection runs at the DR site, unless its disks were\n' +
      'flattened; with --force --reason TEXT also when the VM that stayed has gone from every host.',
  },
};

export function registerFailoverActs(program: Command, context: CliContext): void {
  for (const [name, { summary, description }] of Object.entries(ACTS)) {
    const command = program.command(name).summary(summary).description(description);
    const parameters: readonly ParameterName[] = name === 'forget' ? ['force', 'reason'] : [];
    withOperateOptions(command, parameters);
    if (name === 'resolve') command.requiredOption('--keep <side>', 'source or replica');
    command
      .addHelpText(
        'after',
        `\nExample:\n  hvdr ${name} SQL01 --dr-host dr1 --psk-file operator.psk\n`,
      )
      .action((vm: string, flags: OperateFlags & { keep?: string }) => {
        const { keep } = flags;
        if (name === 'resolve' && keep !== 'source' && keep !== 'replica') {
          throw new DrError('E_USAGE', `--keep ${String(keep)} is neither source nor replica`);
        }
        const given = parametersGiven(command, parameters);
        const all = keep === undefined ? given : { ...given, side: keep };
        return runOperation(context, { vm, command: name, parameters: all }, flags);
      });
  }
}
