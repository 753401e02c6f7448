// Runs the command line as a user does: as a process of its own. `runHvdr` starts the compiled
// program of the tree that the tests belong to; bin/hvdr in front of it is tested by
// test/e2e/bootstrap.test.ts. `runInProcess` runs a command line with captured streams.

import { spawn } from 'node:child_process';
import type { CliContext } from '../../cli/context.js';
import { lazyLog } from '../../cli/log.js';
import { Output } from '../../cli/output.js';
import { run } from '../../cli/program.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { mainProgram } from './checkout.js';

export interface CliRun {
  /** null when a signal ended the process. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface CliOptions {
  /** Caller's folder. Default: that of the tests. */
  readonly folder?: string;
  readonly input?: Uint8Array;
  readonly environment?: Readonly<Record<string, string>>;
}

/** Runs `hvdr …args` to its end. */
export function runHvdr(args: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [mainProgram, ...args], {
      cwd: options.folder,
      env: { ...process.env, ...options.environment },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const out: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => undefined); // a command need not read its input
    child.stdin.end(options.input ?? '');
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve({ code, signal, stdout: Buffer.concat(out), stderr });
    });
  });
}

/** Runs `hvdr … --json` and returns its one document; fails when stdout holds anything else. */
export async function runHvdrJson(
  args: readonly string[],
  options: CliOptions = {},
): Promise<{ readonly run: CliRun; readonly document: unknown }> {
  const finished = await runHvdr([...args, '--json'], options);
  return { run: finished, document: JSON.parse(finished.stdout.toString()) as unknown };
}

export interface CapturedRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command line in this process; parts of the context can be replaced by doubles. */
export async function runInProcess(
  args: readonly string[],
  replaced: Partial<Omit<CliContext, 'output'>> = {},
): Promise<CapturedRun> {
  const out: Buffer[] = [];
  let stderr = '';
  const output = new Output({
    writeOut: (chunk) => {
      out.push(Buffer.from(chunk));
      return Promise.resolve();
    },
    writeError: (text) => {
      stderr += text;
    },
    errorIsTerminal: false,
    errorColumns: 80,
  });
  const code = await run(args, {
    files: nodeFileSystem,
    clock: systemClock,
    random: systemRandom,
    environment: {},
    folder: process.cwd(),
    keepSecrets: () => Promise.resolve(),
    stopSignal: () => new AbortController().signal,
    log: lazyLog(output, replaced.clock ?? systemClock),
    ...replaced,
    output,
  });
  return { code, stdout: Buffer.concat(out).toString(), stderr };
}
