// What work gets from whoever started it: a command line, or a job of Bacula.

import type { Clock, Random } from './clock.js';
import type { FileSystem } from './files/index.js';
import type { Log } from './log.js';

export interface Surroundings {
  readonly files: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Environment variables of the caller. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Absolute; relative paths start here. */
  readonly folder: string;
  /** What people and monitoring read afterwards; opened at the first call. */
  log(): Promise<Log>;
  /** To be awaited before a key is loaded: from then on the process leaves no core dump. */
  keepSecrets(): Promise<void>;
}
