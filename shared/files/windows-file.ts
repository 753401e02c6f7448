// What node-file.ts does otherwise on Windows. There a name belongs to whoever has the file open: a scanner, an index
// service, a backup or a reader of ours. They hold it for moments, so what they hinder is tried again, for about a second.

import fs from 'node:fs';
import path from 'node:path';
import { systemClock, systemRandom } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileStatus } from './block-file.js';
import { ERROR_NOT_SUPPORTED, nativeWindows, type NativeWindows } from './native-windows.js';
import { fromSystemError, systemCode } from './system-error.js';
import { temporaryPathBeside } from './temporary-path.js';
import { accessOf, type WindowsAccess } from './windows-access.js';

const isWindows = process.platform === 'win32';

/** In all 1.3 seconds. */
const WAITS_MS = [10, 20, 40, 80, 160, 320, 640];
/** What Windows answers while somebody has the file open, or while its name is going away. */
const HELD = new Set(['EBUSY', 'EPERM', 'EACCES']);
/** What a folder answers that takes no flush: no right to write into it, or a file system without. */
const NO_FLUSH = new Set(['EPERM', 'EACCES', 'EISDIR', 'EINVAL', 'ENOSYS', 'ENOTSUP']);

/** Runs a call of node:fs again while its answer may be another in a moment. Its last error is thrown. */
export async function againWhileHeld<T>(call: () => Promise<T>): Promise<T> {
  for (const waitMs of isWindows ? WAITS_MS : []) {
    try {
      return await call();
    } catch (error) {
      if (!HELD.has(systemCode(error) ?? '')) throw error;
    }
    await systemClock.sleep(waitMs);
  }
  return call();
}

/** Replaces `to` also while others have it open, where the volume can (NTFS since Windows Server 2016). */
export async function renameOnWindows(from: string, to: string): Promise<void> {
  const native = await nativeWindows();
  await againWhileHeld(async () => {
    if ((await native?.renameOver(from, to)) !== true) await fs.promises.rename(from, to);
  });
}

/**
 * Removes a file, and its name is free on return. Where the volume takes the name away only with the last handle, the
 * file goes under another one until then.
 */
export async function removeOnWindows(file: string): Promise<void> {
  const native = await nativeWindows();
  await againWhileHeld(async () => {
    if ((await native?.unlinkOpen(file)) === true) return;
    if ((await fs.promises.lstat(file)).isDirectory()) return fs.promises.unlink(file);
    const aside = temporaryPathBeside(file, systemRandom);
    await fs.promises.rename(file, aside);
    await fs.promises.unlink(aside);
  });
}

/**
 * NTFS and ReFS keep a journal of names and order a rename behind the data that FlushFileBuffers wrote before it, so
 * a crash never shows a name without its data. Flushing the folder writes the journal out. Where Windows does not let
 * us, names of the last moments may be lost with the power, as one whole.
 */
export async function flushFolderOnWindows(folder: string): Promise<void> {
  let handle: fs.promises.FileHandle | undefined;
  try {
    handle = await fs.promises.open(folder, 'r+');
    await handle.sync();
  } catch (error) {
    if (handle === undefined) await requireFolder(folder);
    if (NO_FLUSH.has(systemCode(error) ?? '')) return;
    throw fromSystemError(error, 'flush the folder', folder, {
      done: 'names created, changed or removed in it are in doubt',
    });
  } finally {
    await handle?.close();
  }
}

/**
 * Absolute path without links. Where the system does not tell it of a long path, Node looks at each part of it; letters
 * then are as they were given.
 */
export async function realPathOnWindows(file: string): Promise<string> {
  try {
    return await fs.promises.realpath(file);
  } catch (error) {
    if (systemCode(error) !== 'UNKNOWN') throw error;
  }
  return new Promise((resolve, reject) => {
    fs.realpath(file, (error, real) => {
      if (error === null) resolve(real);
      else reject(error);
    });
  });
}

/**
 * Makes the names of new folders durable. `first` is the outermost of them as mkdir tells it: with a prefix that not every
 * call takes for a drive.
 */
export async function flushNewFolders(innermost: string, first: string): Promise<void> {
  for (let folder = path.resolve(innermost); ; folder = path.dirname(folder)) {
    await flushFolderOnWindows(path.dirname(folder));
    if (path.toNamespacedPath(folder) === path.toNamespacedPath(first)) return;
    if (folder === path.dirname(folder)) return;
  }
}

/**
 * A new file, or a new folder with all that is made in it, is its owner's, the system's and the administrators' alone: the
 * disks and keys in it are nobody else's.
 */
export async function keepToOwner(file: string): Promise<void> {
  const native = await nativeWindows();
  const failure = native?.protect(file) ?? 0;
  if (failure === 0 || failure === ERROR_NOT_SUPPORTED) return;
  throw new DrError('E_IO', `cannot keep others from ${path.resolve(file)}: error ${failure}`, {
    context: { path: file, win32: failure },
    hint: 'Choose a folder where this account may set permissions.',
  });
}

async function requireFolder(folder: string): Promise<void> {
  try {
    await fs.promises.access(folder);
  } catch (error) {
    throw fromSystemError(error, 'flush the folder', folder);
  }
}

type Access = 'isExposed' | 'isChangeableByOthers' | 'isOwnedByAnother';

/** Windows is asked about rights when somebody looks at them: few do, and it costs more than all the rest. */
export class WindowsStatus implements FileStatus {
  readonly sizeBytes: number;
  readonly kind: FileStatus['kind'];
  readonly identity: string;
  readonly modifiedAtMs: number | undefined;
  readonly #path: string;
  readonly #native: NativeWindows;
  #access: WindowsAccess | undefined;

  constructor(status: Omit<FileStatus, Access>, file: string, native: NativeWindows) {
    this.sizeBytes = status.sizeBytes;
    this.kind = status.kind;
    this.identity = status.identity;
    this.modifiedAtMs = status.modifiedAtMs;
    this.#path = file;
    this.#native = native;
  }

  get isExposed(): boolean {
    return this.#rights().isExposed;
  }

  get isChangeableByOthers(): boolean {
    return this.#rights().isChangeableByOthers;
  }

  get isOwnedByAnother(): boolean {
    return this.#rights().isOwnedByAnother;
  }

  #rights(): WindowsAccess {
    this.#access ??= readAccess(this.#native, this.#path);
    return this.#access;
  }
}

function readAccess(native: NativeWindows, file: string): WindowsAccess {
  const sddl = native.security(file);
  if (typeof sddl === 'string') return accessOf(sddl, native.account);
  throw new DrError('E_IO', `cannot ask who may read ${path.resolve(file)}: error ${sddl}`, {
    context: { path: file, win32: sddl },
    hint: 'Give this account the right to read the permissions of the file.',
  });
}
