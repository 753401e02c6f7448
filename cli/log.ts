// The log of the command line: on stderr, opened when the first line is written, because most runs
// log nothing and should start fast. Level and form are known only after the command line was read.

import type { Clock } from '../shared/clock.js';
import { openLog, type Log } from '../shared/log.js';
import type { Output } from './output.js';

/** Returns the function that opens the log at its first call. */
export function lazyLog(output: Output, clock: Clock): () => Promise<Log> {
  let log: Promise<Log> | undefined;
  return () => {
    log ??= openLog({
      destination: {
        write: (line) => {
          output.noteRaw(line);
        },
      },
      level: output.logLevel,
      clock,
      isTerminal: output.errorIsTerminal,
    });
    return log;
  };
}
