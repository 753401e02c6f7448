// The receiver as a process, over loopback: a seed that is killed in the middle and goes on, deltas,
// and the commands that reach the store through the receiver and without it.

import { openSync, readFileSync, readSync, writeSync, closeSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { runHvdr, runHvdrJson } from '../support/cli.js';
import { ReceiverBench } from '../support/receiver-process.js';
import { WorkFolder } from '../support/work-folder.js';
import { SourceVm } from '../unit/dr-receiver/source-double.js';

describe('hvdr receiver', () => {
  const work = new WorkFolder('receiver');
  const bench = new ReceiverBench(work.file('store'), work.path);
  const { store } = bench;
  const vm = new SourceVm(1, [24 * 1024 * 1024, 3 * CELL_BYTES + 1024], 'SQL01');

  before(() => bench.makeKeys());

  after(async () => {
    await bench.stop('SIGKILL');
    work.dispose();
  });

  const seed = vm.plan(1, undefined, [undefined, undefined]);

  it('goes on with a seed that SIGKILL cut off, and sends at most 8 MiB again', async () => {
    for (let cell = 0; cell < 24 * 16; cell++) vm.write(0, cell, cell + 1);
    vm.write(1, 3, 77);
    seed.images[0]?.set(vm.bytes(0));
    seed.images[1]?.set(vm.bytes(1));
    await bench.start();
    const site = await bench.reach();
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
    await bench.stop('SIGKILL');
    await pushing;

    await bench.start();
    const again = await bench.reach();
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

    const { access } = bench;
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
    // a download is no failed handshake: ten of those a minute close the door to everybody there
    for (let count = 0; count < 12; count++) {
      const out = work.file(`often.${count}.raw`);
      const run = await runHvdr(['export', 'SQL01', '--disk', '1', '--out', out, ...access]);
      expect(run.code, run.stderr).to.equal(0);
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
      bench.sourceKey,
    ]);
    expect(other.code).to.equal(11);
    expect(await bench.stop('SIGTERM')).to.equal(143);
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
