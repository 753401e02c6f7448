// The parent locator item of a differencing disk (§ 3.1): a small table of UTF-16 keys and values.

import { parseGuid, readGuid, writeGuid, type Guid, ZERO_GUID } from '../bytes/index.js';
import {
  LOCATOR_ENTRIES_MAX,
  LOCATOR_ENTRY_BYTES,
  LOCATOR_HEADER_BYTES,
  LOCATOR_TYPE_VHDX,
} from './format.js';
import type { Report } from './violation.js';

export interface ParentLocator {
  /** Place of the item in the file that it was read from, for messages. */
  readonly offset?: number | undefined;
  /** The parent's DataWriteGuid when the child was linked to it. */
  readonly parentLinkage: Guid;
  /** A second acceptable linkage; Windows writes zero, which means none. */
  readonly parentLinkage2?: Guid | undefined;
  /** Path from the child's folder, with backslashes. */
  readonly relativePath?: string | undefined;
  readonly volumePath?: string | undefined;
  readonly absolutePath?: string | undefined;
}

const KEYS = {
  linkage: 'parent_linkage',
  linkage2: 'parent_linkage2',
  relative: 'relative_path',
  volume: 'volume_path',
  absolute: 'absolute_win32_path',
} as const;

/** Parses the item's bytes; `offset` is the item's place in the file, for messages. */
export function parseParentLocator(
  bytes: Buffer,
  offset: number,
  report: Report,
): ParentLocator | undefined {
  const wrong = (at: number, message: string): undefined => {
    report({ code: 'E_VHDX_LOCATOR', structure: 'parent locator', offset: offset + at, message });
    return undefined;
  };
  if (bytes.length < LOCATOR_HEADER_BYTES) return wrong(0, `only ${bytes.length} bytes long`);
  const type = readGuid(bytes, 0);
  if (type !== LOCATOR_TYPE_VHDX) return wrong(0, `locator type ${type} is unknown`);
  const count = bytes.readUInt16LE(18);
  if (count === 0 || count > LOCATOR_ENTRIES_MAX) {
    return wrong(18, `${count} entries, legal are 1 to ${LOCATOR_ENTRIES_MAX}`);
  }
  if (LOCATOR_HEADER_BYTES + count * LOCATOR_ENTRY_BYTES > bytes.length) {
    return wrong(18, `${count} entries do not fit into ${bytes.length} bytes`);
  }
  const text = (at: number, start: number, length: number): string | undefined => {
    if (length === 0 || length % 2 !== 0 || start + length > bytes.length) {
      return wrong(at, `string of ${length} bytes at ${start} is not inside the item`);
    }
    const value = bytes.toString('utf16le', start, start + length);
    return value.includes('\0') ? wrong(at, 'string with an embedded NUL') : value;
  };
  const entries = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const at = LOCATOR_HEADER_BYTES + i * LOCATOR_ENTRY_BYTES;
    const key = text(at, bytes.readUInt32LE(at), bytes.readUInt16LE(at + 8));
    const value = text(at, bytes.readUInt32LE(at + 4), bytes.readUInt16LE(at + 10));
    if (key === undefined || value === undefined) return undefined;
    if (entries.has(key)) return wrong(at, `key ${key} appears twice`);
    entries.set(key, value);
  }
  const linkageText = entries.get(KEYS.linkage);
  const linkage = linkageText === undefined ? undefined : parseGuid(linkageText);
  if (linkage === undefined) return wrong(0, 'there is no valid parent_linkage');
  const second = entries.get(KEYS.linkage2);
  const linkage2 = second === undefined ? undefined : parseGuid(second);
  if (second !== undefined && linkage2 === undefined) return wrong(0, 'parent_linkage2 is no GUID');
  const paths = {
    relativePath: entries.get(KEYS.relative),
    volumePath: entries.get(KEYS.volume),
    absolutePath: entries.get(KEYS.absolute),
  };
  if (Object.values(paths).every((path) => path === undefined)) {
    return wrong(0, 'there is no path to the parent');
  }
  return {
    offset,
    parentLinkage: linkage,
    parentLinkage2: linkage2 === ZERO_GUID ? undefined : linkage2,
    ...paths,
  };
}

export function encodeParentLocator(locator: ParentLocator): Buffer {
  const braced = (value: Guid): string => `{${value}}`;
  const entries: [string, string][] = [
    [KEYS.linkage, braced(locator.parentLinkage)],
    [KEYS.linkage2, braced(locator.parentLinkage2 ?? ZERO_GUID)],
  ];
  if (locator.relativePath !== undefined) entries.push([KEYS.relative, locator.relativePath]);
  if (locator.volumePath !== undefined) entries.push([KEYS.volume, locator.volumePath]);
  if (locator.absolutePath !== undefined) entries.push([KEYS.absolute, locator.absolutePath]);

  const tableBytes = LOCATOR_HEADER_BYTES + entries.length * LOCATOR_ENTRY_BYTES;
  const strings: Buffer[] = [];
  const head = Buffer.alloc(tableBytes);
  writeGuid(head, 0, LOCATOR_TYPE_VHDX);
  head.writeUInt16LE(entries.length, 18);
  let position = tableBytes;
  entries.forEach(([key, value], i) => {
    const at = LOCATOR_HEADER_BYTES + i * LOCATOR_ENTRY_BYTES;
    const keyBytes = Buffer.from(key, 'utf16le');
    const valueBytes = Buffer.from(value, 'utf16le');
    head.writeUInt32LE(position, at);
    head.writeUInt32LE(position + keyBytes.length, at + 4);
    head.writeUInt16LE(keyBytes.length, at + 8);
    head.writeUInt16LE(valueBytes.length, at + 10);
    strings.push(keyBytes, valueBytes);
    position += keyBytes.length + valueBytes.length;
  });
  return Buffer.concat([head, ...strings]);
}
