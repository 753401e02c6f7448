// The process's own stdout and stderr. stdout is written through its descriptor on the thread pool:
// process.stdout writes to pipes synchronously on Linux, and a command that streams a disk must be
// able to read the next piece meanwhile.

import fs from 'node:fs';
import type { Clock } from '../shared/clock.js';
import { OutputClosed, type StandardStreams } from './output.js';

const STDOUT = 1;
const RETRY_MS = 5;

function writeSome(chunk: Uint8Array, start: number): Promise<number | NodeJS.ErrnoException> {
  return new Promise((resolve) => {
    fs.write(STDOUT, chunk, start, chunk.length - start, null, (error, written) => {
      resolve(error ?? written);
    });
  });
}

export function processStreams(clock: Clock): StandardStreams {
  // a closed stderr must not end the run; there is nobody left to tell
  process.stderr.on('error', () => undefined);
  return {
    async writeOut(chunk) {
      let position = 0;
      while (position < chunk.length) {
        const answer = await writeSome(chunk, position);
        if (typeof answer === 'number') {
          position += answer;
        } else if (answer.code === 'EAGAIN') {
          // somebody who shares the pipe or terminal made it non-blocking
          await clock.sleep(RETRY_MS);
        } else if (answer.code === 'EPIPE' || answer.code === 'EOF') {
          throw new OutputClosed('the reader of standard output has gone');
        } else {
          throw answer;
        }
      }
    },
    writeError(text) {
      process.stderr.write(text);
    },
    errorIsTerminal: process.stderr.isTTY,
    get errorColumns() {
      return process.stderr.isTTY ? process.stderr.columns : 80;
    },
  };
}
