// The Ed25519 key pair with which a store signs the reports of its drills. Made when the first report is
// signed or the public key asked for, and never changed: an auditor keeps the public key.
//
//   drill.key   "hvdrdrill1" ‖ private key (PKCS #8, DER) ‖ first 8 bytes of SHA-256 of both
//
// The file is its owner's alone. The key stands in buffers, which are wiped, and in the KeyObject.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import type { Random } from '../../../shared/clock.js';
import { DrError } from '../../../shared/errors.js';
import {
  accessAdvice,
  type FileSystem,
  readSmall,
  writeDurably,
} from '../../../shared/files/index.js';
import type { StoreLayout } from '../../store/layout.js';
import { keyIdOf, publicKeyBytes } from './report.js';

export interface ReportKey {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** What others are given of a key. */
export interface PublicReportKey {
  readonly keyId: string;
  /** The 32 bytes, base64, as they stand in the signature of a report. */
  readonly publicKey: string;
  readonly pem: string;
}

const TAG = Buffer.from('hvdrdrill1');
const CHECKSUM_BYTES = 8;
const FILE_BYTES_MAX = 1024;

function checksum(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, CHECKSUM_BYTES);
}

function damaged(path: string, why: string, cause?: unknown): DrError {
  return new DrError('E_FILE_DAMAGED', `${path} holds no key for reports: ${why}`, {
    context: { path },
    hint: 'Restore the file. Moved aside, a new key is made, and auditors have to be given that one.',
    cause,
  });
}

/**
 * The key of the store, or undefined when it has none yet.
 * @throws DrError E_FILE_DAMAGED, E_KEY_FILE (others may read it), E_IO
 */
export async function readReportKey(
  fs: FileSystem,
  layout: StoreLayout,
): Promise<ReportKey | undefined> {
  const path = layout.drillKey;
  const bytes = await readSmall(fs, path, FILE_BYTES_MAX);
  if (bytes === undefined) return undefined;
  if ((await fs.status(path))?.isExposed === true) {
    throw new DrError('E_KEY_FILE', `${path} may be read by others`, {
      context: { path },
      hint: `Let only its owner read it (${accessAdvice(path, 'read')}), and think about who may have read it.`,
    });
  }
  try {
    return parseKey(bytes, path);
  } finally {
    bytes.fill(0);
  }
}

function parseKey(bytes: Buffer, path: string): ReportKey {
  const end = bytes.length - CHECKSUM_BYTES;
  const body = bytes.subarray(0, Math.max(0, end));
  if (!body.subarray(0, TAG.length).equals(TAG))
    throw damaged(path, 'its beginning is another one');
  if (!checksum(body).equals(bytes.subarray(end))) throw damaged(path, 'its checksum does not fit');
  try {
    const privateKey = createPrivateKey({
      key: body.subarray(TAG.length),
      format: 'der',
      type: 'pkcs8',
    });
    return { privateKey, publicKey: createPublicKey(privateKey) };
  } catch (error) {
    throw damaged(path, 'the key in it is not legal', error);
  }
}

/**
 * The key of the store, made and durable on return when it had none. Whoever calls this has the store
 * for itself.
 * @throws as readReportKey(), E_CAPACITY
 */
export async function ensureReportKey(
  fs: FileSystem,
  layout: StoreLayout,
  random: Random,
): Promise<ReportKey> {
  const known = await readReportKey(fs, layout);
  if (known !== undefined) return known;
  const made = generateKeyPairSync('ed25519');
  const der = made.privateKey.export({ format: 'der', type: 'pkcs8' });
  const body = Buffer.concat([TAG, der]);
  const whole = Buffer.concat([body, checksum(body)]);
  try {
    await writeDurably(fs, layout.drillKey, whole, random, { isSecret: true });
  } finally {
    for (const bytes of [der, body, whole]) bytes.fill(0);
  }
  return made;
}

/**
 * The public key of a store folder; a receiver may be running on it. A store without a key is given one,
 * unless a receiver runs.
 * @throws DrError E_NOT_FOUND (no store), E_LOCKED (no key, and in use), as readReportKey()
 */
export async function publicKeyOfStore(
  fs: FileSystem,
  layout: StoreLayout,
  random: Random,
): Promise<PublicReportKey> {
  const known = await readReportKey(fs, layout);
  if (known !== undefined) return publicReportKey(known);
  if ((await fs.status(layout.description)) === undefined) {
    throw new DrError('E_NOT_FOUND', `${layout.folder} is no store`, {
      context: { path: layout.folder },
    });
  }
  const lock = await fs.open(layout.lock, { mode: 'write' });
  try {
    return publicReportKey(await ensureReportKey(fs, layout, random));
  } finally {
    await lock.close();
  }
}

/**
 * The raw public key in a PEM text, as `hvdr drill public-key` prints it.
 * @throws DrError E_KEY_FILE; `where` is for messages
 */
export function parsePublicKey(text: string, where: string): Buffer {
  const refuse = (cause?: unknown): DrError =>
    new DrError('E_KEY_FILE', `${where} holds no public key of a store`, {
      context: { path: where },
      hint: '`hvdr drill public-key --store DIR` prints it.',
      cause,
    });
  if (!text.includes('-----BEGIN PUBLIC KEY-----')) throw refuse();
  let key: KeyObject;
  try {
    key = createPublicKey(text);
  } catch (error) {
    throw refuse(error);
  }
  if (key.asymmetricKeyType !== 'ed25519') throw refuse();
  return publicKeyBytes(key);
}

export function publicReportKey({ publicKey }: ReportKey): PublicReportKey {
  const raw = publicKeyBytes(publicKey);
  return {
    keyId: keyIdOf(raw),
    publicKey: raw.toString('base64'),
    pem: String(publicKey.export({ format: 'pem', type: 'spki' })),
  };
}
