// A seed medium, byte by byte (docs/on-disk.md "Seed medium"). Little-endian:
//
//   header, 128 bytes   0 magic "HVDRSEED"   8 version u32   12 suite u32 (1: AES-256-GCM)
//                       16 salt, 32 bytes    48 length of the key id u16   50 key id, 64 bytes
//                       114 reserved 10 bytes = 0   124 CRC-32C of 0..123
//   records             0 plaintext length u32   4 kind u8   5 reserved 3 bytes = 0
//                       8 ciphertext, as long as the plaintext   then the tag, 16 bytes
//
//   kind 1 description   an OpenRequest as protobuf; the first record and no other
//        2 message       a message of the push stream: cells, or the end of a disk
//        3 end           number of records before it, u64; the last record, nothing follows
//
//   key of records [65536 g, 65536 (g + 1))
//            HKDF-SHA-256(PSK, salt, "hvdr1 seed medium" ‖ SHA-256(header) ‖ u32 g)
//   nonce    4 zero bytes ‖ u64 sequence         associated  "hvdr1 seed record" ‖ bytes 0..7 ‖ u64 sequence
//
// The salt is random, so no two media share a key; a key seals 64 GiB at most. Sequence, kind and length
// are under the tag: a record that is missing, repeated, moved or cut does not open, and without its
// last record a medium is not whole.

import { hash, hkdfSync, type KeyObject } from 'node:crypto';
import { assert } from '../assert.js';
import { crc32c } from '../bytes/index.js';
import { isKeyId, openSealed, type PreSharedKey, seal, TAG_BYTES } from '../channel/index.js';
import { DrError } from '../errors.js';

export const MEDIUM_HEADER_BYTES = 128;
export const RECORD_HEAD_BYTES = 8;
/** A push message of 1 MiB with all of its entries is shorter. */
export const RECORD_PLAINTEXT_MAX = (1 << 20) + (64 << 10);
export const SALT_BYTES = 32;

const MAGIC = Buffer.from('HVDRSEED', 'latin1');
const VERSION = 1;
const SUITE_AES = 1;
const KEY_ID_MAX = 64;
const KEY_BYTES = 32;
/** Records that one key seals. */
const SEGMENT_RECORDS = 65_536;

const KINDS = { description: 1, message: 2, end: 3 } as const;
export type RecordKind = keyof typeof KINDS;

export function mediumError(
  path: string,
  what: string,
  more: { done?: string; hint?: string } = {},
): DrError {
  return new DrError('E_SEED_MEDIUM', `${path}: ${what}`, { context: { file: path }, ...more });
}

export function encodeMediumHeader(salt: Buffer, keyId: string): Buffer {
  assert(salt.length === SALT_BYTES && isKeyId(keyId), 'salt and key id are of ours');
  const out = Buffer.alloc(MEDIUM_HEADER_BYTES);
  MAGIC.copy(out);
  out.writeUInt32LE(VERSION, 8);
  out.writeUInt32LE(SUITE_AES, 12);
  salt.copy(out, 16);
  out.writeUInt16LE(keyId.length, 48);
  out.write(keyId, 50, 'latin1');
  out.writeUInt32LE(crc32c(out.subarray(0, 124)), 124);
  return out;
}

/** The id of the key that a medium is sealed with. @throws DrError E_SEED_MEDIUM, E_FILE_VERSION */
export function parseMediumHeader(bytes: Buffer, path: string): string {
  if (bytes.length < MEDIUM_HEADER_BYTES) throw mediumError(path, 'it ends inside its header');
  if (!bytes.subarray(0, 8).equals(MAGIC)) throw mediumError(path, 'it is no seed medium');
  if (bytes.readUInt32LE(124) !== crc32c(bytes.subarray(0, 124))) {
    throw mediumError(path, 'the checksum of its header is wrong');
  }
  const version = bytes.readUInt32LE(8);
  if (version !== VERSION) {
    throw new DrError('E_FILE_VERSION', `${path} has version ${version}, known is ${VERSION}`, {
      context: { file: path, version },
    });
  }
  const length = bytes.readUInt16LE(48);
  const keyId = bytes.toString('latin1', 50, 50 + Math.min(length, KEY_ID_MAX));
  const rest = bytes.subarray(50 + keyId.length, 124);
  if (length > KEY_ID_MAX || !isKeyId(keyId) || rest.some((byte) => byte !== 0)) {
    throw mediumError(path, 'its header is not legal');
  }
  if (bytes.readUInt32LE(12) !== SUITE_AES) throw mediumError(path, 'its cipher is not known');
  return keyId;
}

/** The head of a record. @throws DrError E_SEED_MEDIUM */
export function parseRecordHead(head: Buffer, path: string): { lengthBytes: number } {
  const lengthBytes = head.readUInt32LE(0);
  if (lengthBytes === 0 || lengthBytes > RECORD_PLAINTEXT_MAX) {
    throw mediumError(path, `a record of ${lengthBytes} bytes is not legal`);
  }
  return { lengthBytes };
}

/** Seals or opens the records of one medium, in order. */
export class MediumSeal {
  readonly #secret: KeyObject;
  readonly #salt: Buffer;
  readonly #headerHash: Buffer;
  #key: Buffer = Buffer.alloc(0);
  #sequence = 0;

  constructor({ secret }: PreSharedKey, header: Buffer) {
    this.#secret = secret;
    this.#salt = Buffer.from(header.subarray(16, 16 + SALT_BYTES));
    this.#headerHash = hash('sha256', header, 'buffer');
  }

  /** Records so far. */
  get count(): number {
    return this.#sequence;
  }

  /** A whole record. */
  seal(kind: RecordKind, plaintext: Buffer): Buffer {
    assert(plaintext.length > 0 && plaintext.length <= RECORD_PLAINTEXT_MAX, 'a legal record');
    const head = Buffer.alloc(RECORD_HEAD_BYTES);
    head.writeUInt32LE(plaintext.length, 0);
    head.writeUInt8(KINDS[kind], 4);
    const { key, nonce, associated } = this.#next(head);
    const sealed = seal('aes-256-gcm', key, nonce, associated, plaintext);
    return Buffer.concat([head, sealed.ciphertext, sealed.tag]);
  }

  /** The next record, or undefined when it does not open. */
  open(head: Buffer, body: Buffer): { kind: RecordKind; plaintext: Buffer } | undefined {
    const { key, nonce, associated } = this.#next(head);
    const end = body.length - TAG_BYTES;
    const ciphertext = body.subarray(0, end);
    const plaintext = openSealed(
      'aes-256-gcm',
      key,
      nonce,
      associated,
      ciphertext,
      body.subarray(end),
    );
    const kind = (Object.keys(KINDS) as RecordKind[]).find(
      (name) => KINDS[name] === head.readUInt8(4),
    );
    if (plaintext === undefined || kind === undefined) return undefined;
    return head.subarray(5, RECORD_HEAD_BYTES).every((byte) => byte === 0)
      ? { kind, plaintext }
      : undefined;
  }

  #next(head: Buffer): { key: Buffer; nonce: Buffer; associated: Buffer } {
    if (this.#sequence % SEGMENT_RECORDS === 0) {
      const segment = Buffer.alloc(4);
      segment.writeUInt32LE(this.#sequence / SEGMENT_RECORDS);
      const label = Buffer.from('hvdr1 seed medium', 'latin1');
      const info = Buffer.concat([label, this.#headerHash, segment]);
      this.#key = Buffer.from(hkdfSync('sha256', this.#secret, this.#salt, info, KEY_BYTES));
    }
    const sequence = Buffer.alloc(8);
    sequence.writeBigUInt64LE(BigInt(this.#sequence));
    this.#sequence++;
    const label = Buffer.from('hvdr1 seed record', 'latin1');
    return {
      key: this.#key,
      nonce: Buffer.concat([Buffer.alloc(4), sequence]),
      associated: Buffer.concat([label, head, sequence]),
    };
  }
}
