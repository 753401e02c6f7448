// Translates errors of node:fs into the catalogue. Pure; used by node-file.ts and file-lock.ts.

import { DrError, type ErrorCode } from '../errors.js';

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'E_NOT_FOUND',
  ENOTDIR: 'E_NOT_FOUND',
  EEXIST: 'E_EXISTS',
  ENOSPC: 'E_CAPACITY',
  EDQUOT: 'E_CAPACITY',
  // The file would be larger than the file system or the process limit allows.
  EFBIG: 'E_CAPACITY',
};

const HINTS: Readonly<Record<string, string>> = {
  EACCES: 'Give this user the right to the path, or run the command as one who has it.',
  EPERM: 'Give this user the right to the path, or run the command as one who has it.',
  EFBIG:
    'The file system, or a limit of this user (ulimit -f), allows no file of this size; use a volume ' +
    'with another file system, or raise the limit.',
  EROFS: 'The volume is mounted read-only; mount it writable or choose another place.',
  EMFILE: 'Raise the limit of open files (ulimit -n) and run the command again.',
  ENFILE: 'The system is out of file handles; raise fs.file-max and run the command again.',
};

/** The system's code of an error of node:fs ("ENOENT"), or undefined. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/**
 * The catalogue's view of an error of node:fs. `action` is what failed in plain words ("write");
 * `facts` go into the context beside path and system code; `done` is what had happened by then.
 */
export function fromSystemError(
  error: unknown,
  action: string,
  path: string,
  options: { facts?: Readonly<Record<string, number>>; done?: string } = {},
): DrError {
  const code = systemCode(error) ?? 'unknown';
  const text = error instanceof Error ? error.message : String(error);
  const hint = HINTS[code];
  return new DrError(CODES[code] ?? 'E_IO', `cannot ${action} ${path}: ${text}`, {
    context: { path, systemCode: code, ...options.facts },
    cause: error,
    ...(options.done === undefined ? {} : { done: options.done }),
    ...(hint === undefined ? {} : { hint }),
  });
}
