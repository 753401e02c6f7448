// Every command explains itself: --help of each has an example that a user can change and run.

import type { Command } from 'commander';
import { expect } from 'chai';
import type { CliContext } from '../../../cli/context.js';
import { Output } from '../../../cli/output.js';
import { buildProgram } from '../../../cli/program.js';

/** Building the program uses nothing of it but the output. */
const context = {
  output: new Output({
    writeOut: () => Promise.resolve(),
    writeError: () => undefined,
    errorIsTerminal: false,
    errorColumns: 80,
  }),
} as unknown as CliContext;

/** Every command with the words that lead to it: groups too. */
function commandsOf(command: Command, words: readonly string[] = []): [string, Command][] {
  return command.commands.flatMap((child) => {
    const path = [...words, child.name()];
    const own: [string, Command] = [path.join(' '), child];
    return [own, ...commandsOf(child, path)];
  });
}

/** What --help prints, with the texts that are added after it. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text;
}

describe('--help', () => {
  const commands = commandsOf(buildProgram(context));

  it('is there for every command of the product', () => {
    expect(commands.map(([name]) => name)).to.include.members([
      ...['lab create-vm', 'psk generate', 'receiver', 'push', 'daemon', 'status', 'points'],
      ...['verify', 'export', 'doctor', 'demo', 'explain', 'vhdx check', 'pcbt apply'],
    ]);
  });

  for (const [name, command] of commands) {
    it(`of ${name} has an example, and says in one line what it does`, () => {
      const text = helpOf(command);
      const [, examples] = /\nExamples?:\n((?: {2}.*\n?)+)/.exec(text) ?? [];
      expect(examples, text).to.be.a('string');
      // daemon's example is the file that it reads
      if (name !== 'daemon') expect(examples).to.contain(`hvdr ${name}`);
      expect(command.summary() + command.description()).not.to.equal('');
    });
  }

  it('shows examples whose commands and options exist', () => {
    const byName = new Map(commands);
    let count = 0;
    for (const [, command] of commands) {
      for (const [, line = ''] of helpOf(command).matchAll(/^ {2}hvdr (.+)$/gm)) {
        const words = line.split(' ');
        const target = [3, 2, 1]
          .map((length) => byName.get(words.slice(0, length).join(' ')))
          .find((found) => found !== undefined);
        expect(target, line).not.to.equal(undefined);
        const known = ['--json', ...(target?.options ?? []).map(({ long }) => long)];
        const own = line.split(/ [|>] /)[0] ?? '';
        for (const [option] of own.matchAll(/--[a-z][a-z-]*/g)) {
          expect(known, `${option} in: ${line}`).to.include(option);
          count++;
        }
      }
    }
    expect(count).to.be.above(50);
  });
});
