// The receiver as a process in trouble: killed at random moments while cycles come in, and on a volume
// that fills up.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { runHvdr } from '../support/cli.js';
import { skipBecause } from '../support/need.js';
import { ReceiverBench } from '../support/receiver-process.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';
import {
  type CyclePlan,
  expectPoint,
  type Services,
  SourceVm,
} from '../unit/dr-receiver/source-double.js';

const SLOW = process.env['SLOW'] === '1';
const KILLS = SLOW ? 200 : 5;

/** Everything but the receiver's own refusals is the kill. */
function isBroken(error: unknown): boolean {
  return error instanceof DrError && ['E_CHANNEL', 'E_SOURCE_UNREACHABLE'].includes(error.code);
}

describe('hvdr receiver, killed', function () {
  this.timeout(SLOW ? 1_800_000 : 480_000);
  const work = new WorkFolder('receiver-killed');
  const bench = new ReceiverBench(work.file('store'), work.path);

  before(() => bench.makeKeys());

  after(async () => {
    await bench.stop('SIGKILL');
    work.dispose();
  });

  it(`at ${KILLS} random moments keeps every point and every acknowledged cell`, async () => {
    const random = new SeededRandom(1);
    const vm = new SourceVm(1, [8 * 1024 * 1024, 5 * CELL_BYTES + 512], 'SQL01');
    for (let cell = 0; cell < 128; cell++) vm.write(0, cell, cell + 1);
    vm.write(1, 5, 3);
    const points: CyclePlan[] = [];
    let plan = vm.plan(1, undefined, [undefined, undefined], { maxRestorePoints: 1000 });
    const durable = new Map<number, number>();
    let kills = 0;
    const bring = async (site: Services): Promise<void> => {
      const { outcome } = await vm.open(site, plan);
      if (outcome?.$case === 'accepted') {
        for (const [index, cell] of durable) {
          expect(Number(outcome.value.positions[index]?.nextCell)).to.be.at.least(cell);
        }
        await vm.push(site, vm.messages(plan, outcome.value.positions), (ack) => {
          durable.set(ack.diskIndex, Number(ack.durableCell));
        });
      } else {
        expect(outcome?.$case).to.equal('committed');
      }
      await vm.commit(site, plan);
    };
    while (kills < KILLS) {
      await bench.start();
      const site = await bench.reach();
      const killing = systemClock.sleep(random.between(0, 400)).then(() => bench.stop('SIGKILL'));
      try {
        for (;;) {
          await bring(site);
          points.push(plan);
          durable.clear();
          const cells = Array.from({ length: random.between(1, 40) }, () => random.int(128));
          const sorted = [...new Set(cells)].sort((a, b) => a - b);
          for (const cell of sorted) vm.write(0, cell, random.between(0, 1_000_000));
          plan = vm.plan(points.length + 1, plan.pointId, [sorted, []], { maxRestorePoints: 1000 });
        }
      } catch (error) {
        if (!isBroken(error)) throw error;
      }
      await killing;
      kills++;
    }
    await bench.start();
    const site = await bench.reach();
    await bring(site);
    for (const point of [...points.slice(-10), plan]) await expectPoint(site, vm, point);
    const verified = await runHvdr(['verify', 'SQL01', '--point', 'all', ...bench.access]);
    expect(verified.code, verified.stderr).to.equal(0);
  });
});

describe('hvdr receiver on a full volume', () => {
  const work = new WorkFolder('receiver-full');
  const volume = work.file('volume');
  const bench = new ReceiverBench(`${volume}/store`, work.path);
  let isMounted = false;

  before(async function () {
    mkdirSync(volume);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', volume]);
    if (mounted.status !== 0) skipBecause(this, 'a small tmpfs cannot be mounted (needs root)');
    isMounted = true;
    await bench.makeKeys();
  });

  after(async () => {
    await bench.stop('SIGKILL');
    if (isMounted) spawnSync('umount', [volume]);
    work.dispose();
  });

  it('says so, keeps its points, and goes on with the cycle when there is room', async () => {
    const vm = new SourceVm(1, [16 * 1024 * 1024], 'SQL01');
    for (let cell = 0; cell < 64; cell++) vm.write(0, cell, cell + 1);
    const seed = vm.plan(1, undefined, [undefined]);
    await bench.start();
    const site = await bench.reach();
    await vm.replicate(site, seed);
    for (let cell = 0; cell < 256; cell++) vm.write(0, cell, cell + 1000);
    const all = Array.from({ length: 256 }, (_, cell) => cell);
    const delta = vm.plan(2, seed.pointId, [all]);
    let failure: unknown;
    await vm.replicate(site, delta).catch((error: unknown) => {
      failure = error;
    });
    expect(failure instanceof DrError && failure.code).to.equal('E_CAPACITY');
    await expectPoint(site, vm, seed);
    spawnSync('mount', ['-o', 'remount,size=64m', volume]);
    await vm.replicate(site, delta);
    await expectPoint(site, vm, delta);
    const out = work.file('out.raw');
    const run = await runHvdr([
      'export',
      'SQL01',
      '--point',
      seed.pointId,
      '--out',
      out,
      ...bench.access,
    ]);
    expect(run.code, run.stderr).to.equal(0);
    expect(readFileSync(out).equals(seed.images[0] ?? Buffer.alloc(0))).to.equal(true);
  });
});
