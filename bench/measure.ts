// Runs commands and measures them from outside: wall time, CPU of the whole tree of processes, and
// the largest resident set of any single process in it. Linux only: all three come from /proc.
//
// The runner starts one command at a time, so the growth of "CPU of children that were waited for"
// between start and end is the command's own. Services (services.ts) run beside it; theirs is the
// growth of what /proc tells of their living trees, which nobody waits for before the end.

import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { constants as systemConstants } from 'node:os';
import { assert, defined } from '../shared/assert.js';
import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { type Command, commandLine } from './command.js';
import { treePeakRss, waitedChildCpuSeconds } from './process-tree.js';
import { Services } from './services.js';

/** Work that no command line can do: it waits for what a service does by itself. */
export interface Act {
  readonly act: string;
  /** Returns the seconds that count in place of those that passed, when they differ. */
  run(clock: Clock): Promise<number | undefined>;
}

export type Step = Command | Act;

/** The part of a measurement that the services have in it. */
export interface ServiceShare {
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

export interface Measurement {
  readonly wallSeconds: number;
  /** User and system time of all processes. Work of kernel threads (writeback) is in none. */
  readonly cpuSeconds: number;
  /** Largest VmHWM of one process, sampled; growth in the last few ms of a process is not seen. */
  readonly peakRssBytes: number;
  /** Of contenders with services: what of the figures above is theirs. */
  readonly services?: ServiceShare;
}

/** Services work on for a moment after their client has ended. */
const SETTLE_MS = 100;
/** Often enough for a figure in MiB, rarely enough to cost under one per cent of a core. */
const SAMPLE_EVERY_MS = 20;
const STDERR_KEPT_BYTES = 4000;

/**
 * Runs `steps` one after the other and measures them as one, with what `services` spend meanwhile.
 * @throws DrError E_TOOL_MISSING, E_TOOL_FAILED when one cannot start or does not exit with 0
 */
export async function measure(
  steps: readonly Step[],
  clock: Clock,
  services = new Services(clock),
): Promise<Measurement> {
  assert(steps.length > 0, 'there is something to measure');
  let peakRssBytes = 0;
  let wallSeconds = 0;
  const cpuBefore = waitedChildCpuSeconds();
  const servedBefore = services.usage();
  for (const step of steps) {
    const start = clock.monotonic();
    let counted: number | undefined;
    if ('act' in step) counted = await step.run(clock);
    else peakRssBytes = Math.max(peakRssBytes, await run(step));
    wallSeconds += counted ?? (clock.monotonic() - start) / 1000;
  }
  const cpuSeconds = waitedChildCpuSeconds() - cpuBefore;
  if (!services.hasCounted) return { wallSeconds, cpuSeconds, peakRssBytes };
  await clock.sleep(SETTLE_MS);
  const served = services.usage();
  const share = {
    cpuSeconds: served.cpuSeconds - servedBefore.cpuSeconds,
    peakRssBytes: served.peakRssBytes,
  };
  return {
    wallSeconds,
    cpuSeconds: cpuSeconds + share.cpuSeconds,
    peakRssBytes: Math.max(peakRssBytes, share.peakRssBytes),
    services: share,
  };
}

/** Runs a command that is not measured, for preparation and judgement. @throws as measure() */
export async function perform(command: Command): Promise<void> {
  await run(command);
}

/** Runs one command to its end; returns the largest resident set of a process in its tree. */
async function run(command: Command): Promise<number> {
  const output = command.output === undefined ? 'ignore' : openSync(command.output, 'w');
  try {
    return await new Promise<number>((resolve, reject) => {
      const child = spawn(command.program, command.arguments, {
        stdio: ['ignore', output, 'pipe'],
        env: { ...process.env, ...command.environment },
        ...(command.folder === undefined ? {} : { cwd: command.folder }),
      });
      let peakRssBytes = 0;
      let complaint = '';
      const sample = (): void => {
        if (child.pid !== undefined) {
          peakRssBytes = Math.max(peakRssBytes, treePeakRss(child.pid));
        }
      };
      const sampler = setInterval(sample, SAMPLE_EVERY_MS);
      // a bench that is stopped leaves no command behind
      const stop = (): void => {
        child.kill();
      };
      process.once('exit', stop);
      const ended = (): void => {
        clearInterval(sampler);
        process.off('exit', stop);
      };
      defined(child.stderr, 'stderr is a pipe').on('data', (chunk: Buffer) => {
        complaint = (complaint + chunk.toString()).slice(-STDERR_KEPT_BYTES);
      });
      child.on('error', (cause) => {
        ended();
        reject(
          new DrError('E_TOOL_MISSING', `cannot start ${command.program}: ${cause.message}`, {
            cause,
            context: { command: commandLine(command) },
          }),
        );
      });
      child.on('close', (code, signal) => {
        ended();
        if (code === 0) resolve(peakRssBytes);
        else reject(commandFailed(command, code, signal, complaint));
      });
    });
  } finally {
    if (typeof output === 'number') closeSync(output);
  }
}

function commandFailed(
  command: Command,
  code: number | null,
  signal: NodeJS.Signals | null,
  complaint: string,
): DrError {
  const end =
    signal === null
      ? `ended with exit code ${code ?? 'unknown'}`
      : `was killed by ${signal} (${systemConstants.signals[signal]})`;
  return new DrError(
    'E_TOOL_FAILED',
    `${commandLine(command)} ${end}: ${complaint.trim() || 'it said nothing'}`,
    { done: 'the bench was stopped; its figures do not count' },
  );
}
