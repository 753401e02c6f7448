// GUIDs in Microsoft's mixed-endian layout (MS-VHDX § 1): the first three fields little-endian,
// the last eight bytes as written. In memory a GUID is its lower-case text without braces.

import type { Random } from '../clock.js';

/** 36 characters, lower case, no braces. */
export type Guid = string & { readonly guid: unique symbol };

const TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const ZERO_GUID = '00000000-0000-0000-0000-000000000000' as Guid;

/** The GUID in `text`, with or without braces, in any case; undefined when it is not one. */
export function parseGuid(text: string): Guid | undefined {
  const isBraced = text.startsWith('{') && text.endsWith('}');
  const bare = (isBraced ? text.slice(1, -1) : text).toLowerCase();
  return TEXT.test(bare) ? (bare as Guid) : undefined;
}

/** A GUID constant of our own source code. */
export function guid(text: string): Guid {
  const parsed = parseGuid(text);
  if (parsed === undefined) throw new TypeError(`not a GUID: ${text}`);
  return parsed;
}

/** Reads 16 bytes at `offset`. */
export function readGuid(bytes: Buffer, offset: number): Guid {
  const hex = bytes.toString('hex', offset, offset + 16);
  const swap = (start: number, count: number): string => {
    let out = '';
    for (let i = count - 1; i >= 0; i--) out += hex.slice(start + 2 * i, start + 2 * i + 2);
    return out;
  };
  return `${swap(0, 4)}-${swap(8, 2)}-${swap(12, 2)}-${hex.slice(16, 20)}-${hex.slice(20)}` as Guid;
}

/** Writes 16 bytes at `offset`. */
export function writeGuid(bytes: Buffer, offset: number, value: Guid): void {
  bytes.writeUInt32LE(Number.parseInt(value.slice(0, 8), 16), offset);
  bytes.writeUInt16LE(Number.parseInt(value.slice(9, 13), 16), offset + 4);
  bytes.writeUInt16LE(Number.parseInt(value.slice(14, 18), 16), offset + 6);
  bytes.write(value.slice(19, 23) + value.slice(24), offset + 8, 8, 'hex');
}

/** A random (version 4) GUID. */
export function randomGuid(random: Random): Guid {
  const bytes = random.fill(Buffer.alloc(16));
  bytes.writeUInt8((bytes.readUInt8(7) & 0x0f) | 0x40, 7);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return readGuid(bytes, 0);
}

/** The 16 bytes of a GUID in the order of its text (RFC 9562), as they travel between the sites. */
export function guidToWire(value: Guid): Buffer {
  return Buffer.from(value.replaceAll('-', ''), 'hex');
}

/** The GUID in 16 bytes from the wire; undefined for any other length. */
export function guidFromWire(bytes: Uint8Array): Guid | undefined {
  if (bytes.length !== 16) return undefined;
  const hex = Buffer.from(bytes).toString('hex');
  const cut = (start: number, end: number): string => hex.slice(start, end);
  return `${cut(0, 8)}-${cut(8, 12)}-${cut(12, 16)}-${cut(16, 20)}-${cut(20, 32)}` as Guid;
}
