// The real product for Windows, installed by its set-up under Wine: the receiver runs as a service there, a lab VM of
// this machine is pushed to it, and comes back byte for byte. One byte of the executable is another, for Wine's sake.

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { fitForWine, needWine, WinePrefix } from '../support/wine.js';
import { holdServices } from '../support/wine-services.js';
import { WorkFolder } from '../support/work-folder.js';

const PROGRAMS = 'Program Files/PodHeitor/HyperV';
const CONFIG = 'ProgramData/PodHeitor';
const SERVICE = 'PodHeitorReceiver';

describe('the product for Windows, installed', () => {
  const work = new WorkFolder('windows-install');
  let prefix: WinePrefix;

  before(async function () {
    needWine(this);
    needTool(this, 'makensis', 'osslsigncode');
    const bin = (name: string): string => join(checkoutFolder, 'bin', name);
    const programs = work.file('programs');
    await expectTool(process.execPath, [
      ...[bin('package/executable.mjs'), '--platform', 'win32', '--out', programs],
    ]);
    const program = join(programs, 'podheitor-hyperv-backend.exe');
    const patched = fitForWine(readFileSync(program));
    await expectTool('rm', ['-f', program]); // hvdr.exe is the same file
    writeFileSync(program, patched);
    await expectTool(process.execPath, [
      ...[bin('bootstrap.mjs'), 'package', '--only', 'windows', '--out', work.file('out')],
      ...['--programs', programs, '--compress', 'off', '--release', '1.0.0'],
    ]);
    prefix = await WinePrefix.create();
    await holdServices(prefix);
    copyFileSync(work.file('out/podheitor-hvdr-1.0.0-setup.exe'), prefix.file('setup.exe'));
    await prefix.expect(prefix.file('setup.exe'), ['/S', '/COMPONENTS=receiver']);
  });

  after(async () => {
    await (prefix as WinePrefix | undefined)?.dispose();
    work.dispose();
  });

  async function hvdr(...args: string[]): Promise<string> {
    const run = await runHvdr(args);
    expect(run.code, run.stderr).to.equal(0);
    return run.stdout.toString();
  }

  it('says its version by both names, one of them a second name of the same file', async () => {
    const run = await prefix.expect(prefix.file(`${PROGRAMS}/hvdr.exe`), ['--version']);
    expect(run.text).to.match(/^hvdr \d+\.\d+\.\d+\r?\n$/);
    const [one, two] = ['hvdr.exe', 'podheitor-hyperv-backend.exe'].map((name) =>
      readFileSync(prefix.file(`${PROGRAMS}/${name}`)),
    );
    expect(one?.equals(two ?? Buffer.alloc(0))).to.equal(true);
  });

  it('serves as a service by its config file, takes a push from Linux, and ends at a safe point', async () => {
    const phsvc = prefix.file(`${PROGRAMS}/phsvc.exe`);
    const port = await freePort();
    const conf = prefix.file(`${CONFIG}/receiver.conf`);
    const text = readFileSync(conf, 'utf8').replace(/^listen=.*$/m, `listen=127.0.0.1:${port}`);
    writeFileSync(conf, text);
    const [source, operator] = ['source', 'operator'].map((name) => work.file(`${name}.psk`));
    if (source === undefined || operator === undefined) throw new Error('no names');
    await hvdr('psk', 'generate', '--out', source, '--principal', 'site-a');
    await hvdr('psk', 'generate', '--out', operator, '--principal', 'me', '--role', 'operator');
    for (const name of ['source', 'operator']) {
      copyFileSync(work.file(`${name}.psk`), prefix.file(`${CONFIG}/keys/${name}.psk`));
    }
    await prefix.expect(phsvc, ['start', SERVICE]);

    const lab = work.file('lab');
    await hvdr('lab', 'init', lab);
    await hvdr('lab', 'create-vm', lab, 'SQL01', '--disk', '4M');
    const random = ['--random', '8', '--block', '64K', '--seed', '7'];
    await hvdr('lab', 'write', lab, 'SQL01', '--disk', '0', ...random);
    const way = ['--dr-host', '127.0.0.1', '--dr-port', String(port)];
    const push = ['push', '--vm', '*', '--host', `lab:${lab}`, '--state-dir', work.file('state')];
    await hvdr(...push, ...way, '--psk-file', source);
    await hvdr(
      ...['export', 'SQL01', '--point', 'latest', '--disk', '0', '--format', 'raw'],
      ...['--out', work.file('replica.raw'), ...way, '--psk-file', operator],
    );
    const guest = await runHvdr(['lab', 'read', lab, 'SQL01', '--disk', '0']);
    expect(guest.stdout.equals(readFileSync(work.file('replica.raw')))).to.equal(true);

    await prefix.expect(phsvc, ['stop', SERVICE]);
    const log = readFileSync(prefix.file(`${CONFIG}/log/receiver.log`), 'utf8');
    expect(log).to.contain(`listening 127.0.0.1:${port}\n`);
    expect(log).to.match(/asked to end, and ended with 0\n$/);
    expect(log).to.contain('receiver.stopped');
  });

  it('does not start without keys, and tells why in its log', async () => {
    const key = prefix.file(`${CONFIG}/receiver.conf`);
    writeFileSync(
      key,
      readFileSync(key, 'utf8').replace(/^psk_file=.*$/m, 'psk_file=C:\\none.psk'),
    );
    const run = await prefix.run(prefix.file(`${PROGRAMS}/phsvc.exe`), ['start', SERVICE]);
    expect(run.code).to.equal(1);
    expect(run.stderr).to.contain('did not come to work, see its log');
    const log = readFileSync(prefix.file(`${CONFIG}/log/receiver.log`), 'utf8');
    expect(log).to.match(/E_NOT_FOUND: .*C:\\none\.psk/);
  });
});
