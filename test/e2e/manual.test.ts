// What an installed product brings beside its programs: the manual, judged by man. The completion of shells: completion.test.ts.

import { expect } from 'chai';
import { runHvdr } from '../support/cli.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';
import { writeFileSync } from 'node:fs';

async function printed(...args: string[]): Promise<string> {
  const run = await runHvdr(args);
  expect(run.code, run.stderr).to.equal(0);
  return run.stdout.toString();
}

describe('hvdr manual', () => {
  let text: string;
  let commands: readonly string[];

  before(async () => {
    text = await printed('manual');
    const help = await printed('--help');
    commands = [...help.matchAll(/^ {2}([a-z][a-z-]*)[ |]/gm)].map(([, name = '']) => name);
  });

  it('has every command, with the options that its help has', async () => {
    expect(commands).to.include.members(['push', 'receiver', 'failover', 'manual', 'completion']);
    for (const name of commands.filter((command) => command !== 'help')) {
      expect(text).to.contain(`\nhvdr ${name}\n---`);
    }
    expect(text).to.contain('\nhvdr failover planned\n---');
    const help = await printed('receiver', '--help');
    const options = [...help.matchAll(/--[a-z-]+/g)].map(([option]) => option);
    const section = text.slice(text.indexOf('\nhvdr receiver\n'), text.indexOf('\nhvdr pause\n'));
    for (const option of options) expect(section).to.contain(option);
  });

  it('is a man page without warnings, with every command', async function () {
    needTool(this, 'man');
    const work = new WorkFolder('manual');
    try {
      writeFileSync(work.file('hvdr.1'), await printed('manual', '--roff'));
      const environment = { MANWIDTH: '80', LC_ALL: 'C.UTF-8', MAN_KEEP_FORMATTING: '' };
      const page = await expectTool('man', ['--warnings', '-l', work.file('hvdr.1')], {
        environment,
      });
      expect(page.stderr).to.equal('');
      for (const name of commands.filter((command) => command !== 'help')) {
        expect(page.text).to.contain(`hvdr ${name}\n`);
      }
      expect(page.text).to.contain('--stop-on-stdin-close');
      expect(page.text).to.match(/143\s+stopped by SIGTERM/);
    } finally {
      work.dispose();
    }
  });
});
