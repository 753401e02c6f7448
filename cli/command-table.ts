// The command line as a table, read out of commander: what the manual and the completion of shells are made of, so that
// neither can forget a command.

import type { Command } from 'commander';

export interface OptionEntry {
  /** `--vm`, and `-h` where there is a short form. */
  readonly names: readonly string[];
  readonly takesValue: boolean;
  /** Empty: any. */
  readonly choices: readonly string[];
}

export interface CommandEntry {
  /** Without the program: `failover planned`; empty for the program itself. */
  readonly name: string;
  readonly summary: string;
  /** What --help prints, without the block of exit codes that ends each. */
  readonly help: string;
  readonly options: readonly OptionEntry[];
  /** Next words that are commands. */
  readonly commands: readonly string[];
}

/** The program and all its commands, groups before what is in them. `width` is that of the help texts. */
export function commandTable(program: Command, width: number): readonly CommandEntry[] {
  return entriesOf(program, '', width);
}

function entriesOf(command: Command, name: string, width: number): readonly CommandEntry[] {
  const help = command.createHelp();
  const children = help.visibleCommands(command);
  const own: CommandEntry = {
    name,
    summary: command.summary() === '' ? command.description() : command.summary(),
    help: helpTextOf(command, width),
    options: help.visibleOptions(command).map((option) => ({
      names: [option.long, option.short].filter((text) => text != null),
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    })),
    commands: children.map((child) => child.name()),
  };
  const named = children.filter((child) => child.name() !== 'help');
  return [
    own,
    ...named.flatMap((child) => entriesOf(child, `${name} ${child.name()}`.trimStart(), width)),
  ];
}

function helpTextOf(command: Command, width: number): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => width,
  });
  command.outputHelp();
  const end = text.lastIndexOf('\nExit codes:\n');
  return (end === -1 ? text : text.slice(0, end)).trimEnd();
}
