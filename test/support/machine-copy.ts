// A copy of this machine in which packages are installed for real, without touching it: an overlay over / in a mount
// namespace of its own, in memory, gone with the process that holds it. Needs root.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, relative } from 'node:path';
import { checkoutFolder } from './checkout.js';
import { findTool, skipBecause } from './need.js';
import { runTool, type RunToolOptions, type ToolRun } from './run-tool.js';

/** Mounts, says that it is ready, and holds the namespace until its input ends. */
const HOLD = `
set -e
mount --make-rprivate /
mount -t tmpfs -o size=2g none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
mount --rbind /proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mount -t tmpfs none /mnt/root/tmp
mount -t tmpfs none /mnt/root/run
mkdir /mnt/root/checkout
mount --bind "$1" /mnt/root/checkout
echo ready
exec cat
`;

/** Where the checkout is seen in the copy, by everybody: its own place may be one that few may enter, or hidden there. */
const CHECKOUT = '/checkout';

export class MachineCopy {
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  static async make(context: Mocha.Context): Promise<MachineCopy> {
    if (process.getuid?.() !== 0 || findTool('unshare') === undefined) {
      skipBecause(context, 'a package is installed in a copy of the machine, which needs root');
    }
    const holder = spawn('unshare', ['--mount', 'sh', '-c', HOLD, 'sh', checkoutFolder], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let said = '';
    holder.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    holder.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const ended = once(holder, 'close');
    while (!said.includes('ready')) {
      const isEnded = await Promise.race([
        once(holder.stdout, 'data').then(() => false),
        ended.then(() => true),
      ]);
      if (isEnded) skipBecause(context, `no mount namespace with an overlay: ${said.trim()}`);
    }
    return new MachineCopy(holder);
  }

  /** The place in the copy of a file of the checkout; any other is where it is. */
  inCheckout(file: string): string {
    const within = relative(checkoutFolder, file);
    return within.startsWith('..') ? file : join(CHECKOUT, within);
  }

  /** The words that run a command in the copy. */
  command(...words: string[]): [program: string, args: string[]] {
    const { pid } = this.#holder;
    const enter = ['--target', String(pid), '--mount', 'chroot', '/mnt/root'];
    // a machine of its own keeps no code that was compiled for the tests
    return ['nsenter', [...enter, 'env', '-u', 'NODE_COMPILE_CACHE', ...words]];
  }

  run(words: readonly string[], options: RunToolOptions = {}): Promise<ToolRun> {
    const [program, args] = this.command(...words);
    return runTool(program, args, options);
  }

  /** Runs a script that has to succeed; returns what it printed. */
  async shell(script: string, stdin?: Uint8Array): Promise<string> {
    const options = stdin === undefined ? {} : { stdin };
    const run = await this.run(['sh', '-euc', script], options);
    if (run.code === 0) return run.text;
    throw new Error(`${script}\nended with ${run.code}: ${run.text}${run.stderr}`);
  }

  /** Files that are in the copy and not in the machine, or differ from it. */
  async changedFiles(): Promise<readonly string[]> {
    const pid = String(this.#holder.pid);
    const find = 'cd /mnt/upper && find . ! -type d ! -type c';
    const run = await runTool('nsenter', ['--target', pid, '--mount', 'sh', '-c', find]);
    return run.text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.slice(1))
      .sort();
  }

  async dispose(): Promise<void> {
    const ended = once(this.#holder, 'close');
    this.#holder.stdin?.end();
    await ended;
  }
}
