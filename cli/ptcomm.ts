// `hvdr ptcomm`: the backend of the Bacula plugin, as `podheitor-hyperv-backend` starts it.

import type { Command } from 'commander';
import type { CliContext } from './context.js';
import { examples } from './examples.js';

export function registerPtcomm(program: Command, context: CliContext): void {
  program
    .command('ptcomm')
    .summary('serve one job of the Bacula plugin')
    .description(
      'Talks packets on standard input and output, as the plugin in the file daemon does. Started by\n' +
        'the file daemon as `podheitor-hyperv-backend`; by hand it waits for a plugin that never comes.',
    )
    .addHelpText('after', examples('hvdr ptcomm'))
    .action(async () => {
      context.stopSignal();
      const { standAsBackend } = await import('./ptcomm-process.js');
      await standAsBackend();
    });
}
