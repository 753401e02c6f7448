// Programs that run beside the measured commands: a receiver, nbdkit, an rsync daemon, a proxy. Each
// round starts its own and stops them again, so that none inherits the memory of an earlier one.
// What the counted ones spend between two looks belongs to the contender.

import { type ChildProcess, spawn } from 'node:child_process';
import { createConnection, createServer } from 'node:net';
import { defined } from '../shared/assert.js';
import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { type Command, commandLine } from './command.js';
import { treeCpuSeconds, treePeakRss } from './process-tree.js';

const READY_WITHIN_MS = 30_000;
const STOPPED_WITHIN_MS = 30_000;
const PROBE_EVERY_MS = 20;
/** As often as a measured command is looked at. */
const SAMPLE_EVERY_MS = 20;
const TEXT_KEPT_BYTES = 4000;
const LISTENING = /^listening (\S+):(\d+)$/m;

export const LOOPBACK = '127.0.0.1';

export interface ServiceOptions {
  readonly command: Command;
  /**
   * The port that the command line names, which is then tried until it answers; without one the
   * program says `listening ADDRESS:PORT` on stdout. `none`: it is not waited for.
   */
  readonly port?: number | 'none';
  /** Whether CPU and memory are the contender's. A proxy that stands for a network is not. */
  readonly isCounted: boolean;
  /** Told each line of stdout. */
  readonly onLine?: (line: string) => void;
}

export interface Service {
  /** 0 when it listens nowhere. */
  readonly port: number;
}

/** What the counted services have spent since they started. */
export interface ServiceUsage {
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

interface Running {
  readonly child: ChildProcess;
  readonly command: Command;
  readonly isCounted: boolean;
  readonly ended: Promise<void>;
}

/** The services of one contender in one round. */
export class Services {
  readonly #clock: Clock;
  readonly #running: Running[] = [];
  readonly #adopted: { readonly processId: number; peakRssBytes: number }[] = [];
  #sampler: NodeJS.Timeout | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get hasCounted(): boolean {
    return this.#adopted.length > 0 || this.#running.some(({ isCounted }) => isCounted);
  }

  /**
   * Counts a process that others started and will end, with all that it starts: these may be gone
   * when usage() is asked, so their memory is sampled meanwhile.
   */
  adopt(processId: number): void {
    this.#adopted.push({ processId, peakRssBytes: 0 });
    this.#sampler ??= setInterval(() => this.#sample(), SAMPLE_EVERY_MS);
  }

  #sample(): void {
    for (const each of this.#adopted) {
      each.peakRssBytes = Math.max(each.peakRssBytes, treePeakRss(each.processId));
    }
  }

  /**
   * Starts a program and waits until it can be used.
   * @throws DrError E_TOOL_MISSING, E_TOOL_FAILED when it cannot start, ends early or stays silent
   */
  async start({ command, port, isCounted, onLine }: ServiceOptions): Promise<Service> {
    const child = spawn(command.program, command.arguments, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...command.environment },
      ...(command.folder === undefined ? {} : { cwd: command.folder }),
    });
    // a bench that is stopped leaves no service behind
    const kill = (): void => {
      child.kill();
    };
    process.once('exit', kill);
    let failure: DrError | undefined;
    let complaint = '';
    let said = '';
    const ended = new Promise<void>((resolve) => {
      child.on('error', (cause) => {
        failure = new DrError(
          'E_TOOL_MISSING',
          `cannot start ${command.program}: ${cause.message}`,
          {
            cause,
            context: { command: commandLine(command) },
          },
        );
        resolve();
      });
      child.on('close', (code, signal) => {
        process.off('exit', kill);
        failure ??= new DrError(
          'E_TOOL_FAILED',
          `${commandLine(command)} ended before its time (${signal ?? code ?? 'unknown'}): ${complaint.trim() || 'it said nothing'}`,
          { done: 'the bench was stopped; its figures do not count' },
        );
        resolve();
      });
    });
    this.#running.push({ child, command, isCounted, ended });
    defined(child.stderr, 'stderr is a pipe').on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(-TEXT_KEPT_BYTES);
    });
    const lines = new Lines((line) => {
      if (port === undefined && said === '' && LISTENING.test(line)) said = line;
      onLine?.(line);
    });
    defined(child.stdout, 'stdout is a pipe').on('data', (chunk: Buffer) => lines.take(chunk));
    const isFailed = (): DrError | undefined => failure;

    if (port === 'none') return { port: 0 };
    const deadline = this.#clock.monotonic() + READY_WITHIN_MS;
    while (this.#clock.monotonic() < deadline) {
      const failed = isFailed();
      if (failed !== undefined) throw failed;
      if (port === undefined) {
        const told = LISTENING.exec(said)?.[2];
        if (told !== undefined) return { port: Number(told) };
      } else if (await answers(port)) {
        return { port };
      }
      await this.#clock.sleep(PROBE_EVERY_MS);
    }
    throw new DrError(
      'E_TOOL_FAILED',
      `${commandLine(command)} was not ready within ${READY_WITHIN_MS / 1000} s: ${complaint.trim() || 'it said nothing'}`,
      { done: 'the bench was stopped; its figures do not count' },
    );
  }

  /** @throws DrError E_TOOL_FAILED when a service has ended though nobody stopped it */
  usage(): ServiceUsage {
    let cpuSeconds = 0;
    let peakRssBytes = 0;
    for (const { child, command, isCounted } of this.#running) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
        throw new DrError('E_TOOL_FAILED', `${commandLine(command)} ended before its time`, {
          done: 'the bench was stopped; its figures do not count',
        });
      }
      if (!isCounted) continue;
      cpuSeconds += treeCpuSeconds(child.pid);
      peakRssBytes = Math.max(peakRssBytes, treePeakRss(child.pid));
    }
    this.#sample();
    for (const each of this.#adopted) {
      cpuSeconds += treeCpuSeconds(each.processId);
      peakRssBytes = Math.max(peakRssBytes, each.peakRssBytes);
    }
    return { cpuSeconds, peakRssBytes };
  }

  /** Asks all that were started here to end, the last one started first, and waits for them. */
  async stopAll(): Promise<void> {
    clearInterval(this.#sampler);
    this.#sampler = undefined;
    this.#adopted.length = 0;
    for (let last = this.#running.pop(); last !== undefined; last = this.#running.pop()) {
      const { child, ended } = last;
      child.kill('SIGTERM');
      const patience = new AbortController();
      const late = this.#clock.sleep(STOPPED_WITHIN_MS, patience.signal).then(
        () => true,
        () => false,
      );
      const isLate = await Promise.race([ended.then(() => false), late]);
      patience.abort();
      if (isLate) {
        child.kill('SIGKILL');
        await ended;
      }
    }
  }
}

/** Cuts a stream of text into lines. */
class Lines {
  readonly #onLine: (line: string) => void;
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  take(chunk: Buffer): void {
    const parts = (this.#rest + chunk.toString()).split('\n');
    this.#rest = parts.pop() ?? '';
    for (const line of parts) this.#onLine(line);
  }
}

/** A port of the loopback address that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, LOOPBACK, () => {
      const address = server.address();
      const port = address !== null && typeof address === 'object' ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: LOOPBACK, port });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
