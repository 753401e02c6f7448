// `hvdr psk …`: makes and shows pre-shared keys. The same file serves both sides; the secret is
// never printed and never taken from the command line.

import type { Command } from 'commander';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import type { GenerateFlags } from './psk-run.js';

export function registerPsk(program: Command, context: CliContext): void {
  const psk = program
    .command('psk')
    .summary('make and show the keys of the channel')
    .description(
      'Each source host and each operator has a key of its own; source and receiver hold the same\n' +
        'file. Copy it over a channel that you trust, and let only its owner read it.',
    )
    .addHelpText(
      'after',
      examples(
        'hvdr psk generate --out primary.psk --principal primary',
        'hvdr psk inspect primary.psk',
      ),
    );
  registerGenerate(psk, context);
  registerInspect(psk, context);
}

function registerGenerate(psk: Command, context: CliContext): void {
  psk
    .command('generate')
    .summary('make a key file')
    .description('Makes a key file that only its owner can read. An existing file is refused.')
    .requiredOption('--out <file>', 'the key file to be made')
    .option('--id <id>', 'id of the key: letters, digits, . _ - (default: random)')
    .option('--principal <name>', 'whose key it is (default: the name of this host)')
    .option('--role <role>', 'source, viewer, drill or operator', 'source')
    .option('--vms <pattern>', 'VMs that the key may newly protect; * and ? as wildcards', '*')
    .option(
      '--receiver-id <id>',
      'the only store that the data of this source may go to: storeId of `hvdr status --json`',
    )
    .option(
      '--receiver <address>',
      'receiver that the key may be shown to, HOST or HOST:PORT; may be repeated',
      (value: string, before: readonly string[]) => [...before, value],
      [],
    )
    .option(
      '--from-passphrase <where>',
      "the receiver's side of a passphrase (role source), read from env:NAME, file:PATH or - (standard input)",
    )
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr psk generate --out sql-host.psk --principal sql-host --vms "SQL*"\n' +
        '  hvdr psk generate --out admin.psk --principal alice --role operator\n' +
        '  hvdr psk generate --out branch.psk --id branch --from-passphrase env:BRANCH_PSK\n',
    )
    .action(async (flags: GenerateFlags) => {
      const { generateKey } = await import('./psk-run.js');
      await generateKey(flags, context);
    });
}

function registerInspect(psk: Command, context: CliContext): void {
  psk
    .command('inspect')
    .summary('what a key file says, but for the key')
    .description('Shows id, principal, role, VM pattern, age and pins. The key is never shown.')
    .argument('<file>', 'a key file')
    .addHelpText('after', examples('hvdr psk inspect primary.psk'))
    .action(async (name: string) => {
      const { inspectKey } = await import('./psk-run.js');
      await inspectKey(name, context);
    });
}
