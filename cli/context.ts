// What a command gets from its surroundings. Commands are one file each and are registered by
// program.ts as `registerX(program, context)`; everything outside (files, clock, randomness,
// standard streams, signals) reaches them through this value, so that tests run a command in
// process with doubles.

import type { Surroundings } from '../shared/surroundings.js';
import type { Output } from './output.js';

export interface CliContext extends Surroundings {
  /** The only way to stdout and stderr. `output.json` tells whether --json was given. */
  readonly output: Output;
  /**
   * Aborts on SIGINT and SIGTERM. By calling this a command takes over stopping: it tidies up and
   * settles soon after. A command that never calls it is ended at once; what it had not made
   * durable is lost, as after a crash. `onInputEnd`: aborts also when standard input ends.
   */
  stopSignal(options?: { readonly onInputEnd?: boolean }): AbortSignal;
}
