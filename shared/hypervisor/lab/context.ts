// What every part of the lab holds: its seams, its folder, and the locks of this process.

import path from 'node:path';
import type { Clock, Random } from '../../clock.js';
import { DrError } from '../../errors.js';
import type { BlockFile, FileSystem } from '../../files/index.js';

export interface LabSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** How long another process's work on the same VM is waited for. Default 2 min. */
  readonly lockTimeoutMs?: number | undefined;
  /** Ends this process at once, as a power cut would. Default: SIGKILL. Scripted faults only. */
  readonly die?: (() => void) | undefined;
}

export interface LabContext {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly folder: string;
  readonly lockTimeoutMs: number;
  readonly die: () => void;
  readonly locks: LockTable;
}

const LOCK_TIMEOUT_MS = 120_000;
const LOCK_RETRY_MS = 10;

export function contextOf(folder: string, seams: LabSeams): LabContext {
  const { fs, clock, random, lockTimeoutMs = LOCK_TIMEOUT_MS } = seams;
  const die = seams.die ?? ((): void => void process.kill(process.pid, 'SIGKILL'));
  return { fs, clock, random, lockTimeoutMs, die, folder, locks: new LockTable() };
}

/** Turns inside one process, so that its own callers queue instead of polling the file lock. */
export class LockTable {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, action: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const run = before.then(action);
    const tail = run.then(
      () => undefined,
      () => undefined,
    );
    this.#tails.set(key, tail);
    try {
      return await run;
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

/**
 * Runs `action` while this process holds the lock file; others, in this process and in all others,
 * wait for their turn. @throws DrError E_LOCKED when it is not free within `timeoutMs`
 */
export function withLockFile<T>(
  context: LabContext,
  lockFile: string,
  action: () => Promise<T>,
  timeoutMs: number = context.lockTimeoutMs,
): Promise<T> {
  return context.locks.run(lockFile, async () => {
    const lock = await acquire(context, lockFile, timeoutMs);
    try {
      return await action();
    } finally {
      await lock.close();
    }
  });
}

async function acquire(
  { fs, clock }: LabContext,
  lockFile: string,
  timeoutMs: number,
): Promise<BlockFile> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    try {
      return await fs.open(lockFile, { mode: 'write', lock: 'exclusive' });
    } catch (error) {
      if (!(error instanceof DrError) || error.code !== 'E_LOCKED') throw error;
      if (clock.monotonic() >= deadline) {
        throw new DrError(
          'E_LOCKED',
          `${path.dirname(lockFile)} is being worked on by another process`,
          {
            context: { lockFile, timeoutMs },
            done: `gave up after ${timeoutMs} ms, nothing was changed`,
            cause: error,
          },
        );
      }
    }
    await clock.sleep(LOCK_RETRY_MS);
  }
}

/** Makes the empty file that locks are held on; no error when it is there. */
export async function makeLockFile(fs: FileSystem, lockFile: string): Promise<void> {
  if ((await fs.status(lockFile)) !== undefined) return;
  try {
    const file = await fs.open(lockFile, { mode: 'create', lock: 'none' });
    await file.close();
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_EXISTS') throw error;
  }
  await fs.flushFolder(path.dirname(lockFile));
}
