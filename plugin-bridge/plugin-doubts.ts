// What is wrong with a Plugin line of a FileSet, or probably not meant. The Director takes
// any line; what is wrong with it comes out when the job runs.

import { DrError } from '../shared/errors.js';
import { type PluginNamespace, resolveParameters } from '../shared/params/index.js';
import type { FoundPlugin } from './director-config.js';
import { cutCommand, hasControl, parameterOf, PLUGIN_COMMAND_MAX } from './plugin-string.js';

export interface PluginDoubt {
  /** true: no job with this line does what is meant. */
  readonly isFatal: boolean;
  readonly detail: string;
  readonly remedy: string;
}

const PLUGINS: readonly PluginNamespace[] = [
  'podheitor-hyperv',
  'podheitor-vsphere',
  'podheitor-proxmox',
];

/** Is the line meant for a plugin of this product? */
export function isOurs({ command }: Pick<FoundPlugin, 'command'>): boolean {
  return /^\s*pod\s*heitor/i.test(command);
}

/** What a Plugin line of ours lacks; `earlier`: lines of the same FileSet in front of it. */
export function doubtsOfPlugin(
  plugin: FoundPlugin,
  earlier: readonly FoundPlugin[] = [],
): PluginDoubt[] {
  const { command, isQuoted, isBroken, lostBefore } = plugin;
  if (!isQuoted) {
    return [fatal('the value stands in no quotes', 'write Plugin = "…"')];
  }
  if (isBroken || hasControl(command)) {
    return [fatal('the value goes over several lines', 'close the quotes in the same line')];
  }
  const colon = command.indexOf(':');
  const name = command.slice(0, Math.max(0, colon));
  if (!PLUGINS.some((each) => each === name)) {
    const remedy = `begin with one of ${PLUGINS.map((each) => `${each}:`).join(', ')}, without a blank`;
    return [fatal(`no plugin is called "${name}"`, remedy)];
  }
  const doubts: PluginDoubt[] = [];
  if (earlier.some((other) => other.command === command)) {
    doubts.push(fatal('the same line stands twice in the FileSet', 'leave one of them'));
  }
  if (lostBefore !== undefined) {
    const detail = `the backslash before "${lostBefore}" is swallowed by the Director`;
    doubts.push(warn(detail, fileSetRemedy));
  }
  if (Buffer.byteLength(command) > PLUGIN_COMMAND_MAX) {
    doubts.push(
      fatal(
        `the line is longer than ${PLUGIN_COMMAND_MAX} bytes`,
        'move parameters to a config_file',
      ),
    );
  }
  return [...doubts, ...doubtsOfText(command.slice(colon + 1))];
}

function doubtsOfText(text: string): PluginDoubt[] {
  const withoutEscapes = text.replace(/\\[\\"]/g, '');
  if ((withoutEscapes.match(/"/g)?.length ?? 0) % 2 === 1) {
    return [fatal('a quote inside the value is not closed', fileSetRemedy)];
  }
  const doubts: PluginDoubt[] = [];
  if (withoutEscapes.includes('\\')) {
    doubts.push(warn('a backslash is swallowed by the parser of plugin commands', fileSetRemedy));
  }
  if (/=\s*'/.test(withoutEscapes)) {
    doubts.push(warn('single quotes do not hold a value together', fileSetRemedy));
  }
  return [...doubts, ...doubtsOfParameters(text)];
}

const fileSetRemedy = 'let `hvdr bacula fileset` write the line';

function doubtsOfParameters(text: string): PluginDoubt[] {
  const place = 'Plugin string';
  const given = cutCommand(text).map((word) => ({
    ...parameterOf(word),
    ...{ origin: 'Plugin string' as const, place },
  }));
  const has = (key: string): boolean => given.some((parameter) => parameter.key === key);
  const doubts: PluginDoubt[] = [];
  const secret = given.find(({ key }) => key === 'dr_psk');
  if (secret !== undefined && !/^(file|env):/.test(secret.value)) {
    doubts.push(
      warn(
        'dr_psk is a passphrase in clear: it stands in the catalog and on the volumes',
        'use dr_psk_file',
      ),
    );
  }
  if (secret?.value.startsWith('env:') === true) {
    doubts.push(fatal('dr_psk=env:… is refused in a job', 'use dr_psk_file'));
  }
  try {
    for (const warning of resolveParameters(given).warnings)
      doubts.push(warn(warning, 'see docs/parameters.md'));
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_PARAMETER') throw error;
    const isAboutSeveral = String(error.context['parameter']).includes(',');
    // what lacks here may stand in the file, which lies at the client
    if (isAboutSeveral && has('config_file')) {
      doubts.push(warn(`${error.message}, unless the config_file has it`, error.hint));
    } else {
      doubts.push(fatal(error.message, error.hint));
    }
  }
  return doubts;
}

function fatal(detail: string, remedy: string): PluginDoubt {
  return { isFatal: true, detail, remedy };
}

function warn(detail: string, remedy: string): PluginDoubt {
  return { isFatal: false, detail, remedy };
}
