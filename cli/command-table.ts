// The command line as a table, read out of commander: what the manual and the completion of shells are made of, so that
// neither can forget a command.

import type { Command } from 'commander';

export interface OptionEntry {
  /** `--vm`, and `-h` where there is a short form. */
  readonly names: readonly string[];
  readonly takesValue: boolean;
  /** Empty: any. */
  readonly choices: readonly string[];
  /** What --help says of it, in one line. */
  readonly summary: string;
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
    summary: inOneLine(command.summary() === '' ? command.description() : command.summary()),
    help: helpTextOf(command, width),
    options: help.visibleOptions(command).map((option) => ({
      names: [option.long, option.short].filter((text) => text != null),
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
      summary: inOneLine(option.description),
    })),
    commands: children.map((child) => child.name()),
  };
  const named = children.filter((child) => child.name() !== 'help');
  return [
    own,
    ...named.flatMap((child) => entriesOf(child, `${name} ${child.name()}`.trimStart(), width)),
  ];
}

const inOneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

/** The same, with the options of the program itself at each command: they may stand behind every one. */
export function withCommonOptions(table: readonly CommandEntry[]): readonly CommandEntry[] {
  const common = table[0]?.options ?? [];
  return table.map((entry) => {
    if (entry.name === '') return entry;
    const own = new Set(entry.options.flatMap(({ names }) => names));
    const more = common.filter(({ names }) => !names.some((name) => own.has(name)));
    return { ...entry, options: [...entry.options, ...more] };
  });
}

// each group has it, and it is no entry of the table
const HELP = 'print help';

/** The next words that are commands, each with its summary. */
export function nextCommands(
  table: readonly CommandEntry[],
  { name, commands }: CommandEntry,
): readonly (readonly [command: string, summary: string])[] {
  return commands.map((command) => {
    const whole = `${name} ${command}`.trimStart();
    return [command, table.find((entry) => entry.name === whole)?.summary ?? HELP];
  });
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
