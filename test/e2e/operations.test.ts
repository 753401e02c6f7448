// docs/operations.md: every command of every runbook is run, each runbook on two lab sites of its own,
// which the page's chapter "The two sites" makes.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { type Naming, readPage, runSteps } from '../support/page.js';

const PAGE = 'operations.md';
const SITES = 'The two sites';

/** What the page calls things, and what they are called in the folder of a test. */
const NAMES: readonly (readonly [page: string, test: string])[] = [
  ['--dr-host dr1', '--dr-host 127.0.0.1 --dr-port 9847'],
  ['--dr-host hv1', '--dr-host 127.0.0.1'],
  ['--retired-host dr1', '--retired-host 127.0.0.1 --retired-port 9847'],
  ['--retired-host hv1', '--retired-host 127.0.0.1'],
  ['dr_host=dr1', 'dr_host=127.0.0.1\ndr_port=9847'],
  ['0.0.0.0:', '127.0.0.1:'],
  ['/etc/hvdr', 'etc'],
  ['/var/lib/hvdr', 'agent-state'],
  ['/srv/dr', 'dr-store'],
  ['/srv/home', 'home-store'],
  // both sites are one folder
  ['scp ', 'cp '],
  [' hv1:', ' '],
  [' dr1:', ' '],
];

const named: Naming = (script, site) => {
  let text = site === 'dr' ? script.replaceAll('/var/lib/hvdr', 'dr-state') : script;
  for (const [page, test] of NAMES) text = text.replaceAll(page, test);
  if (site === undefined) return text;
  const lab = site === 'primary' ? 'lab:hv1' : 'lab:dr1';
  return text.replaceAll('--host hyperv', `--host ${lab}`).replaceAll('host=hyperv', `host=${lab}`);
};

describe(`docs/${PAGE}`, function () {
  this.timeout(240_000);
  const steps = readPage(PAGE);
  const sites = steps.filter(({ heading }) => heading === SITES);
  const runbooks = [...new Set(steps.map(({ heading }) => heading))].filter(
    (heading) => heading !== SITES,
  );

  it('has a runbook for each line of its table, and no command outside of what is run', () => {
    const text = readFileSync(join(checkoutFolder, 'docs', PAGE), 'utf8');
    const listed = [...text.matchAll(/^\| \[([^\]]+)\]\(#/gm)].map(([, name]) => name);
    expect(runbooks).to.deep.equal(listed);
    const fenced = [...text.matchAll(/^ *```([^\n]*)\n([\s\S]*?)^ *```$/gm)];
    const unrun = fenced.filter(
      ([, info, body]) => !info?.startsWith('sh') && /^ *hvdr /m.test(body ?? ''),
    );
    expect(unrun).to.have.length(0);
    for (const step of steps)
      expect(step.script).to.match(/^# (at the (primary|DR site)|on the lab)/);
  });

  for (const runbook of runbooks) {
    it(`${runbook}: does what it says`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'hvdr-runbook-'));
      mkdirSync(join(folder, 'etc'));
      try {
        const own = steps.filter(({ heading }) => heading === runbook);
        await runSteps([...sites, ...own], folder, { named });
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});
