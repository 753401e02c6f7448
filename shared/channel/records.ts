// The records of one direction of one call.
//
//   0 flags u8: 0 message, 1 FINAL, 2 OPEN; 0x80 besides: a salt follows
//   1 salt (16 bytes), in the receiver's first record of a call only
//   … ciphertext, then the tag (16 bytes)
//
// Key        k_c2s = HKDF-SHA-256(chaining key, salt: handshake hash, "hvdr1 c2s" ‖ method ‖ call)
//            k_s2c = the same with "hvdr1 s2c" … ‖ salt: a replayed call gets answers under
//            another key, never two under one key and nonce
// Nonce      4 zero bytes ‖ u64 sequence
// Associated "hvdr1 record" ‖ u16 version ‖ u8 suite ‖ session (16) ‖ u8 direction ‖ u64 call ‖
//            u16 n, method ‖ u64 sequence ‖ u8 flags ‖ u32 plaintext length        (big-endian)
// Ratchet    after 2^24 records or 64 GiB: key = HKDF(key, "hvdr1 ratchet" ‖ u32 generation); the
//            sequence goes on
//
// The sequence is not sent: a record that is missing, repeated or moved does not open. One object
// owns a key and its counter and lives in one thread.

import { hkdfSync } from 'node:crypto';
import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import {
  KEY_BYTES,
  NONCE_BYTES,
  open,
  seal,
  type Suite,
  SUITE_NUMBERS,
  TAG_BYTES,
} from './aead.js';
import { SESSION_ID_BYTES } from './handshake.js';
import { MESSAGE_BYTES_MAX, RATCHET_BYTES, RATCHET_RECORDS } from './limits.js';
import type { NoiseSecrets } from './noise.js';

export const SALT_BYTES = 16;
const FLAG_SALT = 0x80;
const FLAGS_OF = { message: 0, final: 1, open: 2 } as const;

export type RecordKind = keyof typeof FLAGS_OF;
/** Client to server, server to client. */
export type Direction = 'c2s' | 's2c';

/** What a record belongs to. */
export interface CallIdentity {
  readonly secrets: NoiseSecrets;
  readonly version: number;
  readonly suite: Suite;
  readonly sessionId: Buffer;
  /** Path of the method. */
  readonly method: string;
  readonly callId: bigint;
}

export interface RatchetLimits {
  readonly records: number;
  readonly bytes: number;
}

const RATCHET: RatchetLimits = { records: RATCHET_RECORDS, bytes: RATCHET_BYTES };

/** One error for everything that makes a record not open; it ends the session. */
export class UnopenedRecord extends DrError {
  override readonly name = 'UnopenedRecord';

  constructor() {
    super('E_REPLAY', 'a record of the channel did not open', {
      done: 'the session was ended, nothing of the record was used',
    });
  }
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

function callKey(identity: CallIdentity, direction: Direction, salt: Uint8Array): Buffer {
  const { chainingKey, handshakeHash } = identity.secrets;
  const info = Buffer.concat([
    Buffer.from(`hvdr1 ${direction}${identity.method}`, 'utf8'),
    u64(identity.callId),
    salt,
  ]);
  return Buffer.from(hkdfSync('sha256', chainingKey, handshakeHash, info, KEY_BYTES));
}

/** Key, counter and associated data of one direction; both ends go through the same steps. */
class DirectionState {
  readonly suite: Suite;
  readonly nonce = Buffer.alloc(NONCE_BYTES);
  readonly associated: Buffer;
  #key: Buffer;
  #sequence = 0;
  #generation = 0;
  #recordsOfKey = 0;
  #bytesOfKey = 0;
  readonly #ratchet: RatchetLimits;

  constructor(
    identity: CallIdentity,
    direction: Direction,
    salt: Uint8Array,
    ratchet: RatchetLimits,
  ) {
    assert(identity.sessionId.length === SESSION_ID_BYTES, 'a session id has 16 bytes');
    this.suite = identity.suite;
    this.#key = callKey(identity, direction, salt);
    this.#ratchet = ratchet;
    const method = Buffer.from(identity.method, 'utf8');
    const head = Buffer.alloc(3);
    head.writeUInt16BE(identity.version, 0);
    head.writeUInt8(SUITE_NUMBERS[identity.suite], 2);
    const methodLength = Buffer.alloc(2);
    methodLength.writeUInt16BE(method.length);
    this.associated = Buffer.concat([
      Buffer.from('hvdr1 record', 'latin1'),
      head,
      identity.sessionId,
      Buffer.of(direction === 'c2s' ? 1 : 2),
      u64(identity.callId),
      methodLength,
      method,
      Buffer.alloc(8 + 1 + 4),
    ]);
  }

  get key(): Buffer {
    return this.#key;
  }

  /** Records before the current one. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Sets nonce and associated data for the current record. */
  prepare(flags: number, plaintextBytes: number): void {
    const high = Math.floor(this.#sequence / 2 ** 32);
    const low = this.#sequence % 2 ** 32;
    this.nonce.writeUInt32BE(high, 4);
    this.nonce.writeUInt32BE(low, 8);
    const tail = this.associated.length - 13;
    this.associated.writeUInt32BE(high, tail);
    this.associated.writeUInt32BE(low, tail + 4);
    this.associated.writeUInt8(flags, tail + 8);
    this.associated.writeUInt32BE(plaintextBytes, tail + 9);
  }

  advance(plaintextBytes: number): void {
    this.#sequence++;
    this.#recordsOfKey++;
    this.#bytesOfKey += plaintextBytes;
    if (this.#recordsOfKey < this.#ratchet.records && this.#bytesOfKey < this.#ratchet.bytes)
      return;
    this.#generation++;
    const info = Buffer.concat([Buffer.from('hvdr1 ratchet', 'latin1'), Buffer.alloc(4)]);
    info.writeUInt32BE(this.#generation, info.length - 4);
    const next = Buffer.from(hkdfSync('sha256', this.#key, Buffer.alloc(0), info, KEY_BYTES));
    this.#key.fill(0);
    this.#key = next;
    this.#recordsOfKey = 0;
    this.#bytesOfKey = 0;
  }

  wipe(): void {
    this.#key.fill(0);
  }
}

export interface SealedRecord {
  /** Flags and salt. */
  readonly head: Buffer;
  /** In memory of its own. */
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
  readonly lengthBytes: number;
}

/** Seals the records that this side sends in one call. */
export class RecordSealer {
  readonly #state: DirectionState;
  #salt: Buffer | undefined;
  #isFinal = false;

  /** `salt`: 16 random bytes on the receiver's side, none on the initiator's. */
  constructor(identity: CallIdentity, salt?: Buffer, ratchet: RatchetLimits = RATCHET) {
    assert(salt === undefined || salt.length === SALT_BYTES, 'a salt has 16 bytes');
    const direction = salt === undefined ? 'c2s' : 's2c';
    this.#salt = salt;
    this.#state = new DirectionState(identity, direction, salt ?? Buffer.alloc(0), ratchet);
  }

  /** Records sealed so far. */
  get recordCount(): number {
    return this.#state.sequence;
  }

  /**
   * `plaintext` is read before the function returns.
   * @throws DrError E_LIMIT when it is longer than a record may be
   */
  seal(kind: RecordKind, plaintext: Uint8Array): SealedRecord {
    assert(!this.#isFinal, 'nothing follows FINAL');
    if (plaintext.length > MESSAGE_BYTES_MAX) {
      throw new DrError(
        'E_LIMIT',
        `a message of ${plaintext.length} bytes was to be sent, at most ${MESSAGE_BYTES_MAX} are legal`,
      );
    }
    const salt = this.#salt;
    this.#salt = undefined;
    const flags = FLAGS_OF[kind] | (salt === undefined ? 0 : FLAG_SALT);
    const state = this.#state;
    state.prepare(flags, plaintext.length);
    const { ciphertext, tag } = seal(
      state.suite,
      state.key,
      state.nonce,
      state.associated,
      plaintext,
    );
    state.advance(plaintext.length);
    this.#isFinal = kind === 'final';
    const head = salt === undefined ? Buffer.of(flags) : Buffer.concat([Buffer.of(flags), salt]);
    return { head, ciphertext, tag, lengthBytes: head.length + ciphertext.length + tag.length };
  }

  wipe(): void {
    this.#state.wipe();
  }
}

export interface OpenedRecord {
  readonly kind: RecordKind;
  /** In memory of its own: the taker's to keep. */
  readonly plaintext: Buffer;
}

function kindOf(flags: number): RecordKind | undefined {
  switch (flags) {
    case FLAGS_OF.message:
      return 'message';
    case FLAGS_OF.final:
      return 'final';
    case FLAGS_OF.open:
      return 'open';
    default:
      return undefined;
  }
}

/** Opens the records that the peer sends in one call. */
export class RecordOpener {
  readonly #identity: CallIdentity;
  readonly #direction: Direction;
  readonly #ratchet: RatchetLimits;
  #state: DirectionState | undefined;

  constructor(identity: CallIdentity, direction: Direction, ratchet: RatchetLimits = RATCHET) {
    this.#identity = identity;
    this.#direction = direction;
    this.#ratchet = ratchet;
  }

  /** Records opened so far. */
  get recordCount(): number {
    return this.#state?.sequence ?? 0;
  }

  /**
   * Opens the next record. `record` may be used again afterwards.
   * @throws DrError E_REPLAY, one for every cause
   */
  open(record: Uint8Array): OpenedRecord {
    const flags = record[0];
    if (flags === undefined) throw new UnopenedRecord();
    // the salt stands in the receiver's first record and nowhere else
    const wantsSalt = this.#direction === 's2c' && this.#state === undefined;
    if ((flags & FLAG_SALT) !== (wantsSalt ? FLAG_SALT : 0)) throw new UnopenedRecord();
    const kind = kindOf(flags & ~FLAG_SALT);
    const headBytes = wantsSalt ? 1 + SALT_BYTES : 1;
    const plaintextBytes = record.length - headBytes - TAG_BYTES;
    if (kind === undefined || plaintextBytes < 0 || plaintextBytes > MESSAGE_BYTES_MAX) {
      throw new UnopenedRecord();
    }
    this.#state ??= new DirectionState(
      this.#identity,
      this.#direction,
      record.subarray(1, headBytes),
      this.#ratchet,
    );
    const state = this.#state;
    state.prepare(flags, plaintextBytes);
    const tagStart = headBytes + plaintextBytes;
    const plaintext = open(
      state.suite,
      state.key,
      state.nonce,
      state.associated,
      record.subarray(headBytes, tagStart),
      record.subarray(tagStart),
    );
    if (plaintext === undefined) throw new UnopenedRecord();
    state.advance(plaintextBytes);
    return { kind, plaintext };
  }

  wipe(): void {
    this.#state?.wipe();
  }
}
