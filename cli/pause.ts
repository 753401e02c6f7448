// `hvdr pause` and `hvdr unpause`: a receiver takes no new cycles of a VM meanwhile.

import type { Command } from 'commander';
import type { CliContext } from './context.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';

export function registerPause(program: Command, context: CliContext): void {
  for (const isPaused of [true, false]) {
    withAccessOptions(
      program
        .command(isPaused ? 'pause' : 'unpause')
        .summary(isPaused ? 'take no new cycles of a VM' : 'take cycles of a VM again')
        .description(
          isPaused
            ? 'Takes no new cycles of a VM until it is unpaused. A cycle under way still comes to its end.\nIts points stay as they are.'
            : 'Takes cycles of a VM again. What changed meanwhile comes with the next one.',
        )
        .argument('<vm>', 'name or id of the VM'),
    )
      .addHelpText(
        'after',
        `\nExample:\n  hvdr ${isPaused ? 'pause' : 'unpause'} SQL01 --dr-host dr1 --psk-file operator.psk\n`,
      )
      .action((vm: string, flags: AccessFlags) => pause(context, vm, isPaused, flags));
  }
}

async function pause(
  context: CliContext,
  vm: string,
  isPaused: boolean,
  flags: AccessFlags,
): Promise<void> {
  await withAccess(context, flags, 'write', ({ control }) => control.pause({ vm, isPaused }));
  context.output.result({ vm, isPaused }, () =>
    isPaused ? `${vm} is paused` : `${vm} is not paused`,
  );
}
