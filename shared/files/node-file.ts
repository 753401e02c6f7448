// The real file system under the disk seam: node:fs with explicit positions. Every part of the
// product that touches a disk file or small durable state holds a FileSystem; only composition
// roots name this one.
//
// The callback calls of node:fs on a bare descriptor cost about a fifth less per 64 KiB write than
// FileHandle. The price is that closing is ours to guard: close() waits for the calls under way,
// and a call after close() trips an assertion, so that a descriptor that the system has given to
// another file is never written to.

import fs from 'node:fs';
import { dirname, resolve } from 'node:path';
import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import type {
  BlockFile,
  FileStatus,
  FileSystem,
  LockKind,
  OpenMode,
  OpenOptions,
} from './block-file.js';
import { DirectWriter } from './direct-writer.js';
import { lockDescriptor, lockedError } from './file-lock.js';
import { nativePosix } from './native-posix.js';
import { nativeWindows } from './native-windows.js';
import { nextDataRange } from './sparse.js';
import { fromSystemError, systemCode } from './system-error.js';
import {
  againWhileHeld,
  flushFolderOnWindows,
  flushNewFolders,
  keepToOwner,
  realPathOnWindows,
  removeOnWindows,
  renameOnWindows,
  WindowsStatus,
} from './windows-file.js';

const isWindows = process.platform === 'win32';

/** One system call moves less than 2 GiB; a round figure below that. */
const CALL_BYTES_MAX = 1 << 30;

/** Disk images hold other people's data: their owner alone may read what we create. */
const NEW_FILE_PERMISSIONS = 0o600;
const NEW_FOLDER_PERMISSIONS = 0o700;

class NodeFile implements BlockFile {
  readonly path: string;
  readonly #descriptor: number;
  #isClosed = false;
  #callCount = 0;
  #whenIdle: (() => void) | undefined;
  #flushFailure: DrError | undefined;
  readonly #direct: DirectWriter | undefined;
  /** Until the system refuses a write for its alignment. */
  #isDirect: boolean;
  /** Ends with the last flush that was asked for; never rejects. */
  #flushing: Promise<unknown> = Promise.resolve();

  constructor(path: string, descriptor: number, direct?: DirectWriter) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#direct = direct;
    this.#isDirect = direct !== undefined;
  }

  async read(position: number, target: Uint8Array): Promise<number> {
    let done = 0;
    while (done < target.length) {
      const length = Math.min(target.length - done, CALL_BYTES_MAX);
      const count = await this.#call<number>(
        'read',
        (settle) => {
          fs.read(this.#descriptor, target, done, length, position + done, settle);
        },
        { position: position + done, lengthBytes: length },
      );
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  async write(position: number, source: Uint8Array): Promise<void> {
    let done = 0;
    while (done < source.length) {
      const at = position + done;
      const left = source.length - done;
      const direct = this.#isDirect ? this.#direct : undefined;
      const directBytes = direct === undefined ? 0 : DirectWriter.takes(at, left);
      const length = directBytes > 0 ? directBytes : Math.min(left, CALL_BYTES_MAX);
      const count = await this.#call<number>(
        'write',
        (settle) => {
          if (direct !== undefined && directBytes > 0) {
            direct.write(at, source.subarray(done, done + length), settle);
          } else {
            fs.write(this.#descriptor, source, done, length, at, settle);
          }
        },
        { position: at, lengthBytes: length },
        'a part may have been written, nothing of it counts as durable',
      );
      if (count === 0 && directBytes > 0) {
        this.#isDirect = false;
        continue;
      }
      if (count === 0) {
        throw new DrError('E_IO', `cannot write ${this.path}: the system took no bytes`, {
          context: { path: this.path, position: at, lengthBytes: length },
          done: 'a part may have been written, nothing of it counts as durable',
        });
      }
      done += count;
    }
  }

  async size(): Promise<number> {
    const stats = await this.#call<fs.Stats>('read the size of', (settle) => {
      fs.fstat(this.#descriptor, settle);
    });
    return stats.size;
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#call<undefined>(
      'set the size of',
      (settle) => {
        fs.ftruncate(this.#descriptor, sizeBytes, (error) => settle(error, undefined));
      },
      { sizeBytes },
    );
  }

  async reserve(sizeBytes: number): Promise<boolean> {
    assert(!this.#isClosed, 'no file is used after close()');
    const native = await nativePosix();
    if (native?.fallocate === undefined) return false;
    let { failure } = native.fallocate(this.#descriptor, sizeBytes);
    while (failure === 'EINTR') ({ failure } = native.fallocate(this.#descriptor, sizeBytes));
    if (failure === undefined) return true;
    if (failure === 'EOPNOTSUPP' || failure === 'ENOSYS' || failure === 'ENOTSUP') return false;
    const error = Object.assign(new Error(`fallocate: ${failure}`), { code: failure });
    throw fromSystemError(error, 'set room aside in', this.path, { facts: { sizeBytes } });
  }

  async flush(): Promise<void> {
    assert(!this.#isClosed, 'no file is used after close()');
    this.#callCount++;
    // One after the other: of two at the same time, one gets the error and the other says that all
    // is well.
    const done = this.#flushing
      .then(() => this.#flushNow())
      .finally(() => {
        this.#callEnded();
      });
    this.#flushing = done.catch(() => undefined);
    await done;
  }

  async #flushNow(): Promise<void> {
    // Linux reports a lost write once and then forgets it: a second fdatasync that succeeds says
    // nothing about the pages that the first one lost.
    if (this.#flushFailure !== undefined) throw this.#flushFailure;
    try {
      await this.#run<undefined>(
        'flush',
        (settle) => {
          fs.fdatasync(this.#descriptor, (error) => settle(error, undefined));
        },
        {},
        'what was written since the last flush is in doubt',
      );
    } catch (error) {
      if (error instanceof DrError) this.#flushFailure = error;
      throw error;
    }
  }

  async nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    const sizeBytes = await this.size();
    assert(!this.#isClosed, 'no file is used after close()');
    this.#callCount++;
    try {
      return await nextDataRange(this.#descriptor, position, sizeBytes);
    } finally {
      this.#callEnded();
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#callCount > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    await this.#direct?.close();
    await closeDescriptor(this.#descriptor, this.path);
  }

  #call<T>(
    action: string,
    start: (settle: (error: Error | null, value: T) => void) => void,
    facts: Readonly<Record<string, number>> = {},
    done?: string,
  ): Promise<T> {
    assert(!this.#isClosed, 'no file is used after close()');
    return this.#run(action, start, facts, done);
  }

  #run<T>(
    action: string,
    start: (settle: (error: Error | null, value: T) => void) => void,
    facts: Readonly<Record<string, number>> = {},
    done?: string,
  ): Promise<T> {
    this.#callCount++;
    return new Promise<T>((resolve, reject) => {
      start((error, value) => {
        this.#callEnded();
        if (error === null) resolve(value);
        else {
          const options = done === undefined ? { facts } : { facts, done };
          reject(fromSystemError(error, action, this.path, options));
        }
      });
    });
  }

  #callEnded(): void {
    this.#callCount--;
    if (this.#callCount === 0) this.#whenIdle?.();
  }
}

function closeDescriptor(descriptor: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.close(descriptor, (error) => {
      if (error === null) resolve();
      else reject(fromSystemError(error, 'close', path));
    });
  });
}

function openFlags(mode: OpenMode): number {
  const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  // A FIFO that takes the name between the check and the open must not make the open wait; Windows
  // has no such constant (Node leaves it undefined there), nor the problem.
  const nonBlocking = isWindows ? 0 : fs.constants.O_NONBLOCK;
  switch (mode) {
    case 'read':
      return O_RDONLY | nonBlocking;
    case 'write':
      return O_RDWR | nonBlocking;
    case 'create':
      return O_RDWR | O_CREAT | O_EXCL;
  }
}

function kindOf(stats: fs.BigIntStats): FileStatus['kind'] {
  if (stats.isFile()) return 'file';
  return stats.isDirectory() ? 'folder' : 'other';
}

function notRegular(path: string, kind: 'folder' | 'other'): DrError {
  const what = kind === 'folder' ? 'a folder' : 'a device, a pipe or a socket';
  return new DrError('E_IO', `cannot open ${path}: it is ${what}, not a file`, {
    context: { path, kind },
    hint: 'Name a regular file; links to one are followed.',
  });
}

async function open(path: string, options: OpenOptions): Promise<BlockFile> {
  const { mode } = options;
  const lock: LockKind = options.lock ?? (mode === 'read' ? 'shared' : 'exclusive');
  if (mode !== 'create') {
    // Opening a device can already do something (rewind a tape), so look at it first.
    const before = await status(path);
    if (before !== undefined && before.kind !== 'file') throw notRegular(path, before.kind);
  }
  const descriptor = await openDescriptor(path, mode, lock);
  try {
    const stats = await new Promise<fs.BigIntStats>((resolve, reject) => {
      fs.fstat(descriptor, { bigint: true }, (error, value) => {
        if (error === null) resolve(value);
        else reject(fromSystemError(error, 'open', path));
      });
    });
    const kind = kindOf(stats);
    if (kind !== 'file') throw notRegular(path, kind);
    await lockDescriptor(descriptor, lock, path);
    if (isWindows && options.isSecret === true) await keepToOwner(path);
  } catch (error) {
    await closeDescriptor(descriptor, path);
    throw error;
  }
  const isDirect = options.isDirect === true && mode !== 'read';
  return new NodeFile(path, descriptor, isDirect ? await DirectWriter.open(descriptor) : undefined);
}

async function openDescriptor(path: string, mode: OpenMode, lock: LockKind): Promise<number> {
  try {
    return await againWhileHeld(
      () =>
        new Promise<number>((resolve, reject) => {
          fs.open(path, openFlags(mode), NEW_FILE_PERMISSIONS, (error, opened) => {
            if (error === null) resolve(opened);
            else reject(error);
          });
        }),
    );
  } catch (error) {
    // Windows: somebody has it open and shares it with nobody, as Hyper-V the disks of a running VM
    if (systemCode(error) === 'EBUSY') throw lockedError(path, lock);
    throw fromSystemError(error, mode === 'create' ? 'create' : 'open', path);
  }
}

async function status(path: string): Promise<FileStatus | undefined> {
  const stats = await statOf(path);
  if (stats === undefined) return undefined;
  const facts = {
    sizeBytes: Number(stats.size),
    kind: kindOf(stats),
    identity: `${stats.dev}:${stats.ino}`,
    modifiedAtMs: Number(stats.mtimeMs),
  };
  if (isWindows) {
    const native = await nativeWindows();
    return native === undefined ? facts : new WindowsStatus(facts, path, native);
  }
  const permissions = Number(stats.mode);
  return {
    ...facts,
    isExposed: (permissions & 0o077) !== 0,
    isChangeableByOthers: (permissions & 0o022) !== 0,
    isOwnedByAnother: ![0, process.getuid?.()].includes(Number(stats.uid)),
  };
}

async function statOf(path: string): Promise<fs.BigIntStats | undefined> {
  try {
    return await fs.promises.stat(path, { bigint: true });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw fromSystemError(error, 'look at', path);
  }
}

async function flushFolder(folder: string): Promise<void> {
  if (isWindows) return flushFolderOnWindows(folder);
  let handle: fs.promises.FileHandle | undefined;
  try {
    handle = await fs.promises.open(folder, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    await handle.sync();
  } catch (error) {
    throw fromSystemError(error, 'flush the folder', folder, {
      done: 'names created, changed or removed in it are in doubt',
    });
  } finally {
    await handle?.close();
  }
}

/** Each folder is its owner's before anything is made in it: an access list given later comes down to nothing. */
async function makeFolderOnWindows(path: string, inheritsRights: boolean): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(path); (await status(at)) === undefined; at = dirname(at)) {
    missing.unshift(at);
    if (dirname(at) === at) break;
  }
  let first: string | undefined;
  for (const folder of missing) {
    if (!(await makeOneFolder(folder))) continue;
    if (!inheritsRights) await keepToOwner(folder);
    first ??= folder;
  }
  if (missing.length === 0) await makeOneFolder(path);
  if (first !== undefined) await flushNewFolders(path, first);
}

/** False when it is there already. */
async function makeOneFolder(folder: string): Promise<boolean> {
  try {
    await fs.promises.mkdir(folder);
    return true;
  } catch (error) {
    const isThere = systemCode(error) === 'EEXIST' && (await status(folder))?.kind === 'folder';
    if (isThere) return false;
    throw fromSystemError(error, 'create the folder', folder);
  }
}

async function makeFolder(
  path: string,
  { inheritsRights = false }: { readonly inheritsRights?: boolean } = {},
): Promise<void> {
  if (isWindows) return makeFolderOnWindows(path, inheritsRights);
  let first: string | undefined;
  try {
    first = await fs.promises.mkdir(path, { recursive: true, mode: NEW_FOLDER_PERMISSIONS });
  } catch (error) {
    throw fromSystemError(error, 'create the folder', path);
  }
  if (first === undefined) return;
  // Every new folder is a name in its parent; flush from the innermost parent outwards.
  const outermost = dirname(first);
  let parent = dirname(await realPath(path));
  const realOutermost = await realPath(outermost);
  for (;;) {
    await flushFolder(parent);
    if (parent === realOutermost || parent === dirname(parent)) return;
    parent = dirname(parent);
  }
}

async function realPath(path: string): Promise<string> {
  try {
    return await (isWindows ? realPathOnWindows(path) : fs.promises.realpath(path));
  } catch (error) {
    throw fromSystemError(error, 'resolve', path);
  }
}

/** The file system of this machine. Stateless. */
export const nodeFileSystem: FileSystem = {
  open,
  status,
  flushFolder,
  makeFolder,
  realPath,
  rename: async (from, to) => {
    try {
      await (isWindows ? renameOnWindows(from, to) : fs.promises.rename(from, to));
    } catch (error) {
      throw fromSystemError(error, `rename to ${to} the file`, from);
    }
  },
  remove: async (path) => {
    try {
      await (isWindows ? removeOnWindows(path) : fs.promises.unlink(path));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw fromSystemError(error, 'remove', path);
    }
  },
  freeBytes: async (folder) => {
    try {
      const { bavail, bsize } = await fs.promises.statfs(folder);
      return bavail * bsize;
    } catch (error) {
      throw fromSystemError(error, 'ask for the free space of', folder);
    }
  },
  removeFolder: async (path) => {
    try {
      await againWhileHeld(() => fs.promises.rmdir(path));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw fromSystemError(error, 'remove the folder', path);
    }
  },
  list: async (folder) => {
    try {
      return (await fs.promises.readdir(folder)).sort();
    } catch (error) {
      throw fromSystemError(error, 'list', folder);
    }
  },
};
