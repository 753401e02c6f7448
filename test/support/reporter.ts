// Mocha's spec reporter with another end: the skipped tests with their reasons, then the failures,
// and the counts for bin/test.mjs, which prints the closing line. With HVDR_FORBID_SKIP=1 a skipped
// test is a failed one.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import Mocha from 'mocha';
import type { SkipRecord } from './need.js';

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

  constructor(runner: Mocha.Runner, options?: Mocha.MochaOptions) {
    super(runner, options);
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
}
