// `npm run simulate`: runs seeds until one fails, or one seed with its trace.
//
//   npm run simulate                           seeds from 1 on, 200 of them
//   npm run simulate -- --seeds 5000 --from 7  so many, from there
//   npm run simulate -- --seed 42              one seed, with what happened
//     --steps K   so many steps      --only 3,9   these steps alone      --trace   every line

import { run, type RunResult, STEPS_DEFAULT } from './run.js';

interface Options {
  readonly seed: number | undefined;
  readonly from: number;
  readonly seeds: number;
  readonly steps: number;
  readonly only: readonly number[] | undefined;
  readonly isTrace: boolean;
}

function parse(words: readonly string[]): Options {
  const value = (name: string): string | undefined => {
    const at = words.indexOf(`--${name}`);
    return at < 0 ? undefined : words[at + 1];
  };
  const number = (name: string): number | undefined => {
    const text = value(name);
    if (text === undefined) return undefined;
    const found = Number(text);
    if (!Number.isSafeInteger(found)) throw new Error(`--${name} takes a number, not ${text}`);
    return found;
  };
  return {
    seed: number('seed'),
    from: number('from') ?? 1,
    seeds: number('seeds') ?? 200,
    steps: number('steps') ?? STEPS_DEFAULT,
    only: value('only')?.split(',').map(Number),
    isTrace: words.includes('--trace'),
  };
}

function tell(text: string): void {
  process.stdout.write(`${text}\n`);
}

function tellFailure(result: RunResult, { steps, only }: Options): void {
  const { seed, failure, lines } = result;
  if (failure === undefined) return;
  for (const line of lines.slice(-60)) tell(`  ${line}`);
  const chosen = only === undefined ? '' : ` --only ${only.join(',')}`;
  tell(`seed ${seed} failed after step ${failure.step}: ${failure.message}`);
  if (failure.error instanceof Error && failure.error.stack !== undefined) tell(failure.error.stack);
  tell(`again: npm run simulate -- --seed ${seed} --steps ${steps}${chosen}`);
}

const options = parse(process.argv.slice(2));
const seeds =
  options.seed === undefined
    ? Array.from({ length: options.seeds }, (_, index) => options.from + index)
    : [options.seed];
const totals = new Map<string, number>();
let failed = 0;
const startedAt = performance.now();
for (const seed of seeds) {
  const onLine = options.isTrace ? tell : undefined;
  const result = await run({ seed, steps: options.steps, only: options.only, onLine });
  for (const [what, count] of result.counts.entries) {
    totals.set(what, (totals.get(what) ?? 0) + count);
  }
  totals.set('points read', (totals.get('points read') ?? 0) + result.pointsRead);
  totals.set('events', (totals.get('events') ?? 0) + result.eventCount);
  if (options.seed !== undefined) tell(`digest ${result.digest}`);
  if (result.failure === undefined) continue;
  failed++;
  tellFailure(result, options);
  if (failed >= 3) break;
}
const seconds = (performance.now() - startedAt) / 1000;
for (const [what, count] of [...totals].sort()) tell(`  ${what}: ${count}`);
tell(`${seeds.length} seeds, ${(seeds.length / seconds).toFixed(1)} a second, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
