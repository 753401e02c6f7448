// Child processes of the demo: our own commands as a user starts them, and programs of others.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { DrError } from '../shared/errors.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const TAIL_CHARACTERS = 4000;

export interface StepOptions {
  readonly folder: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Told every piece of stdout. */
  readonly onOutput?: (chunk: Buffer) => void;
}

/**
 * Runs a program to its end.
 * @throws DrError E_TOOL_FAILED when it cannot be started or ends with anything but 0
 */
export async function runStep(
  program: string,
  args: readonly string[],
  options: StepOptions,
): Promise<void> {
  const child = spawn(program, args, {
    cwd: options.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: options.environment ?? process.env,
  });
  let tail = '';
  child.stdout.on('data', (chunk: Buffer) => options.onOutput?.(chunk));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-TAIL_CHARACTERS);
  });
  const name = `${path.basename(program)} ${args.map((word) => path.basename(word)).join(' ')}`;
  try {
    await once(child, 'close');
  } catch (error) {
    throw new DrError('E_TOOL_FAILED', `${name} cannot be started`, { cause: error });
  }
  if (child.exitCode === 0) return;
  throw new DrError(
    'E_TOOL_FAILED',
    `${name} ended with ${child.signalCode ?? `exit code ${child.exitCode ?? ''}`}: ${tail.trim()}`,
  );
}

/** Runs `hvdr …args`. */
export async function runHvdr(args: readonly string[], options: StepOptions): Promise<void> {
  await runStep(process.execPath, [MAIN, ...args], options);
}

/** SHA-256 of what `run` writes to its `onOutput`, as hexadecimal digits. */
export async function hashOutput(
  run: (onOutput: (chunk: Buffer) => void) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256');
  await run((chunk) => hash.update(chunk));
  return hash.digest('hex');
}
