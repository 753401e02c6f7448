// Child processes of the demo: our own commands as a user starts them, the receiver as a service
// that runs beside them, and programs of others.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { DrError } from '../shared/errors.js';
import { ownCommand } from './own-program.js';

const TAIL_CHARACTERS = 4000;

export interface StepOptions {
  readonly folder: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** What it reads from stdin. */
  readonly input?: string;
  /** Told every piece of stdout. */
  readonly onOutput?: (chunk: Buffer) => void;
  /** Exit codes that are no failure. Default: 0. */
  readonly expectedCodes?: readonly number[] | 'any';
}

/**
 * Runs a program to its end and returns its exit code.
 * @throws DrError E_TOOL_FAILED when it cannot be started or ends with an unexpected code
 */
export async function runStep(
  program: string,
  args: readonly string[],
  options: StepOptions,
): Promise<number> {
  const child = spawn(program, args, {
    cwd: options.folder,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: options.environment ?? process.env,
  });
  child.stdin.on('error', () => undefined); // a program that does not read to the end
  child.stdin.end(options.input);
  const tail = tailOf(child.stderr);
  child.stdout.on('data', (chunk: Buffer) => options.onOutput?.(chunk));
  const name = `${path.basename(program)} ${args.map((word) => path.basename(word)).join(' ')}`;
  try {
    await once(child, 'close');
  } catch (error) {
    throw new DrError('E_TOOL_FAILED', `${name} cannot be started`, { cause: error });
  }
  const { exitCode, signalCode } = child;
  const { expectedCodes = [0] } = options;
  const isExpected = (code: number): boolean =>
    expectedCodes === 'any' || expectedCodes.includes(code);
  if (exitCode !== null && isExpected(exitCode)) return exitCode;
  throw new DrError(
    'E_TOOL_FAILED',
    `${name} ended with ${signalCode ?? `exit code ${exitCode ?? ''}`}: ${tail().trim()}`,
  );
}

function tailOf(stream: Readable): () => string {
  let tail = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-TAIL_CHARACTERS);
  });
  return () => tail;
}

/** Runs `hvdr …args`. */
export function runHvdr(args: readonly string[], options: StepOptions): Promise<number> {
  const own = ownCommand(args);
  return runStep(own.program, own.args, options);
}

/** A document of ours; the demo looks at single fields and checks each. */
export type Document = Readonly<Record<string, unknown>>;

/** Runs `hvdr …args --json` and returns the last document that it printed. */
export async function runHvdrJson(
  args: readonly string[],
  options: Omit<StepOptions, 'onOutput'>,
): Promise<Document> {
  const text = await jsonText(args, options);
  // one document over several lines, or one line per event with the result as the last
  const document = text.startsWith('{\n') ? text : (text.split('\n').at(-1) ?? '');
  return JSON.parse(document) as Document;
}

/** Runs `hvdr …args --json`, a command that prints a line for each event, and returns these. */
export async function runHvdrEvents(
  args: readonly string[],
  options: Omit<StepOptions, 'onOutput'>,
): Promise<Document[]> {
  const text = await jsonText(args, options);
  return text.split('\n').map((line) => JSON.parse(line) as Document);
}

async function jsonText(args: readonly string[], options: StepOptions): Promise<string> {
  const chunks: Buffer[] = [];
  await runHvdr([...args, '--json'], { ...options, onOutput: (chunk) => chunks.push(chunk) });
  return Buffer.concat(chunks).toString().trimEnd();
}

/** SHA-256 of what `run` writes to its `onOutput`, as hexadecimal digits. */
export async function hashOutput(
  run: (onOutput: (chunk: Buffer) => void) => Promise<unknown>,
): Promise<string> {
  const hash = createHash('sha256');
  await run((chunk) => hash.update(chunk));
  return hash.digest('hex');
}

const READY = /^listening (\S+):(\d+)$/m;

/** A command that runs until it is told to stop, ready when it has printed where it listens. */
export class Service {
  readonly port: number;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;

  private constructor(child: ChildProcessByStdio<null, Readable, Readable>, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Starts `hvdr …args`. @throws DrError E_TOOL_FAILED when it ends before it is ready */
  static async start(args: readonly string[], folder: string): Promise<Service> {
    const own = ownCommand(args);
    const child = spawn(own.program, own.args, {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const tail = tailOf(child.stderr);
    const port = await new Promise<number>((resolve, reject) => {
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text = (text + chunk).slice(-TAIL_CHARACTERS);
        const match = READY.exec(text);
        if (match?.[2] !== undefined) resolve(Number(match[2]));
      });
      child.on('error', reject);
      child.on('close', () => {
        reject(
          new DrError('E_TOOL_FAILED', `hvdr ${args[0] ?? ''} did not start: ${tail().trim()}`),
        );
      });
    });
    return new Service(child, port);
  }

  /** Ends it as an operator does (SIGTERM), or as an accident does (SIGKILL). */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.kill(signal);
    await closed;
  }
}
