// The words with which the plugin begins: who it is, which job it is, what stands in the Plugin
// string (ptcomm.md § 3.1-3.3). Pure: lines to values, everything bounded and checked.

import { DrError } from '../../shared/errors.js';
import type { GivenParameter } from '../../shared/params/index.js';
import type { JobInfo, JobLevel, JobType, ReplaceRule } from '../job-info.js';

export type Namespace = '@hyperv' | '@vsphere' | '@proxmox_';

const NAMESPACES: Readonly<Record<string, Namespace>> = {
  'podheitor-hyperv': '@hyperv',
  'podheitor-vsphere': '@vsphere',
  'podheitor-proxmox': '@proxmox_',
};

export interface Greeting {
  readonly plugin: string;
  readonly namespace: Namespace;
  /** Bacula's own metaplugin, or the adapter of this product (which runs with Bacula 9.6 as well). */
  readonly speaker: 'metaplugin' | 'adapter';
}

const METAPLUGIN_API = '3';
const ADAPTER_API = '4';

function refused(message: string, hint?: string): DrError {
  return new DrError('E_PROTOCOL', message, hint === undefined ? {} : { hint });
}

/** @throws DrError E_VERSION for another plugin or interface, E_PROTOCOL for no greeting at all */
export function parseGreeting(line: string): Greeting {
  const match = /^Hello (\S{1,64}) (\S{1,32})$/.exec(line);
  const [, plugin = '', api = ''] = match ?? [];
  if (match === null) throw refused('the plugin did not say hello');
  const namespace = Object.hasOwn(NAMESPACES, plugin) ? NAMESPACES[plugin] : undefined;
  if (namespace === undefined) {
    throw new DrError('E_VERSION', `this backend serves no plugin ${JSON.stringify(plugin)}`, {
      hint: `It serves ${Object.keys(NAMESPACES).join(', ')}: install plugin and backend of one release.`,
    });
  }
  if (api !== METAPLUGIN_API && api !== ADAPTER_API) {
    throw new DrError(
      'E_VERSION',
      `the plugin speaks interface ${JSON.stringify(api)}, this backend ${METAPLUGIN_API} and ${ADAPTER_API}`,
      { hint: 'Install plugin and backend of one release.' },
    );
  }
  return { plugin, namespace, speaker: api === ADAPTER_API ? 'adapter' : 'metaplugin' };
}

const TYPES: readonly JobType[] = ['B', 'R', 'E'];
const LEVELS: readonly JobLevel[] = ['F', 'I', 'D'];
const RULES: readonly ReplaceRule[] = ['a', 'w', 'n', 'o'];

function oneOf<T extends string>(allowed: readonly T[], text: string, key: string): T {
  const found = allowed.find((value) => value === text);
  if (found === undefined) {
    throw refused(`the job's ${key} is ${JSON.stringify(text.slice(0, 16))}`);
  }
  return found;
}

function wholeNumber(text: string, key: string): number {
  if (!/^\d{1,15}$/.test(text)) throw refused(`the job's ${key} is no number`);
  return Number(text);
}

/**
 * The job out of its lines, in any order. Unknown keys are passed over; of a key that comes twice the
 * last one counts. @throws DrError E_PROTOCOL
 */
export function parseJob(lines: readonly string[], isAccurate: boolean): JobInfo {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const at = line.indexOf('=');
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 1));
  }
  const wanted = (key: string): string => {
    const value = fields.get(key);
    if (value === undefined || value === '') throw refused(`the job has no ${key}`);
    return value;
  };
  const given = (key: string): string | undefined => {
    const value = fields.get(key);
    return value === '' ? undefined : value;
  };
  const level = given('Level');
  const since = given('Since');
  const replace = given('Replace');
  return {
    name: wanted('Name'),
    jobId: wholeNumber(wanted('JobID'), 'JobID'),
    type: oneOf(TYPES, wanted('Type'), 'Type'),
    level: level === undefined ? undefined : oneOf(LEVELS, level, 'Level'),
    sinceSeconds: since === undefined ? undefined : wholeNumber(since, 'Since'),
    prevJobName: fields.get('PrevJobName') ?? '',
    where: fields.get('Where') ?? '',
    regexWhere: fields.get('RegexWhere') ?? '',
    replace: replace === undefined ? undefined : oneOf(RULES, replace.slice(0, 1), 'Replace'),
    namespace: fields.get('Namespace') ?? '',
    isAccurate,
    workingFolder: given('WorkingDir'),
  };
}

export interface ParameterBlock {
  /** What is for us, without a key that was given twice with one value. */
  readonly given: readonly GivenParameter[];
  readonly isAccurate: boolean;
  /** The path of a `.ls`. */
  readonly listing: string | undefined;
  readonly query: string | undefined;
}

const PLACE = 'Plugin string';

/** `key=value` lines; `key` alone comes as `key=1`. @throws DrError E_PROTOCOL, E_PARAMETER */
export function parseParameterBlock(lines: readonly string[], isRestore: boolean): ParameterBlock {
  const special = new Map<string, string>();
  const given = new Map<string, GivenParameter>();
  for (const line of lines) {
    const at = line.indexOf('=');
    const key = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? '1' : line.slice(at + 1);
    if (key === '') throw refused('a parameter has no name');
    if (['Accurate', 'listing', 'query'].includes(key)) {
      special.set(key, value);
      continue;
    }
    const before = given.get(key);
    // a restore adds what the operator edited behind what stood in the FileSet
    if (before !== undefined && before.value !== value && !isRestore) {
      throw new DrError('E_PARAMETER', `${PLACE}: ${shownKey(key)} is given twice`, {
        hint: 'Give each parameter once.',
      });
    }
    if (isRestore && value === '') continue;
    if (before !== undefined && isRestore && isFixedInRestore(key)) continue;
    given.set(key, { key, value, origin: 'Plugin string', place: PLACE });
  }
  return {
    given: [...given.values()],
    isAccurate: special.get('Accurate') === '1',
    listing: special.get('listing'),
    query: special.get('query'),
  };
}

/** What a restore may not change: it keeps what the backup was made with (channel.md § 6). */
export function isFixedInRestore(key: string): boolean {
  return key.startsWith('dr_') || key === 'mode' || key === 'host' || key === 'state_dir';
}

function shownKey(key: string): string {
  return key.slice(0, 80).replace(/[^\x20-\x7e]/g, '?');
}
