// What a Plugin string may ask for (channel.md § 6): FileSets and restores are edited by people who are
// not root here, and the backend runs with the file daemon's rights. So a line names no file and no
// address outside what backend.conf lists, and is never told what stands in a file.

import path from 'node:path';
import { DrError } from '../shared/errors.js';
import { type FileSystem, readSmall } from '../shared/files/index.js';
import { replicaPort } from '../shared/operator/replica.js';
import {
  CONFIG_FILE_MAX,
  type GivenParameter,
  OPERATIONS,
  type Origin,
  parseConfigFile,
  type ParameterName,
  type ParameterSet,
  type ParameterValues,
  resolveParameters,
} from '../shared/params/index.js';
import type { BackendConf } from './backend-conf.js';

const KEY_FILES = [
  ...(['dr_psk_file', 'dr_tls_ca', 'dr_tls_cert', 'dr_tls_key'] as const),
  'retired_psk_file',
] as const;

function refused(
  name: ParameterName,
  why: string,
  hint: string,
  place: Origin = 'Plugin string',
): DrError {
  return new DrError('E_PARAMETER', `${name}, ${place}: ${why}`, {
    context: { parameter: name },
    hint,
  });
}

/** What a job may have, and the line that asked for it: key files are whole paths there. */
export interface AuthorisedSet extends ParameterSet {
  readonly line: readonly GivenParameter[];
}

/**
 * The parameters in force for a job. The file of a daemon is read by its job. In a restore nothing of
 * `dr_*`, mode, host and state_dir counts: it keeps what backend.conf and the backup say.
 * @throws DrError E_PARAMETER, E_NOT_FOUND
 */
export async function authorised(
  given: readonly GivenParameter[],
  conf: BackendConf,
  { fs, isRestore }: { readonly fs: FileSystem; readonly isRestore: boolean },
): Promise<AuthorisedSet> {
  // what a restore does not use need not be there, on a host that has none of it maybe
  const line = isRestore ? given : await checkedLine(given, conf, fs);
  // a daemon's file has jobs of its own, each with what it says
  const isDaemon = given.some(({ key, value }) => key === 'mode' && value === 'daemon');
  const inFile = isDaemon ? [] : await fromConfigFile(line, conf, fs);
  const set = { ...resolveParameters(line, inFile), line };
  const { values } = set;
  if (isRestore)
    return { ...set, values: { ...values, host: conf.host, state_dir: conf.stateFolder } };
  if (!conf.modes.includes(values.mode)) {
    throw refused(
      'mode',
      `"${values.mode}" is not allowed on this host`,
      'backend.conf lists `modes`.',
    );
  }
  if ((values.plan || values.confirm.length > 0) && !Object.hasOwn(OPERATIONS, values.mode)) {
    throw refused(
      values.plan ? 'plan' : 'confirm',
      `mode=${values.mode} has no plan`,
      `Those that have one: ${Object.keys(OPERATIONS).join(', ')}.`,
    );
  }
  return { ...set, values: ofThisHost(set, conf) };
}

async function checkedLine(
  given: readonly GivenParameter[],
  conf: BackendConf,
  fs: FileSystem,
): Promise<readonly GivenParameter[]> {
  checkSecret(given);
  const line = given.map((one) => {
    const name = KEY_FILES.find((key) => key === one.key);
    return name === undefined ? one : { ...one, value: namedIn(conf.keyFolder, name, one.value) };
  });
  for (const { key, value } of line) {
    const name = KEY_FILES.find((file) => file === key);
    if (name !== undefined) await checkInside(fs, conf.keyFolder, name, value);
  }
  return line;
}

/**
 * Values of a line or of a file, with what backend.conf alone says. The administrator's own file may name
 * keys as it likes; there is one host all the same.
 * @throws DrError E_PARAMETER
 */
export function ofThisHost({ values, origins }: ParameterSet, conf: BackendConf): ParameterValues {
  if (values.host !== undefined && values.host !== conf.host) {
    const why = 'it is another one than this host has';
    throw refused('host', why, 'backend.conf says `host`.', origins.host);
  }
  if (values.state_dir !== undefined && values.state_dir !== conf.stateFolder) {
    const why = 'it stands in backend.conf alone';
    throw refused('state_dir', why, 'Leave it out.', origins.state_dir);
  }
  for (const [name, port] of [
    ['dr_host', values.dr_port],
    ['retired_host', values.retired_port],
    // whoever edits a FileSet must not send VMs to any host
    ['hvr_server', replicaPort(values)],
  ] as const) {
    if (isAllowed(values[name], port, conf)) continue;
    const hint = 'backend.conf lists `receivers`, as HOST or HOST:PORT.';
    throw refused(name, 'this receiver is not allowed on this host', hint, origins[name]);
  }
  return {
    ...values,
    ...keyFilesOf({ values, origins }, conf),
    host: conf.host,
    state_dir: conf.stateFolder,
  };
}

/** In a config file, too, a relative path is one of the key folder: a job has no folder of its own, and stands in `/`. */
function keyFilesOf(
  { values, origins }: Pick<ParameterSet, 'values' | 'origins'>,
  { keyFolder }: BackendConf,
): Partial<Pick<ParameterValues, (typeof KEY_FILES)[number] | 'dr_psk'>> {
  const named = [...KEY_FILES, 'dr_psk' as const].flatMap((name) => {
    const value = values[name];
    if (value === undefined) return [];
    const scheme = value.startsWith('file:') ? 'file:' : '';
    const file = value.slice(scheme.length);
    // `dr_psk` is a passphrase otherwise
    const isFile = name === 'dr_psk' ? scheme !== '' : !/^(env|hvdrpsk1):/.test(value);
    if (!isFile || path.isAbsolute(file)) return [];
    if (keyFolder === undefined) {
      const why = `"${file}" is a relative path, and a job has no folder of its own`;
      const hint = 'Write the whole path, or let backend.conf list `key_folder`.';
      throw refused(name, why, hint, origins[name]);
    }
    return [[name, `${scheme}${path.resolve(keyFolder, file)}`] as const];
  });
  return Object.fromEntries(named);
}

/** What a Plugin string must not name at all. */
function checkSecret(given: readonly GivenParameter[]): void {
  for (const { key, value } of given) {
    if (key !== 'dr_psk' || !/^\s*(env|file):/i.test(value)) continue;
    throw refused(
      'dr_psk',
      'a line may not read the environment or a file as a passphrase',
      'Give `dr_psk_file=NAME` with a key of the key folder.',
    );
  }
}

/** The path of a file that a line names; a bare name stands in the folder. */
function namedIn(folder: string | undefined, name: ParameterName, value: string): string {
  if (folder === undefined) {
    const key = name === 'config_file' ? 'config_folder' : 'key_folder';
    throw refused(name, 'no folder is open to Plugin strings', `backend.conf can list \`${key}\`.`);
  }
  const file = path.resolve(folder, value);
  if (!isBelow(folder, file)) throw outside(name, folder);
  return file;
}

/** Links are followed before it is compared. What is not there is told no differently. */
async function checkInside(
  fs: FileSystem,
  folder: string | undefined,
  name: ParameterName,
  file: string,
): Promise<void> {
  if (folder === undefined) return;
  try {
    if (isBelow(await fs.realPath(folder), await fs.realPath(file))) return;
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
  }
  throw outside(name, folder);
}

function outside(name: ParameterName, folder: string): DrError {
  return refused(name, `it names no file in ${folder}`, `Name a file that lies in ${folder}.`);
}

function isBelow(folder: string, file: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== '' && relative.split(path.sep)[0] !== '..' && !path.isAbsolute(relative);
}

async function fromConfigFile(
  given: readonly GivenParameter[],
  conf: BackendConf,
  fs: FileSystem,
): Promise<readonly GivenParameter[]> {
  const named = given.find(({ key }) => key === 'config_file');
  if (named === undefined) return [];
  const { text, file } = await readConfigFile(named.value, conf, fs);
  return parseConfigFile(text, file);
}

/** The config file that a line names. @throws DrError E_PARAMETER, E_FILE_DAMAGED, E_IO */
export async function readConfigFile(
  named: string,
  conf: BackendConf,
  fs: FileSystem,
): Promise<{ readonly file: string; readonly text: string }> {
  const file = namedIn(conf.configFolder, 'config_file', named);
  await checkInside(fs, conf.configFolder, 'config_file', file);
  const bytes = await readSmall(fs, file, CONFIG_FILE_MAX);
  return { file, text: bytes?.toString('utf8') ?? '' };
}

/** Also of a config file: backend.conf alone says who may be spoken to. */
function isAllowed(host: string | undefined, port: number, { receivers }: BackendConf): boolean {
  if (host === undefined) return true;
  const names = [host, `${host}:${port}`].map((each) => each.toLowerCase());
  return receivers.some((allowed) => names.includes(allowed.toLowerCase()));
}
