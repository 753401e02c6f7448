// One host process: started, greeted, asked one thing at a time, and ended for good at its first fault. Who
// asks decides whether another one is started (lane.ts).

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { StringDecoder } from 'node:string_decoder';
import type { Clock } from '../../../clock.js';
import type { Log } from '../../../log.js';
import type { Arguments } from './operation.js';
import {
  type Answer,
  Babble,
  checkHello,
  decodeAnswer,
  encodeRequest,
  LineCutter,
} from './protocol.js';

/** What is started. Tests give their double; nothing of it ever comes from the environment. */
export interface HostProgram {
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Why a host is of no use any more. */
export class HostLost extends Error {
  /** It was alive and said nothing for the whole time limit. */
  readonly isSilent: boolean;

  constructor(reason: string, isSilent = false) {
    super(reason);
    this.isSilent = isSilent;
  }
}

/** stderr is for people: so much of it is logged for each host, the rest is dropped. */
const STDERR_CHARACTERS_MAX = 16 * 1024;

interface Waiter {
  readonly resolve: (line: string) => void;
  readonly reject: (reason: HostLost) => void;
}

export class HostProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #cutter = new LineCutter();
  readonly #decoder = new StringDecoder('utf8');
  #waiter: Waiter | undefined;
  /** The greeting can come before anybody waits for it. */
  #early: string | undefined;
  #lost: HostLost | undefined;
  #nextId = 1;
  #stderrLeft = STDERR_CHARACTERS_MAX;

  private constructor(program: HostProgram, clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
    this.#child = spawn(program.program, program.args, {
      env: program.environment,
      stdio: 'pipe',
      windowsHide: true,
      shell: false,
    });
    this.#child.on('error', (error) =>
      this.#end(new HostLost(`it cannot be run: ${error.message}`)),
    );
    this.#child.on('exit', (code, signal) =>
      this.#end(new HostLost(`it ended by itself with ${signal ?? `exit code ${code ?? '?'}`}`)),
    );
    this.#child.stdout.on('data', (chunk: Buffer) => this.#hear(chunk));
    // the exit says more than a broken pipe does
    for (const stream of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) {
      stream.on('error', () => undefined);
    }
    this.#child.stderr.on('data', (chunk: Buffer) => this.#hearComplaint(chunk));
  }

  /** A host that has greeted. @throws HostLost */
  static async start(
    program: HostProgram,
    clock: Clock,
    log: Log,
    timeoutMs: number,
  ): Promise<HostProcess> {
    const host = new HostProcess(program, clock, log);
    const line = await host.#line(timeoutMs, 'its greeting');
    try {
      checkHello(line);
    } catch (error) {
      throw host.#fault(error);
    }
    return host;
  }

  get isUsable(): boolean {
    return this.#lost === undefined;
  }

  /** What the host answers to one request; nobody else may be asking. @throws HostLost */
  async ask(op: string, args: Arguments, timeoutMs: number): Promise<Answer> {
    const id = this.#nextId;
    this.#nextId += 1;
    const request = encodeRequest(id, op, args);
    const line = this.#line(timeoutMs, `an answer to ${op}`);
    this.#child.stdin.write(request);
    const text = await line;
    try {
      const answer = decodeAnswer(text);
      if (answer.id !== id) throw new Babble(`it answered ${answer.id} when ${id} was asked`);
      return answer;
    } catch (error) {
      throw this.#fault(error);
    }
  }

  /** Ends it: the script leaves its loop when its input ends, and is killed when it does not. */
  async close(graceMs: number): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    if (this.#lost !== undefined) return;
    const exited = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.stdin.end();
    const grace = new AbortController();
    await Promise.race([exited, this.#clock.sleep(graceMs, grace.signal).catch(() => undefined)]);
    grace.abort();
    this.#end(new HostLost('it was closed'));
  }

  /** The next line, within the time limit. One caller at a time. */
  async #line(timeoutMs: number, wanted: string): Promise<string> {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#early !== undefined) {
      const line = this.#early;
      this.#early = undefined;
      return line;
    }
    const line = new Promise<string>((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
    const over = new AbortController();
    const limit = this.#clock.sleep(timeoutMs, over.signal).then(
      () => this.#end(new HostLost(`${wanted} did not come within ${timeoutMs} ms`, true)),
      () => undefined,
    );
    try {
      return await line;
    } finally {
      over.abort(new Error('answered'));
      await limit;
    }
  }

  #hear(chunk: Buffer): void {
    if (this.#lost !== undefined) return;
    try {
      for (const line of this.#cutter.push(this.#decoder.write(chunk))) {
        const waiter = this.#waiter;
        this.#waiter = undefined;
        if (waiter !== undefined) waiter.resolve(line);
        else if (this.#nextId === 1 && this.#early === undefined) this.#early = line;
        else throw new Babble('it spoke without being asked');
      }
    } catch (error) {
      this.#fault(error);
    }
  }

  #hearComplaint(chunk: Buffer): void {
    if (this.#stderrLeft <= 0) return;
    const text = chunk.toString('utf8').slice(0, this.#stderrLeft);
    this.#stderrLeft -= text.length;
    this.#log.warn('hypervisor.host-said', { text: text.trimEnd() });
  }

  /** The end because of what it said. Another error than Babble is ours, and goes on. */
  #fault(error: unknown): HostLost {
    if (!(error instanceof Babble)) throw error;
    const lost = new HostLost(error.message);
    this.#end(lost);
    return lost;
  }

  #end(lost: HostLost): void {
    if (this.#lost !== undefined) return;
    this.#lost = lost;
    this.#child.kill('SIGKILL');
    // whatever it started may hold the pipes open
    this.#child.stdin.destroy();
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.reject(lost);
  }
}
