// The pages that tell what to type: every command in them is run, and what they show must come.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { readPage, runPage } from '../support/page.js';

const PAGES = [
  { page: 'tutorial.md', commands: 20 },
  { page: 'maintenance.md', commands: 20 },
  { page: 'sizing.md', commands: 10 },
  { page: 'bacula.md', commands: 4 },
];

describe('pages with commands', function () {
  this.timeout(600_000);

  for (const { page, commands } of PAGES) {
    it(`${page} does what it says`, async () => {
      const script = readPage(page)
        .map((step) => step.script)
        .join('');
      expect(script.match(/\bhvdr /g)?.length ?? 0).to.be.at.least(commands);
      const folder = mkdtempSync(join(tmpdir(), 'hvdr-page-'));
      try {
        await runPage(page, folder);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});
