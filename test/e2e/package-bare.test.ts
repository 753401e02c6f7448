// `npm run package` on a machine that lacks what it takes, by a person who may not install it: in a copy of this machine
// without compilers and packers. What root sees there, an installation by apt, wants a network and is tried by hand.

import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { MachineCopy } from '../support/machine-copy.js';

const TOOLS = ['gcc', 'dpkg-deb', 'x86_64-w64-mingw32-gcc', 'makensis', 'osslsigncode'];

describe('npm run package on a bare machine', () => {
  let copy: MachineCopy;

  before(async function () {
    copy = await MachineCopy.make(this);
    await copy.shell(`
      for tool in ${TOOLS.join(' ')}; do
        rm -f "$(command -v "$tool" || echo /nothing)"
      done
    `);
  });

  after(() => copy.dispose());

  const packed = (...args: string[]) =>
    copy.run([
      ...['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'],
      ...[process.execPath, join(checkoutFolder, 'bin', 'bootstrap.mjs'), 'package'],
      ...['--out', '/tmp/out', ...args],
    ]);

  it('names each program that is missing, and the packages to install, before it makes anything', async () => {
    const run = await packed();
    expect(run.code, run.stderr).to.equal(16);
    expect(run.text).to.equal('');
    for (const tool of TOOLS) expect(run.stderr).to.contain(tool);
    expect(run.stderr).to.match(
      /as root on Debian: apt-get install (?=.*build-essential)(?=.*nsis)(?=.*osslsigncode)/,
    );
    expect((await copy.run(['test', '-e', '/tmp/out'])).code).to.equal(1);
  });

  it('asks for no more than the wanted packages take', async () => {
    const run = await packed('--only', 'tarball');
    expect(run.code).to.equal(16);
    expect(run.stderr).to.contain('package failed: gcc not installed;');
    expect(run.stderr).not.to.contain('makensis');
  });
});
