// Two sites for end-to-end tests: a lab host with a VM, a DR receiver, the keys of both, and the
// commands that a user runs between them. Everything is a real process in a folder of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, rmSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect } from 'chai';
import { mainProgram } from './checkout.js';
import { type CliRun, runHvdr } from './cli.js';
const READY = /^listening \S+:(\d+)$/m;

/** One line of `hvdr push --json`'s result. */
export interface PushedVm {
  readonly vm: string;
  readonly kind: string;
  readonly bytesSent: number;
  readonly disks?: readonly { readonly repeatedBytes: number }[];
  readonly point: string;
  readonly error?: { readonly code: string };
}

export interface PushRun extends CliRun {
  readonly vms: readonly PushedVm[];
}

/** A command that is still running. */
export interface Running {
  readonly child: ChildProcess;
  readonly done: Promise<CliRun>;
}

export class Site {
  readonly folder: string;
  #receiver: Running | undefined;
  port = 0;
  /** Hypervisor of the DR site. */
  drHost = 'lab:lab';
  /** Where push goes instead of the receiver's own port, for tests with a proxy between. */
  pushPort: number | undefined;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Keys of a source and of an operator, and an empty lab. */
  async prepare(): Promise<void> {
    await this.hvdr('lab', 'init', 'lab');
    await this.hvdr('psk', 'generate', '--out', 'keys/source.psk', '--principal', 'primary');
    await this.hvdr(
      ...['psk', 'generate', '--out', 'keys/operator.psk', '--principal', 'operator'],
      ...['--role', 'operator'],
    );
  }

  /** Runs a command that must succeed. */
  async hvdr(...args: string[]): Promise<CliRun> {
    const run = await runHvdr(args, { folder: this.folder });
    expect(run.code, `hvdr ${args.join(' ')}\n${run.stderr}`).to.equal(0);
    return run;
  }

  /** Runs a command, whatever comes of it. */
  try(...args: string[]): Promise<CliRun> {
    return runHvdr(args, { folder: this.folder });
  }

  start(...args: string[]): Running {
    const child = spawn(process.execPath, [mainProgram, ...args], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const out: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const done = once(child, 'close').then(() => ({
      code: child.exitCode,
      signal: child.signalCode,
      stdout: Buffer.concat(out),
      stderr,
    }));
    return { child, done };
  }

  /** Starts the receiver, on the port that it had before. */
  async startReceiver(...more: string[]): Promise<void> {
    const running = this.start(
      ...['receiver', '--store', 'store', '--host', this.drHost],
      ...['--listen', `127.0.0.1:${this.port}`, '--psk-file', 'keys', ...more],
    );
    this.#receiver = running;
    let text = '';
    this.port = await new Promise<number>((resolve, reject) => {
      running.child.stdout?.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        const port = READY.exec(text)?.[1];
        if (port !== undefined) resolve(Number(port));
      });
      void running.done.then(({ stderr }) => {
        reject(new Error(`the receiver ended: ${stderr}`));
      });
    });
  }

  get receiver(): Running {
    if (this.#receiver === undefined) throw new Error('there is no receiver');
    return this.#receiver;
  }

  async stopReceiver(signal: NodeJS.Signals = 'SIGTERM'): Promise<CliRun | undefined> {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    if (receiver === undefined) return undefined;
    receiver.child.kill(signal);
    return receiver.done;
  }

  pushArguments(vm: string, ...more: string[]): string[] {
    return [
      ...['push', '--vm', vm, '--host', 'lab:lab', '--state-dir', 'state'],
      ...['--dr-host', '127.0.0.1', '--dr-port', String(this.pushPort ?? this.port)],
      ...['--psk-file', 'keys/source.psk', '--max-restore-points', '20', ...more, '--json'],
    ];
  }

  /** `hvdr push`, whatever comes of it. */
  async tryPush(vm: string, ...more: string[]): Promise<PushRun> {
    return pushRun(await this.try(...this.pushArguments(vm, ...more)));
  }

  /** `hvdr push` of one VM that must succeed. */
  async push(vm: string, ...more: string[]): Promise<PushedVm> {
    const run = await this.tryPush(vm, ...more);
    expect(run.code, run.stderr).to.be.oneOf([0, 3]);
    const [pushed] = run.vms;
    if (pushed === undefined) throw new Error(`no VM in ${run.stdout.toString()}`);
    return pushed;
  }

  startPush(vm: string, ...more: string[]): Running {
    return this.start(...this.pushArguments(vm, ...more));
  }

  /** SHA-256 of what the guest sees on each of its disks. */
  async guestHashes(vm: string, diskCount: number, lab = 'lab'): Promise<string[]> {
    const hashes: string[] = [];
    for (let disk = 0; disk < diskCount; disk++) {
      const run = await this.hvdr('lab', 'read', lab, vm, '--disk', String(disk));
      hashes.push(createHash('sha256').update(run.stdout).digest('hex'));
    }
    return hashes;
  }

  operator(): string[] {
    return [
      ...['--dr-host', '127.0.0.1', '--dr-port', String(this.port)],
      ...['--psk-file', 'keys/operator.psk'],
    ];
  }

  /** SHA-256 of each disk of a point, exported as raw. */
  async pointHashes(vm: string, point: string, diskCount: number): Promise<string[]> {
    const hashes: string[] = [];
    for (let disk = 0; disk < diskCount; disk++) {
      const out = `out-${point.slice(0, 8)}-${disk}.raw`;
      await this.hvdr(
        ...['export', vm, '--point', point, '--disk', String(disk), '--format', 'raw'],
        ...['--out', out, ...this.operator()],
      );
      hashes.push(await hashFile(join(this.folder, out)));
      rmSync(join(this.folder, out));
    }
    return hashes;
  }

  /** Ids of the VM's points, the oldest first. */
  async points(vm: string): Promise<string[]> {
    const run = await this.hvdr('points', vm, ...this.operator(), '--json');
    // the contract of `hvdr points --json`
    const document = JSON.parse(run.stdout.toString()) as { points: { id: string }[] };
    return document.points.map(({ id }) => id);
  }
}

export function pushRun(run: CliRun): PushRun {
  const last = run.stdout.toString().trimEnd().split('\n').at(-1) ?? '';
  try {
    // the contract of --json for long runs
    const result = JSON.parse(last) as { event?: string; vms?: PushedVm[] };
    return { ...run, vms: result.vms ?? [] };
  } catch {
    return { ...run, vms: [] };
  }
}

export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex');
}
