// Certificates and keys of TLS from PEM files, checked before they are used: OpenSSL would refuse
// them later, at the first connection, with words that name no file.

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { DrError } from '../errors.js';
import { type FileSystem, keepAdvice, readSmall } from '../files/index.js';
import type { TlsMaterial } from './endpoint.js';

const PEM_BYTES_MAX = 1 << 20;
const CERTIFICATES_MAX = 256;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Paths. */
export interface TlsFiles {
  readonly certificateAuthority?: string | undefined;
  readonly certificate?: string | undefined;
  readonly privateKey?: string | undefined;
  readonly serverName?: string | undefined;
}

/**
 * What the files hold.
 * @throws DrError E_NOT_FOUND, E_KEY_FILE (a key that others may read or that is none), E_TLS
 */
export async function loadTls(files: TlsFiles, fs: FileSystem): Promise<TlsMaterial> {
  const { certificateAuthority, certificate, privateKey, serverName } = files;
  const authority =
    certificateAuthority === undefined
      ? undefined
      : await readCertificates(certificateAuthority, 'authority', fs);
  const own =
    certificate === undefined ? undefined : await readCertificates(certificate, 'certificate', fs);
  const key = privateKey === undefined ? undefined : await readKey(privateKey, fs);
  if (own !== undefined && key !== undefined && !own.first.checkPrivateKey(key.key)) {
    throw new DrError('E_TLS', `the key in ${key.path} is not that of ${own.path}`, {
      context: { certificate: own.path, privateKey: key.path },
      hint: 'Give the key that the certificate was made for; the certificate itself comes first in its file, others of the chain follow.',
    });
  }
  return {
    certificateAuthority: authority?.text,
    certificate: own?.text,
    privateKey: key?.pem,
    serverName,
  };
}

async function readCertificates(
  path: string,
  what: 'authority' | 'certificate',
  fs: FileSystem,
): Promise<{ path: string; text: string; first: X509Certificate }> {
  const text = (await readPem(path, what, fs)).toString('latin1');
  const blocks = text.match(CERTIFICATE) ?? [];
  const unusable = (why: string, cause?: unknown): DrError =>
    new DrError('E_TLS', `the ${what} file ${path} cannot be used: ${why}`, {
      context: { path },
      hint: 'Give a PEM file: text with -----BEGIN CERTIFICATE-----.',
      cause,
    });
  if (blocks.length === 0) throw unusable('it holds no certificate in PEM form');
  if (blocks.length > CERTIFICATES_MAX) throw unusable(`it holds ${blocks.length} certificates`);
  try {
    const [first] = blocks.map((block) => new X509Certificate(block));
    if (first === undefined) throw unusable('it holds no certificate in PEM form');
    return { path, text, first };
  } catch (error) {
    throw unusable('a certificate in it cannot be read', error);
  }
}

async function readKey(
  path: string,
  fs: FileSystem,
): Promise<{ path: string; pem: Buffer; key: KeyObject }> {
  const status = await fs.status(path);
  if (status?.isExposed === true) {
    throw new DrError('E_KEY_FILE', `others than its owner may read the key file ${path}`, {
      context: { path },
      hint: `Take that away (${keepAdvice(path, status)}); whoever read it may act in its name: make a new key and certificate if in doubt.`,
    });
  }
  const pem = await readPem(path, 'key', fs);
  try {
    return { path, pem, key: createPrivateKey(pem) };
  } catch (error) {
    throw new DrError('E_KEY_FILE', `${path} holds no private key that can be used`, {
      context: { path },
      hint: 'Give an unencrypted PEM file: text with -----BEGIN PRIVATE KEY-----.',
      cause: error,
    });
  }
}

async function readPem(path: string, what: string, fs: FileSystem): Promise<Buffer> {
  const bytes = await readSmall(fs, path, PEM_BYTES_MAX);
  if (bytes !== undefined) return bytes;
  throw new DrError('E_NOT_FOUND', `there is no ${what} file ${path}`, {
    context: { path },
    hint: 'Check the path that stands in the parameter or flag of TLS.',
  });
}
