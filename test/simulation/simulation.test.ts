// Both sites from one seed, over and over. A seed that fails prints the command that repeats it; when its
// cause is mended it goes to seeds.json.

import { expect } from 'chai';
import { readKept } from './kept.js';
import { planOf, run, type RunOptions, type RunResult } from './run.js';
import { shrink } from './shrink.js';

const SLOW = process.env['SLOW'] === '1';
const SEEDS = SLOW ? 3000 : 40;
const FIRST_SEED = 1000;

async function expectGood(options: RunOptions): Promise<RunResult> {
  const result = await run(options);
  const { failure, lines } = result;
  if (failure === undefined) return result;
  const { seed, steps } = options;
  const again = steps === undefined ? `--seed ${seed}` : '--kept';
  throw new Error(
    `${lines.slice(-30).join('\n')}\nseed ${seed}, after step ${failure.step}: ${failure.message}\n` +
      `again: npm run simulate -- ${again}`,
    { cause: failure.error },
  );
}

describe('simulation', function () {
  this.timeout(SLOW ? 7_200_000 : 600_000);

  it('of the same seed is the same, event by event', async () => {
    const first = await expectGood({ seed: 4, steps: planOf(4, 25) });
    const second = await expectGood({ seed: 4, steps: planOf(4, 25) });
    expect(second.digest).to.equal(first.digest);
    expect(second.eventCount).to.equal(first.eventCount);
    const other = await expectGood({ seed: 5, steps: planOf(5, 25) });
    expect(other.digest).not.to.equal(first.digest);
  });

  it('keeps every promise in the seeds that broke one once', async () => {
    for (const kept of readKept()) await expectGood(kept);
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
      'scrubbed whole',
      'rot found by a scrub',
      'verified with repair',
      'repair from the source',
      'repair by a careless source',
      'mended from the source',
      'all that rotted was mended',
      'compared with the source',
      'seed staged',
      'seed discarded',
      'cycle with cells that were there',
      'imported',
      'imported in part',
      'import refused',
      'exported',
      'forgotten while it was read',
      'clock put back',
      'clock put forward',
      'rebound',
    ]) {
      expect(happened.get(what) ?? 0, what).to.be.greaterThan(0);
    }
  });

  it('tells which steps a failure needs', async () => {
    expect(await shrink(4, planOf(4, 5))).to.equal(undefined);
  });
});
