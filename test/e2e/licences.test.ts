// The licences that packages pass on: all of what is bound into the programs, and no package with one that is not accepted.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { expectTool, runTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

const SCRIPT = join(checkoutFolder, 'bin', 'package', 'licences.mjs');
const TEXT = 'Copyright (c) 2026 Somebody\n\nPermission is granted.\n';

describe('licences of what comes with the product', () => {
  const work = new WorkFolder('licences');
  after(() => {
    work.dispose();
  });

  /** What is said of a package with these files. */
  async function judged(manifest: object, files: Readonly<Record<string, string>>) {
    const folder = work.file('package');
    await expectTool('rm', ['-rf', folder]);
    mkdirSync(folder);
    writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    return runTool(process.execPath, [SCRIPT, folder]);
  }

  it('are listed with name, version and text, for every package that is bound into a program', async () => {
    const { text } = await expectTool(process.execPath, [SCRIPT]);
    const [list = '', ...texts] = text.split(`${'='.repeat(78)}\n`);
    const titles = list
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.replace(/: .*/, ''));
    expect(texts.map((part) => part.split('\n')[0])).to.deep.equal(titles);
    for (const part of texts) expect(part).to.match(/copyright/i);

    // the bundler writes a comment with the path over every module
    const bound = new Set<string>();
    const programs = join(checkoutFolder, 'dist', 'programs');
    const names = (await expectTool('ls', [programs])).text.split('\n');
    for (const name of names.filter((file) => file.endsWith('.js'))) {
      const code = readFileSync(join(programs, name), 'utf8');
      for (const [, path = ''] of code.matchAll(/^ *\/\/ (node_modules\/\S+)$/gm)) {
        const folder = /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? '';
        const manifest = readFileSync(join(checkoutFolder, folder, 'package.json'), 'utf8');
        const { name: title, version } = JSON.parse(manifest) as Record<string, string>;
        bound.add(`${title} ${version}`);
      }
    }
    expect(bound.size).to.be.above(20);
    expect(titles).to.include.members([...bound]);
    expect(titles.some((title) => title.startsWith('koffi '))).to.equal(true);
    expect(texts[0]).to.contain('Copyright Node.js contributors');
  });

  it('are taken from the head of the sources where a package has no file of them', async () => {
    const { text } = await expectTool(process.execPath, [SCRIPT]);
    expect(text).to.contain('Copyright 2008 Google Inc.  All rights reserved.');
    expect(text).to.match(/\nCopyright \d{4}-\d{4} Buf Technologies, Inc\./);
    expect(text).to.contain('TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION');
  });

  const about = { name: 'some-package', version: '1.2.3' };

  it('may leave a choice, of which one is accepted', async () => {
    const run = await judged({ ...about, license: '(GPL-3.0-only OR MIT)' }, { LICENSE: TEXT });
    expect(run.code, run.stderr).to.equal(0);
    expect(run.text).to.contain('some-package 1.2.3: (GPL-3.0-only OR MIT)\n').and.contain(TEXT);
  });

  for (const [what, license, files, expected] of [
    ['is not compatible', 'GPL-3.0-only', { LICENSE: TEXT }, 'GPL-3.0-only, is not accepted'],
    ['is so in part', 'MIT AND SSPL-1.0', { LICENSE: TEXT }, 'MIT AND SSPL-1.0, is not accepted'],
    ['is not named', undefined, { LICENSE: TEXT }, 'some-package 1.2.3 names no licence'],
    ['has no text', 'MIT', {}, 'brings no text of its licence, MIT'],
    ['is unknown', 'SEE LICENSE IN x', { LICENSE: TEXT }, 'SEE LICENSE IN x, is not accepted'],
  ] as const) {
    it(`let nothing be packed when one ${what}`, async () => {
      const run = await judged({ ...about, license }, files);
      expect(run.code).to.equal(1);
      expect(run.text).to.equal('');
      expect(run.stderr).to.contain(expected);
    });
  }
});
