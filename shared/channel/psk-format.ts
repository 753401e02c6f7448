// The text of a pre-shared key. One line, for every system and every editor:
//
//   hvdrpsk1: base64url of   body ‖ first 8 bytes of SHA-256("hvdrpsk1" ‖ body)
//
//   body   secret (32) ‖ u48 creation time (ms) ‖ u8 role ‖ text key id ‖ text principal ‖
//          text VM pattern ‖ text receiver id ‖ u8 n, n texts: receiver addresses
//   text   u16 n, n bytes of UTF-8                                               (big-endian)
//
// Lines that begin with `#` and empty lines are passed over. The secret is decoded from bytes into
// bytes and never stands in a string, but for the forms `env:` and a literal, which are strings
// from the start.

import { createHash, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import { KEY_BYTES } from './aead.js';
import { KEY_ID_BYTES_MAX, PRINCIPAL_BYTES_MAX } from './limits.js';
import type { Role } from './service.js';

export const PSK_TAG = 'hvdrpsk1';
export const PSK_FILE_BYTES_MAX = 16 << 10;

const CHECKSUM_BYTES = 8;
const ADDRESSES_MAX = 16;
const ROLES: readonly Role[] = ['source', 'viewer', 'drill', 'operator'];

/** What a key file holds. */
export interface PreSharedKey {
  readonly keyId: string;
  readonly principal: string;
  readonly role: Role;
  /** Which VM names the key may newly protect; `*` and `?` as wildcards. */
  readonly vmPattern: string;
  readonly createdAtMs: number;
  /** 32 bytes. */
  readonly secret: KeyObject;
  /** The store that the source's data may go to; written by `psk generate`, never by use. */
  readonly receiverId?: string | undefined;
  /** `host` or `host:port`: connect() goes nowhere else. */
  readonly receiverAddresses?: readonly string[] | undefined;
}

export function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}

/** Letters, digits and `.-_` only, so that ids can stand in headers, file names and logs. */
export function isKeyId(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text) && text.length <= KEY_ID_BYTES_MAX;
}

/** A name for people: no control characters, no blanks at the ends. */
export function isPrincipal(text: string): boolean {
  return (
    text.length > 0 &&
    Buffer.byteLength(text) <= PRINCIPAL_BYTES_MAX &&
    text.trim() === text &&
    !/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(text)
  );
}

function notAKey(where: string, why: string): DrError {
  return new DrError('E_KEY_FILE', `${where} holds no usable key: ${why}`, {
    context: { where },
  });
}

function textBytes(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(PSK_TAG).update(body).digest().subarray(0, CHECKSUM_BYTES);
}

/** The line of a key, with a line feed. The caller wipes it. */
export function encodeKey(key: PreSharedKey): Buffer {
  assert(isKeyId(key.keyId), 'a key id has a legal form');
  assert(isPrincipal(key.principal), 'a principal has a legal form');
  const addresses = key.receiverAddresses ?? [];
  assert(addresses.length <= ADDRESSES_MAX, 'a key names a bounded number of addresses');
  const secret = key.secret.export();
  const head = Buffer.alloc(7);
  head.writeUIntBE(key.createdAtMs, 0, 6);
  head.writeUInt8(ROLES.indexOf(key.role), 6);
  const body = Buffer.concat([
    secret,
    head,
    textBytes(key.keyId),
    textBytes(key.principal),
    textBytes(key.vmPattern),
    textBytes(key.receiverId ?? ''),
    Buffer.of(addresses.length),
    ...addresses.map(textBytes),
  ]);
  const whole = Buffer.concat([body, checksum(body)]);
  const encoded = encodeBase64Url(whole);
  for (const bytes of [secret, body, whole]) bytes.fill(0);
  const line = Buffer.concat([Buffer.from(`${PSK_TAG}:`, 'latin1'), encoded, Buffer.of(10)]);
  encoded.fill(0);
  return line;
}

const ALPHABET = Buffer.from(
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_',
  'latin1',
);

/** As Buffer does it, but without a string in between. */
function encodeBase64Url(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(Math.ceil((bytes.length * 8) / 6));
  let bits = 0;
  let bitCount = 0;
  let filled = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    bitCount += 8;
    while (bitCount >= 6) {
      bitCount -= 6;
      out[filled++] = ALPHABET[(bits >>> bitCount) & 63] ?? 0;
    }
    bits &= (1 << bitCount) - 1;
  }
  if (bitCount > 0) out[filled] = ALPHABET[(bits << (6 - bitCount)) & 63] ?? 0;
  return out;
}

function decodeBase64Url(text: Uint8Array): Buffer | undefined {
  const out = Buffer.alloc(Math.floor((text.length * 6) / 8));
  let bits = 0;
  let bitCount = 0;
  let filled = 0;
  for (const character of text) {
    const value = ALPHABET.indexOf(character);
    if (value === -1) return undefined;
    bits = (bits << 6) | value;
    bitCount += 6;
    if (bitCount >= 8) {
      bitCount -= 8;
      out[filled++] = (bits >>> bitCount) & 255;
    }
    bits &= (1 << bitCount) - 1;
  }
  return out;
}

/** The one line that is no comment. */
function keyLine(file: Buffer, where: string): Buffer {
  const lines: Buffer[] = [];
  let start = 0;
  while (start < file.length) {
    const end = file.indexOf(10, start);
    const stop = end === -1 ? file.length : end;
    let line = file.subarray(start, stop);
    start = stop + 1;
    // editors on Windows: a mark in front of the file, a carriage return behind each line
    if (line.length >= 3 && line.readUIntBE(0, 3) === 0xefbbbf) line = line.subarray(3);
    while (line.length > 0 && [9, 13, 32].includes(line.at(-1) ?? 0)) line = line.subarray(0, -1);
    while (line.length > 0 && [9, 32].includes(line[0] ?? 0)) line = line.subarray(1);
    if (line.length > 0 && line[0] !== 35) lines.push(line);
  }
  const [line] = lines;
  if (line === undefined) throw notAKey(where, 'it is empty');
  if (lines.length > 1) throw notAKey(where, 'it has more than one line');
  return line;
}

/**
 * Reads the text of a key. `where` is for messages. The caller wipes `file`.
 * @throws DrError E_KEY_FILE
 */
export function parseKey(file: Buffer, where: string): PreSharedKey {
  const line = keyLine(file, where);
  const tag = Buffer.from(`${PSK_TAG}:`, 'latin1');
  if (!line.subarray(0, tag.length).equals(tag)) {
    throw notAKey(where, `it does not begin with ${PSK_TAG}:`);
  }
  const whole = decodeBase64Url(line.subarray(tag.length));
  if (whole === undefined || whole.length < KEY_BYTES + CHECKSUM_BYTES) {
    throw notAKey(where, 'a part of it is missing or has foreign characters');
  }
  const body = whole.subarray(0, whole.length - CHECKSUM_BYTES);
  try {
    if (!timingSafeEqual(whole.subarray(body.length), checksum(body))) {
      throw notAKey(where, 'its checksum is wrong, so a part of it was lost or changed');
    }
    return parseBody(body, where);
  } finally {
    whole.fill(0);
  }
}

function parseBody(body: Buffer, where: string): PreSharedKey {
  let position = KEY_BYTES;
  const take = (length: number): Buffer => {
    if (position + length > body.length) throw notAKey(where, 'it ends too early');
    const bytes = body.subarray(position, position + length);
    position += length;
    return bytes;
  };
  const takeText = (): string => {
    const bytes = take(take(2).readUInt16BE(0));
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      throw notAKey(where, 'a name in it is not UTF-8');
    }
  };
  const createdAtMs = take(6).readUIntBE(0, 6);
  const role = ROLES[take(1).readUInt8(0)];
  const keyId = takeText();
  const principal = takeText();
  const vmPattern = takeText();
  const receiverId = takeText();
  const addressCount = take(1).readUInt8(0);
  if (addressCount > ADDRESSES_MAX) throw notAKey(where, 'it names too many addresses');
  const receiverAddresses = Array.from({ length: addressCount }, takeText);
  if (position !== body.length) throw notAKey(where, 'bytes follow its end');
  if (role === undefined) throw notAKey(where, 'its role is unknown to this release');
  if (!isKeyId(keyId)) throw notAKey(where, 'its id is not a legal one');
  if (!isPrincipal(principal)) throw notAKey(where, 'its principal is not a legal name');
  return {
    keyId,
    principal,
    role,
    vmPattern,
    createdAtMs,
    secret: createSecretKey(body.subarray(0, KEY_BYTES)),
    ...(receiverId === '' ? {} : { receiverId }),
    ...(addressCount === 0 ? {} : { receiverAddresses }),
  };
}
