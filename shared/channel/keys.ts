// Where keys come from (channel.md § 1): files, folders of files, environment, and – with a
// warning – parameters that hold them in clear.

import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { DrError } from '../errors.js';
import {
  type FileStatus,
  type FileSystem,
  keepAdvice,
  readSmall,
  TEMPORARY_SUFFIX,
} from '../files/index.js';
import type { Log } from '../log.js';
import { keyFromPassphrase } from './passphrase.js';
import { parseKey, type PreSharedKey, PSK_FILE_BYTES_MAX, PSK_TAG } from './psk-format.js';

export type { PreSharedKey } from './psk-format.js';

const RING_KEYS_MAX = 10_000;

/** What keys are read with. */
export interface KeyEnvironment {
  readonly fs: FileSystem;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Told what to keep out of its lines, and warned of keys that stand in clear. */
  readonly log?: Log | undefined;
}

/** The keys that a receiver accepts. */
export interface KeyRing {
  readonly keys: readonly PreSharedKey[];
  /**
   * Reads them again, where they come from files; a listener calls it every other second. A key
   * that has gone, or cannot be read any more, is out of `keys` afterwards.
   */
  reload?(): Promise<void>;
}

/**
 * The key that `reference` names: a file, `file:PATH`, `env:NAME` (whose value is a key's text).
 * @throws DrError E_KEY_FILE, E_NOT_FOUND
 */
export async function loadKey(
  reference: string,
  environment: KeyEnvironment,
): Promise<PreSharedKey> {
  if (reference.startsWith('env:')) {
    const name = reference.slice('env:'.length);
    const value = environment.environment[name];
    if (value === undefined || value === '') {
      throw new DrError('E_KEY_FILE', `there is no key in the environment variable ${name}`, {
        context: { name },
      });
    }
    return fromText(value, `the environment variable ${name}`, environment);
  }
  if (reference.startsWith(`${PSK_TAG}:`)) return loadSecret(reference, undefined, environment);
  return loadFile(reference.replace(/^file:/, ''), environment);
}

/**
 * The key that the parameter `dr_psk` means: `file:PATH`, `env:NAME`, the text of a key, or a
 * passphrase, which needs `keyId` (`dr_psk_id`). The last two stand in clear wherever the parameter
 * does; the log is told so.
 * @throws DrError E_KEY_FILE, E_KEY_WEAK, E_NOT_FOUND
 */
export async function loadSecret(
  value: string,
  keyId: string | undefined,
  environment: KeyEnvironment,
): Promise<PreSharedKey> {
  const { log } = environment;
  if (value.startsWith('file:')) return loadKey(value, environment);
  if (value.startsWith('env:')) {
    const inside = environment.environment[value.slice('env:'.length)] ?? '';
    if (inside.startsWith(`${PSK_TAG}:`) || inside === '') return loadKey(value, environment);
    return fromPassphrase(inside, keyId, environment);
  }
  log?.hide(value);
  log?.warn('channel.key-in-clear', {
    parameter: 'dr_psk',
    hint: 'It stands in FileSet, catalog and volumes; use dr_psk_file.',
  });
  if (value.startsWith(`${PSK_TAG}:`)) return fromText(value, 'dr_psk', environment);
  return fromPassphrase(value, keyId, environment);
}

async function fromPassphrase(
  text: string,
  keyId: string | undefined,
  { log }: KeyEnvironment,
): Promise<PreSharedKey> {
  log?.hide(text);
  const bytes = Buffer.from(text, 'utf8');
  try {
    return hidden(await keyFromPassphrase(bytes, keyId, 0), log);
  } finally {
    bytes.fill(0);
  }
}

function fromText(text: string, where: string, { log }: KeyEnvironment): PreSharedKey {
  log?.hide(text.trim());
  const bytes = Buffer.from(text, 'utf8');
  try {
    return hidden(parseKey(bytes, where), log);
  } finally {
    bytes.fill(0);
  }
}

function hidden(key: PreSharedKey, log: Log | undefined): PreSharedKey {
  if (log !== undefined) {
    const secret = key.secret.export();
    log.hide(secret);
    secret.fill(0);
  }
  return key;
}

async function loadFile(path: string, environment: KeyEnvironment): Promise<PreSharedKey> {
  const status = await environment.fs.status(path);
  if (status === undefined) {
    throw new DrError('E_NOT_FOUND', `there is no key file ${path}`, { context: { path } });
  }
  return readKeyFile(path, status, environment);
}

async function readKeyFile(
  path: string,
  status: FileStatus,
  { fs, log }: KeyEnvironment,
): Promise<PreSharedKey> {
  if (status.isExposed === true) {
    throw new DrError('E_KEY_FILE', `others than its owner may read the key file ${path}`, {
      context: { path },
      hint: `Take that away (${keepAdvice(path, status)}); whoever read it may act in its name: make a new key if in doubt.`,
    });
  }
  if (status.sizeBytes > PSK_FILE_BYTES_MAX) {
    throw new DrError('E_KEY_FILE', `${path} is too large for a key file`, { context: { path } });
  }
  const bytes = await readSmall(fs, path, PSK_FILE_BYTES_MAX);
  if (bytes === undefined) {
    throw new DrError('E_NOT_FOUND', `there is no key file ${path}`, { context: { path } });
  }
  try {
    return hidden(parseKey(bytes, path), log);
  } finally {
    bytes.fill(0);
  }
}

/**
 * Refuses rings in which it is not clear who somebody is.
 * @throws DrError E_KEY_FILE: one key for two principals, one id for two keys
 */
export function checkRing(keys: readonly PreSharedKey[]): void {
  const byId = new Map<string, PreSharedKey>();
  const bySecret = new Map<string, PreSharedKey>();
  for (const key of keys) {
    const sameId = byId.get(key.keyId);
    if (sameId !== undefined) {
      throw new DrError('E_KEY_FILE', `two keys have the id ${key.keyId}`, {
        context: { keyId: key.keyId, principal: key.principal },
        hint: 'Give each key an id of its own: `hvdr psk generate --id ID`.',
      });
    }
    byId.set(key.keyId, key);
    // a digest, so that no secret becomes a string
    const print = fingerprint(key);
    const sameSecret = bySecret.get(print);
    if (sameSecret !== undefined) {
      throw new DrError(
        'E_KEY_FILE',
        `the keys ${sameSecret.keyId} of ${sameSecret.principal} and ${key.keyId} of ${key.principal} are the same`,
        {
          context: { keyId: key.keyId, principal: key.principal },
          hint: 'Each principal needs a key of its own: `hvdr psk generate --out FILE`.',
        },
      );
    }
    bySecret.set(print, key);
  }
}

/** Tells secrets apart without giving anything away. */
export function fingerprint(key: PreSharedKey): string {
  const secret = key.secret.export();
  const print = createHash('sha256').update('hvdr psk print').update(secret).digest('hex');
  secret.fill(0);
  return print;
}

/**
 * A ring from key files, folders of key files, and keys in the environment (`env:NAME`).
 * @throws DrError E_KEY_FILE, E_NOT_FOUND
 */
export async function loadKeyRing(
  paths: readonly string[],
  environment: KeyEnvironment,
): Promise<KeyRing> {
  const ring = new FileKeyRing(paths, environment);
  await ring.start();
  return ring;
}

/** Everything in a folder of keys but hidden files and those that are being written. */
function isKeyFileName(name: string): boolean {
  return !name.startsWith('.') && !name.endsWith('~') && !name.endsWith(TEMPORARY_SUFFIX);
}

class FileKeyRing implements KeyRing {
  readonly #paths: readonly string[];
  readonly #environment: KeyEnvironment;
  #keys: readonly PreSharedKey[] = [];
  /** What each file held when it was last read. */
  #byPath: ReadonlyMap<string, PreSharedKey> = new Map();
  #lastProblem = '';

  constructor(paths: readonly string[], environment: KeyEnvironment) {
    this.#paths = paths;
    this.#environment = environment;
  }

  get keys(): readonly PreSharedKey[] {
    return this.#keys;
  }

  async start(): Promise<void> {
    const { keys, problems } = await this.#read();
    const [problem] = problems;
    if (problem !== undefined) throw problem;
    if (keys.length === 0) {
      throw new DrError('E_KEY_FILE', `there is no key in ${this.#paths.join(', ')}`, {
        hint: 'Make one with `hvdr psk generate --out FILE.psk`.',
      });
    }
    checkRing(keys);
    this.#keys = keys;
  }

  async reload(): Promise<void> {
    const { keys, problems } = await this.#read();
    let usable = keys;
    try {
      checkRing(keys);
    } catch (error) {
      // nobody new is let in while it is unclear who is who; those who were removed are out
      problems.push(error instanceof Error ? error : new Error(String(error)));
      const prints = new Set(keys.map((key) => `${key.keyId} ${fingerprint(key)}`));
      usable = this.#keys.filter((key) => prints.has(`${key.keyId} ${fingerprint(key)}`));
    }
    this.#keys = usable;
    const [problem] = problems;
    const text = problem === undefined ? '' : String(problem);
    if (text !== this.#lastProblem && problem !== undefined) {
      this.#environment.log?.error('channel.keys-unreadable', { error: problem });
    }
    this.#lastProblem = text;
  }

  async #read(): Promise<{ keys: PreSharedKey[]; problems: Error[] }> {
    const { fs } = this.#environment;
    const byPath = new Map<string, PreSharedKey>();
    const problems: Error[] = [];
    const seen = new Set<string>();
    const readOne = async (path: string): Promise<void> => {
      if (path.startsWith('env:')) {
        byPath.set(path, await loadKey(path, this.#environment));
        return;
      }
      const status = await fs.status(path);
      if (status === undefined) {
        throw new DrError('E_NOT_FOUND', `there is no key file ${path}`, { context: { path } });
      }
      if (status.kind === 'folder') {
        for (const name of (await fs.list(path)).filter(isKeyFileName)) {
          const inside = join(path, name);
          if ((await fs.status(inside))?.kind === 'file') await attempt(inside);
        }
        return;
      }
      if (seen.has(status.identity)) return;
      seen.add(status.identity);
      if (byPath.size >= RING_KEYS_MAX) {
        throw new DrError('E_LIMIT', `there are more than ${RING_KEYS_MAX} keys`);
      }
      byPath.set(path, await readKeyFile(path, status, this.#environment));
    };
    const attempt = async (path: string): Promise<void> => {
      try {
        await readOne(path);
      } catch (error) {
        problems.push(error instanceof Error ? error : new Error(String(error)));
        if (isAboutTheKey(error)) return;
        // a device that fails for a moment takes nobody's key away
        for (const [known, key] of this.#byPath) {
          if (known === path || dirname(known) === path) byPath.set(known, key);
        }
      }
    };
    for (const path of this.#paths) await attempt(path.replace(/^file:/, ''));
    this.#byPath = byPath;
    return { keys: [...byPath.values()], problems };
  }
}

/** The file says so itself: it is no key, it has gone, others may read it. */
function isAboutTheKey(error: unknown): boolean {
  return error instanceof DrError && ['E_KEY_FILE', 'E_NOT_FOUND'].includes(error.code);
}
