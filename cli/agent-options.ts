// Parameters as options: every row of the table that a command takes becomes a flag of the same
// name with dashes, and what was given goes through the same checks as a Plugin string.

import path from 'node:path';
import { type Command, Option } from 'commander';
import { DrError } from '../shared/errors.js';
import { readSmall, requireOurs } from '../shared/files/index.js';
import {
  allowedOf,
  CONFIG_FILE_MAX,
  flagOf,
  givenByFlags,
  type GivenParameter,
  parseConfigFile,
  type ParameterName,
  type ParameterSet,
  resolveParameters,
  rowOf,
} from '../shared/params/index.js';
import type { CliContext } from './context.js';

/** What a push can be told, in the order of --help. */
export const PUSH_PARAMETERS: readonly ParameterName[] = [
  'vm',
  'exclude',
  'host',
  'dr_host',
  'dr_port',
  'dr_psk_file',
  'dr_psk',
  'dr_psk_id',
  'dr_tls_ca',
  'dr_tls_cert',
  'dr_tls_key',
  'dr_tls_name',
  'quiesce',
  'consistency',
  'online',
  'push_cycles',
  'push_interval',
  'rpo_seconds',
  'overlap',
  'abort_on_error',
  'on_partial',
  'timeout',
  'bandwidth',
  'bandwidth_schedule',
  'max_restore_points',
  'retention_grid',
  'state_dir',
  'config_file',
];

const PLACEHOLDERS = {
  flag: 'yes|no',
  whole: 'n',
  rate: 'bytes',
  choice: 'choice',
  list: 'patterns',
  text: 'text',
} as const;

/** Adds the parameters as options; `--psk-file` stands for dr_psk_file as well. */
export function addParameterOptions(command: Command, names: readonly ParameterName[]): Command {
  for (const name of names) {
    const row = rowOf(name);
    const standard = row.default === undefined ? '' : ` (default: ${row.default})`;
    const allowed = row.kind === 'choice' ? ` ${allowedOf(row)}` : '';
    const text = `${row.meaning}${allowed}${standard}`;
    const option = new Option(`${flagOf(name)} <${PLACEHOLDERS[row.kind]}>`, text);
    command.addOption(option.argParser(onceOnly(name)));
  }
  if (names.includes('dr_psk_file')) {
    const alias = new Option('--psk-file <file>', 'the same as --dr-psk-file');
    command.addOption(alias.argParser(onceOnly('dr_psk_file')));
  }
  return command;
}

/** Refuses a flag that is given twice, as the other ways of writing parameters do. */
function onceOnly(name: ParameterName): (value: string, previous: unknown) => string {
  return (value, previous) => {
    if (previous === undefined) return value;
    throw new DrError('E_PARAMETER', `${flagOf(name)} is given twice`, {
      context: { parameter: name },
      hint: 'Give each parameter once.',
    });
  };
}

/**
 * The parameters in force for the options of a command; reads the config file that they name.
 * @throws DrError E_PARAMETER, E_NOT_FOUND
 */
export async function parametersOf(
  command: Command,
  names: readonly ParameterName[],
  context: CliContext,
): Promise<ParameterSet> {
  const given = givenOf(command, names);
  const configFile = given.find(({ key }) => key === 'config_file')?.value;
  const fromFile =
    configFile === undefined
      ? []
      : parseConfigFile(await readConfig(configFile, context), configFile);
  return resolveParameters(given, fromFile);
}

/** What stands on the command line for these parameters. */
export function givenOf(command: Command, names: readonly ParameterName[]): GivenParameter[] {
  const options: Readonly<Record<string, unknown>> = command.opts();
  const flags: [string, string][] = [];
  for (const name of names) {
    const value = options[camelCase(name)];
    if (typeof value === 'string') flags.push([flagOf(name).slice(2), value]);
  }
  const given = givenByFlags(Object.fromEntries(flags));
  const alias = options['pskFile'];
  if (typeof alias === 'string') {
    const place = '--psk-file';
    given.push({ key: 'dr_psk_file', value: alias, origin: 'flag', place });
  }
  return given;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());
}

/**
 * The text of a service's config file, which says where it writes and whom it trusts.
 * @throws DrError E_STATE when others may change it; as readConfig
 */
export async function readServiceConfig(name: string, context: CliContext): Promise<string> {
  await requireOurs(context.files, path.resolve(context.folder, name));
  return readConfig(name, context);
}

/** The text of a config file. @throws DrError E_NOT_FOUND, E_FILE_DAMAGED (too large, no UTF-8) */
export async function readConfig(name: string, { files, folder }: CliContext): Promise<string> {
  const file = path.resolve(folder, name);
  const bytes = await readSmall(files, file, CONFIG_FILE_MAX);
  if (bytes === undefined) {
    throw new DrError('E_NOT_FOUND', `there is no config file ${name}`, {
      context: { path: file },
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DrError('E_FILE_DAMAGED', `${name} cannot be used: it is no UTF-8 text`, {
      context: { path: file },
      cause: error,
    });
  }
}
