// What an installed product brings beside its programs: the manual, judged by man, and the completion, run in bash.

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

describe('hvdr completion bash', () => {
  const work = new WorkFolder('completion');
  let script: string;

  before(async () => {
    script = work.file('hvdr');
    writeFileSync(script, await printed('completion', 'bash'));
    writeFileSync(work.file('receiver.conf'), '');
    writeFileSync(work.file('read me.txt'), '');
  });

  after(() => {
    work.dispose();
  });

  /** What bash offers when Tab is pressed behind the last word. */
  async function offered(...words: string[]): Promise<string[]> {
    const ask =
      'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hvdr; ' +
      `printf '%s\\n' "\${COMPREPLY[@]}"`;
    const run = await expectTool('bash', ['-euc', ask, 'bash', script, 'hvdr', ...words], {
      folder: work.path,
    });
    return run.text.split('\n').filter((line) => line !== '');
  }

  it('offers commands, and those of groups', async () => {
    expect(await offered('fail')).to.have.members(['failover', 'failback']);
    expect(await offered('failover', 'p')).to.have.members(['planned', 'permanent']);
    expect(await offered('--json', 'failover', 'un')).to.have.members(['unplanned', 'undo']);
  });

  it('offers the options of a command, and those of the program', async () => {
    expect(await offered('receiver', '--tls-c')).to.have.members(['--tls-cert', '--tls-client-ca']);
    expect(await offered('failover', 'planned', '--js')).to.deep.equal(['--json']);
  });

  it('offers the values of a choice, else files, with blanks as well', async () => {
    expect(await offered('receiver', '--store', 'rec')).to.deep.equal(['receiver.conf']);
    expect(await offered('push', '--log-level', 'w')).to.deep.equal(['warn']);
    expect(await offered('receiver', '--config', 're')).to.have.members([
      ...['receiver.conf', 'read me.txt'],
    ]);
  });

  it('takes the value of an option for no command', async () => {
    expect(await offered('--log-level', 'debug', 'psk', 'gen')).to.deep.equal(['generate']);
    expect(await offered('push', '--vm', 'failover', '--psk')).to.deep.equal(['--psk-file']);
  });
});
