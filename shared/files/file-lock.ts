// Advisory locks on open files by flock(2): many readers or one writer. A lock belongs to the open
// file, so two handles of one process conflict as two processes do, and it ends with close() or
// with the process, however that dies.
//
// Where the file system knows no locks (some network mounts) we go on without: refusing to work
// there would help nobody, and such mounts are not shared between our own programs.
//
// Windows: nothing is locked yet. There the lock is the share mode of CreateFile, which node:fs does
// not let us choose; it comes with the Windows build.

import { DrError } from '../errors.js';
import type { LockKind } from './block-file.js';
import { LOCK_EXCLUSIVE, LOCK_NON_BLOCKING, LOCK_SHARED, nativePosix } from './native-posix.js';

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
