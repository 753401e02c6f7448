// A command that runs until it is told to end: receiver, daemon, a long push. Started as a user
// starts it, and ended with a signal.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mainProgram } from './checkout.js';

export interface Ended {
  /** null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class HvdrProcess {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  #stdout = '';
  #stderr = '';

  constructor(args: readonly string[]) {
    const child = spawn(process.execPath, [mainProgram, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#child = child;
    this.ended = once(child, 'close').then(([code]) => ({
      code: typeof code === 'number' ? code : null,
      stdout: this.#stdout,
      stderr: this.#stderr,
    }));
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error('the process was not started');
    return pid;
  }

  /** What stdout has said so far. */
  get stdout(): string {
    return this.#stdout;
  }

  /** Resolves with the match when stdout holds it. @throws when the process ends before */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const { stdout } = this.#child;
    for (;;) {
      const match = pattern.exec(this.#stdout);
      if (match !== null) return match;
      const ended = this.ended.then(({ code, stderr }) => {
        throw new Error(`it ended with ${String(code)}: ${stderr}`);
      });
      await Promise.race([stdout === null ? ended : once(stdout, 'data'), ended]);
    }
  }

  stop(signal: NodeJS.Signals): Promise<Ended> {
    this.#child.kill(signal);
    return this.ended;
  }
}
