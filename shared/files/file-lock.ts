// Locks on open files, by flock(2) and by LockFileEx: many readers or one writer. A lock belongs to the open
// file, so two handles of one process conflict as two processes do, and it ends with close() or
// with the process, however that dies. It holds among our own programs; who does not ask is not hindered.
//
// Where the file system knows no locks (some network mounts) we go on without: refusing to work
// there would help nobody, and such mounts are not shared between our own programs.
//
// Windows: LockFileEx keeps others from the bytes that it locks, so the byte is one that no file has. Node opens files so
// that everybody may open them too; Hyper-V does not, and is told from our own locks by EBUSY of open().

import { DrError } from '../errors.js';
import type { LockKind } from './block-file.js';
import { LOCK_EXCLUSIVE, LOCK_NON_BLOCKING, LOCK_SHARED, nativePosix } from './native-posix.js';
import { ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, nativeWindows } from './native-windows.js';

/**
 * Takes the lock on an open descriptor without waiting.
 * @throws DrError E_LOCKED when another handle holds a conflicting one
 */
export async function lockDescriptor(
  descriptor: number,
  kind: LockKind,
  path: string,
): Promise<void> {
  if (kind === 'none') return;
  const windows = await nativeWindows();
  if (windows !== undefined) {
    const failure = windows.lock(descriptor, kind === 'exclusive');
    if (failure === ERROR_LOCK_VIOLATION || failure === ERROR_IO_PENDING) {
      throw lockedError(path, kind);
    }
    return;
  }
  const native = await nativePosix();
  if (native === undefined) return;
  const operation = (kind === 'shared' ? LOCK_SHARED : LOCK_EXCLUSIVE) | LOCK_NON_BLOCKING;
  let { failure } = native.flock(descriptor, operation);
  while (failure === 'EINTR') ({ failure } = native.flock(descriptor, operation));
  if (failure === 'EWOULDBLOCK') throw lockedError(path, kind);
}

/** The error of a refused lock. */
export function lockedError(path: string, kind: LockKind): DrError {
  const use = kind === 'shared' ? 'is being written by another process' : 'is in use';
  return new DrError('E_LOCKED', `${path} ${use}`, { context: { path, lock: kind } });
}
