// The calls of Windows that Node does not offer: locks, names of open files, and who may do what with a file. koffi is
// imported at the first use. GetLastError belongs to a thread, so calls whose failure it explains are made
// synchronously; they are short.

import path from 'node:path';
import { DrError } from '../errors.js';

export interface NativeWindows {
  /** Locks an open descriptor without waiting. Returns the number of the error, 0 when it has the lock. */
  lock(descriptor: number, isExclusive: boolean): number;
  /** Renames as POSIX does: also over a file that others have open. False when this could not be done. */
  renameOver(from: string, to: string): Promise<boolean>;
  /** Takes the name of a file away at once, whoever has it open. False when this could not be done. */
  unlinkOpen(file: string): Promise<boolean>;
  /** Gives a file or folder to its owner, the system and administrators alone. Returns the number of the error, or 0. */
  protect(file: string): number;
  /** Owner and access list in Windows' own text (SDDL), or the number of the error. */
  security(file: string): string | number;
  /** Identity (SID) of the account that this process runs as; undefined when nobody tells. */
  readonly account: string | undefined;
}

export const ERROR_LOCK_VIOLATION = 33;
/** What a volume without access lists answers (exFAT, some shares). */
export const ERROR_NOT_SUPPORTED = 50;
export const ERROR_IO_PENDING = 997;

const LOCK_FAIL_IMMEDIATELY = 1;
const LOCK_EXCLUSIVE = 2;
/** The byte that stands for the whole file: no file has one there, so no read or write meets the lock. */
const LOCKED_BYTE = { low: 0xffff_fffe, high: 0x7fff_ffff };

const ACCESS_DELETE = 0x0001_0000;
const SHARE_ALL = 7;
const OPEN_EXISTING = 3;
/** Of a link, the link. */
const OPEN_REPARSE_POINT = 0x0020_0000;
const INVALID_HANDLE = -1;

const FILE_DISPOSITION_INFO_EX = 21;
const FILE_RENAME_INFO_EX = 22;
const DISPOSITION_DELETE = 1;
const POSIX_SEMANTICS = 2;
const IGNORE_READ_ONLY = 0x10;
const RENAME_REPLACE = 1;
/** FILE_RENAME_INFO: flags, a folder's handle at 8, length of the name at 16, the name at 20. */
const RENAME_LENGTH_AT = 16;
const RENAME_NAME_AT = 20;

const SE_FILE_OBJECT = 1;
const OWNER_AND_ACCESS_LIST = 1 | 4;
const ACCESS_LIST = 4;
/** P: nothing comes down from the folder above. OI, CI: what is made in a folder has it too. FA: full access. */
const ownersOnly = (...accounts: readonly string[]): string =>
  `D:P${['SY', 'BA', ...accounts].map((who) => `(A;OICI;FA;;;${who})`).join('')}`;
/**
 * What a person makes with the rights of an administrator belongs to the administrators. An entry of his own would only
 * keep services from it, which have to take him for somebody else.
 */
const OF_ADMINISTRATORS = /^O:(?:BA|SY|S-1-5-32-544|S-1-5-18)(?:G:|D:|S:|$)/;
/** Whoever owns a file: where the account of this process is not known. */
const OWNER_RIGHTS = 'OW';
const TOKEN_QUERY = 8;
const TOKEN_USER = 1;
const TOKEN_USER_BYTES = 256;
const SDDL_REVISION = 1;

let loaded: Promise<NativeWindows | undefined> | undefined;

/** The calls, or undefined on another system. @throws DrError E_IO when a part of the installation is gone */
export function nativeWindows(): Promise<NativeWindows | undefined> {
  loaded ??= load();
  return loaded;
}

/** Without it nothing is locked, and two programs would write one file: better none does. */
async function loadKoffi(): Promise<typeof import('koffi').default> {
  try {
    return (await import('koffi')).default;
  } catch (error) {
    throw new DrError('E_IO', 'the calls of Windows that files need cannot be loaded', {
      hint: 'Install the product again: native\\koffi.node belongs beside the executable.',
      cause: error,
    });
  }
}

async function load(): Promise<NativeWindows | undefined> {
  if (process.platform !== 'win32') return undefined;
  const koffi = await loadKoffi();
  // Node itself knows which handle stands behind a descriptor
  const node = koffi.load(null);
  const kernel = koffi.load('kernel32.dll');
  const security = koffi.load('advapi32.dll');
  const handleOf = node.func('intptr_t uv_get_osfhandle(int descriptor)');
  const lastError = kernel.func('uint32_t GetLastError()');
  const closeHandle = kernel.func('int CloseHandle(intptr_t handle)');
  const lockFile = kernel.func(
    'int LockFileEx(intptr_t file, uint32_t flags, uint32_t zero, uint32_t low, uint32_t high, void *overlapped)',
  );
  const createFile = kernel.func(
    'intptr_t CreateFileW(str16 path, uint32_t access, uint32_t share, void *security, uint32_t disposition, ' +
      'uint32_t flags, intptr_t template)',
  );
  const setInformation = kernel.func(
    'int SetFileInformationByHandle(intptr_t file, int kind, const uint8_t *value, uint32_t bytes)',
  );
  const localFree = kernel.func('void *LocalFree(void *memory)');
  const currentProcess = kernel.func('intptr_t GetCurrentProcess()');
  const namedSecurity = security.func(
    'uint32_t GetNamedSecurityInfoW(str16 name, int kind, uint32_t wanted, void *owner, void *group, void *list, ' +
      'void *systemList, _Out_ void **descriptor)',
  );
  const securityText = security.func(
    'int ConvertSecurityDescriptorToStringSecurityDescriptorW(void *descriptor, uint32_t revision, uint32_t wanted, ' +
      '_Out_ void **text, void *length)',
  );
  const descriptorOf = security.func(
    'int ConvertStringSecurityDescriptorToSecurityDescriptorW(str16 text, uint32_t revision, _Out_ void **descriptor, void *length)',
  );
  const setSecurity = security.func(
    'int SetFileSecurityW(str16 path, uint32_t wanted, void *descriptor)',
  );
  const openToken = security.func(
    'int OpenProcessToken(intptr_t process, uint32_t access, _Out_ intptr_t *token)',
  );
  const tokenInformation = security.func(
    'int GetTokenInformation(intptr_t token, int kind, _Out_ uint8_t *value, uint32_t bytes, _Out_ uint32_t *needed)',
  );
  const sidText = security.func('int ConvertSidToStringSidW(void *sid, _Out_ void **text)');

  /** Text that Windows allocated, which is freed. */
  const takeText = (pointer: unknown): string => {
    try {
      return String(koffi.decode(pointer, 'char16_t', -1));
    } finally {
      localFree(pointer);
    }
  };

  /** One change of an open file, on another thread: it can wait for the volume's journal. */
  const change = (
    file: string,
    kind: number,
    value: Uint8Array,
    flags: number,
  ): Promise<boolean> => {
    const name = path.toNamespacedPath(path.resolve(file));
    const handle = Number(
      createFile(name, ACCESS_DELETE, SHARE_ALL, null, OPEN_EXISTING, flags, 0),
    );
    if (handle === INVALID_HANDLE) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      setInformation.async(handle, kind, value, value.length, (error: unknown, isDone: unknown) => {
        closeHandle(handle);
        if (error === null || error === undefined) resolve(isDone !== 0);
        else reject(new Error('SetFileInformationByHandle could not be called', { cause: error }));
      });
    });
  };

  const readAccount = (): string | undefined => {
    const token: [number] = [0];
    if (openToken(currentProcess(), TOKEN_QUERY, token) === 0) return undefined;
    try {
      // TOKEN_USER begins with a pointer to the SID, which lies behind it
      const user = Buffer.alloc(TOKEN_USER_BYTES);
      if (tokenInformation(token[0], TOKEN_USER, user, user.length, [0]) === 0) return undefined;
      const text: [unknown] = [null];
      return sidText(user.readBigUInt64LE(0), text) === 0 ? undefined : takeText(text[0]);
    } finally {
      closeHandle(token[0]);
    }
  };

  const account = readAccount();
  const ownerAndAccess = (file: string): string | number => {
    const descriptor: [unknown] = [null];
    const name = path.toNamespacedPath(path.resolve(file));
    const wanted = OWNER_AND_ACCESS_LIST;
    const failure = Number(
      namedSecurity(name, SE_FILE_OBJECT, wanted, null, null, null, null, descriptor),
    );
    if (failure !== 0) return failure;
    try {
      const text: [unknown] = [null];
      const isTold = securityText(descriptor[0], SDDL_REVISION, wanted, text, null) !== 0;
      return isTold ? takeText(text[0]) : Number(lastError());
    } finally {
      localFree(descriptor[0]);
    }
  };
  return {
    lock: (descriptor, isExclusive) => {
      const flags = LOCK_FAIL_IMMEDIATELY | (isExclusive ? LOCK_EXCLUSIVE : 0);
      // OVERLAPPED: where the range begins, at 16 and 20
      const overlapped = Buffer.alloc(32);
      overlapped.writeUInt32LE(LOCKED_BYTE.low, 16);
      overlapped.writeUInt32LE(LOCKED_BYTE.high, 20);
      const isLocked = lockFile(handleOf(descriptor), flags, 0, 1, 0, overlapped) !== 0;
      return isLocked ? 0 : Number(lastError());
    },
    renameOver: (from, to) => {
      const name = Buffer.from(path.toNamespacedPath(path.resolve(to)), 'utf16le');
      const value = Buffer.alloc(RENAME_NAME_AT + name.length + 2);
      value.writeUInt32LE(RENAME_REPLACE | POSIX_SEMANTICS, 0);
      value.writeUInt32LE(name.length, RENAME_LENGTH_AT);
      name.copy(value, RENAME_NAME_AT);
      return change(from, FILE_RENAME_INFO_EX, value, OPEN_REPARSE_POINT);
    },
    unlinkOpen: (file) => {
      const value = Buffer.alloc(4);
      value.writeUInt32LE(DISPOSITION_DELETE | POSIX_SEMANTICS | IGNORE_READ_ONLY, 0);
      return change(file, FILE_DISPOSITION_INFO_EX, value, OPEN_REPARSE_POINT);
    },
    protect: (file) => {
      const descriptor: [unknown] = [null];
      const text = ownerAndAccess(file);
      const isOfThem = typeof text === 'string' && OF_ADMINISTRATORS.test(text);
      const list = isOfThem ? ownersOnly() : ownersOnly(account ?? OWNER_RIGHTS);
      if (descriptorOf(list, SDDL_REVISION, descriptor, null) === 0) return Number(lastError());
      try {
        const name = path.toNamespacedPath(path.resolve(file));
        return setSecurity(name, ACCESS_LIST, descriptor[0]) === 0 ? Number(lastError()) : 0;
      } finally {
        localFree(descriptor[0]);
      }
    },
    security: ownerAndAccess,
    account,
  };
}
