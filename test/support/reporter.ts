// Mocha's spec reporter with another end: the skipped tests with their reasons, then the failures, the
// files that took longest, and the counts for bin/test.mjs, which prints the closing line. With
// HVDR_FORBID_SKIP=1 a skipped test is a failed one.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import Mocha from 'mocha';
import { checkoutFolder } from './checkout.js';
import type { SkipRecord } from './need.js';

const SLOWEST_COUNT = 15;
const SECONDS_WORTH_TELLING = 10;

function skipRecords(): readonly SkipRecord[] {
  const path = process.env['HVDR_SKIP_LOG'];
  if (path === undefined || !existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as SkipRecord);
}

/** The reason of the test itself, else of the closest suite that was skipped as a whole. */
function reasonOf(title: string, records: readonly SkipRecord[]): string {
  const matching = records
    .filter((record) => title === record.title || title.startsWith(`${record.title} `))
    .sort((a, b) => b.title.length - a.title.length);
  return matching[0]?.reason ?? 'no reason given';
}

export default class Reporter extends Mocha.reporters.Spec {
  readonly #pendingTitles: string[] = [];
  readonly #msByFile = new Map<string, number>();

  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options);
    runner.on('test end', ({ file = '', duration = 0 }) => {
      this.#msByFile.set(file, (this.#msByFile.get(file) ?? 0) + duration);
    });
    runner.on('pending', (test) => {
      this.#pendingTitles.push(test.fullTitle());
    });
  }

  override epilogue(): void {
    const pending: string[] = [];
    const isForbidden = process.env['HVDR_FORBID_SKIP'] === '1';
    const records = skipRecords();
    for (const title of this.#pendingTitles) {
      pending.push(`  - ${title}: ${reasonOf(title, records)}`);
    }
    super.epilogue();
    if (pending.length > 0) {
      process.stdout.write(
        `${isForbidden ? 'skipped, which is forbidden here' : 'skipped'}:\n${pending.join('\n')}\n\n`,
      );
    }
    this.#tellSlowest();
    const { passes, failures } = this.stats;
    const skipped = pending.length;
    const path = process.env['HVDR_TEST_SUMMARY'];
    const counts = {
      passed: passes,
      failed: failures + (isForbidden ? skipped : 0),
      skipped: isForbidden ? 0 : skipped,
    };
    if (path === undefined)
      process.stdout.write(`${counts.passed} passed, ${counts.failed} failed\n`);
    else writeFileSync(path, JSON.stringify(counts));
  }

  /** Without what hooks took. */
  #tellSlowest(): void {
    const slowest = [...this.#msByFile]
      .map(([file, ms]) => ({ file: relative(checkoutFolder, file), seconds: ms / 1000 }))
      .filter(({ seconds }) => seconds >= SECONDS_WORTH_TELLING)
      .sort((one, other) => other.seconds - one.seconds)
      .slice(0, SLOWEST_COUNT);
    if (slowest.length === 0) return;
    const lines = slowest.map(
      ({ file, seconds }) => `${seconds.toFixed(0).padStart(6)} s  ${file}`,
    );
    process.stdout.write(`the longest:\n${lines.join('\n')}\n\n`);
  }
}
