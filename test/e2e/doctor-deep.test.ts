// `hvdr doctor --deep` as a person runs it, at the lab: the report, the exit code, and a run that was killed.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { FACT_IDS } from '../../shared/acceptance/index.js';
import { runHvdr } from '../support/cli.js';

interface Report {
  readonly counts: Readonly<Record<string, number>>;
  readonly facts: readonly { readonly id: string; readonly verdict: string }[];
  readonly leftovers: readonly string[];
  readonly leftBehind: readonly string[];
}

describe('hvdr doctor --deep', () => {
  let folder: string;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'hvdr-deep-'));
    expect((await runHvdr(['lab', 'init', 'lab'], { folder })).code).to.equal(0);
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  const deep = (...args: string[]) =>
    runHvdr(['doctor', '--deep', '--host', 'lab:lab', '--report', 'report.json', ...args], {
      folder,
    });
  // the command's own document
  const report = (): Report =>
    JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as Report;

  it('reports every fact, and leaves no VM', async () => {
    const run = await deep('--json');
    expect(run.code, run.stderr).to.equal(0);
    expect(report().facts.map(({ id }) => id)).to.deep.equal(FACT_IDS);
    expect(report().counts['refuted']).to.equal(0);
    const events = run.stdout.toString().trim().split('\n');
    expect(events[0]).to.equal('{"event":"probe","probe":"chains"}');
    expect(events.at(-1)).to.match(/^\{"event":"result"/);
    const list = await runHvdr(['lab', 'list', 'lab'], { folder });
    expect(list.stdout.toString()).not.to.contain('hvdr-acceptance');
  });

  it('removes what a killed run has left, and says so', async () => {
    const fault = ['lab', 'fault', 'lab'];
    await runHvdr([...fault, 'set', 'die-before', 'waitForMerge'], { folder });
    const killed = await deep();
    expect(killed.code, 'it ended as a killed process does').not.to.be.oneOf([0, 1, 2, 16]);
    await runHvdr([...fault, 'clear', 'die-before'], { folder });
    const run = await deep('--probe', 'fence');
    expect(run.code, run.stderr).to.equal(0);
    expect(report().leftovers).to.deep.equal(['hvdr-acceptance-checkpoints-1']);
    expect(report().leftBehind).to.deep.equal([]);
    const list = await runHvdr(['lab', 'list', 'lab'], { folder });
    expect(list.stdout.toString()).not.to.contain('hvdr-acceptance');
  });

  it('wants a host, and a probe that there is', async () => {
    const none = await runHvdr(['doctor', '--deep'], { folder });
    expect(none.code).to.equal(2);
    const wrong = await deep('--probe', 'everything');
    expect(wrong.code).to.equal(2);
    expect(wrong.stderr).to.contain('There are chains, registration');
  });
});
