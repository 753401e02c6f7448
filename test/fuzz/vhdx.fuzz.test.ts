// Mutated VHDX files through all of the engine; the rules are in vhdx-run.ts. A failure names the
// case; HVDR_FUZZ_CASE='…' runs that one alone. SLOW=1 runs 100,000 of them; HVDR_FUZZ_COUNT and
// HVDR_FUZZ_SEED choose others.

import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { needTool } from '../support/need.js';
import { qemuCreate, qemuWrite } from '../support/qemu.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { WorkFolder } from '../support/work-folder.js';
import { SeededRandom } from '../support/seeded-random.js';
import { SEED_NAMES, seedFile } from '../support/vhdx-seeds.js';
import { CoverageFeedback } from './coverage.js';
import { caseText, mutated, parseCase, type FuzzCase, type FuzzSeed } from './vhdx-mutator.js';
import { runCase, type Outcome } from './vhdx-run.js';

const COUNT = Number(
  process.env['HVDR_FUZZ_COUNT'] ?? (process.env['SLOW'] === '1' ? 100_000 : 1500),
);
const FIRST = Number(process.env['HVDR_FUZZ_SEED'] ?? 1);
/** Watching the coverage makes each case slower. */
const GUIDED_COUNT = Math.ceil(COUNT / 10);
const MUTATIONS_MAX = 12;
const ONE_CASE = process.env['HVDR_FUZZ_CASE'];

async function ownSeeds(): Promise<FuzzSeed[]> {
  const seeds: FuzzSeed[] = [];
  for (const name of SEED_NAMES) {
    const { fs, path } = await seedFile(name);
    seeds.push({ name, fs, path });
  }
  return seeds;
}

/** Small files as qemu makes them, with its own layout and explicit zero blocks. */
async function qemuSeeds(work: WorkFolder): Promise<FuzzSeed[]> {
  const seeds: FuzzSeed[] = [];
  for (const [name, options] of [
    ['qemu-dynamic', 'subformat=dynamic,block_size=1M'],
    ['qemu-fixed', 'subformat=fixed,block_size=1M'],
    ['qemu-zero-state', 'subformat=dynamic,block_size=1M,block_state_zero=on,log_size=2M'],
  ] as const) {
    const file = work.file(`${name}.vhdx`);
    await qemuCreate(file, 'vhdx', 4 * 1024 * 1024, options);
    await qemuWrite(file, 'vhdx', ['write -P 0x5a 4k 64k', 'write -P 0x5b 3M 1M']);
    const fs = new MemoryFileSystem();
    fs.put('/d/disk.vhdx', await readFile(file));
    seeds.push({ name, fs, path: '/d/disk.vhdx' });
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

/** Figures of a run, when asked for with HVDR_FUZZ_REPORT=1. */
function report(figures: Readonly<Record<string, number>>): void {
  if (process.env['HVDR_FUZZ_REPORT'] === undefined) return;
  process.stderr.write(`${JSON.stringify(figures)}\n`);
}

describe('fuzz: VHDX', function () {
  this.timeout(24 * 3600 * 1000);

  it('every mutated file ends in a value or a typed error, and none is harmed', async () => {
    const seeds = await ownSeeds();
    if (ONE_CASE !== undefined) {
      if (!ONE_CASE.startsWith('qemu')) await run(parseCase(ONE_CASE), seeds);
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
    const counts = Object.fromEntries([...outcomes].sort((a, b) => b[1] - a[1]));
    report({ count: COUNT, written, merged, ...counts });
  });

  it('the same with files made by qemu', async function () {
    if (ONE_CASE?.startsWith('qemu') === false) return;
    needTool(this, 'qemu-img', 'qemu-io');
    const work = new WorkFolder('fuzz-qemu');
    try {
      const seeds = await qemuSeeds(work);
      if (ONE_CASE !== undefined) {
        await run(parseCase(ONE_CASE), seeds);
        return;
      }
      const count = Math.ceil(COUNT / 10);
      for (let number = FIRST; number < FIRST + count; number++) {
        await run(caseNumber(number, seeds), seeds);
      }
    } finally {
      work.dispose();
    }
  });

  it('the same, guided by the code that is reached', async () => {
    if (ONE_CASE !== undefined) return;
    const seeds = await ownSeeds();
    const feedback = await CoverageFeedback.start((url) => url.includes('/shared/vhdx/'));
    try {
      const kept: FuzzCase[] = [];
      const random = new SeededRandom(FIRST);
      for (let number = 0; number < GUIDED_COUNT; number++) {
        const parent = kept.length > 0 && random.chance(0.7) ? random.pick(kept) : undefined;
        const fresh = caseNumber(FIRST + COUNT + number, seeds);
        const fuzzCase =
          parent === undefined || parent.mutations.length >= MUTATIONS_MAX
            ? fresh
            : { seed: parent.seed, mutations: [...parent.mutations, random.int(1_000_000)] };
        await run(fuzzCase, seeds);
        if ((await feedback.news()) > 0) kept.push(fuzzCase);
      }
      expect(kept.length).to.be.greaterThan(5);
      report({ guided: GUIDED_COUNT, kept: kept.length, blocks: feedback.knownCount });
    } finally {
      await feedback.stop();
    }
  });
});
