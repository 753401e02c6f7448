// `hvdr bacula …`: what is written for Bacula, so that nobody has to count backslashes.

import type { Command } from 'commander';
import { Option } from 'commander';
import {
  fileSetText,
  type PluginParameter,
  pluginCommand,
  pluginLine,
} from '../plugin-bridge/plugin-string.js';
import { DrError } from '../shared/errors.js';
import { type PluginNamespace, resolveParameters } from '../shared/params/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';

const PLUGINS: readonly PluginNamespace[] = [
  'podheitor-hyperv',
  'podheitor-vsphere',
  'podheitor-proxmox',
];

interface FileSetFlags {
  readonly name: string;
  readonly plugin: PluginNamespace;
  readonly lineOnly?: true;
}

export function registerBacula(program: Command, context: CliContext): void {
  const bacula = program
    .command('bacula')
    .summary('write what Bacula needs')
    .description('Writes resources for the Director of a Bacula that drives this product.')
    .addHelpText('after', examples("hvdr bacula fileset 'vm=SQL*' mode=rct-push"));
  bacula
    .command('fileset')
    .summary('print a FileSet with a correctly escaped Plugin line')
    .description(
      'Checks the parameters as a job would and prints a FileSet for the Director. The Plugin line\n' +
        "is escaped for both of its readers, the Director's and the File Daemon's: blanks, quotes,\n" +
        'backslashes and any letter come through as they are given here.',
    )
    .argument('<parameters...>', 'key=value, one word each; `hvdr parameters` lists the keys')
    .option('--name <name>', 'name of the FileSet', 'HyperV')
    .addOption(
      new Option('--plugin <name>', 'the plugin that is meant')
        .choices(PLUGINS)
        .default('podheitor-hyperv'),
    )
    .option('--line-only', 'print the Plugin line alone')
    .addHelpText(
      'after',
      examples(
        "hvdr bacula fileset 'vm=SQL*' mode=rct-push rpo_seconds=600",
        "hvdr bacula fileset --name DR 'dr_psk_file=D:\\keys\\site a.psk' push_apply_remote=yes \\",
        "    mode=rct-push 'vm=SQL*' dr_host=dr.example",
      ),
    )
    .action((words: readonly string[], flags: FileSetFlags) => {
      const parameters = words.map(parameterOfWord);
      const place = 'command line';
      const { warnings } = resolveParameters(
        parameters.map((each) => ({ ...each, origin: 'Plugin string', place })),
      );
      for (const warning of warnings) context.output.note(warning);
      const command = pluginCommand(flags.plugin, parameters);
      const text = fileSetText({ name: flags.name, commands: [command] });
      context.output.result({ name: flags.name, command, line: pluginLine(command), text }, () =>
        flags.lineOnly === true ? pluginLine(command) : text,
      );
    });
}

function parameterOfWord(word: string): PluginParameter {
  const at = word.indexOf('=');
  if (at <= 0) {
    throw new DrError('E_PARAMETER', 'command line: a word is no key=value', {
      hint: "Quote words with blanks for the shell, as in 'exclude=a b'.",
    });
  }
  const key = word.slice(0, at);
  if (key === 'dr_psk') {
    throw new DrError('E_PARAMETER', 'dr_psk: a key must not stand in a FileSet', {
      context: { parameter: key },
      hint: 'Everybody who reads the catalog or a volume would have it. Use dr_psk_file.',
    });
  }
  return { key, value: word.slice(at + 1) };
}
