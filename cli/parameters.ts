// `hvdr parameters`: every parameter with its value in force and where that comes from;
// docs/parameters.md is its --markdown output.

import { type Command, Option } from 'commander';
import {
  type GivenParameter,
  parametersPage,
  PARAMETER_NAMES,
  parseConfigFile,
  parsePluginString,
  resolveParameters,
  rowOf,
} from '../shared/params/index.js';
import { readConfig } from './agent-options.js';
import type { CliContext } from './context.js';

interface Flags {
  readonly plugin?: string;
  readonly configFile?: string;
  readonly markdown?: true;
}

export function registerParameters(program: Command, context: CliContext): void {
  program
    .command('parameters')
    .summary('check parameters and tell where each value comes from')
    .description(
      'Checks a Plugin string and a config file as a job would, and prints every value in force ' +
        'with its origin. Secrets are not shown.',
    )
    .addOption(new Option('--plugin <string>', 'a Plugin string of a FileSet'))
    .addOption(new Option('--config-file <file>', 'a file with key=value lines'))
    .option('--markdown', 'print the page docs/parameters.md')
    .addHelpText(
      'after',
      "\nExample:\n  hvdr parameters --plugin 'podheitor-hyperv: vm=SQL* mode=rct-push'\n",
    )
    .action(async (flags: Flags) => {
      const { output } = context;
      const given = flags.plugin === undefined ? [] : parsePluginString(flags.plugin).given;
      const fileName = flags.configFile ?? given.find(({ key }) => key === 'config_file')?.value;
      let fromFile: readonly GivenParameter[] = [];
      if (fileName !== undefined) {
        fromFile = parseConfigFile(await readConfig(fileName, context), fileName);
      }
      const { values, origins, warnings } = resolveParameters(given, fromFile);
      const rows = PARAMETER_NAMES.map((name) => {
        const value = values[name];
        const isSecret = rowOf(name).isSecret === true && value !== undefined;
        const shown = Array.isArray(value) ? value.join(',') : (value ?? null);
        return { name, value: isSecret ? 'not shown' : shown, origin: origins[name] };
      });
      for (const warning of warnings) output.note(warning);
      const width = Math.max(...PARAMETER_NAMES.map(({ length }) => length));
      output.result({ parameters: rows }, () => {
        if (flags.markdown === true) return parametersPage();
        const lines = rows.map(({ name, value, origin }) => {
          const text = typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value ?? '–');
          return `${name.padEnd(width)}  ${text}  (${origin})`;
        });
        return lines.join('\n');
      });
    });
}
