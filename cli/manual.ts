// `hvdr manual`: every command with all its options in one text, for reading offline, and as the man page hvdr(1).

import type { Command } from 'commander';
import { type CommandEntry, commandTable } from './command-table.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { EXIT_CODES } from './exit-codes.js';
import { productVersion } from './product-version.js';

const WIDTH = 78;
/** What man leaves of a terminal of 80 columns. */
const MAN_WIDTH = 70;

export function registerManual(program: Command, context: CliContext): void {
  program
    .command('manual')
    .summary('print all commands with their options')
    .description('Prints what --help says of every command, in one text.')
    .option('--roff', 'as a man page')
    .addHelpText('after', examples('hvdr manual | less', 'hvdr manual --roff | man -l -'))
    .action(({ roff }: { readonly roff?: true }) => {
      const table = commandTable(program, roff === true ? MAN_WIDTH : WIDTH);
      context.output.plain(roff === true ? manPage(table) : manualText(table));
    });
}

const titleOf = ({ name }: CommandEntry): string => `hvdr ${name}`.trimEnd();

function manualText(table: readonly CommandEntry[]): string {
  const title = `PodHeitor HVDR ${productVersion()}: the commands`;
  const parts = table.map((entry) => {
    const name = titleOf(entry);
    return `${name}\n${'-'.repeat(name.length)}\n\n${entry.help}\n`;
  });
  const codes = EXIT_CODES.map(([code, meaning]) => `${String(code).padStart(3)}  ${meaning}`);
  return [
    `${title}\n${'='.repeat(title.length)}\n`,
    ...parts,
    `Exit codes\n----------\n\n${codes.join('\n')}\n`,
  ].join('\n');
}

/** Text that roff prints as it stands. */
function roffText(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}

function manPage(table: readonly CommandEntry[]): string {
  const commands = table.slice(1).flatMap((entry) => [
    `.SS ${roffText(titleOf(entry))}`,
    '.nf', // help texts are laid out already
    roffText(entry.help),
    '.fi',
  ]);
  const codes = EXIT_CODES.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, roffText(meaning)]);
  return [
    `.TH HVDR 1 "" "hvdr ${productVersion()}" "PodHeitor HVDR"`,
    '.SH NAME',
    'hvdr \\- disaster recovery for Microsoft Hyper\\-V',
    '.SH SYNOPSIS',
    '.B hvdr',
    '.I command',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    '.nf',
    roffText(table[0]?.help ?? ''),
    '.fi',
    '.SH COMMANDS',
    ...commands,
    '.SH EXIT STATUS',
    ...codes,
    '.SH FILES',
    ...file('/etc/podheitor/receiver.conf', 'what podheitor-receiver.service serves'),
    ...file('/etc/podheitor/agent.conf', 'what podheitor-agent.service pushes'),
    ...file('/etc/podheitor/keys/', 'pre-shared keys'),
    ...file('/var/lib/podheitor/', 'the store, and the state of agents'),
    '.SH SEE ALSO',
    '.BR podheitor\\-hyperv\\-backend (8)',
    '',
  ].join('\n');
}

function file(path: string, text: string): string[] {
  return ['.TP', `.I ${roffText(path)}`, roffText(text)];
}
