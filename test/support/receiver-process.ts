// A receiver as a process, and the ways into it: a source's and an operator's connection.

import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import {
  type ChannelConnection,
  connect,
  controlService,
  loadKey,
  replicationService,
} from '../../shared/channel/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import type { Services } from '../unit/dr-receiver/source-double.js';
import { mainProgram } from './checkout.js';
import { runHvdr } from './cli.js';

export class ReceiverProcess {
  readonly #child: ChildProcess;
  readonly port: number;
  readonly #ended: Promise<number | null>;

  private constructor(child: ChildProcess, port: number, ended: Promise<number | null>) {
    this.#child = child;
    this.port = port;
    this.#ended = ended;
  }

  static start(args: readonly string[]): Promise<ReceiverProcess> {
    const child = spawn(process.execPath, [mainProgram, 'receiver', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    const ended = new Promise<number | null>((resolve) => {
      child.on('close', (code) => {
        resolve(code);
      });
    });
    return new Promise((resolve, reject) => {
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        const match = /^listening \S+:(\d+)\n/.exec(text);
        if (match !== null) resolve(new ReceiverProcess(child, Number(match[1]), ended));
      });
      void ended.then((code) => {
        reject(new Error(`the receiver ended with ${code}: ${errors}`));
      });
    });
  }

  async stop(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return this.#ended;
  }
}

/** One store, its keys, and the receiver that runs on it at the moment. */
export class ReceiverBench {
  readonly store: string;
  readonly sourceKey: string;
  readonly operatorKey: string;
  #running: ReceiverProcess | undefined;
  readonly #connections: ChannelConnection[] = [];

  constructor(store: string, keyFolder: string) {
    this.store = store;
    this.sourceKey = join(keyFolder, 'source.psk');
    this.operatorKey = join(keyFolder, 'operator.psk');
  }

  async makeKeys(): Promise<void> {
    for (const [file, role] of [
      [this.sourceKey, 'source'],
      [this.operatorKey, 'operator'],
    ] as const) {
      const made = await runHvdr([
        ...['psk', 'generate', '--out', file, '--role', role, '--principal', role],
      ]);
      if (made.code !== 0) throw new Error(made.stderr);
    }
  }

  async start(): Promise<ReceiverProcess> {
    this.#running = await ReceiverProcess.start([
      ...['--store', this.store, '--listen', '127.0.0.1:0'],
      ...['--psk-file', this.sourceKey, '--psk-file', this.operatorKey],
    ]);
    return this.#running;
  }

  /** The services of the running receiver. */
  async reach(): Promise<Services> {
    const port = this.#running?.port;
    if (port === undefined) throw new Error('no receiver runs');
    const seams = { clock: systemClock, random: systemRandom, log: silentLog };
    const open = async (file: string): Promise<ChannelConnection> => {
      const key = await loadKey(file, { fs: nodeFileSystem, environment: {} });
      const connection = await connect({ ...seams, host: '127.0.0.1', port, key });
      this.#connections.push(connection);
      return connection;
    };
    const source = await open(this.sourceKey);
    const operator = await open(this.operatorKey);
    return {
      replication: () => source.client(replicationService),
      control: () => operator.client(controlService),
    };
  }

  async disconnect(): Promise<void> {
    for (const connection of this.#connections.splice(0)) {
      await connection.close().catch(() => undefined);
    }
  }

  /** Ends the receiver, if one runs, and gives its exit code. */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    const running = this.#running;
    this.#running = undefined;
    const code = running === undefined ? null : await running.stop(signal);
    await this.disconnect();
    return code;
  }

  /** Options of a command that asks the running receiver as an operator. */
  get access(): string[] {
    const port = String(this.#running?.port);
    return ['--dr-host', '127.0.0.1', '--dr-port', port, '--psk-file', this.operatorKey];
  }
}
