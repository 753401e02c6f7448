// What making and applying a delta have in common: a bar that also notices a wish to stop, targets
// that are not replaced by accident, files named in errors, and the delta from stdin.

import path from 'node:path';
import { DeltaError } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { BlockFile } from '../shared/files/index.js';
import { checkTarget } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';

/** Runs `use` with the open file; errors about the delta then name the file. */
export async function withInput<T>(
  { files: fs, folder }: CliContext,
  name: string,
  use: (file: BlockFile) => Promise<T>,
): Promise<T> {
  const file = await fs.open(path.resolve(folder, name), { mode: 'read' });
  try {
    return await naming(name, () => use(file));
  } finally {
    await file.close();
  }
}

/** Puts the name of what is worked on before the message of an error that does not know it. */
export async function naming<T>(name: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof DeltaError) || 'file' in error.context) throw error;
    const { code, message, context, done, hint } = error;
    throw new DeltaError(code, `${name}: ${message}`, {
      context: { file: name, ...context },
      done,
      hint,
      cause: error,
    });
  }
}

/** A progress bar that begins when the amount is known. */
export class DeltaProgress {
  readonly #context: CliContext;
  readonly #label: string;
  #bar: ReturnType<typeof startProgress> | undefined;

  constructor(context: CliContext, label: string) {
    this.#context = context;
    this.#label = label;
  }

  /** Shows how far the work is. */
  readonly report = (doneBytes: number, totalBytes: number): void => {
    const { clock, output } = this.#context;
    // A delta from stdin does not say how much will come.
    const total = totalBytes > doneBytes || this.#bar !== undefined ? totalBytes : undefined;
    this.#bar ??= startProgress(output, clock, {
      label: this.#label,
      ...(total === undefined ? {} : { total }),
    });
    this.#bar.set(doneBytes);
  };

  /** Like report(), and ends the work when the operator wants to stop. */
  readonly show = (doneBytes: number, totalBytes: number): void => {
    this.#context.stopSignal().throwIfAborted();
    this.report(doneBytes, totalBytes);
  };

  end(): void {
    this.#bar?.end();
    this.#bar = undefined;
  }
}

/** Runs work that leaves nothing behind when the operator stops it. */
export async function stoppable(context: CliContext, run: () => Promise<void>): Promise<void> {
  const signal = context.stopSignal();
  try {
    await run();
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    context.output.note('stopped; nothing was left behind');
  }
}

/**
 * Refuses a target that must not be replaced, before any work is done. Names count from the
 * caller's folder.
 * @throws as checkTarget()
 */
export async function refuseTarget(
  { files: fs, folder, random }: CliContext,
  target: string,
  isReplacing: boolean,
  inputs: readonly string[],
): Promise<void> {
  const paths = inputs.map((input) => path.resolve(folder, input));
  await checkTarget(path.resolve(folder, target), { isReplacing, inputs: paths }, { fs, random });
}

/** The bytes of stdin; a failure to read them is an error of the system. */
export async function* standardInput(): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    throw new DrError('E_IO', 'standard input cannot be read', { cause: error });
  }
}
