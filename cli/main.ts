// The process around the command line: real files, clock, randomness and streams, signals, exit
// code. bin/hvdr starts this file.

import './thread-pool.js';
import { assert } from '../shared/assert.js';
import { systemClock, systemRandom } from '../shared/clock.js';
import { forbidCoreDumps, nodeFileSystem } from '../shared/files/index.js';
import type { CliContext } from './context.js';
import { lazyLog } from './log.js';
import { Output } from './output.js';
import { asDrError, run } from './program.js';
import { processStreams } from './standard-streams.js';

const SIGNAL_NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
type StopSignal = keyof typeof SIGNAL_NUMBERS;

/** A terminal's Ctrl-C reaches us directly and through the launcher: one wish, not two. */
const SAME_WISH_MS = 500;

const output = new Output(processStreams(systemClock));
const stop = new AbortController();
let takesOverStopping = false;
let stoppedBy: StopSignal | undefined;
let stoppedAt = 0;

function onSignal(signal: StopSignal): void {
  const now = systemClock.monotonic();
  const isSecondWish = stoppedBy !== undefined && now - stoppedAt > SAME_WISH_MS;
  if (!takesOverStopping || isSecondWish) process.exit(128 + SIGNAL_NUMBERS[signal]);
  if (stoppedBy !== undefined) return;
  stoppedBy = signal;
  stoppedAt = now;
  stop.abort();
}

process.on('SIGHUP', onSignal);
process.on('SIGINT', onSignal);
process.on('SIGTERM', onSignal);
process.on('uncaughtException', (error) => {
  const failure = asDrError(error);
  output.failure(failure);
  void output.flush().then(
    () => process.exit(failure.exitCode),
    () => process.exit(failure.exitCode),
  );
});

/** What comes in is thrown away. An input that cannot be read has ended as well. */
function stopWhenInputEnds(): void {
  const onEnd = (): void => {
    stop.abort();
  };
  process.stdin.once('end', onEnd).once('close', onEnd).once('error', onEnd).resume();
}

let secretsKept: Promise<void> | undefined;

async function forbidDumps(): Promise<void> {
  const failure = await forbidCoreDumps();
  if (failure !== undefined) (await context.log()).warn('run.core-dumps-on', { failure });
}

const context: CliContext = {
  files: nodeFileSystem,
  clock: systemClock,
  random: systemRandom,
  environment: process.env,
  folder: process.cwd(),
  output,
  log: lazyLog(output, systemClock),
  keepSecrets: () => (secretsKept ??= forbidDumps()),
  stopSignal({ onInputEnd = false } = {}) {
    takesOverStopping = true;
    if (onInputEnd) stopWhenInputEnds();
    return stop.signal;
  },
};

// no await at the top: the single executable is bundled to a script, which knows none
void run(process.argv.slice(2), context).then((exitCode) => {
  assert(Number.isInteger(exitCode), 'the exit code is a whole number');
  process.exit(stoppedBy === undefined ? exitCode : 128 + SIGNAL_NUMBERS[stoppedBy]);
});
