// `hvdr unhalt`: an operator accepts that a store is older than its source, and lets a protection go on.

import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';

interface Flags extends AccessFlags {
  readonly epoch?: string;
  readonly yes?: true;
}

const ACCEPTED =
  'What is accepted: the store is older than its source, so points that were committed after the copy was\n' +
  'made are not in it, and it takes the epoch of the source. The next cycle compares every disk.';

export function registerUnhalt(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('unhalt')
      .summary('let a halted VM go on whose source knows a later epoch')
      .description(
        'A protection is halted when its source names a later epoch than the store knows: then the store is\n' +
          `an older copy. ${ACCEPTED}\n` +
          'A damaged journal is not mended by this. Who did it stands in the journal.',
      )
      .argument('<vm>', 'name or id of the VM')
      .option('--epoch <n>', 'epoch of the source (default: the one that it named)')
      .option('--yes', 'accept it'),
  )
    .addHelpText(
      'after',
      '\nExample:\n  hvdr unhalt SQL01 --yes --dr-host dr1 --psk-file operator.psk\n',
    )
    .action((vm: string, flags: Flags) => unhalt(context, vm, flags));
}

function parseEpoch(text: string): bigint {
  const value = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined;
  if (value !== undefined && value < 2n ** 64n) return value;
  throw new DrError('E_USAGE', `--epoch "${text}" is not an epoch`, {
    hint: 'Epochs are whole numbers; the source names its own when it refuses.',
  });
}

async function unhalt(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const named = flags.epoch === undefined ? undefined : parseEpoch(flags.epoch);
  if (flags.yes !== true) {
    throw new DrError('E_USAGE', `${vm} stays halted until --yes is given`, { hint: ACCEPTED });
  }
  const { epoch, formerEpoch, reason } = await withAccess(context, flags, 'write', ({ control }) =>
    control.unhalt({ vm, epoch: named }),
  );
  context.output.result({ vm, epoch, formerEpoch, reason }, () =>
    [
      `${vm} goes on with epoch ${epoch}, before ${formerEpoch}`,
      'its next cycle compares every disk',
    ].join('\n'),
  );
}
