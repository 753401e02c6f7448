// The folder of a VM in Bacula's catalog: its name, written so that every file system and every tool
// between here and a restore takes it as it is, and so that it can be read back. What is encoded:
// bytes of UTF-8 as `%XX`, of a lone surrogate as well. One name has one spelling.
//
//   SQL01                SQL01
//   a/b: 50 %            a%2Fb%3A 50 %25
//   CON, COM1.x          %43ON, %43OM1.x
//   the end, blank       the end,%20...        only the last blank or dot
//   (no name)            %
//
// Two VMs of a host that share a name, and a name that is too long, get `~` and the first eight digits
// of the VM's id behind it. Identity is never the folder: manifests and rct-state carry GUIDs.

import type { Guid } from '../bytes/index.js';

/** What file systems refuse or read as something else, and what changes how a name looks. */
const ENCODED =
  /[\u0000-\u001f\u007f-\u009f%/\\:*?"<>|\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|\p{Cs}/gu;
const RESERVED = /^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?=\.| *$)/i;
const SUFFIX = /~[0-9a-f]{8}$/i;
/** Leaves room in 255 bytes for `_<disk id>.vhdx.<seq>.manifest`. */
const NAME_BYTES_MAX = 150;

/** A VM as its folder is chosen for. */
export interface NamedVm {
  readonly id: Guid;
  readonly name: string;
}

/** What the name of a folder says. */
export interface VmFolder {
  /** As the VM was called; the beginning of it when `idStart` is there and the name was too long. */
  readonly vmName: string;
  /** First eight digits of the VM's id. */
  readonly idStart: string | undefined;
}

/** The folder of `vm` among the VMs of its host, itself included or not. */
export function vmFolder(vm: NamedVm, all: Iterable<NamedVm>): string {
  const encoded = encodeVmName(vm.name);
  const short = shortened(encoded);
  let isShared = short !== encoded;
  for (const other of all) {
    // a folder of Windows does not tell the two apart either
    if (other.id !== vm.id && folded(other.name) === folded(vm.name)) isShared = true;
  }
  return isShared ? `${short}~${vm.id.slice(0, 8)}` : encoded;
}

export function encodeVmName(name: string): string {
  if (name === '') return '%';
  let text = name.replace(ENCODED, (unit) => escaped(unit));
  text = text.replace(/[ .]$/, (last) => escaped(last));
  if (RESERVED.test(text)) text = `${escaped(text.slice(0, 1))}${text.slice(1)}`;
  // else it would look like a name that two VMs share
  return SUFFIX.test(text) ? `${text.slice(0, -9)}%7E${text.slice(-8)}` : text;
}

/** undefined: no folder of ours is spelt like that. */
export function parseVmFolder(folder: string): VmFolder | undefined {
  const suffix = SUFFIX.exec(folder)?.[0];
  const encoded = suffix === undefined ? folder : folder.slice(0, -suffix.length);
  const vmName = decoded(encoded);
  if (vmName === undefined || encodeVmName(vmName) !== encoded) return undefined;
  return { vmName, idStart: suffix?.slice(1).toLowerCase() };
}

function folded(name: string): string {
  return name.normalize('NFC').toLowerCase();
}

/** Cut at a character, never inside `%XX`; nothing that would be spelt otherwise stays at the end. */
function shortened(encoded: string): string {
  if (Buffer.byteLength(encoded) <= NAME_BYTES_MAX) return encoded;
  let text = '';
  let lengthBytes = 0;
  for (const part of encoded.match(/(?:%[0-9A-F]{2})+|[^%]/gu) ?? []) {
    lengthBytes += Buffer.byteLength(part);
    if (lengthBytes > NAME_BYTES_MAX) break;
    text += part;
  }
  return encodeVmName(decoded(text) ?? '');
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const isLone = code >= 0xd800 && code <= 0xdfff;
  const bytes = isLone
    ? [0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)]
    : [...Buffer.from(character)];
  return bytes.map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');
}

function decoded(encoded: string): string | undefined {
  if (encoded === '%') return '';
  if (encoded === '' || /%(?![0-9A-F]{2})/.test(encoded)) return undefined;
  let text = '';
  for (const [part] of encoded.matchAll(/(?:%[0-9A-F]{2})+|[^%]+/g)) {
    const characters = part.startsWith('%')
      ? decodedBytes(Buffer.from(part.replaceAll('%', ''), 'hex'))
      : part;
    if (characters === undefined) return undefined;
    text += characters;
  }
  return text;
}

/** UTF-8 in which lone surrogates may stand. */
function decodedBytes(bytes: Buffer): string | undefined {
  let text = '';
  let start = 0;
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    for (let at = 0; at + 2 < bytes.length; at++) {
      const second = bytes[at + 1] ?? 0;
      if (bytes[at] !== 0xed || second < 0xa0) continue;
      text += decoder.decode(bytes.subarray(start, at));
      const third = bytes[at + 2] ?? 0;
      text += String.fromCharCode(0xd000 | ((second & 0x3f) << 6) | (third & 0x3f));
      start = at + 3;
      at += 2;
    }
    return text + decoder.decode(bytes.subarray(start));
  } catch {
    return undefined;
  }
}
