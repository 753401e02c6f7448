// `hvdr completion`: what a shell needs to complete the words of a command line. The script holds a table of commands,
// options and choices, and starts no process while somebody types.

import { Argument, type Command } from 'commander';
import { type CommandEntry, commandTable } from './command-table.js';
import { bashCompletion } from './completion-bash.js';
import { fishCompletion } from './completion-fish.js';
import { zshCompletion } from './completion-zsh.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';

const WIDTH = 80;

const SHELLS = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
} as const satisfies Record<string, (table: readonly CommandEntry[]) => string>;

export function registerCompletion(program: Command, context: CliContext): void {
  program
    .command('completion')
    .summary('print the completion of a shell')
    .description('Prints a script that completes commands, options and their values.')
    .addArgument(new Argument('<shell>', 'which one').choices(Object.keys(SHELLS)))
    .addHelpText(
      'after',
      examples(
        'hvdr completion bash > ~/.local/share/bash-completion/completions/hvdr',
        'hvdr completion zsh > ~/.zfunc/_hvdr',
        'hvdr completion fish > ~/.config/fish/completions/hvdr.fish',
      ),
    )
    .action((shell: keyof typeof SHELLS) => {
      context.output.plain(SHELLS[shell](commandTable(program, WIDTH)));
    });
}
