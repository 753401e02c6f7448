// X25519 by node:crypto, for keys given as 32 bytes. A peer's key of small order gives no secret:
// OpenSSL refuses it.

import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import { assert } from '../assert.js';

export const X25519_BYTES = 32;

const PRIVATE_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const PUBLIC_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

export interface KeyPair {
  readonly privateKey: KeyObject;
  /** 32 bytes. */
  readonly publicKey: Buffer;
}

/** The pair of a private key. `secret` is the caller's to wipe. */
export function keyPairOf(secret: Uint8Array): KeyPair {
  assert(secret.length === X25519_BYTES, 'an X25519 key has 32 bytes');
  const encoded = Buffer.concat([PRIVATE_PREFIX, secret]);
  const privateKey = createPrivateKey({ key: encoded, format: 'der', type: 'pkcs8' });
  encoded.fill(0);
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return { privateKey, publicKey: spki.subarray(PUBLIC_PREFIX.length) };
}

/** The shared secret, or undefined when the peer's key is no good one. */
export function sharedSecret(own: KeyPair, peer: Uint8Array): Buffer | undefined {
  assert(peer.length === X25519_BYTES, 'an X25519 key has 32 bytes');
  try {
    const key = Buffer.concat([PUBLIC_PREFIX, peer]);
    const publicKey = createPublicKey({ key, format: 'der', type: 'spki' });
    return diffieHellman({ privateKey: own.privateKey, publicKey });
  } catch {
    return undefined;
  }
}
