// Noise_NNpsk0_25519_{AESGCM,ChaChaPoly}_SHA256 (The Noise Protocol Framework, revision 34) as a
// pure state machine: bytes in, bytes out, no clock, no randomness, no network.
//
//   → psk, e      message 1: ephemeral key (32) ‖ sealed payload
//   ← e, ee       message 2: ephemeral key (32) ‖ sealed payload
//
// With psk0 the tag of message 1 is verified before any curve is computed. A message that does not
// open gives undefined, and the handshake is of no further use: there is one failure for every
// cause.

import { createHash, createHmac } from 'node:crypto';
import { assert } from '../assert.js';
import { KEY_BYTES, NONCE_BYTES, open, seal, type Suite, TAG_BYTES } from './aead.js';
import { type KeyPair, sharedSecret, X25519_BYTES } from './x25519.js';

const HASH_BYTES = 32;

const CIPHER_NAMES: Readonly<Record<Suite, string>> = {
  'aes-256-gcm': 'AESGCM',
  'chacha20-poly1305': 'ChaChaPoly',
};

/** Bytes of a handshake message with an empty payload. */
export const NOISE_MESSAGE_BYTES = X25519_BYTES + TAG_BYTES;

export interface NoiseOptions {
  readonly suite: Suite;
  readonly prologue: Uint8Array;
  /** 32 bytes; the caller's to wipe. */
  readonly psk: Uint8Array;
}

/** What both sides have in common afterwards and nobody else has. */
export interface NoiseSecrets {
  readonly chainingKey: Buffer;
  readonly handshakeHash: Buffer;
}

function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** HKDF of the Noise specification, § 4.3. */
function noiseHkdf(chainingKey: Uint8Array, input: Uint8Array): readonly [Buffer, Buffer, Buffer] {
  const secret = hmac(chainingKey, input);
  const first = hmac(secret, Buffer.of(1));
  const second = hmac(secret, first, Buffer.of(2));
  const third = hmac(secret, second, Buffer.of(3));
  secret.fill(0);
  return [first, second, third];
}

/** A key and its counter, as § 5.1 of the Noise specification. */
export class CipherState {
  readonly #suite: Suite;
  readonly #key: Buffer;
  #counter = 0n;

  constructor(suite: Suite, key: Buffer) {
    assert(key.length === KEY_BYTES, 'a cipher key has 32 bytes');
    this.#suite = suite;
    this.#key = key;
  }

  encrypt(associated: Uint8Array, plaintext: Uint8Array): Buffer {
    const { ciphertext, tag } = seal(
      this.#suite,
      this.#key,
      this.#nextNonce(),
      associated,
      plaintext,
    );
    return Buffer.concat([ciphertext, tag]);
  }

  decrypt(associated: Uint8Array, sealed: Uint8Array): Buffer | undefined {
    const plaintextBytes = sealed.length - TAG_BYTES;
    if (plaintextBytes < 0) return undefined;
    const ciphertext = sealed.subarray(0, plaintextBytes);
    const tag = sealed.subarray(plaintextBytes);
    return open(this.#suite, this.#key, this.#nextNonce(), associated, ciphertext, tag);
  }

  #nextNonce(): Buffer {
    const nonce = Buffer.alloc(NONCE_BYTES);
    // the Noise names stand for different byte orders (§ 12.3, 12.4)
    if (this.#suite === 'aes-256-gcm') nonce.writeBigUInt64BE(this.#counter, 4);
    else nonce.writeBigUInt64LE(this.#counter, 4);
    this.#counter++;
    return nonce;
  }
}

class SymmetricState {
  readonly #suite: Suite;
  #chainingKey: Buffer;
  #hash: Buffer;
  #cipher: CipherState | undefined;

  constructor(suite: Suite) {
    this.#suite = suite;
    const name = Buffer.from(`Noise_NNpsk0_25519_${CIPHER_NAMES[suite]}_SHA256`, 'latin1');
    // a name that fits stands as it is, a longer one is hashed (§ 5.2); there is one of each here
    this.#hash =
      name.length <= HASH_BYTES
        ? Buffer.concat([name, Buffer.alloc(HASH_BYTES - name.length)])
        : createHash('sha256').update(name).digest();
    this.#chainingKey = this.#hash;
  }

  mixHash(bytes: Uint8Array): void {
    this.#hash = createHash('sha256').update(this.#hash).update(bytes).digest();
  }

  mixKey(input: Uint8Array): void {
    const [chainingKey, key] = noiseHkdf(this.#chainingKey, input);
    this.#chainingKey = chainingKey;
    this.#cipher = new CipherState(this.#suite, key);
  }

  mixKeyAndHash(input: Uint8Array): void {
    const [chainingKey, hashed, key] = noiseHkdf(this.#chainingKey, input);
    this.#chainingKey = chainingKey;
    this.mixHash(hashed);
    this.#cipher = new CipherState(this.#suite, key);
  }

  encryptAndHash(plaintext: Uint8Array): Buffer {
    assert(this.#cipher !== undefined, 'psk0 gives a key before the first payload');
    const sealed = this.#cipher.encrypt(this.#hash, plaintext);
    this.mixHash(sealed);
    return sealed;
  }

  decryptAndHash(sealed: Uint8Array): Buffer | undefined {
    assert(this.#cipher !== undefined, 'psk0 gives a key before the first payload');
    const plaintext = this.#cipher.decrypt(this.#hash, sealed);
    if (plaintext !== undefined) this.mixHash(sealed);
    return plaintext;
  }

  get secrets(): NoiseSecrets {
    return { chainingKey: this.#chainingKey, handshakeHash: this.#hash };
  }
}

function started(options: NoiseOptions): SymmetricState {
  assert(options.psk.length === KEY_BYTES, 'a pre-shared key has 32 bytes');
  const state = new SymmetricState(options.suite);
  state.mixHash(options.prologue);
  state.mixKeyAndHash(options.psk);
  return state;
}

function mixEphemeral(state: SymmetricState, publicKey: Uint8Array): void {
  state.mixHash(publicKey);
  // in a handshake with a PSK the ephemeral keys are mixed into the key as well (§ 9.2)
  state.mixKey(publicKey);
}

/** The side that speaks first: source agent or operator. */
export class NoiseInitiator {
  readonly #state: SymmetricState;
  readonly #ephemeral: KeyPair;
  #step: 'start' | 'sent' | 'done' = 'start';

  constructor(options: NoiseOptions, ephemeral: KeyPair) {
    this.#state = started(options);
    this.#ephemeral = ephemeral;
  }

  writeMessage1(payload: Uint8Array): Buffer {
    assert(this.#step === 'start', 'message 1 is the first one');
    this.#step = 'sent';
    mixEphemeral(this.#state, this.#ephemeral.publicKey);
    return Buffer.concat([this.#ephemeral.publicKey, this.#state.encryptAndHash(payload)]);
  }

  /** The payload, or undefined when the message does not open. */
  readMessage2(message: Uint8Array): Buffer | undefined {
    assert(this.#step === 'sent', 'message 2 follows message 1');
    if (message.length < NOISE_MESSAGE_BYTES) return undefined;
    const peer = message.subarray(0, X25519_BYTES);
    // our own key come back: a reflection
    if (this.#ephemeral.publicKey.equals(peer)) return undefined;
    mixEphemeral(this.#state, peer);
    const shared = sharedSecret(this.#ephemeral, peer);
    if (shared === undefined) return undefined;
    this.#state.mixKey(shared);
    shared.fill(0);
    const payload = this.#state.decryptAndHash(message.subarray(X25519_BYTES));
    if (payload !== undefined) this.#step = 'done';
    return payload;
  }

  get secrets(): NoiseSecrets {
    assert(this.#step === 'done', 'there are secrets after both messages');
    return this.#state.secrets;
  }
}

/** The side that answers: the DR receiver. */
export class NoiseResponder {
  readonly #state: SymmetricState;
  #peer: Buffer | undefined;
  #step: 'start' | 'read' | 'done' = 'start';

  constructor(options: NoiseOptions) {
    this.#state = started(options);
  }

  /** The payload, or undefined when the message does not open. No curve is computed here. */
  readMessage1(message: Uint8Array): Buffer | undefined {
    assert(this.#step === 'start', 'message 1 is the first one');
    if (message.length < NOISE_MESSAGE_BYTES) return undefined;
    this.#peer = Buffer.from(message.subarray(0, X25519_BYTES));
    mixEphemeral(this.#state, this.#peer);
    const payload = this.#state.decryptAndHash(message.subarray(X25519_BYTES));
    if (payload !== undefined) this.#step = 'read';
    return payload;
  }

  /** Message 2, or undefined when the peer's key is no good one. */
  writeMessage2(payload: Uint8Array, ephemeral: KeyPair): Buffer | undefined {
    assert(this.#step === 'read' && this.#peer !== undefined, 'message 2 answers message 1');
    mixEphemeral(this.#state, ephemeral.publicKey);
    const shared = sharedSecret(ephemeral, this.#peer);
    if (shared === undefined) return undefined;
    this.#state.mixKey(shared);
    shared.fill(0);
    this.#step = 'done';
    return Buffer.concat([ephemeral.publicKey, this.#state.encryptAndHash(payload)]);
  }

  get secrets(): NoiseSecrets {
    assert(this.#step === 'done', 'there are secrets after both messages');
    return this.#state.secrets;
  }
}

/** Split() of the Noise specification: initiator's and responder's sending keys, for vectors. */
export function splitSecrets(
  suite: Suite,
  { chainingKey }: NoiseSecrets,
): readonly [CipherState, CipherState] {
  const [first, second] = noiseHkdf(chainingKey, Buffer.alloc(0));
  return [new CipherState(suite, first), new CipherState(suite, second)];
}
