// One daemon of Bacula as a plain process in the foreground, in a process group of its own: what it
// started (a backend of a plugin) ends with it when the site is closed.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { assert } from '../../shared/assert.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';

const ASK_AGAIN_MS = 20;

/** Groups that must not outlive this process, also when it ends by itself in the middle. */
const groups = new Set<number>();
process.on('exit', () => {
  for (const group of groups) killGroup(group);
});

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    // nobody is left in it
  }
}

export interface DaemonWish {
  /** Absolute path. */
  readonly program: string;
  readonly configFile: string;
  readonly port: number;
  /** Beyond that of this process. */
  readonly environment: Readonly<Record<string, string>>;
  readonly clock: Clock;
}

export class BaculaDaemon {
  readonly #wish: DaemonWish;
  readonly #groups: number[] = [];
  #child: ChildProcess | undefined;
  #output = '';

  constructor(wish: DaemonWish) {
    this.#wish = wish;
  }

  /** What the daemon said on its own streams since it was first started. */
  get output(): string {
    return this.#output;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** Its process, while it runs. */
  get processId(): number | undefined {
    return this.#child?.pid;
  }

  /** Processes that the daemon has started and that run. */
  async children(): Promise<number[]> {
    const pid = this.#child?.pid;
    if (pid === undefined) return [];
    const ps = spawn('ps', ['-o', 'pid=', '--ppid', String(pid)], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const lines = (await text(ps.stdout)).split('\n');
    return lines.flatMap((line) => (line.trim() === '' ? [] : [Number(line)]));
  }

  /** Resolves when the daemon takes connections. @throws DrError E_TOOL_FAILED when it ends before */
  async start(): Promise<void> {
    const { program: file, configFile, port, environment, clock } = this.#wish;
    assert(this.#child === undefined, 'a daemon is started once at a time');
    // ended by the system with us, also when we are killed; what it started sees its pipe close
    const program = [file, '-f', '-c', configFile];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...program], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C.UTF-8', ...environment },
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
      });
    }
    await once(child, 'spawn');
    if (child.pid !== undefined) {
      groups.add(child.pid);
      this.#groups.push(child.pid);
    }
    this.#child = child;
    child.once('exit', () => {
      if (this.#child === child) this.#child = undefined;
    });
    while (!(await answers(port))) {
      if (!this.isRunning) throw new DrError('E_TOOL_FAILED', `${file} ended: ${this.#output}`);
      await clock.sleep(ASK_AGAIN_MS);
    }
  }

  /** Stops it where it stands: it takes nothing and answers nothing until it is killed. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  /** Sends the signal to the daemon alone and waits for its end. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  /** Ends the daemon and everything that it ever started. */
  async dispose(): Promise<void> {
    const child = this.#child;
    const ended = child === undefined ? undefined : once(child, 'exit');
    for (const group of this.#groups.splice(0)) {
      killGroup(group);
      groups.delete(group);
    }
    await ended;
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const say = (isThere: boolean): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once('connect', () => {
      say(true);
    });
    socket.once('error', () => {
      say(false);
    });
  });
}
