// The plugin for Windows under Wine: the same host and the same scripted backend, compiled for it. What
// Wine cannot show is whether a File Daemon for Windows takes it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { AdapterRig, GREETING, PARTING } from '../support/adapter-rig.js';
import { checkoutFolder } from '../support/checkout.js';
import { expectTool } from '../support/run-tool.js';
import { WinePrefix, needWine } from '../support/wine.js';
import { WorkFolder } from '../support/work-folder.js';

const COMMAND = 'podheitor-hyperv: vm="SQL 01"';
const DISK = [
  ...['line FNAME:/@hyperv/SQL01/d.vhdx', 'line STAT:F 300000 0 0 100600 1'],
  ...['line TSTAMP:1795444060 1795444061 1795444062', 'say F'],
];

describe('the plugin of the File Daemon for Windows', function () {
  let rig: AdapterRig;
  let plugin: string;
  let environment: Readonly<Record<string, string>>;

  before(async function () {
    needWine(this);
    rig = await AdapterRig.build('windows');
    leftovers.push(() => {
      rig.dispose();
    });
    plugin = await rig.plugin('podheitor-hyperv', { cancel: 5 });
    const prefix = await WinePrefix.create();
    leftovers.push(() => prefix.dispose());
    environment = prefix.environment;
  });

  // in the order of their making, so that a skipped suite leaves nothing to do
  const leftovers: (() => Promise<void> | void)[] = [];
  after(async () => {
    for (const remove of leftovers) await remove();
  });

  it('exports the two symbols and needs no library but those of Windows', async () => {
    const tables = await expectTool('x86_64-w64-mingw32-objdump', ['-p', plugin]);
    const exported = Array.from(
      tables.text.matchAll(/^\s*\[\s*\d+\] (\w+)$/gm),
      ([, name]) => name,
    );
    expect(exported.slice(-2)).to.deep.equal(['loadPlugin', 'unloadPlugin']);
    const libraries = Array.from(tables.text.matchAll(/DLL Name: (\S+)/g), ([, name]) => name);
    expect(libraries).to.have.members(['KERNEL32.dll', 'msvcrt.dll']);
  });

  it('is built to the same bytes wherever it is built', async () => {
    const work = new WorkFolder('adapter-dll');
    try {
      const build = async (name: string): Promise<Buffer> => {
        const args = ['--platform', 'windows', '--folder', work.file(name)];
        const script = join(checkoutFolder, 'bin', 'build-adapter.mjs');
        const run = await expectTool(process.execPath, [script, ...args]);
        return readFileSync(run.text.trim().split('\n')[0] ?? '');
      };
      expect((await build('one')).equals(await build('another'))).to.equal(true);
    } finally {
      work.dispose();
    }
  });

  for (const version of ['14', '23']) {
    it(`is loaded and saves files in version ${version}`, async () => {
      const content = ['line DATA', 'data 200000 d', 'say I half', 'data 100000 d', 'say F'];
      const script = [...GREETING, ...DISK, ...content, 'say F', ...PARTING];
      const run = await rig.run(plugin, script, [version, 'backup', COMMAND], environment);
      expect(run.all('load')[0]).to.include({ rc: 0, license: 'AGPLv3' });
      expect(run.all('file')[1]).to.include({ name: '/@hyperv/SQL01/d.vhdx', size: 300000 });
      expect(run.all('content')[0]).to.include({ bytes: 300000, status: 0, fill: 'd' });
      expect(run.log).to.include.members(['C vm=SQL 01', 'C END', 'T ']);
      expect(run.messages('fatal')).to.deep.equal([]);
    });
  }

  it('restores a file', async () => {
    const loop = ['until', 'line OK', 'until', 'line OK', 'until FINISH', 'say F', ...PARTING];
    const args = ['23', 'restore', COMMAND, '--where', 'D:/r', '--file', 'F:D:/r/@hyperv/x:150000'];
    const run = await rig.run(plugin, [...GREETING, ...loop], args, environment);
    expect(run.all('restored')[0]).to.include({ created: 3, closed: 0 });
    expect(run.log).to.include.members(['C FNAME:D:/r/@hyperv/x', 'D 150000 of x', 'C FINISH']);
  });

  it('ends the input of its backend at a cancel, and kills one that does not hear', async () => {
    const script = [...GREETING, ...DISK, 'line DATA', 'data 131072 d'];
    const args = ['23', 'backup', COMMAND, '--cancel-at', '65536'];
    const hears = await rig.run(plugin, [...script, 'wait'], args, environment);
    expect(hears.log.at(-1)).to.equal('end of input');
    const deaf = await rig.run(plugin, [...script, 'stubborn'], args, environment);
    expect(deaf.messages('warning').join()).to.contain('was killed');
  });

  it('makes the job red when the backend dies, sends garbage or is not there', async () => {
    const args = ['23', 'backup', COMMAND];
    const dies = await rig.run(
      plugin,
      [...GREETING, ...DISK, 'line DATA', 'exit 1'],
      args,
      environment,
    );
    expect(dies.messages('fatal').join()).to.contain('ended');
    const garbage = await rig.run(plugin, ['raw 6e6f6e73656e73650a0a', 'wait'], args, environment);
    expect(garbage.messages('fatal').join()).to.contain('no packet');
    const missing = await rig.run(plugin, undefined, args, environment);
    expect(missing.messages('fatal').join()).to.contain('podheitor-hyperv-backend.exe');
  });
});
