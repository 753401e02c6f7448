// Space comes back: after many cycles a store holds its base, what its points need and little more; the
// receiver is killed while it reclaims; a small volume is full while it does. After each, every point has
// the bytes of its moment.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { controlHandlers, Receiver } from '../../dr-receiver/index.js';
import { connectDirectly, controlService, replicationService } from '../../shared/channel/index.js';
import { replicationHandlers } from '../../dr-receiver/index.js';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import { type AgedStore, makeAgedStore } from '../support/aged-store.js';
import { FakeClock } from '../support/fake-clock.js';
import { skipBecause } from '../support/need.js';
import { ReceiverBench } from '../support/receiver-process.js';
import { SeededRandom } from '../support/seeded-random.js';
import { runHvdr } from '../support/cli.js';
import { pushRun, Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';
import {
  expectPoint,
  OPERATOR,
  pointIds,
  type Services,
  SOURCE,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';
const MIB = 1024 * 1024;
const KILLS = SLOW ? 100 : 5;
const CYCLES = SLOW ? 100 : 10;

/** Bytes that files take on the volume. */
function usedBytes(folder: string): number {
  const run = spawnSync('du', ['-s', '--block-size=1', folder], { encoding: 'utf8' });
  expect(run.status, run.stderr).to.equal(0);
  return Number(run.stdout.split('\t')[0]);
}

function changedCells(before: Buffer, after: Buffer): number {
  let count = 0;
  for (let start = 0; start < after.length; start += CELL_BYTES) {
    const end = start + CELL_BYTES;
    if (!before.subarray(start, end).equals(after.subarray(start, end))) count++;
  }
  return count;
}

/** A receiver in this process. */
async function withReceiver<T>(
  storeFolder: string,
  use: 'read' | 'write',
  clock: FakeClock,
  work: (site: Services, receiver: Receiver) => Promise<T>,
): Promise<T> {
  const receiver = await Receiver.open({
    ...{ fs: nodeFileSystem, clock, random: new SeededRandom(9), log: silentLog },
    ...{ storeFolder, use },
  });
  const site: Services = {
    replication: (as = SOURCE) =>
      connectDirectly(replicationService, replicationHandlers(receiver), as),
    control: (as = OPERATOR) => connectDirectly(controlService, controlHandlers(receiver), as),
  };
  try {
    return await work(site, receiver);
  } finally {
    await receiver.close();
  }
}

async function expectPoints(site: Services, { vm, plans }: AgedStore): Promise<number> {
  const listed = await pointIds(site, vm.name);
  for (const point of listed) {
    const plan = plans.find(({ pointId }) => pointId === point);
    if (plan === undefined) throw new Error(`a point ${point} that was never made`);
    await expectPoint(site, vm, plan);
  }
  return listed.length;
}

interface VmStatus {
  readonly reclaimableBytes: number;
}

describe('hvdr receiver reclaims', function () {
  this.timeout(SLOW ? 3_600_000 : 600_000);
  const work = new WorkFolder('reclaim');
  const site = new Site(work.path);

  before(async () => {
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', 'web', '--disk', '48M');
    await site.hvdr('lab', 'start', 'lab', 'web');
    await site.startReceiver();
  });

  after(async () => {
    await site.stopReceiver('SIGKILL');
    work.dispose();
  });

  const status = async (): Promise<VmStatus> => {
    const run = await site.hvdr('status', ...site.operator(), '--json');
    // the contract of `hvdr status --json`
    const document = JSON.parse(run.stdout.toString()) as { protections: VmStatus[] };
    const [only] = document.protections;
    if (only === undefined) throw new Error('one VM is protected');
    return only;
  };

  it(`stays within base, points and a tenth after ${CYCLES} cycles, with right bytes`, async () => {
    const write = (...more: string[]): Promise<unknown> =>
      site.hvdr('lab', 'write', 'lab', 'web', '--disk', '0', ...more);
    await write('--random', '600', '--block', '64K', '--seed', '1');
    const images = new Map<string, Buffer>();
    const push = async (): Promise<void> => {
      const args = site.pushArguments('web').map((arg) => (arg === '20' ? '5' : arg));
      const run = pushRun(await site.try(...args));
      expect(run.code, run.stderr).to.equal(0);
      const { stdout } = await site.hvdr('lab', 'read', 'lab', 'web', '--disk', '0');
      images.set(run.vms[0]?.point ?? '', stdout);
    };
    await push();
    for (let cycle = 2; cycle <= CYCLES; cycle++) {
      await write('--random', '24', '--block', '64K', '--seed', `${cycle}`);
      await push();
    }
    const run = await site.hvdr('compact', 'web', ...site.operator(), '--json');
    // the contract of `hvdr compact --json`
    const { vms } = JSON.parse(run.stdout.toString()) as {
      vms: { vm: string; bytesBefore: number; bytesAfter: number; waiting: string[] }[];
    };
    expect(vms.map(({ vm, waiting }) => ({ vm, waiting }))).to.deep.equal([
      { vm: 'web', waiting: [] },
    ]);
    const points = await site.points('web');
    // the first of the day, and the five that are asked for
    expect(points).to.have.length(6);
    for (const point of points) {
      const sha = createHash('sha256').update(images.get(point) ?? Buffer.alloc(0));
      expect(await site.pointHashes('web', point, 1), point).to.deep.equal([sha.digest('hex')]);
    }
    expect((await status()).reclaimableBytes).to.equal(0);
    let neededCells = 0;
    let before: Buffer = Buffer.alloc(48 * MIB);
    for (const image of points.map((point) => images.get(point) ?? Buffer.alloc(0))) {
      neededCells += changedCells(before, image);
      before = image;
    }
    const used = usedBytes(join(work.path, 'store'));
    expect(used).to.be.at.most(neededCells * CELL_BYTES * 1.1 + MIB);
    const verified = await site.try('verify', 'web', '--point', 'all', ...site.operator());
    expect(verified.code, verified.stderr).to.equal(0);
  });
});

describe('hvdr receiver, killed while it reclaims', function () {
  this.timeout(SLOW ? 3_600_000 : 300_000);
  const work = new WorkFolder('reclaim-killed');
  const bench = new ReceiverBench(work.file('store'), work.path);

  before(() => bench.makeKeys());

  after(async () => {
    await bench.stop('SIGKILL');
    work.dispose();
  });

  it(`${KILLS} times keeps every point, and comes to its end`, async () => {
    const random = new SeededRandom(3);
    const nowMs = systemClock.now();
    const aged = await makeAgedStore({
      ...{ folder: work.file('aged'), nowMs, daysAgo: 10, maxRestorePoints: 4 },
      ...{ diskBytes: 24 * MIB, cycleCount: 30, cellsPerCycle: 40, hotCells: 300 },
    });
    const check = (): Promise<number> =>
      withReceiver(work.file('store'), 'read', new FakeClock(nowMs), (site) =>
        expectPoints(site, aged),
      );
    const journal = join(work.file('store'), 'vms', aged.vm.vmId, 'journal');
    const journalBytes = async (): Promise<number> =>
      (await nodeFileSystem.status(journal))?.sizeBytes ?? 0;
    const seen = new Set<number>();
    for (let kill = 1; kill <= KILLS; kill++) {
      const isFresh = kill % 2 === 1;
      if (isFresh) {
        rmSync(work.file('store'), { recursive: true, force: true });
        cpSync(work.file('aged'), work.file('store'), { recursive: true });
      }
      const before = await journalBytes();
      seen.add(before);
      await bench.start();
      // work has begun, or there is none left
      for (let wait = 0; wait < 400 && (await journalBytes()) === before; wait++) {
        await systemClock.sleep(isFresh ? 50 : 5);
      }
      await systemClock.sleep(random.between(0, 150));
      await bench.stop('SIGKILL');
      seen.add(await journalBytes());
      await check();
    }
    // it had begun to work
    expect(seen.size).to.be.greaterThan(1);
    const run = await runHvdr(['compact', '--store', work.file('store'), '--json']);
    expect(run.code, run.stderr).to.equal(0);
    expect(await check()).to.equal(4);
    const verified = await runHvdr(['verify', 'SQL01', '--point', 'all', '--store', bench.store]);
    expect(verified.code, verified.stderr).to.equal(0);
  });
});

describe('a fold on a full volume', function () {
  this.timeout(SLOW ? 3_600_000 : 300_000);
  const work = new WorkFolder('reclaim-full');
  const volume = work.file('volume');
  let isMounted = false;

  before(function () {
    mkdirSync(volume);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'tmpfs', volume]);
    if (mounted.status !== 0) skipBecause(this, 'a small tmpfs cannot be mounted (needs root)');
    isMounted = true;
  });

  after(() => {
    if (isMounted) spawnSync('umount', [volume]);
    work.dispose();
  });

  it('keeps every point at whatever step it is full, and ends when there is room', async () => {
    const nowMs = systemClock.now();
    const aged = await makeAgedStore({
      ...{ folder: work.file('aged'), nowMs, daysAgo: 10, maxRestorePoints: 2 },
      ...{ diskBytes: 16 * MIB, cycleCount: 12, cellsPerCycle: 30, hotCells: 250 },
    });
    const store = join(volume, 'store');
    const filler = join(volume, 'filler');
    const step = SLOW ? 64 * 1024 : 1280 * 1024;
    let failures = 0;
    for (let freeBytes = 0; freeBytes <= 12 * MIB; freeBytes += step) {
      rmSync(store, { recursive: true, force: true });
      cpSync(work.file('aged'), store, { recursive: true });
      const { bavail, bsize } = statfsSync(volume);
      writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - freeBytes)));
      const clock = new FakeClock(nowMs);
      await withReceiver(store, 'write', clock, async (site, receiver) => {
        const { maintenance } = receiver;
        const [desk] = await receiver.allDesks();
        if (desk === undefined) throw new Error('there is a VM');
        while (await maintenance.maintain()) {
          // until it is done, or there is no room
        }
        await expectPoints(site, aged);
        if (maintenance.statusOf(desk.vm).failure !== undefined) failures++;
        rmSync(filler);
        await clock.advance(60 * 60 * 1000);
        while (await maintenance.maintain()) {
          // until it is done
        }
        expect(maintenance.statusOf(desk.vm).failure).to.equal(undefined);
        expect(await expectPoints(site, aged)).to.equal(2);
      });
    }
    expect(failures).to.be.greaterThan(0);
  });
});
