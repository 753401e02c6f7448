// Both sites from one seed, over and over. A seed that fails prints the command that repeats it; when its
// cause is mended it goes to seeds.json.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { run, type RunOptions, type RunResult, STEPS_DEFAULT } from './run.js';
import { shrink } from './shrink.js';

const SLOW = process.env['SLOW'] === '1';
const SEEDS = SLOW ? 3000 : 60;
const FIRST_SEED = 1000;

interface KeptSeed {
  readonly seed: number;
  readonly steps: number;
  readonly was: string;
}

async function expectGood(options: RunOptions): Promise<RunResult> {
  const result = await run(options);
  const { failure, lines } = result;
  if (failure === undefined) return result;
  const { seed, steps = STEPS_DEFAULT } = options;
  throw new Error(
    `${lines.slice(-30).join('\n')}\nseed ${seed}, after step ${failure.step}: ${failure.message}\n` +
      `again: npm run simulate -- --seed ${seed} --steps ${steps}`,
    { cause: failure.error },
  );
}

describe('simulation', function () {
  this.timeout(SLOW ? 7_200_000 : 600_000);

  it('of the same seed is the same, event by event', async () => {
    const first = await expectGood({ seed: 4, steps: 25 });
    const second = await expectGood({ seed: 4, steps: 25 });
    expect(second.digest).to.equal(first.digest);
    expect(second.eventCount).to.equal(first.eventCount);
    const other = await expectGood({ seed: 5, steps: 25 });
    expect(other.digest).not.to.equal(first.digest);
  });

  it('keeps every promise in the seeds that broke one once', async () => {
    // our own checked-in file
    const path = join(checkoutFolder, 'test', 'simulation', 'seeds.json');
    const kept = JSON.parse(readFileSync(path, 'utf8')) as readonly KeptSeed[];
    for (const { seed, steps } of kept) await expectGood({ seed, steps });
  });

  it(`keeps every promise, whatever happens (${SEEDS} seeds)`, async () => {
    const happened = new Map<string, number>();
    let pointsRead = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const result = await expectGood({ seed });
      pointsRead += result.pointsRead;
      for (const [what, count] of result.counts.entries) {
        happened.set(what, (happened.get(what) ?? 0) + count);
      }
    }
    expect(pointsRead).to.be.greaterThan(10 * SEEDS);
    // a simulation in which nothing happens keeps every promise as well
    for (const what of [
      'cycle seed',
      'cycle delta',
      'cycle resync',
      'power lost at a call of a receiver',
      'power lost at a call of the source',
      'killed at a call of a receiver',
      'E_CAPACITY',
      'E_IO',
      'rot refused',
      'pin',
      'verified',
      'store went back',
    ]) {
      expect(happened.get(what) ?? 0, what).to.be.greaterThan(0);
    }
  });

  it('tells which steps a failure needs', async () => {
    expect(await shrink(4, 5)).to.equal(undefined);
  });
});
