// The set-up and the launcher, run as processes in a small checkout with a scripted npm.

import { expect } from 'chai';
import { MiniCheckout } from '../support/mini-checkout.js';

const HVDR = 'bin/hvdr';
const BOOTSTRAP = 'bin/bootstrap.mjs';

describe('set-up of a new checkout', () => {
  let checkout: MiniCheckout;

  beforeEach(() => {
    checkout = new MiniCheckout();
  });

  afterEach(() => {
    checkout.dispose();
  });

  it('installs and builds before the first run, tells the cost first, and only on stderr', async () => {
    const run = await checkout.run(HVDR, 'hello', 'world');
    expect(run.code, run.stderr).to.equal(0);
    expect(run.stdout).to.match(/^v24\.\d+\.\d+ hello world\n$/);
    const cost = run.stderr.search(/fetching about \d+ MB, \d+ MB on disk, roughly \d+ s/);
    expect(cost).to.be.greaterThan(-1);
    expect(run.stderr.indexOf('install packages')).to.be.greaterThan(cost);
    expect(run.stderr).to.contain('build 2 files');
  });

  it('reports compiler errors and builds again once they are mended', async () => {
    checkout.write('cli/second.ts', 'export const second: string = 2;\n');
    const broken = await checkout.run(HVDR);
    expect(broken.code).to.equal(16);
    expect(broken.stdout).to.equal('');
    expect(broken.stderr).to.contain('cli/second.ts(1,14): error TS2322');
    checkout.write('cli/second.ts', 'export const second = 2;\n');
    expect((await checkout.run(HVDR)).code).to.equal(0);
  });

  it('tells what npm said and what to do when packages cannot be fetched', async () => {
    checkout.npm('offline');
    const run = await checkout.run(BOOTSTRAP, 'build');
    expect(run.code).to.equal(16);
    expect(run.stderr).to.contain('ENOTFOUND');
    expect(run.stderr).to.contain('check network');
    checkout.npm('none');
    expect((await checkout.run(BOOTSTRAP, 'build')).code).to.equal(0);
  });

  it('notices that npm left the pinned Node out without a word', async () => {
    checkout.npm('leave-out-node');
    const run = await checkout.run(BOOTSTRAP, 'build');
    expect(run.code).to.equal(16);
    expect(run.stderr).to.match(/pinned Node 24\.\d+\.\d+ .* was not installed/);
    checkout.npm('none');
    expect((await checkout.run(BOOTSTRAP, 'build')).code).to.equal(0);
  });

  it('heals an install that was killed half-way, waiting for the npm that it left behind', async () => {
    checkout.npm('hang-half-way');
    const first = checkout.start(BOOTSTRAP, 'build');
    await first.saw('install packages');
    while (!checkout.has('node_modules/typescript')) await new Promise(setImmediate);
    first.kill('SIGKILL');
    await first.finished;
    checkout.npm('none');
    const second = checkout.start(BOOTSTRAP, 'build');
    await second.saw('waiting for another set-up');
    process.kill(checkout.lockedChild(), 'SIGKILL');
    expect((await second.finished).code).to.equal(0);
    expect(checkout.npmCalls).to.equal(2);
  });

  it('stops npm and gives the lock back on SIGTERM', async () => {
    checkout.npm('hang-half-way');
    const run = checkout.start(BOOTSTRAP, 'build');
    await run.saw('install packages');
    while (!checkout.has('node_modules/typescript')) await new Promise(setImmediate);
    run.kill('SIGTERM');
    expect((await run.finished).code).to.equal(143);
    expect(checkout.has('.cache/set-up.lock')).to.equal(false);
  });

  it('installs and builds once for two processes at once', async () => {
    const runs = await Promise.all([checkout.run(HVDR, 'one'), checkout.run(HVDR, 'two')]);
    for (const run of runs) expect(run.code, run.stderr).to.equal(0);
    expect(checkout.npmCalls).to.equal(1);
    const built = runs.filter((run) => run.stderr.includes('build 2 files'));
    expect(built).to.have.length(1);
  });

  it('takes over the lock of a process that is no more', async () => {
    checkout.lockAs({ pid: 2 ** 22 - 1, start: '1' });
    const run = await checkout.run(BOOTSTRAP, 'build');
    expect(run.code, run.stderr).to.equal(0);
  });

  it('does not take a reused process id for the owner of the lock', async () => {
    checkout.lockAs({ pid: process.pid, start: '1' });
    const run = await checkout.run(BOOTSTRAP, 'build');
    expect(run.code, run.stderr).to.equal(0);
  });
});

describe('set-up of a checkout that was ready before', () => {
  let origin: MiniCheckout;
  let checkout: MiniCheckout;

  before(async () => {
    origin = new MiniCheckout();
    await origin.run(BOOTSTRAP, 'build');
  });

  after(() => {
    origin.dispose();
  });

  beforeEach(() => {
    checkout = new MiniCheckout(origin);
  });

  afterEach(() => {
    checkout.dispose();
  });

  it('does nothing and says nothing when all is fresh', async () => {
    const run = await checkout.run(HVDR, 'again');
    expect(run.stderr).to.equal('');
    expect(run.stdout).to.contain('again');
    expect(checkout.npmCalls).to.equal(1);
  });

  it('keeps npm inside the checkout and then takes no space for its cache', () => {
    expect(checkout.has('.cache')).to.equal(true);
    expect(checkout.has('.cache/npm')).to.equal(false);
  });

  it('builds again when a source changed', async () => {
    checkout.write('cli/main.ts', 'console.log("changed");\n');
    const run = await checkout.run(HVDR);
    expect(run.stdout).to.equal('changed\n');
    expect(run.stderr).to.contain('build 2 files');
  });

  it('removes the result of a source that has gone', async () => {
    checkout.remove('cli/second.ts');
    await checkout.run(BOOTSTRAP, 'build');
    expect(checkout.has('dist/cli/second.js')).to.equal(false);
    expect(checkout.has('dist/cli/main.js')).to.equal(true);
  });

  it('makes results again that were deleted', async () => {
    checkout.remove('dist/cli/second.js');
    await checkout.run(BOOTSTRAP, 'build');
    expect(checkout.has('dist/cli/second.js')).to.equal(true);
  });

  it('accepts packages that an npm ci by hand has installed', async () => {
    checkout.remove('node_modules/.hvdr-install.json');
    checkout.write('node_modules/.package-lock.json', JSON.stringify({ packages: {} }));
    await checkout.run(BOOTSTRAP, 'build');
    expect(checkout.npmCalls).to.equal(1);
  });

  it('installs again when the lockfile changed', async () => {
    checkout.write('package-lock.json', JSON.stringify({ packages: { '': { name: 'x' } } }));
    await checkout.run(BOOTSTRAP, 'build');
    expect(checkout.npmCalls).to.equal(2);
  });

  it('just runs where there are no sources', async () => {
    for (const path of ['cli', 'tsconfig.json', 'package-lock.json']) checkout.remove(path);
    const run = await checkout.run(HVDR, 'installed');
    expect(run.stderr).to.equal('');
    expect(run.stdout).to.contain('installed');
  });
});

describe('launcher', () => {
  let checkout: MiniCheckout;

  before(async () => {
    checkout = new MiniCheckout();
    await checkout.run(BOOTSTRAP, 'build');
  });

  after(() => {
    checkout.dispose();
  });

  it('ends with the exit code of the program', async () => {
    expect((await checkout.run(HVDR, 'exit', '15')).code).to.equal(15);
  });

  it('passes SIGTERM on and ends as the program did', async () => {
    const run = checkout.start(HVDR, 'wait');
    await run.saw('waiting');
    run.kill('SIGTERM');
    const { code, stdout } = await run.finished;
    expect(stdout).to.equal('got SIGTERM\n');
    expect(code).to.equal(143);
  });
});
