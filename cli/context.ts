// What a command gets from its surroundings. Commands are one file each and are registered by
// program.ts as `registerX(program, context)`; everything outside (files, clock, randomness,
// standard streams, signals) reaches them through this value, so that tests run a command in
// process with doubles.

import type { Clock, Random } from '../shared/clock.js';
import type { FileSystem } from '../shared/files/index.js';
import type { Log } from '../shared/log.js';
import type { Output } from './output.js';

export interface CliContext {
  readonly files: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Environment variables of the caller. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The caller's folder, absolute; relative paths on the command line start here. */
  readonly folder: string;
  /** The only way to stdout and stderr. `output.json` tells whether --json was given. */
  readonly output: Output;
  /** What people and monitoring read afterwards; opened at the first call. */
  log(): Promise<Log>;
  /** To be awaited before a key is loaded: from then on the process leaves no core dump. */
  keepSecrets(): Promise<void>;
  /**
   * Aborts on SIGINT and SIGTERM. By calling this a command takes over stopping: it tidies up and
   * settles soon after. A command that never calls it is ended at once; what it had not made
   * durable is lost, as after a crash.
   */
  stopSignal(): AbortSignal;
}
