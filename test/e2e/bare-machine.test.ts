// Commands of a checkout on a machine that lacks what they take, by a person who may not install it: in a copy of this
// machine without compilers, packers and Bacula. What root sees there, an installation by apt, wants a network and is
// tried by hand.

import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { MachineCopy } from '../support/machine-copy.js';

const PACKERS = ['gcc', 'dpkg-deb', 'x86_64-w64-mingw32-gcc', 'makensis', 'osslsigncode'];
const BACULA = ['bacula-dir', 'bacula-sd', 'bacula-fd', 'bconsole', 'sqlite3'];

describe('a bare machine', () => {
  let copy: MachineCopy;

  before(async function () {
    copy = await MachineCopy.make(this);
    await copy.shell(`
      PATH=$PATH:/usr/sbin:/sbin
      for tool in ${[...PACKERS, ...BACULA].join(' ')}; do
        rm -f "$(command -v "$tool" || echo /nothing)"
      done
    `);
  });

  after(() => copy.dispose());

  /** A script of package.json, as nobody. */
  const script = (...args: string[]) =>
    copy.run([
      ...['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'],
      ...['env', 'HOME=/tmp', copy.inCheckout(process.execPath)],
      ...[copy.inCheckout(join(checkoutFolder, 'bin', 'bootstrap.mjs')), ...args],
    ]);

  it('is told by `npm run package` each program that is missing, and the packages to install', async () => {
    const run = await script('package', '--out', '/tmp/out');
    expect(run.code, run.stderr).to.equal(16);
    expect(run.text).to.equal('');
    for (const tool of PACKERS) expect(run.stderr).to.contain(tool);
    expect(run.stderr).to.match(
      /as root on Debian: apt-get install (?=.*build-essential)(?=.*nsis)(?=.*osslsigncode)/,
    );
    expect((await copy.run(['test', '-e', '/tmp/out'])).code).to.equal(1);
  });

  it('is asked for no more than the wanted packages take', async () => {
    const run = await script('package', '--out', '/tmp/out', '--only', 'tarball');
    expect(run.code).to.equal(16);
    expect(run.stderr).to.contain('package failed: gcc not installed;');
    expect(run.stderr).not.to.contain('makensis');
  });

  it('is told by `npm run demo:bacula` what to install, before a folder is made', async () => {
    const run = await script('demo-bacula', '--keep', '/tmp/demo');
    expect(run.code, run.stderr).to.be.above(0);
    for (const tool of [...BACULA, 'gcc']) expect(run.stderr).to.contain(tool);
    expect(run.stderr).to.match(/apt-get install (?=.*bacula-director-sqlite3)(?=.*bacula-fd)/);
    expect(run.stderr).to.contain('E_TOOL_MISSING');
    expect((await copy.run(['test', '-e', '/tmp/demo'])).code).to.equal(1);
  });
});
