// Both sides of the handshake as values: what goes into the messages of handshake.proto, and what
// comes out. The network is in connect.ts and listen.ts.
//
// Prologue, mixed into the first tag, so that whatever is changed in the clear makes it fail:
//   "hvdr/1" 0x00 ‖ u16 version ‖ u8 suite ‖ u16 n, key id ‖ u16 n, principal     (big-endian)

import type { Random } from '../clock.js';
import { type Suite, SUITE_NUMBERS, suiteOf } from './aead.js';
import { CipherSuite, type HandshakeRequest } from './gen/podheitor/dr/v1/handshake.js';
import type { PreSharedKey } from './psk-format.js';
import {
  KEY_ID_BYTES_MAX,
  PRINCIPAL_BYTES_MAX,
  PROTOCOL_NEWEST,
  PROTOCOL_OLDEST,
} from './limits.js';
import { NOISE_MESSAGE_BYTES, NoiseInitiator, NoiseResponder, type NoiseSecrets } from './noise.js';
import { keyPairOf, X25519_BYTES } from './x25519.js';

export const HANDSHAKE_PATH = '/podheitor.dr.v1.HandshakeService/Handshake';
/** Metadata of every call. */
export const SESSION_HEADER = 'hvdr-session-bin';
export const CALL_HEADER = 'hvdr-call-bin';
export const SESSION_ID_BYTES = 16;

const EMPTY = Buffer.alloc(0);

export function prologue(version: number, suite: Suite, keyId: string, principal: string): Buffer {
  const head = Buffer.concat([Buffer.from('hvdr/1\0', 'latin1'), Buffer.alloc(3)]);
  head.writeUInt16BE(version, 7);
  head.writeUInt8(SUITE_NUMBERS[suite], 9);
  return Buffer.concat([head, lengthPrefixed(keyId), lengthPrefixed(principal)]);
}

function lengthPrefixed(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function newKeyPair(random: Random): ReturnType<typeof keyPairOf> {
  const secret = random.fill(Buffer.alloc(X25519_BYTES));
  const pair = keyPairOf(secret);
  secret.fill(0);
  return pair;
}

/** The bytes of a key for the length of `use`; the copy is wiped afterwards. */
function withSecret<T>(key: Pick<PreSharedKey, 'secret'>, use: (psk: Buffer) => T): T {
  const psk = key.secret.export();
  try {
    return use(psk);
  } finally {
    psk.fill(0);
  }
}

export interface InitiatedHandshake {
  readonly request: HandshakeRequest;
  /** The secrets when `noiseMessage` is the answer of somebody who has the key. */
  finish(noiseMessage: Uint8Array): NoiseSecrets | undefined;
}

export function initiateHandshake(
  key: PreSharedKey,
  suite: Suite,
  random: Random,
): InitiatedHandshake {
  const version = PROTOCOL_NEWEST;
  const { keyId, principal } = key;
  const noise = withSecret(
    key,
    (psk) =>
      new NoiseInitiator(
        { suite, prologue: prologue(version, suite, keyId, principal), psk },
        newKeyPair(random),
      ),
  );
  return {
    request: {
      version,
      supported: { oldest: PROTOCOL_OLDEST, newest: PROTOCOL_NEWEST },
      suite:
        suite === 'aes-256-gcm'
          ? CipherSuite.CIPHER_SUITE_AES_256_GCM
          : CipherSuite.CIPHER_SUITE_CHACHA20_POLY1305,
      keyId,
      principal,
      noiseMessage: noise.writeMessage1(EMPTY),
    },
    finish: (noiseMessage) => {
      if (noiseMessage.length !== NOISE_MESSAGE_BYTES) return undefined;
      return noise.readMessage2(noiseMessage) === undefined ? undefined : noise.secrets;
    },
  };
}

export interface ResponderPolicy {
  /** The key of that id that this peer may use from where it is, or undefined. */
  findKey(keyId: string): PreSharedKey | undefined;
  readonly suites: readonly Suite[];
  /** Takes the place of a key that is not there, so that the answer takes the same time. */
  readonly dummy: Pick<PreSharedKey, 'secret'>;
  readonly random: Random;
}

export type HandshakeOutcome =
  | {
      readonly kind: 'accepted';
      readonly key: PreSharedKey;
      readonly suite: Suite;
      readonly version: number;
      readonly noiseMessage: Buffer;
      readonly secrets: NoiseSecrets;
    }
  | { readonly kind: 'version-refused' }
  | { readonly kind: 'refused' };

/**
 * Answers message 1. Unknown id, foreign principal, suite out of the list, wrong key and altered
 * fields go the same way through the same computations and end in the same refusal.
 */
export function answerHandshake(
  request: HandshakeRequest,
  policy: ResponderPolicy,
): HandshakeOutcome {
  const { version } = request;
  if (version < PROTOCOL_OLDEST || version > PROTOCOL_NEWEST) return { kind: 'version-refused' };
  const asked = suiteOf(request.suite);
  const suite = asked !== undefined && policy.suites.includes(asked) ? asked : undefined;
  const isNamed =
    Buffer.byteLength(request.keyId) <= KEY_ID_BYTES_MAX &&
    Buffer.byteLength(request.principal) <= PRINCIPAL_BYTES_MAX;
  const found = isNamed ? policy.findKey(request.keyId) : undefined;
  const key = found?.principal === request.principal && suite !== undefined ? found : undefined;
  const usedSuite = suite ?? 'aes-256-gcm';
  const noise = withSecret(
    key ?? policy.dummy,
    (psk) =>
      new NoiseResponder({
        suite: usedSuite,
        prologue: prologue(
          version,
          usedSuite,
          isNamed ? request.keyId : '',
          isNamed ? request.principal : '',
        ),
        psk,
      }),
  );
  if (request.noiseMessage.length !== NOISE_MESSAGE_BYTES) return { kind: 'refused' };
  if (noise.readMessage1(request.noiseMessage) === undefined) return { kind: 'refused' };
  // a dummy key that fits cannot be, short of somebody knowing it
  if (key === undefined) return { kind: 'refused' };
  const noiseMessage = noise.writeMessage2(EMPTY, newKeyPair(policy.random));
  if (noiseMessage === undefined) return { kind: 'refused' };
  return {
    kind: 'accepted',
    key,
    suite: usedSuite,
    version,
    noiseMessage,
    secrets: noise.secrets,
  };
}
