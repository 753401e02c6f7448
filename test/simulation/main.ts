// `npm run simulate`: runs seeds until one fails, or one seed with its trace.
//
//   npm run simulate                           200 seeds from 1 on
//   npm run simulate -- --seeds 5000 --from 7  so many, from there
//   npm run simulate -- --seed 42              one seed
//     --steps K   so many steps      --only 3,9   these steps alone      --trace   every line
//     --shrink    which steps are needed for its failure, as seeds.json keeps them
//   npm run simulate -- --kept                 the kept ones
//   npm run simulate -- --mutant NAME          the code broken on purpose; --mutants: all of them

import { MUTANTS } from './mutants.js';
import { mutantNamed, type Noticed, runMutant, writeNoticed } from './mutate.js';
import { asKept, readKept } from './kept.js';
import { planOf, run, type RunOptions, type RunResult, STEPS_DEFAULT } from './run.js';
import { shrink } from './shrink.js';

const SEEDS_DEFAULT = 200;
const FAILURES_TOLD = 3;
const LINES_TOLD = 60;

const words = process.argv.slice(2);

function text(name: string): string | undefined {
  const at = words.indexOf(`--${name}`);
  return at < 0 ? undefined : words[at + 1];
}

function number(name: string, otherwise: number): number {
  const given = text(name);
  if (given === undefined) return otherwise;
  const found = Number(given);
  if (!Number.isSafeInteger(found)) throw new Error(`--${name} takes a number, not ${given}`);
  return found;
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

const stepCount = number('steps', STEPS_DEFAULT);
const only = text('only')?.split(',').map(Number);

/** The seed as the command line wants it to be run. */
function optionsOf(seed: number): RunOptions {
  const steps = planOf(seed, stepCount).filter((_, index) => only?.includes(index) !== false);
  return { seed, steps, onLine: words.includes('--trace') ? tell : undefined };
}

/** The runs that are asked for: a range of seeds, one, or the kept ones. */
function* chosenRuns(): Generator<RunOptions> {
  if (words.includes('--kept')) {
    yield* readKept();
    return;
  }
  const isOne = words.includes('--seed');
  const from = isOne ? number('seed', 1) : number('from', 1);
  const count = isOne ? 1 : number('seeds', SEEDS_DEFAULT);
  for (let seed = from; seed < from + count; seed++) yield optionsOf(seed);
}

function tellFailure({ seed, failure, lines }: RunResult): void {
  if (failure === undefined) return;
  for (const line of lines.slice(-LINES_TOLD)) tell(`  ${line}`);
  const chosen = only === undefined ? '' : ` --only ${only.join(',')}`;
  const { step, message, error } = failure;
  tell(`seed ${seed} failed after step ${step}: ${message}`);
  if (error instanceof Error && error.stack !== undefined) tell(error.stack);
  tell(`again: npm run simulate -- --seed ${seed} --steps ${stepCount}${chosen}`);
}

async function runSeeds(): Promise<number> {
  const failuresTold = words.includes('--first') ? 1 : FAILURES_TOLD;
  const totals = new Map<string, number>();
  const add = (what: string, count: number): void => {
    totals.set(what, (totals.get(what) ?? 0) + count);
  };
  const startedAt = performance.now();
  let failed = 0;
  let ran = 0;
  for (const options of chosenRuns()) {
    if (failed === failuresTold) break;
    const { seed } = options;
    const result = await run(options);
    ran++;
    for (const [what, count] of result.counts.entries) add(what, count);
    add('points read', result.pointsRead);
    add('events', result.eventCount);
    if (words.includes('--seed')) tell(`digest ${result.digest}`);
    const { failure } = result;
    if (failure === undefined) continue;
    failed++;
    tellFailure(result);
    // for mutate.ts, which reads the first one
    const noticed: Noticed = { seed, step: failure.step, message: failure.message };
    if (words.includes('--first')) tell(JSON.stringify(noticed));
  }
  const seconds = (performance.now() - startedAt) / 1000;
  for (const [what, count] of [...totals].sort()) tell(`  ${what}: ${count}`);
  tell(`${ran} seeds, ${(ran / seconds).toFixed(1)} a second, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

async function shrinkOne(): Promise<number> {
  const seed = number('seed', 1);
  const left = await shrink(seed, optionsOf(seed).steps, (fewer) => {
    tell(`${fewer.length} steps left`);
  });
  if (left === undefined) {
    tell(`seed ${seed} does not fail`);
    return 0;
  }
  tell('for seeds.json, when its cause is mended:');
  tell(JSON.stringify(asKept({ seed, steps: left, was: 'what was wrong' })));
  return 1;
}

function runMutants(): number {
  const one = text('mutant');
  const chosen = one === undefined ? MUTANTS : [mutantNamed(one)];
  const noticed: Record<string, Noticed> = {};
  for (const mutant of chosen) {
    const found = runMutant(mutant, number('from', 1), number('seeds', SEEDS_DEFAULT));
    if (found === undefined) {
      tell(`${mutant.name}: NOT NOTICED`);
      continue;
    }
    noticed[mutant.name] = found;
    tell(`${mutant.name}: seed ${found.seed}, step ${found.step}: ${found.message}`);
  }
  if (one === undefined) writeNoticed(noticed);
  return Object.keys(noticed).length === chosen.length ? 0 : 1;
}

if (words.includes('--mutants') || words.includes('--mutant')) process.exitCode = runMutants();
else if (words.includes('--shrink')) process.exitCode = await shrinkOne();
else process.exitCode = await runSeeds();
