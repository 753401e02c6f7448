// The two sites of the demo, and what its chapters do with them: our own commands as a user starts
// them, the receiver beside them, and the comparison of a restore point with what the guest had.

import { createHash } from 'node:crypto';
import { closeSync, createReadStream, openSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import type { DemoReport } from './demo-proof.js';
import { DemoReceiver } from './demo-receiver.js';
import { hashOutput, runHvdr, runHvdrEvents, runHvdrJson, runStep } from './demo-run.js';
import { formatSize } from '../shared/sizes.js';

export const LAB = 'primary';
export const DR_LAB = 'dr';
export const STORE = 'dr-store';
export const HOME_STORE = 'home-store';
export const STATE = 'agent-state';
export const KEYS = 'keys';
const SOURCE_KEY = `${KEYS}/primary.psk`;
const DR_STATE = 'dr-state';
const OPERATOR_KEY = `${KEYS}/operator.psk`;

export interface PushedVm {
  readonly kind: string;
  readonly bytesSent: number;
  readonly point: string;
  readonly bytesResent: number;
}

/** What the guest held at a restore point. */
export interface Remembered {
  readonly point: string;
  /** How the point is called in the proof. */
  readonly title: string;
  /** Of each disk. */
  readonly hashes: readonly string[];
}

/** A VM at one of the sites. */
export interface Guest {
  readonly lab: string;
  readonly vm: string;
}

/** What a guest sees on a disk at one moment. */
export interface KeptBytes {
  readonly file: string;
  readonly hash: string;
}

/** How an operation of failover ended. */
export interface FailoverEnd {
  readonly state: string;
  readonly operation: string;
  readonly instance: string;
}

/** A protection in the other direction. */
export interface Reprotected {
  readonly bytesSent: number;
  readonly vmId: string;
}

export class DemoSites {
  readonly context: CliContext;
  readonly folder: string;
  readonly report: DemoReport;
  readonly #receiver: DemoReceiver;
  /** The receiver of the primary site, for the way home. */
  readonly #homeReceiver: DemoReceiver;

  constructor(context: CliContext, folder: string, report: DemoReport) {
    this.context = context;
    this.folder = folder;
    this.report = report;
    const ours = { folder, keys: KEYS };
    this.#receiver = new DemoReceiver({ ...ours, store: STORE, lab: DR_LAB });
    this.#homeReceiver = new DemoReceiver({ ...ours, store: HOME_STORE, lab: LAB });
  }

  async makeKeys(): Promise<void> {
    await this.hvdr('psk', 'generate', '--out', SOURCE_KEY, '--principal', 'primary');
    await this.hvdr(
      ...['psk', 'generate', '--out', OPERATOR_KEY],
      ...['--principal', 'operator', '--role', 'operator'],
    );
  }

  /** Of the receiver at the DR site, once it was started. */
  get drPort(): number {
    return this.#receiver.port;
  }

  async startReceiver(): Promise<void> {
    this.report.say('run', await this.#receiver.start());
    this.report.mark('dr', 'receiver listens');
  }

  async startHomeReceiver(): Promise<void> {
    this.report.say('run', await this.#homeReceiver.start());
    this.report.mark('primary', 'receiver listens');
  }

  /** That of the DR site. */
  stopReceiver(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    return this.#receiver.stop(signal);
  }

  async stopReceivers(): Promise<void> {
    await this.#homeReceiver.stop('SIGTERM');
    await this.#receiver.stop('SIGTERM');
  }

  /** Runs a command and says so. */
  async hvdr(...args: string[]): Promise<void> {
    this.report.say('run', `hvdr ${args.join(' ')}`);
    await this.quiet(...args);
  }

  async quiet(...args: string[]): Promise<void> {
    await runHvdr(args, { folder: this.folder });
  }

  /** How an operator reaches the receiver of the DR site. */
  operator(): string[] {
    return [...this.#receiver.access(), '--psk-file', OPERATOR_KEY];
  }

  /** How an operator at the DR site reaches the receiver of the primary site, with the agent beside. */
  homeward(): string[] {
    return [...this.#homeReceiver.access(), '--psk-file', OPERATOR_KEY, ...this.#drAgent()];
  }

  #drAgent(): string[] {
    return ['--host', `lab:${DR_LAB}`, '--state-dir', DR_STATE];
  }

  /** The point of one cycle, told. */
  async push(vm: string, ...more: string[]): Promise<PushedVm> {
    this.report.say('run', `hvdr ${this.#pushArguments(vm, more).join(' ')}`);
    const pushed = await this.quietPush(vm, ...more);
    const { kind, bytesSent, point } = pushed;
    this.report.say('point', `${point.slice(0, 8)}: ${kind}, ${formatSize(bytesSent)} sent`);
    this.report.mark('wire', `── ${kind}, ${formatSize(bytesSent)} ──▶`);
    this.report.mark('dr', `point ${point.slice(0, 8)}`);
    return pushed;
  }

  async quietPush(vm: string, ...more: string[]): Promise<PushedVm> {
    const args = this.#pushArguments(vm, more);
    const document = await runHvdrJson(args, { folder: this.folder, expectedCodes: [0, 3] });
    const vms: unknown = document['vms'];
    const pushed: unknown = Array.isArray(vms) ? vms[0] : undefined;
    if (typeof pushed !== 'object' || pushed === null) throw unexpected('hvdr push');
    const fields = pushed as Readonly<Record<string, unknown>>;
    const { kind, bytesSent, point, disks } = fields;
    if (typeof kind !== 'string' || typeof bytesSent !== 'number' || typeof point !== 'string') {
      throw unexpected('hvdr push');
    }
    return { kind, bytesSent, point, bytesResent: repeatedBytes(disks) };
  }

  /** A push of a VM that stays at the DR site: its agent hears that, and fences it. */
  async skippedPush(vm: string): Promise<void> {
    const args = this.#pushArguments(vm, []);
    this.report.say('run', `hvdr ${args.join(' ')}`);
    await runHvdr(args, { folder: this.folder, expectedCodes: [3] });
  }

  #pushArguments(vm: string, more: readonly string[]): string[] {
    const state = more.includes('--state-dir') ? [] : ['--state-dir', STATE];
    const kept = more.includes('--max-restore-points') ? [] : ['--max-restore-points', '10'];
    return [
      ...['push', '--vm', vm, '--host', `lab:${LAB}`, ...state],
      ...[...this.#receiver.access(), '--psk-file', SOURCE_KEY],
      ...kept,
      ...more,
    ];
  }

  /** As `operator`, with the agent of the primary taking part. */
  atPrimary(): string[] {
    return [...this.operator(), '--host', `lab:${LAB}`, '--state-dir', STATE];
  }

  /** `hvdr failover COMMAND …`, or `hvdr failback …`, told. */
  async failover(command: string, ...args: string[]): Promise<FailoverEnd> {
    const words = command === 'failback' ? [command, ...args] : ['failover', command, ...args];
    this.report.say('run', `hvdr ${words.slice(0, words.indexOf('--dr-host')).join(' ')} …`);
    // a clone or a VM of the demo has no network, which is a warning
    const document = await runHvdrJson(words, { folder: this.folder, expectedCodes: [0, 3] });
    const { state, operation, instance } = document;
    if (typeof state !== 'string') throw unexpected(`hvdr ${command}`);
    return { state, operation: textOf(operation), instance: textOf(instance) };
  }

  /** `hvdr reprotect` at one of the sites, towards the other one. */
  async reprotect(vm: string, at: 'primary' | 'dr'): Promise<Reprotected> {
    const way = at === 'dr' ? this.homeward() : this.atPrimary();
    const retired = at === 'dr' ? this.#receiver : this.#homeReceiver;
    this.report.say('run', `hvdr reprotect ${vm} --host lab:${at === 'dr' ? DR_LAB : LAB} …`);
    const args = [
      ...['reprotect', vm, ...way, '--principal', at],
      ...retired.access().map((word) => word.replace('--dr-', '--retired-')),
      ...['--retired-psk-file', OPERATOR_KEY],
    ];
    const events = await runHvdrEvents(args, { folder: this.folder });
    const bytesSent = events.find(({ event }) => event === 'cycle')?.['bytesSent'];
    if (typeof bytesSent !== 'number') throw unexpected('hvdr reprotect');
    return { bytesSent, vmId: textOf(events.at(-1)?.['vmId']) };
  }

  /** Keeps what a guest sees on a disk in a file of the demo. */
  async keepBytes({ lab, vm }: Guest, name: string, disk = 0): Promise<KeptBytes> {
    const file = `${name}.raw`;
    const hash = createHash('sha256');
    const handle = openSync(path.join(this.folder, file), 'wx');
    try {
      await runHvdr(['lab', 'read', lab, vm, '--disk', String(disk)], {
        folder: this.folder,
        onOutput: (chunk) => {
          hash.update(chunk);
          writeFileSync(handle, chunk);
        },
      });
    } finally {
      closeSync(handle);
    }
    return { file, hash: hash.digest('hex') };
  }

  judgeSame(what: string, expected: KeptBytes, found: KeptBytes): void {
    this.report.judge({
      what,
      command: `cmp ${expected.file} ${found.file}`,
      sha256: [expected.hash, found.hash],
      isEqual: expected.hash === found.hash,
    });
  }

  /** Exit code of a command, whatever it is. */
  exitCode(...args: string[]): Promise<number> {
    return runHvdr(args, { folder: this.folder, expectedCodes: 'any' });
  }

  /** Whether a VM of this name, or a clone of it, is at a site. */
  async hasVm(lab: string, name: string): Promise<boolean> {
    const { vms } = await runHvdrJson(['lab', 'list', lab], { folder: this.folder });
    return JSON.stringify(vms).includes(name);
  }

  /** SHA-256 of what the guest sees on each of its disks. */
  async guestHashes(vm: string, diskCount: number): Promise<string[]> {
    const hashes: string[] = [];
    for (let disk = 0; disk < diskCount; disk++) {
      hashes.push(
        await hashOutput((onOutput) =>
          runHvdr(['lab', 'read', LAB, vm, '--disk', String(disk)], {
            folder: this.folder,
            onOutput,
          }),
        ),
      );
    }
    return hashes;
  }

  hashFile(name: string): Promise<string> {
    return hashOutput(async (onOutput) => {
      const stream = createReadStream(path.join(this.folder, name));
      for await (const chunk of stream as AsyncIterable<Buffer>) onOutput(chunk);
    });
  }

  /** Exports each disk of a point to `FILE-disk<n>.raw` and compares it with what the guest had. */
  async provePoint(vm: string, { point, title, hashes }: Remembered, file: string): Promise<void> {
    for (const [disk, expected] of hashes.entries()) {
      const out = `${file}-disk${disk}.raw`;
      await this.quiet(
        ...['export', vm, '--point', point, '--disk', String(disk), '--format', 'raw'],
        ...['--out', out, ...this.operator()],
      );
      const found = await this.hashFile(out);
      this.report.judge({
        what: `${title}, disk ${disk} is what the guest had`,
        command: `hvdr export ${vm} --point ${point} --disk ${disk} --format raw --out again.raw --store ${STORE} && sha256sum again.raw ${out} && rm again.raw`,
        sha256: [expected, found],
        isEqual: expected === found,
      });
    }
  }

  /** A judgement of a program that shares no code with us. */
  async foreign(what: string, program: string, args: readonly string[]): Promise<void> {
    const isEqual = await runStep(program, args, { folder: this.folder }).then(
      () => true,
      () => false,
    );
    const command = [path.basename(program), ...args].join(' ');
    this.report.judge({ what, command, isEqual });
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Bytes that a push sent for the second time, over all disks. */
function repeatedBytes(disks: unknown): number {
  if (!Array.isArray(disks)) throw unexpected('hvdr push');
  let sum = 0;
  for (const disk of disks as readonly Readonly<Record<string, unknown>>[]) {
    const { repeatedBytes: bytes } = disk;
    if (typeof bytes !== 'number') throw unexpected('hvdr push');
    sum += bytes;
  }
  return sum;
}

export function unexpected(what: string): DrError {
  return new DrError('E_INTERNAL', `${what} did not answer as the demo expects`, {
    done: 'the demo was stopped',
  });
}
