// The binding of virtdisk.dll against what is recorded of Windows: structures, functions, numbers. The oracle of the
// compiler (print-layouts.c) lays out declarations of our own; here they are those of Microsoft's headers, measured.

import {
  FUNCTION_SIGNATURES,
  WINDOWS_LIBRARIES,
} from '../../shared/hypervisor/hyperv/native/library.js';
import {
  LAYOUTS,
  MEMBER_BYTES,
  type Layout,
} from '../../shared/hypervisor/hyperv/native/layouts.js';
import * as win32 from '../../shared/hypervisor/hyperv/native/win32.js';
import type { FactBook, StructFact } from './powershell-contract/facts.js';

export type Signature = readonly [part: string, result: string, args: readonly string[]];

/** What the binding believes of Windows, as values, so that a test can make one of them wrong. */
export interface Beliefs {
  readonly layouts: Readonly<Record<string, Layout>>;
  readonly signatures: Readonly<Record<string, Signature>>;
  /** Of win32.ts, by our names. */
  readonly constants: Readonly<Record<string, number | string>>;
  readonly errors: readonly (readonly [code: number, name: string])[];
}

export const BELIEFS: Beliefs = {
  layouts: LAYOUTS,
  signatures: FUNCTION_SIGNATURES,
  constants: Object.fromEntries(
    Object.entries(win32).flatMap(([name, value]) =>
      typeof value === 'number' || typeof value === 'string' ? [[name, value]] : [],
    ),
  ),
  errors: [...win32.MEANINGS].map(([code, { name }]) => [code, name] as const),
};

/** What the members are that the facts record as a whole. */
const INNER_STRUCTS: Readonly<Record<string, string>> = {
  'TOKEN_PRIVILEGES.Privileges': 'LUID_AND_ATTRIBUTES',
};

/** Enumeration and name of Windows; an own name that is also that of Windows, outside an enumeration, needs none. */
const WINDOWS_NAMES: Readonly<Record<string, readonly [enumeration: string | undefined, string]>> =
  {
    VENDOR_MICROSOFT: [undefined, 'VIRTUAL_STORAGE_TYPE_VENDOR_MICROSOFT'],
    DEVICE_VHDX: [undefined, 'VIRTUAL_STORAGE_TYPE_DEVICE_VHDX'],
    ACCESS_NONE: ['VIRTUAL_DISK_ACCESS_MASK', 'VIRTUAL_DISK_ACCESS_NONE'],
    ACCESS_METAOPS: ['VIRTUAL_DISK_ACCESS_MASK', 'VIRTUAL_DISK_ACCESS_METAOPS'],
    OPEN_VERSION_1: ['OPEN_VIRTUAL_DISK_VERSION', 'OPEN_VIRTUAL_DISK_VERSION_1'],
    OPEN_VERSION_2: ['OPEN_VIRTUAL_DISK_VERSION', 'OPEN_VIRTUAL_DISK_VERSION_2'],
    CREATE_VERSION_2: ['CREATE_VIRTUAL_DISK_VERSION', 'CREATE_VIRTUAL_DISK_VERSION_2'],
    ATTACH_VERSION_1: ['ATTACH_VIRTUAL_DISK_VERSION', 'ATTACH_VIRTUAL_DISK_VERSION_1'],
    MERGE_VERSION_1: ['MERGE_VIRTUAL_DISK_VERSION', 'MERGE_VIRTUAL_DISK_VERSION_1'],
    RESIZE_VERSION_1: ['RESIZE_VIRTUAL_DISK_VERSION', 'RESIZE_VIRTUAL_DISK_VERSION_1'],
    ATTACH_READ_ONLY: ['ATTACH_VIRTUAL_DISK_FLAG', 'ATTACH_VIRTUAL_DISK_FLAG_READ_ONLY'],
    ATTACH_NO_LOCAL_HOST: ['ATTACH_VIRTUAL_DISK_FLAG', 'ATTACH_VIRTUAL_DISK_FLAG_NO_LOCAL_HOST'],
    INFO_SIZE: info('SIZE'),
    INFO_PARENT_LOCATION: info('PARENT_LOCATION'),
    INFO_PROVIDER_SUBTYPE: info('PROVIDER_SUBTYPE'),
    INFO_PHYSICAL_SECTOR: info('VHD_PHYSICAL_SECTOR_SIZE'),
    INFO_VIRTUAL_DISK_ID: info('VIRTUAL_DISK_ID'),
    INFO_CHANGE_TRACKING: info('CHANGE_TRACKING_STATE'),
    SET_INFO_VIRTUAL_DISK_ID: [
      'SET_VIRTUAL_DISK_INFO_VERSION',
      'SET_VIRTUAL_DISK_INFO_VIRTUAL_DISK_ID',
    ],
    SUBTYPE_FIXED: ['ProviderSubtype', 'Fixed'],
    SUBTYPE_DYNAMIC: ['ProviderSubtype', 'Dynamically expandable (sparse)'],
    SUBTYPE_DIFFERENCING: ['ProviderSubtype', 'Differencing'],
    TRACKING_ID_CHARACTERS_MAX: [undefined, 'VIRTUAL_DISK_MAXIMUM_CHANGE_TRACKING_ID_LENGTH'],
    PRIVILEGE_ENABLED: [undefined, 'SE_PRIVILEGE_ENABLED'],
  };

function info(name: string): readonly [string, string] {
  return ['GET_VIRTUAL_DISK_INFO_VERSION', `GET_VIRTUAL_DISK_INFO_${name}`];
}

/** Texts that we never give: NULL is no text for koffi. */
const ALWAYS_NULL = new Set(['CreateEventW.lpName', 'LookupPrivilegeValueW.lpSystemName']);

const KOFFI_TYPES: Readonly<Record<string, string>> = {
  ...{ DWORD: 'uint32_t', ULONG: 'uint32_t', ULONG64: 'uint64_t', BOOL: 'int32_t' },
  ...{ HANDLE: 'int64_t', PCWSTR: 'str16', LPCWSTR: 'str16' },
};

type Value = string | number | undefined;

/** Every contradiction between the two, in words; none when all is well. */
export function checkNative(beliefs: Beliefs, book: FactBook): string[] {
  const findings: string[] = [];
  const expectSame = (what: string, ours: Value, recorded: Value): void => {
    if (ours !== recorded) findings.push(`${what} is ${ours}, recorded is ${recorded}`);
  };
  for (const [name, { size, members }] of Object.entries(beliefs.layouts)) {
    const fact = book.struct(name);
    expectSame(`the size of ${name}`, size, fact?.size);
    for (const [member, [offset, type]] of Object.entries(members)) {
      const recorded = memberOf(book, name, fact, member);
      expectSame(`the offset of ${name}.${member}`, offset, recorded?.offset);
      expectSame(`the size of ${name}.${member}`, MEMBER_BYTES[type], recorded?.size);
    }
  }
  expectSame('the size of a GUID', MEMBER_BYTES.guid, book.struct('GUID')?.size);
  const { storageType } = MEMBER_BYTES;
  expectSame('the size of a type', storageType, book.struct('VIRTUAL_STORAGE_TYPE')?.size);
  for (const [name, [part, result, args]] of Object.entries(beliefs.signatures)) {
    const fact = book.function(name);
    const files: Readonly<Record<string, string | undefined>> = { ...WINDOWS_LIBRARIES };
    expectSame(`the library of ${name}`, files[part], fact?.dll);
    expectSame(`the result of ${name}`, result, koffiType(book, fact?.returns));
    expectSame(`the count of arguments of ${name}`, args.length, fact?.params.length);
    for (const [index, param] of (fact?.params ?? []).entries()) {
      const place = `${name}.${param.name}`;
      const wanted = ALWAYS_NULL.has(place) ? 'void *' : koffiType(book, param.type);
      expectSame(place, args[index], wanted);
    }
  }
  for (const [name, value] of Object.entries(beliefs.constants)) {
    const [enumeration, windowsName] = WINDOWS_NAMES[name] ?? [undefined, name];
    const recorded = book.constant(windowsName, enumeration);
    expectSame(name, value, typeof recorded === 'string' ? recorded.toLowerCase() : recorded);
  }
  for (const [code, name] of beliefs.errors) expectSame(name, code, book.constant(name));
  return findings;
}

function memberOf(
  book: FactBook,
  struct: string,
  fact: StructFact | undefined,
  member: string,
): { readonly offset: number; readonly size: number } | undefined {
  const known = fact?.members[member];
  if (known !== undefined) return known;
  const [outer = '', ...rest] = member.split('.');
  const start = fact?.members[outer];
  const innerName = INNER_STRUCTS[`${struct}.${outer}`];
  if (start === undefined || innerName === undefined) return undefined;
  const inner = book.struct(innerName);
  const found = inner?.members[rest.join('.')];
  if (found === undefined || inner?.size !== start.size) return undefined;
  return { offset: start.offset + found.offset, size: found.size };
}

/** How koffi takes a type of Windows: a number of that width, a text, or a place in memory. */
function koffiType(book: FactBook, type: string | undefined): string | undefined {
  if (type === undefined) return undefined;
  const known = KOFFI_TYPES[type];
  if (known !== undefined) return known;
  if (book.find('win32-enum', type) !== undefined) return 'uint32_t';
  return /^L?P/.test(type) ? 'void *' : undefined;
}
