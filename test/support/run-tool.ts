// Runs an outside program in a test and answers with what it said; the programs that judge our files
// (qemu.ts, sevenzip.ts, pyvhdi.ts) and the command line itself are run with it.

import { spawn } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';

export interface ToolRun {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly text: string;
}

export interface RunToolOptions {
  readonly folder?: string;
  readonly stdin?: Uint8Array;
  readonly environment?: Readonly<Record<string, string>>;
  /** Gets stdout in place of memory. */
  readonly hash?: Hash;
}

export function runTool(
  program: string,
  args: readonly string[],
  options: RunToolOptions = {},
): Promise<ToolRun> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      ...(options.folder === undefined ? {} : { cwd: options.folder }),
      env: { ...process.env, LC_ALL: 'C', ...options.environment },
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => {
      if (options.hash === undefined) out.push(chunk);
      else options.hash.update(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const stdout = Buffer.concat(out);
      const stderr = Buffer.concat(err).toString() + (signal === null ? '' : `\n${signal}`);
      resolve({ code: code ?? -1, stdout, stderr, text: stdout.toString() });
    });
    child.stdin.on('error', () => undefined); // a program that does not read to the end
    child.stdin.end(options.stdin);
  });
}

/** Like runTool, for a program that must succeed. */
export async function expectTool(
  program: string,
  args: readonly string[],
  options: RunToolOptions = {},
): Promise<ToolRun> {
  const run = await runTool(program, args, options);
  if (run.code === 0) return run;
  throw new Error(
    `${program} ${args.join(' ')} ended with ${run.code}: ${run.stderr.trim()} ${run.text.trim()}`,
  );
}

/** SHA-256 of what a program writes to stdout. */
export async function hashOfTool(
  program: string,
  args: readonly string[],
  options: RunToolOptions = {},
): Promise<string> {
  const hash = createHash('sha256');
  await expectTool(program, args, { ...options, hash });
  return hash.digest('hex');
}
