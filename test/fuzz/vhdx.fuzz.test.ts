// Mutated VHDX files through all of the engine; the rules are in vhdx-run.ts. A failure names the
// case; HVDR_FUZZ_CASE='…' runs that one alone. SLOW=1 runs 100,000 of them; HVDR_FUZZ_COUNT and
// HVDR_FUZZ_SEED choose others.

import { expect } from 'chai';
import { SeededRandom } from '../support/seeded-random.js';
import { SEED_NAMES, seedFile } from '../support/vhdx-seeds.js';
import { caseText, mutated, parseCase, type FuzzCase, type FuzzSeed } from './vhdx-mutator.js';
import { runCase, type Outcome } from './vhdx-run.js';

const COUNT = Number(
  process.env['HVDR_FUZZ_COUNT'] ?? (process.env['SLOW'] === '1' ? 100_000 : 1500),
);
const FIRST = Number(process.env['HVDR_FUZZ_SEED'] ?? 1);
const ONE_CASE = process.env['HVDR_FUZZ_CASE'];

async function ownSeeds(): Promise<FuzzSeed[]> {
  const seeds: FuzzSeed[] = [];
  for (const name of SEED_NAMES) {
    const { fs, path } = await seedFile(name);
    seeds.push({ name, fs, path });
  }
  return seeds;
}

function caseNumber(number: number, seeds: readonly FuzzSeed[]): FuzzCase {
  const random = new SeededRandom(number);
  const seed = random.pick(seeds).name;
  const count = random.pick([1, 1, 1, 2, 2, 3, 5]);
  return { seed, mutations: Array.from({ length: count }, () => random.int(1_000_000)) };
}

async function run(fuzzCase: FuzzCase, seeds: readonly FuzzSeed[]): Promise<Outcome> {
  const seed = seeds.find(({ name }) => name === fuzzCase.seed);
  if (seed === undefined) throw new Error(`there is no seed ${fuzzCase.seed}`);
  const forge = mutated(seed, fuzzCase);
  try {
    return await runCase(forge.fs, forge.path);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new Error(`repeat with HVDR_FUZZ_CASE='${caseText(fuzzCase)}': ${text}`, {
      cause: error,
    });
  }
}

describe('fuzz: VHDX', function () {
  this.timeout(24 * 3600 * 1000);

  it('every mutated file ends in a value or a typed error, and none is harmed', async () => {
    const seeds = await ownSeeds();
    if (ONE_CASE !== undefined) {
      await run(parseCase(ONE_CASE), seeds);
      return;
    }
    const outcomes = new Map<string, number>();
    let written = 0;
    let merged = 0;
    for (let number = FIRST; number < FIRST + COUNT; number++) {
      const outcome = await run(caseNumber(number, seeds), seeds);
      outcomes.set(outcome.code, (outcomes.get(outcome.code) ?? 0) + 1);
      if (outcome.isWritten) written++;
      if (outcome.isMerged) merged++;
    }
    if (COUNT < 1000) return;
    // The mutator is worth something only while its files die of many different causes.
    expect(outcomes.size).to.be.greaterThan(8);
    expect(written).to.be.greaterThan(COUNT / 20);
    expect(merged).to.be.greaterThan(COUNT / 100);
    const peak = process.memoryUsage().rss;
    expect(peak).to.be.lessThan(3 * 1024 ** 3);
    if (process.env['HVDR_FUZZ_REPORT'] !== undefined) {
      const counts = Object.fromEntries([...outcomes].sort((a, b) => b[1] - a[1]));
      process.stderr.write(`${JSON.stringify({ count: COUNT, written, merged, ...counts })}\n`);
    }
  });
});
