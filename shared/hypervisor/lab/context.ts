// What every part of the lab holds: its seams, its folder, and the locks of this process.

import type { Clock, Random } from '../../clock.js';
import { lockedFile, type FileSystem } from '../../files/index.js';

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
    const lock = await lockedFile(context, lockFile, timeoutMs);
    try {
      return await action();
    } finally {
      await lock.close();
    }
  });
}
