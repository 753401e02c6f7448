// Runs commands and measures them from outside: wall time, CPU of the whole tree of processes, and
// the largest resident set of any single process in it. Linux only: all three come from /proc.
//
// The runner starts one command at a time and nothing else, so the growth of "CPU of children that
// were waited for" between start and end is the command's own.

import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { constants as systemConstants } from 'node:os';
import { assert, defined } from '../shared/assert.js';
import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { parseChildren, parseChildTicks, parsePeakRss } from './process-facts.js';

export interface Command {
  readonly program: string;
  readonly arguments: readonly string[];
  /** File that takes stdout; without it stdout is discarded. */
  readonly output?: string;
  readonly folder?: string;
}

export interface Measurement {
  readonly wallSeconds: number;
  /** User and system time of all processes. Work of kernel threads (writeback) is in none. */
  readonly cpuSeconds: number;
  /** Largest VmHWM of one process, sampled; growth in the last few ms of a process is not seen. */
  readonly peakRssBytes: number;
}

/** Often enough for a figure in MiB, rarely enough to cost under one per cent of a core. */
const SAMPLE_EVERY_MS = 20;
/** USER_HZ, part of the kernel's interface to programs on all machines that Node runs on. */
const TICKS_PER_SECOND = 100;
const STDERR_KEPT_BYTES = 4000;

/** A command as a person would type it, for messages and documents. */
export function commandLine(command: Command): string {
  const quote = (text: string): string =>
    /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
  const line = [command.program, ...command.arguments].map(quote).join(' ');
  return command.output === undefined ? line : `${line} > ${quote(command.output)}`;
}

/**
 * Runs `commands` one after the other and measures them as one.
 * @throws DrError E_TOOL_MISSING, E_TOOL_FAILED when one cannot start or does not exit with 0
 */
export async function measure(commands: readonly Command[], clock: Clock): Promise<Measurement> {
  assert(commands.length > 0, 'there is something to measure');
  let peakRssBytes = 0;
  const cpuBefore = childCpuSeconds();
  const start = clock.monotonic();
  for (const command of commands) {
    peakRssBytes = Math.max(peakRssBytes, await run(command));
  }
  const wallSeconds = (clock.monotonic() - start) / 1000;
  return { wallSeconds, cpuSeconds: childCpuSeconds() - cpuBefore, peakRssBytes };
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
        ...(command.folder === undefined ? {} : { cwd: command.folder }),
      });
      let peakRssBytes = 0;
      let complaint = '';
      const sample = (): void => {
        if (child.pid !== undefined) {
          peakRssBytes = Math.max(peakRssBytes, largestPeakRss(child.pid));
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

function childCpuSeconds(): number {
  const ticks = parseChildTicks(readFileSync('/proc/self/stat', 'utf8'));
  return defined(ticks, 'the kernel tells the CPU time of children') / TICKS_PER_SECOND;
}

/** Largest VmHWM in the tree under `root`; processes that ended meanwhile do not count. */
function largestPeakRss(root: number): number {
  let largest = 0;
  const pending = [root];
  for (let pid = pending.pop(); pid !== undefined; pid = pending.pop()) {
    try {
      largest = Math.max(largest, parsePeakRss(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? 0);
      pending.push(...parseChildren(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')));
    } catch (error) {
      // ENOENT and ESRCH: the process has ended between two looks
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }
  return largest;
}
