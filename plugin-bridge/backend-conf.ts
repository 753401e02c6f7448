// backend.conf: what the administrator of this machine lets Bacula's side do with the backend
// (channel.md § 6, docs/bacula-backend.md). Whoever edits FileSets cannot change it.

import path from 'node:path';
import type { ReceiverPlaces, ReceiverTexts } from '../dr-receiver/index.js';
import { DrError } from '../shared/errors.js';
import { type FileSystem, readSmall, requireOurs } from '../shared/files/index.js';
import {
  allowedOf,
  CONFIG_FILE_MAX,
  type GivenParameter,
  parseConfigFile,
  rowOf,
} from '../shared/params/index.js';

/** In the state folder, unless backend.conf names another file. */
export const BACKEND_LOG = 'backend.log';

export interface BackendConf {
  /** Hypervisor of this side: `hyperv`, `lab:DIR`. */
  readonly host: string;
  /** Where ledgers, leases and sessions live; undefined: the machine's folder. */
  readonly stateFolder: string | undefined;
  /** The only folder whose keys and certificates a Plugin string can name. */
  readonly keyFolder: string | undefined;
  /** The only folder whose files `config_file` can name. */
  readonly configFolder: string | undefined;
  /** `HOST` or `HOST:PORT`; the receivers that a job may talk to. */
  readonly receivers: readonly string[];
  readonly modes: readonly string[];
  /** Where a restore may write; undefined: anywhere. */
  readonly restoreRoots: readonly string[] | undefined;
  readonly logFile: string | undefined;
  readonly receiver: ReceiverConf;
}

/** What a job that is a receiver works with: nothing of it can be said by a Plugin line. */
export interface ReceiverConf {
  /** Folders; a line may choose among them. */
  readonly stores: readonly string[];
  /** `ADDR:PORT`; a line may choose among them. */
  readonly addresses: readonly string[];
  readonly texts: Omit<ReceiverTexts, 'listen'>;
  readonly places: Omit<ReceiverPlaces, 'store'>;
}

/** What a job may do when the file does not say it: nothing that changes who serves a VM. */
const MODES_BY_DEFAULT = ['backup', 'rct-push', 'verify', 'replication-status'];

const KEYS = [
  'host',
  'state_dir',
  'key_folder',
  'config_folder',
  'receivers',
  'modes',
  'restore_roots',
  'log_file',
  'store',
  'listen',
  'receiver_keys',
  'receiver_operator_from',
  'receiver_admin_listen',
  'receiver_tls_cert',
  'receiver_tls_key',
  'receiver_tls_client_ca',
  'receiver_min_restore_points',
  'receiver_retention_grid',
  'receiver_quota',
  'receiver_quota_vms',
  'receiver_scrub_rate',
  'receiver_scrub_period',
  'receiver_seed_dir',
  'receiver_script_dir',
] as const;
type Key = (typeof KEYS)[number];

/** The path is fixed; tests name another one in the environment of the file daemon. */
export function backendConfPath(
  environment: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform,
): string {
  const named = environment['HVDR_BACKEND_CONF'];
  if (named !== undefined && named !== '') return named;
  if (platform !== 'win32') return '/etc/podheitor/backend.conf';
  return path.win32.join(
    environment['ProgramData'] ?? 'C:\\ProgramData',
    'PodHeitor\\backend.conf',
  );
}

/** @throws DrError E_NOT_FOUND, E_PARAMETER; E_STATE when others may change it */
export async function readBackendConf(fs: FileSystem, file: string): Promise<BackendConf> {
  const bytes = await readSmall(fs, file, CONFIG_FILE_MAX);
  if (bytes === undefined) {
    throw new DrError('E_NOT_FOUND', `${file} is not there: nothing says what the backend may do`, {
      hint: 'Make it as docs/bacula-backend.md shows; one line, `host=hyperv`, is enough.',
    });
  }
  await requireOurs(fs, file);
  return parseBackendConf(bytes.toString('utf8'), file);
}

/** @throws DrError E_PARAMETER */
export function parseBackendConf(text: string, file: string): BackendConf {
  const found = new Map<Key, string>();
  for (const given of parseConfigFile(text, file)) {
    const key = KEYS.find((name) => name === given.key);
    if (key === undefined) throw refused(given, 'is not known', `Known are ${KEYS.join(', ')}.`);
    if (found.has(key)) throw refused(given, 'is given twice', 'Give each key once.');
    if (isFolderKey(key)) checkFolders(given);
    found.set(key, given.value);
  }
  const modes = listOf(found.get('modes')) ?? MODES_BY_DEFAULT;
  const row = rowOf('mode');
  const known = row.kind === 'choice' ? row.choices : [];
  for (const mode of modes) {
    if (known.includes(mode)) continue;
    throw new DrError('E_PARAMETER', `${file}: modes: there is no mode ${JSON.stringify(mode)}`, {
      hint: `Allowed: ${allowedOf(row)}.`,
    });
  }
  return {
    host: found.get('host') ?? 'hyperv',
    stateFolder: found.get('state_dir'),
    keyFolder: found.get('key_folder'),
    configFolder: found.get('config_folder'),
    receivers: listOf(found.get('receivers')) ?? [],
    modes,
    restoreRoots: listOf(found.get('restore_roots')),
    logFile: found.get('log_file'),
    receiver: receiverConf(found),
  };
}

function receiverConf(found: ReadonlyMap<Key, string>): ReceiverConf {
  return {
    stores: listOf(found.get('store')) ?? [],
    addresses: listOf(found.get('listen')) ?? [],
    texts: {
      adminListen: found.get('receiver_admin_listen'),
      minRestorePoints: found.get('receiver_min_restore_points'),
      retentionGrid: found.get('receiver_retention_grid'),
      quota: found.get('receiver_quota'),
      quotaVms: found.get('receiver_quota_vms'),
      scrubRate: found.get('receiver_scrub_rate'),
      scrubPeriod: found.get('receiver_scrub_period'),
    },
    places: {
      // none by default: the key folder holds those that this host shows to others
      keys: listOf(found.get('receiver_keys')) ?? [],
      operatorNetworks: listOf(found.get('receiver_operator_from')),
      tlsCertificate: found.get('receiver_tls_cert'),
      tlsKey: found.get('receiver_tls_key'),
      tlsClientAuthority: found.get('receiver_tls_client_ca'),
      seedFolder: found.get('receiver_seed_dir'),
      scriptFolder: found.get('receiver_script_dir'),
    },
  };
}

/** Keys whose values are no paths. */
const WORDS: ReadonlySet<Key> = new Set([
  'host',
  'receivers',
  'modes',
  'listen',
  'receiver_operator_from',
  'receiver_admin_listen',
  'receiver_min_restore_points',
  'receiver_retention_grid',
  'receiver_quota',
  'receiver_quota_vms',
  'receiver_scrub_rate',
  'receiver_scrub_period',
]);

function isFolderKey(key: Key): boolean {
  return !WORDS.has(key);
}

function checkFolders(given: GivenParameter): void {
  for (const folder of listOf(given.value) ?? []) {
    if (path.isAbsolute(folder)) continue;
    throw refused(given, `${JSON.stringify(folder)} is no absolute path`, 'Write the whole path.');
  }
}

function listOf(text: string | undefined): string[] | undefined {
  return text
    ?.split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function refused({ key, place }: GivenParameter, why: string, hint: string): DrError {
  return new DrError('E_PARAMETER', `${place}: ${key.slice(0, 64)}: ${why}`, { hint });
}
