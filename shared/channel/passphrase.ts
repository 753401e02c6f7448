// A passphrase in place of a key (role source only). A passive listener can guess offline against
// message 1 of the handshake, so it must be worth 80 bits, and each guess is made dear by Argon2id.
//
// The stretching runs once, when the key is loaded, on the thread pool: the main thread goes on, and
// OpenSSL gives its 256 MiB back to the system when it is done.

import { argon2, createHash, createSecretKey } from 'node:crypto';
import { DrError } from '../errors.js';
import { KEY_BYTES } from './aead.js';
import { isKeyId, type PreSharedKey } from './psk-format.js';

export const PASSPHRASE_BITS_MIN = 80;
export const PASSPHRASE_BYTES_MAX = 1024;

const ARGON2 = { passes: 3, memory: 256 << 10, parallelism: 1 } as const;
/** What a word is worth, whatever its length: about that of a list of 4,096. */
const BITS_OF_WORD = 12;

/**
 * Bits that a guesser has to find, counted low: a run of letters is taken for one word, a
 * repetition or a sequence (aaa, 123, abc) for one symbol, a word said twice for nothing.
 */
export function estimateBits(passphrase: string): number {
  const seen = new Set<string>();
  let bits = 0;
  for (const [run] of passphrase.matchAll(/\p{L}+|\d+|[^\p{L}\d]+/gu)) {
    const plain = run.toLowerCase();
    if (seen.has(plain)) continue;
    seen.add(plain);
    const caseBits = plain === run || run === run.toUpperCase() ? 0 : 1;
    if (/^\p{L}/u.test(run))
      bits += Math.min(symbols(plain) * Math.log2(26), BITS_OF_WORD) + caseBits;
    else if (/^\d/.test(run)) bits += symbols(plain) * Math.log2(10);
    else bits += symbols(plain) * Math.log2(20);
  }
  return bits;
}

/** Characters that do not simply continue the one before. */
function symbols(run: string): number {
  let count = 0;
  let previous: number | undefined;
  let step: number | undefined;
  for (const character of run) {
    const code = character.codePointAt(0) ?? 0;
    const newStep = previous === undefined ? undefined : code - previous;
    const isContinued =
      newStep !== undefined && Math.abs(newStep) <= 1 && (step ?? newStep) === newStep;
    if (!isContinued) count++;
    step = newStep;
    previous = code;
  }
  return count;
}

/**
 * The key of a passphrase. Its principal is its id: both sides must come to the same one, and the
 * source is told nothing but `dr_psk_id`. The caller wipes `passphrase`.
 * @throws DrError E_KEY_WEAK, E_KEY_FILE (no id)
 */
export async function keyFromPassphrase(
  passphrase: Buffer,
  keyId: string | undefined,
  createdAtMs: number,
): Promise<PreSharedKey> {
  if (keyId === undefined || !isKeyId(keyId)) {
    throw new DrError('E_KEY_FILE', 'a passphrase needs the id of its key', {
      hint: 'Set dr_psk_id to the id that `hvdr psk inspect FILE` shows at the DR site.',
    });
  }
  const bits =
    passphrase.length > PASSPHRASE_BYTES_MAX ? 0 : estimateBits(passphrase.toString('utf8'));
  if (bits < PASSPHRASE_BITS_MIN) {
    throw new DrError(
      'E_KEY_WEAK',
      `the passphrase of key ${keyId} is worth about ${Math.floor(bits)} bits, ${PASSPHRASE_BITS_MIN} are needed`,
      {
        context: { keyId, bits: Math.floor(bits) },
        hint: 'Make a key with `hvdr psk generate --out FILE`, or take seven words at random.',
      },
    );
  }
  const secret = await stretch(passphrase, keyId);
  try {
    return {
      keyId,
      principal: keyId,
      role: 'source',
      vmPattern: '*',
      createdAtMs,
      secret: createSecretKey(secret),
    };
  } finally {
    secret.fill(0);
  }
}

function stretch(passphrase: Buffer, keyId: string): Promise<Buffer> {
  const salt = createHash('sha256').update(`hvdr psk salt/1${keyId}`, 'utf8').digest();
  return new Promise((resolve, reject) => {
    argon2(
      'argon2id',
      { message: passphrase, nonce: salt.subarray(0, 16), tagLength: KEY_BYTES, ...ARGON2 },
      (error, secret) => {
        if (error === null) resolve(secret);
        else {
          reject(
            new DrError('E_KEY_FILE', `the passphrase of key ${keyId} cannot be stretched`, {
              hint: 'It takes 256 MiB of memory for a moment; free some, or use a key file.',
              cause: error,
            }),
          );
        }
      },
    );
  });
}
