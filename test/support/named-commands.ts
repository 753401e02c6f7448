// The commands that a text names in backticks, as `hvdr push --vm X`: whether each of them exists, with its
// options.

import type { Command } from 'commander';
import { buildProgram } from '../../cli/program.js';
import type { CliContext } from '../../cli/context.js';
import { Output } from '../../cli/output.js';

const SILENT = new Output({
  writeOut: () => Promise.resolve(),
  writeError: () => undefined,
  errorIsTerminal: false,
  errorColumns: 80,
});

/** What of the text is no command of the product; empty when all are. */
export function unknownCommands(text: string): string[] {
  // registering a command looks at nothing of the context
  const program = buildProgram({ output: SILENT } as CliContext);
  const named = [...text.matchAll(/`hvdr ([^`]+)`/g)].map(([, words = '']) => words.split(' '));
  return named.filter((words) => !isCommand(program, words)).map((words) => words.join(' '));
}

function isCommand(program: Command, words: readonly string[]): boolean {
  let command = program;
  let depth = 0;
  for (const word of words) {
    const next = command.commands.find((each) => each.name() === word);
    if (next === undefined) break;
    command = next;
    depth++;
  }
  const options = words.filter((word) => word.startsWith('--'));
  // `hvdr failover … --plan` stands for each command below it
  const meant = words[depth] === '…' ? command.commands : [command];
  const isLeaf = command.commands.length === 0 || depth === words.length || words[depth] === '…';
  return (
    depth > 0 && isLeaf && meant.every((each) => options.every((option) => hasOption(each, option)))
  );
}

function hasOption(command: Command, long: string): boolean {
  for (let at: Command | null = command; at !== null; at = at.parent) {
    if (at.options.some((option) => option.long === long)) return true;
  }
  return false;
}
