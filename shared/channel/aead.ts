// The two ciphers of the channel as node:crypto has them. Every tag has exactly 16 bytes: without
// `authTagLength` node would accept shorter ones. What update() gave is used only after final()
// succeeded.

import { createCipheriv, createDecipheriv } from 'node:crypto';

export type Suite = 'aes-256-gcm' | 'chacha20-poly1305';

export const TAG_BYTES = 16;
export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;

/** The number of a suite in the prologue, in records and in handshake.proto. */
export const SUITE_NUMBERS: Readonly<Record<Suite, number>> = {
  'aes-256-gcm': 1,
  'chacha20-poly1305': 2,
};

export function suiteOf(number: number): Suite | undefined {
  if (number === SUITE_NUMBERS['aes-256-gcm']) return 'aes-256-gcm';
  return number === SUITE_NUMBERS['chacha20-poly1305'] ? 'chacha20-poly1305' : undefined;
}

export interface Sealed {
  /** As long as the plaintext, in memory of its own. */
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** `plaintext` is read before the function returns; the caller may use its memory again. */
export function seal(
  suite: Suite,
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  plaintext: Uint8Array,
): Sealed {
  // the overloads want literal names, and both ciphers take the same options
  const cipher = createCipheriv(suite as 'aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associated, { plaintextLength: plaintext.length });
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return { ciphertext, tag: cipher.getAuthTag() };
}

/** The plaintext in memory of its own, or undefined when the tag does not fit. */
export function open(
  suite: Suite,
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  ciphertext: Uint8Array,
  tag: Uint8Array,
): Buffer | undefined {
  if (tag.length !== TAG_BYTES) return undefined;
  const decipher = createDecipheriv(suite as 'aes-256-gcm', key, nonce, {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(associated, { plaintextLength: ciphertext.length });
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final();
  } catch {
    plaintext.fill(0);
    return undefined;
  }
  return plaintext;
}
