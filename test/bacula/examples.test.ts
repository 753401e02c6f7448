// The files in deploy/bacula, as the real Director and `hvdr doctor` read them.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, needBacula } from '../support/bacula-site.js';
import { checkoutFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';

const FOLDER = join(checkoutFolder, 'deploy', 'bacula');
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.conf'));
/** The client is the site's own. */
const USES = FILES.filter((name) => !['client.conf', 'defaults.conf'].includes(name));

const textOf = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');
const including = (...names: readonly string[]): string =>
  names.map((name) => `@${join(FOLDER, name)}`).join('\n');

async function checked(resources: string): Promise<string> {
  const site = await BaculaSite.create({ resources });
  try {
    return await site.check();
  } finally {
    await site.close();
  }
}

describe('the files for a Director', function () {
  this.timeout(120_000);

  before(function () {
    needBacula(this);
  });

  for (const name of USES) {
    it(`${name} needs defaults.conf and nothing else`, async () => {
      expect(await checked(including('defaults.conf', name))).to.equal('');
    });
  }

  it('describe a client that the Director takes', async () => {
    expect(await checked(textOf('client.conf').replaceAll(SITE_NAMES.client, 'other-fd'))).to.equal(
      '',
    );
  });

  it('begin with what they are for', () => {
    for (const name of FILES) expect(textOf(name), name).to.match(/^# [A-Z]/);
  });

  it('have Plugin lines that doctor finds nothing wrong with', async () => {
    for (const name of USES.filter((use) => textOf(use).includes('podheitor-hyperv:'))) {
      const run = await runHvdr(['doctor', '--bacula-config', join(FOLDER, name)]);
      const said = run.stdout.toString();
      expect(said).to.match(new RegExp(`^ok .*${name}: \\d+ Plugin lines? (is|are) well$`, 'm'));
    }
  });

  it('hold no key', () => {
    for (const name of FILES) expect(textOf(name), name).not.to.match(/dr_psk=/);
  });

  describe('all at once', () => {
    let site: BaculaSite;

    before(async () => {
      site = await BaculaSite.create({ resources: including('defaults.conf', ...USES) });
      await site.start();
    });

    after(async () => {
      await (site as BaculaSite | undefined)?.close();
    });

    it('go together', async () => {
      const jobs = await site.console('show jobs');
      const names = USES.flatMap((name) =>
        [...textOf(name).matchAll(/^Job \{\n {2}Name = "(.*)"/gm)].map(([, job = '']) => job),
      );
      expect(names).to.have.length.at.least(USES.length);
      for (const name of names) expect(jobs).to.contain(`Job: name=${name} `);
    });

    it('run a cycle every ten minutes, 144 a day, and one Full beside them', async () => {
      const text = await site.console('show schedule=HyperV-Rct');
      const runs = text.split('--> Run ').slice(1).flatMap(timesOfRun);
      expect(runs.filter(({ level }) => level === 'Full')).to.deep.equal([
        { level: 'Full', minute: 65 },
      ]);
      const cycles = runs.filter(({ level }) => level === 'Incremental');
      const minutes = cycles.map(({ minute }) => minute).sort((one, other) => one - other);
      expect(minutes).to.deep.equal(Array.from({ length: 144 }, (_, index) => index * 10));
    });
  });
});

/** What `show schedule` says of one Run: its level, and the minutes of the day. */
function timesOfRun(text: string): { readonly level: string; readonly minute: number }[] {
  const level = /Level=(\w+)/.exec(text)?.[1] ?? '';
  const minute = Number(/mins=(\d+)/.exec(text)?.[1]);
  const hours = (/hour=([\d ]+)/.exec(text)?.[1] ?? '').trim().split(' ');
  return hours.map((hour) => ({ level, minute: Number(hour) * 60 + minute }));
}
