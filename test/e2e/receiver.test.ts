// The receiver as a process, over loopback: a seed that is killed in the middle and goes on, deltas,
// and the commands that reach the store through the receiver and without it.

import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync, readSync, writeSync, closeSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  type ChannelConnection,
  connect,
  controlService,
  loadKey,
  replicationService,
} from '../../shared/channel/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import { builtFolder } from '../support/checkout.js';
import { runHvdr, runHvdrJson } from '../support/cli.js';
import { WorkFolder } from '../support/work-folder.js';
import { type Services, SourceVm } from '../unit/dr-receiver/source-double.js';

class ReceiverProcess {
  readonly #child: ChildProcess;
  readonly port: number;
  readonly #ended: Promise<number | null>;

  private constructor(child: ChildProcess, port: number, ended: Promise<number | null>) {
    this.#child = child;
    this.port = port;
    this.#ended = ended;
  }

  static start(args: readonly string[]): Promise<ReceiverProcess> {
    const child = spawn(
      process.execPath,
      [join(builtFolder, 'cli', 'main.js'), 'receiver', ...args],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
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

describe('hvdr receiver', () => {
  const work = new WorkFolder('receiver');
  const store = work.file('store');
  const sourceKey = work.file('source.psk');
  const operatorKey = work.file('operator.psk');
  const vm = new SourceVm(1, [24 * 1024 * 1024, 3 * CELL_BYTES + 1024], 'SQL01');
  const running: ReceiverProcess[] = [];
  const connections: ChannelConnection[] = [];

  const start = async (): Promise<ReceiverProcess> => {
    const receiver = await ReceiverProcess.start([
      ...['--store', store, '--listen', '127.0.0.1:0'],
      ...['--psk-file', sourceKey, '--psk-file', operatorKey],
    ]);
    running.push(receiver);
    return receiver;
  };

  const reach = async (receiver: ReceiverProcess): Promise<Services> => {
    const seams = { clock: systemClock, random: systemRandom, log: silentLog };
    const open = async (file: string): Promise<ChannelConnection> => {
      const key = await loadKey(file, { fs: nodeFileSystem, environment: {} });
      const connection = await connect({ ...seams, host: '127.0.0.1', port: receiver.port, key });
      connections.push(connection);
      return connection;
    };
    const source = await open(sourceKey);
    const operator = await open(operatorKey);
    return {
      replication: () => source.client(replicationService),
      control: () => operator.client(controlService),
    };
  };

  const disconnect = async (): Promise<void> => {
    for (const connection of connections.splice(0)) await connection.close().catch(() => undefined);
  };

  before(async () => {
    for (const [file, role] of [
      [sourceKey, 'source'],
      [operatorKey, 'operator'],
    ] as const) {
      const made = await runHvdr([
        'psk',
        'generate',
        '--out',
        file,
        '--role',
        role,
        '--principal',
        role,
      ]);
      expect(made.code, made.stderr).to.equal(0);
    }
  });

  after(async () => {
    await disconnect();
    for (const receiver of running) await receiver.stop('SIGKILL');
    work.dispose();
  });

  const seed = vm.plan(1, undefined, [undefined, undefined]);

  it('goes on with a seed that SIGKILL cut off, and sends at most 8 MiB again', async () => {
    for (let cell = 0; cell < 24 * 16; cell++) vm.write(0, cell, cell + 1);
    vm.write(1, 3, 77);
    seed.images[0]?.set(vm.bytes(0));
    seed.images[1]?.set(vm.bytes(1));
    const first = await start();
    const site = await reach(first);
    const opened = await vm.open(site, seed);
    expect(opened.outcome?.$case).to.equal('accepted');
    const all = [...vm.messages(seed, [], { batchCells: 16 })];
    const half = Math.floor(all.length * 0.75);
    const stuck = async function* (): AsyncGenerator<Buffer> {
      yield* all.slice(0, half);
      await new Promise<never>(() => undefined);
    };
    const pushing = (async (): Promise<void> => {
      const acks = site.replication().push(stuck())[Symbol.asyncIterator]();
      while ((await acks.next()).done !== true) {
        // what is acknowledged is read from the store below
      }
    })().catch(() => undefined);
    // until most of what was sent has been made durable
    for (;;) {
      const told = readProgress(store);
      if (told >= (half - 1) * 16 * CELL_BYTES - 8 * 1024 * 1024) break;
      await systemClock.sleep(20);
    }
    await first.stop('SIGKILL');
    await disconnect();
    await pushing;

    const second = await start();
    const again = await reach(second);
    const { outcome } = await vm.open(again, seed);
    if (outcome?.$case !== 'accepted') throw new Error(`refused: ${outcome?.$case}`);
    const nextCell = Number(outcome.value.positions[0]?.nextCell);
    const sentCells = (half - 1) * 16;
    expect(nextCell).to.be.at.most(sentCells);
    expect((sentCells - nextCell) * CELL_BYTES).to.be.at.most(8 * 1024 * 1024);
    await vm.push(again, vm.messages(seed, outcome.value.positions, { batchCells: 16 }));
    await vm.commit(again, seed);
    vm.write(0, 5, 900);
    vm.write(0, 6, 0);
    const delta = vm.plan(2, seed.pointId, [[5, 6], []]);
    await vm.replicate(again, delta);

    const access = [
      '--dr-host',
      '127.0.0.1',
      '--dr-port',
      String(second.port),
      '--psk-file',
      operatorKey,
    ];
    const points = await runHvdrJson(['points', 'SQL01', ...access]);
    expect(points.run.code, points.run.stderr).to.equal(0);
    const listed = points.document as { vm: string; points: { id: string; kind: string }[] };
    expect(listed.vm).to.equal('SQL01');
    expect(listed.points.map((point) => [point.id, point.kind])).to.deep.equal([
      [seed.pointId, 'seed'],
      [delta.pointId, 'delta'],
    ]);
    for (const plan of [seed, delta]) {
      for (const disk of [0, 1]) {
        const out = work.file(`${plan.pointId}.${disk}.raw`);
        const run = await runHvdr([
          ...['export', 'SQL01', '--point', plan.pointId, '--disk', String(disk)],
          ...['--format', 'raw', '--out', out, ...access],
        ]);
        expect(run.code, run.stderr).to.equal(0);
        expect(readFileSync(out).equals(plan.images[disk] ?? Buffer.alloc(0))).to.equal(true);
      }
    }
    const locked = await runHvdr(['points', 'SQL01', '--store', store]);
    expect(locked.code).to.equal(11);
    expect(locked.stderr).to.match(/^E_LOCKED: /);
    const other = await runHvdr([
      'receiver',
      '--store',
      store,
      '--listen',
      '127.0.0.1:0',
      '--psk-file',
      sourceKey,
    ]);
    expect(other.code).to.equal(11);
    await disconnect();
    expect(await second.stop('SIGTERM')).to.equal(143);
  });

  it('is read without a receiver, and a flipped byte is found, marked and refused', async () => {
    const good = await runHvdrJson(['verify', 'SQL01', '--point', 'all', '--store', store]);
    expect(good.run.code, good.run.stderr).to.equal(0);
    const image = work.file('copy.vhdx');
    const copy = await runHvdr(['export', 'SQL01', '--out', image, '--store', store]);
    expect(copy.code, copy.stderr).to.equal(0);
    const raw = work.file('copy.raw');
    expect((await runHvdr(['vhdx', 'convert', image, raw])).code).to.equal(0);
    expect(readFileSync(raw).equals(vm.bytes(0))).to.equal(true);

    flipByte(findFile(store, /\.delta$/), 100);
    const bad = await runHvdrJson(['verify', 'SQL01', '--point', 'latest', '--store', store]);
    expect(bad.run.code).to.equal(13);
    const found = bad.document as {
      goodPoints: string[];
      damagedPoints: string[];
      findings: { disk: string; offset: number }[];
    };
    expect(found.goodPoints).to.deep.equal([seed.pointId]);
    expect(found.findings[0]).to.deep.include({
      disk: vm.disks[0]?.diskId,
      offset: 5 * CELL_BYTES,
    });
    const refused = await runHvdr([
      'export',
      'SQL01',
      '--out',
      work.file('no.raw'),
      '--store',
      store,
    ]);
    expect(refused.code).to.equal(13);
    expect(refused.stderr).to.contain(seed.pointId);
    const earlier = await runHvdr([
      ...[
        'export',
        'SQL01',
        '--point',
        seed.pointId,
        '--out',
        work.file('yes.raw'),
        '--store',
        store,
      ],
    ]);
    expect(earlier.code, earlier.stderr).to.equal(0);
    const status = await runHvdr(['status', '--check', '--store', store]);
    expect(status.code).to.equal(2);
    expect(status.stdout.toString()).to.match(/^CRITICAL: SQL01/);
  });
});

/** Data bytes that the progress of the only unfinished cycle tells. */
function readProgress(store: string): number {
  try {
    const bytes = readFileSync(findFile(store, /^progress$/));
    let told = 0;
    for (let at = 0; at + 64 <= bytes.length; at += 64) {
      if (bytes.toString('latin1', at, at + 4) !== 'PROG' || bytes.readUInt16LE(at + 4) !== 0)
        continue;
      told = Number(bytes.readBigUInt64LE(at + 24));
    }
    return told;
  } catch {
    return 0;
  }
}

function findFile(folder: string, pattern: RegExp): string {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile() && pattern.test(entry.name)) return join(entry.parentPath, entry.name);
  }
  throw new Error(`nothing in ${folder} matches ${pattern}`);
}

function flipByte(file: string, position: number): void {
  const handle = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(handle, byte, 0, 1, position);
  byte.writeUInt8(byte.readUInt8(0) ^ 0x40, 0);
  writeSync(handle, byte, 0, 1, position);
  closeSync(handle);
}
