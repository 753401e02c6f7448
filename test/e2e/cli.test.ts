// The command line as a process: exit codes, streams and the form of errors (cli.md).

import { spawn } from 'node:child_process';
import { expect } from 'chai';
import { mainProgram } from '../support/checkout.js';
import { runHvdr, runHvdrJson } from '../support/cli.js';

describe('hvdr', () => {
  it('prints its version everywhere', async () => {
    for (const args of [['--version'], ['explain', '--version'], ['vhdx', 'info', '--version']]) {
      const run = await runHvdr(args);
      expect(run.stdout.toString(), args.join(' ')).to.match(/^hvdr \d+\.\d+\.\d+\n$/);
      expect(run.code).to.equal(0);
      expect(run.stderr).to.equal('');
    }
  });

  it('lists exit codes and options in the help of every command', async () => {
    for (const args of [['--help'], ['explain', '--help'], ['help', 'explain']]) {
      const run = await runHvdr(args);
      expect(run.code).to.equal(0);
      expect(run.stdout.toString()).to.match(/Exit codes:\n +0 {2}done/);
    }
  });

  it('refuses wrong usage with exit code 2, one line on stderr and nothing on stdout', async () => {
    const wrong = [
      ['nonsense'],
      ['explain', '--nonsense'],
      ['explain', 'E_IO', 'too-many'],
      ['--log-level', 'loud', 'explain'],
      ['explain', 'E_NONSENSE'],
    ];
    for (const args of wrong) {
      const run = await runHvdr(args);
      expect(run.code, args.join(' ')).to.equal(2);
      expect(run.stderr, args.join(' ')).to.match(/^E_USAGE: [^\n]+; [^\n]+; [^\n]+\n$/);
      expect(run.stdout.length).to.equal(0);
    }
  });

  it('shows the help on stderr when a group is named without a command', async () => {
    const run = await runHvdr(['vhdx']);
    expect(run.code).to.equal(2);
    expect(run.stdout.length).to.equal(0);
    expect(run.stderr).to.contain('Usage: hvdr vhdx');
  });

  it('prints ten lines by task when it is started alone', async () => {
    const run = await runHvdr([]);
    expect(run.code).to.equal(0);
    const [tasks = '', rest] = run.stdout.toString().split('\n\n');
    expect(tasks.split('\n')).to.have.length(10);
    for (const line of tasks.split('\n')) expect(line).to.contain('  hvdr ');
    expect(rest).to.contain('hvdr --help');
  });

  it('proposes the command and the option that was probably meant', async () => {
    const command = await runHvdr(['vhdx', 'chekc', 'x.vhdx']);
    expect(command.stderr).to.match(/^E_USAGE: .*Did you mean check\?\n$/);
    const option = await runHvdr(['vhdx', 'create', 'x.vhdx', '--siez', '1M']);
    expect(option.stderr).to.match(/^E_USAGE: .*Did you mean --size\?\n$/);
  });

  it('reports an error as a JSON document as well with --json', async () => {
    const { run, document } = await runHvdrJson(['nonsense']);
    expect(run.code).to.equal(2);
    expect(document).to.deep.equal({
      error: {
        code: 'E_USAGE',
        message: "unknown command 'nonsense'",
        done: 'nothing was changed',
        hint: 'Compare with `hvdr COMMAND --help`.',
        context: {},
      },
    });
    expect(run.stderr).to.match(/^E_USAGE: /);
  });

  it('shows a stack only at log level debug', async () => {
    const quiet = await runHvdr(['explain', 'E_NONSENSE']);
    expect(quiet.stderr).not.to.contain('    at ');
    const loud = await runHvdr(['explain', 'E_NONSENSE', '--log-level', 'debug']);
    expect(loud.stderr).to.contain('    at ');
  });

  it('ends without a word when the reader of its output goes away', async () => {
    const child = spawn(process.execPath, [mainProgram, 'explain'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(stderr).to.equal('');
    expect(code).to.equal(141);
  });
});

describe('hvdr explain', () => {
  it('tells cause, remedy and exit code, whatever the case of the code', async () => {
    const run = await runHvdr(['explain', 'e_vhdx_log']);
    expect(run.code).to.equal(0);
    expect(run.stdout.toString()).to.match(
      /^E_VHDX_LOG \(exit code 15\)\n {2}what happened .*\n {2}what to do .*\n {2}retry /,
    );
  });

  it('answers in JSON', async () => {
    const { document } = await runHvdrJson(['explain', 'E_CAPACITY']);
    expect(document).to.include({ code: 'E_CAPACITY', exitCode: 32, retry: 'operator' });
  });

  it('lists all codes', async () => {
    const { document } = await runHvdrJson(['explain']);
    expect(document).to.have.property('errors').that.is.an('array');
    const text = (await runHvdr(['explain'])).stdout.toString();
    expect(text.split('\n').filter((line) => line.startsWith('E_'))).to.have.length.above(40);
  });

  it('names the nearest codes for a mistyped one', async () => {
    const run = await runHvdr(['explain', 'E_VHDX_LO']);
    expect(run.stderr).to.contain('did you mean E_VHDX_LOCATOR, E_VHDX_LOG?');
  });
});
