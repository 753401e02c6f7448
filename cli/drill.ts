// `hvdr drill …`: for whoever is given the report of a drill and wants to know whether to believe it.

import type { Command } from 'commander';
import type { CliContext } from './context.js';
import type { VerifyReportFlags } from './drill-run.js';
import { examples } from './examples.js';

export function registerDrill(program: Command, context: CliContext): void {
  const drill = program
    .command('drill')
    .summary('prove the reports of test failovers')
    .description(
      'Each test failover writes a signed report, as JSON and as a page. A drill itself is run with\n' +
        '`hvdr failover test`, of many VMs with `hvdr plan run FILE --kind test`.',
    )
    .addHelpText(
      'after',
      examples(
        'hvdr drill public-key --store /srv/dr --out store.pub',
        'hvdr drill verify-report sql01.html --public-key store.pub',
      ),
    );
  drill
    .command('verify-report')
    .summary('whether a report is as it was signed')
    .description(
      'Exit code 0: the report is as the store with this key signed it, whatever its verdict is. Without\n' +
        '--public-key anybody could have signed it, so that exit code 3 (warning) is the best answer.',
    )
    .argument('<file>', 'a report: JSON, or the page')
    .option('--public-key <file>', 'what `hvdr drill public-key` printed at the DR site')
    .addHelpText('after', examples('hvdr drill verify-report sql01.json --public-key store.pub'))
    .action(async (file: string, flags: VerifyReportFlags) => {
      const { verifyReportFile } = await import('./drill-run.js');
      await verifyReportFile(file, flags, context);
    });
  drill
    .command('public-key')
    .summary('print the key that proves the reports of a store')
    .description(
      'Prints the public key as PEM, also while a receiver runs on the store. Give it to auditors once, by\n' +
        'a way that they trust; it stays the same.',
    )
    .requiredOption('--store <dir>', 'folder of the store')
    .option('--out <file>', 'write it into a new file')
    .addHelpText('after', examples('hvdr drill public-key --store /srv/dr --out store.pub'))
    .action(async (flags: { readonly store: string; readonly out?: string }) => {
      const { printPublicKey } = await import('./drill-run.js');
      await printPublicKey(flags, context);
    });
}
