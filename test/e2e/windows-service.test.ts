// The service host of Windows (deploy/windows/phsvc) under Wine's service manager. What Wine cannot show are the
// recovery actions, the system's log and the shutdown of a machine.

import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { expectTool, type ToolRun } from '../support/run-tool.js';
import { compileForWindows, needWine, WinePrefix } from '../support/wine.js';
import { holdServices } from '../support/wine-services.js';

const NAME = 'PodHeitorTest';
/** Of Windows: the service says an exit code of its own; the program ended by itself. */
const [SPECIFIC, ABORTED] = [1066, 1067];

describe('the service host of Windows', () => {
  let prefix: WinePrefix;
  let host: string;

  before(async function () {
    needWine(this);
    prefix = await WinePrefix.create();
    await holdServices(prefix);
    host = prefix.file('service/phsvc.exe');
    const build = join(checkoutFolder, 'bin', 'build-service-host.mjs');
    const limits = ['--define', 'STOP_SECONDS=2', '--define', 'LOG_BYTES=20000'];
    await expectTool(process.execPath, [build, '--output', host, ...limits]);
    const source = join(checkoutFolder, 'test', 'support', 'windows-service', 'child.c');
    await compileForWindows(prefix.file('service/child.exe'), [source]);
  });

  after(async () => {
    await (prefix as WinePrefix | undefined)?.dispose();
  });

  afterEach(async () => {
    await phsvc('remove', NAME);
  });

  const phsvc = (...words: string[]): Promise<ToolRun> => prefix.run(host, words);
  const logText = (name = 'service.log'): string =>
    readFileSync(prefix.file(`service/${name}`), 'utf8').replaceAll('\r', '');

  /** Makes the service over; its log begins anew. */
  async function install(...words: string[]): Promise<void> {
    const log = `C:\\service\\${words.join('-')}.log`;
    const program = ['C:\\service\\child.exe', ...words];
    const run = await phsvc('install', NAME, 'A test', 'Does one thing.', log, '--', ...program);
    expect(run.code, run.stderr).to.equal(0);
  }

  async function expectDone(...words: string[]): Promise<void> {
    const run = await phsvc(...words);
    expect(run.code, `${words.join(' ')}: ${run.stderr}`).to.equal(0);
  }

  it('starts its program with the words it was given, and ends it by the end of its input', async () => {
    await install('serve', 'two words', 'a--b', '--');
    await expectDone('start', NAME);
    expect((await phsvc('state', NAME)).code).to.equal(0);
    await expectDone('stop', NAME);
    const log = logText('serve-two words-a--b---.log');
    expect(log).to.contain('a warning before\n');
    expect(log).to.contain('word <two words>\nword <a--b>\nword <-->\nlistening\nending well\n');
    expect(log).to.match(
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ service: the program was started, process/m,
    );
    expect(log).to.match(/asked to end, and ended with 0\n$/);
    const state = await phsvc('state', NAME);
    expect(state.code).to.equal(4);
    expect(state.text).to.contain('exit code 0, of its program 0');
  });

  it('runs when its program works and not before', async () => {
    await install('slow');
    const startedAt = performance.now();
    await expectDone('start', NAME);
    expect(logText('slow.log')).to.contain('listening\n');
    expect(performance.now() - startedAt).to.be.above(2000);
  });

  it('tells that a program did not come to work', async () => {
    await install('refuse', '41');
    const run = await phsvc('start', NAME);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.match(/did not come to work, see its log: error 41/);
    expect(logText('refuse-41.log')).to.contain('E_KEY_FILE: no key\n');
  });

  for (const [code, windows] of [
    [7, SPECIFIC],
    [0, ABORTED],
  ] as const) {
    it(`calls it an error when its program ends by itself with ${code}`, async () => {
      await install('crash', String(code));
      await expectDone('start', NAME);
      let state = await phsvc('state', NAME);
      while (state.code === 0) state = await phsvc('state', NAME);
      expect(state.text).to.contain(`exit code ${windows}, of its program ${code}`);
      expect(logText(`crash-${code}.log`)).to.contain(`ended by itself, with ${code}\n`);
    });
  }

  it('ends a program that does not listen by force, with all that it started', async () => {
    await install('deaf');
    await expectDone('start', NAME);
    await expectDone('stop', NAME);
    expect(logText('deaf.log')).to.contain('did not end in 2 seconds and was ended');
    // Windows lets nobody remove a program that runs
    const copied = await prefix.run(prefix.file('windows/system32/cmd.exe'), [
      ...['/c', 'ren', 'C:\\service\\child.exe', 'child.exe'],
    ]);
    expect(copied.code, copied.stderr).to.equal(0);
  });

  it('keeps some logs of a bounded size, and cuts no line', async () => {
    await install('noisy');
    await expectDone('start', NAME);
    await expectDone('stop', NAME);
    const names = readdirSync(prefix.file('service')).filter((name) =>
      name.startsWith('noisy.log'),
    );
    expect(names.sort()).to.include.members(['noisy.log', 'noisy.log.1', 'noisy.log.2']);
    expect(names).to.have.length.at.most(6);
    const whole = names
      .sort()
      .reverse()
      .map((name) => logText(name))
      .join('');
    const lines = whole.split('\n').filter((line) => line.startsWith('line '));
    expect(lines.at(-1)).to.equal('line 1999 of a program that says much');
    for (const line of lines) expect(line).to.match(/^line \d{4} of a program that says much$/);
    expect(new Set(lines).size).to.equal(lines.length);
  });

  it('loses nothing when there can be no new log', async () => {
    writeFileSync(prefix.file('service/flag'), '');
    const log = 'C:\\service\\logs\\moved.log';
    const program = ['C:\\service\\child.exe', 'later', 'C:\\service\\flag'];
    mkdirSync(prefix.file('service/logs'));
    await expectDone('install', NAME, 'A test', 'Does one thing.', log, '--', ...program);
    await expectDone('start', NAME);
    // Windows would not let it go; there it is the right to make files that goes
    renameSync(prefix.file('service/logs'), prefix.file('service/elsewhere'));
    rmSync(prefix.file('service/flag'));
    await expectDone('stop', NAME);
    const lines = logText('../service/elsewhere/moved.log').match(/^line .*$/gm) ?? [];
    expect(lines).to.have.length(2000);
    expect(lines.at(-1)).to.equal('line 1999 of a program that says much');
  });

  it('is stopped while it starts', async () => {
    await install('slow');
    await prefix.run(prefix.file('windows/system32/sc.exe'), ['start', NAME]);
    expect((await phsvc('state', NAME)).code).to.equal(5);
    await expectDone('stop', NAME);
    expect((await phsvc('state', NAME)).code).to.equal(4);
  });

  it('gets its former title and command line back', async () => {
    await install('serve', 'one');
    const words = ['run', NAME, '"C:\\service\\former log.log"', '--'];
    const line = ['"C:\\service\\phsvc.exe"', ...words, 'C:\\service\\child.exe', 'serve'];
    await prefix.expect(prefix.file('windows/system32/cmd.exe'), [
      '/c',
      writeBatch(`C:\\service\\phsvc.exe restore ${NAME} "Former one" -- ${line.join(' ')}`),
    ]);
    await expectDone('start', NAME);
    expect(logText('former log.log')).to.contain('listening\n');
  });

  function writeBatch(line: string): string {
    writeFileSync(prefix.file('service/do.bat'), `@${line}\r\n@exit %ERRORLEVEL%\r\n`);
    return 'C:\\service\\do.bat';
  }

  it('is changed, not made anew, when it is there', async () => {
    await install('refuse', '41');
    await install('serve');
    await expectDone('start', NAME);
    expect(logText('serve.log')).to.contain('listening');
  });

  it('stops and removes what is not there without a word, but does not start it', async () => {
    await expectDone('stop', 'PodHeitorNobody');
    await expectDone('remove', 'PodHeitorNobody');
    expect((await phsvc('state', 'PodHeitorNobody')).code).to.equal(3);
    expect((await phsvc('start', 'PodHeitorNobody')).code).to.equal(1);
  });

  it("adds a folder to the machine's search path once, and takes out that one only", async () => {
    const key = 'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Environment';
    const path = async (): Promise<string> => {
      const query = ['query', key, '/v', 'Path'];
      return (await prefix.expect(prefix.file('windows/system32/reg.exe'), query)).text.trim();
    };
    const before = await path();
    for (let times = 0; times < 2; times++) await expectDone('path', 'add', 'C:\\of ours');
    expect(await path()).to.equal(`${before};C:\\of ours`);
    await expectDone('path', 'add', 'C:\\of ours 2');
    await expectDone('path', 'remove', 'C:\\OF OURS');
    expect(await path()).to.equal(`${before};C:\\of ours 2`);
    await expectDone('path', 'remove', 'C:\\of ours 2');
    expect(await path()).to.equal(before);
  });

  it('checks its arguments, and that the service manager started it', async () => {
    const child = ['--', 'C:\\service\\child.exe'];
    const wrong: readonly (readonly string[])[] = [
      ['run', 'a b', 'C:\\x.log', ...child],
      ['run', NAME, 'x.log', ...child],
      ['run', NAME, 'C:\\x.log', 'C:\\service\\child.exe'],
      ['run', NAME, 'C:\\x.log', '--'],
      ['install', NAME, 'title', 'C:\\x.log', ...child],
      ['path', 'add', 'relative'],
      ['path', 'add', 'C:\\one;C:\\two'],
      ['restore', NAME, 'title'],
      ['protect', 'all', 'C:\\service'],
      ['protect', 'programs', 'relative'],
      ['check', 'relative'],
      ['start', NAME, 'more'],
      ['begin', NAME],
      ['start'],
    ];
    for (const words of wrong) {
      const run = await phsvc(...words);
      expect(run.code, words.join(' ')).to.equal(2);
      expect(run.stderr).to.contain('usage: phsvc run');
    }
    const alone = await phsvc('run', NAME, 'C:\\alone.log', ...child);
    expect(alone.code).to.equal(1);
    expect(alone.stderr).to.contain('only the service manager');
    expect(existsSync(prefix.file('alone.log'))).to.equal(false);
  });
});
