// The real product for Windows, installed by its set-up under Wine: the receiver runs as a service there, a lab VM of
// this machine is pushed to it, and comes back byte for byte; the agent runs as a service there and pushes a lab VM of
// its own to a receiver of this machine. One byte of the executable is another, for Wine's sake.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { needTool } from '../support/need.js';
import { until } from '../support/push-job-site.js';
import { ReceiverBench } from '../support/receiver-process.js';
import { expectTool } from '../support/run-tool.js';
import { fitForWine, needWine, WinePrefix } from '../support/wine.js';
import { holdServices } from '../support/wine-services.js';
import { WorkFolder } from '../support/work-folder.js';

const PROGRAMS = 'Program Files/PodHeitor/HyperV';
const CONFIG = 'ProgramData/PodHeitor';
const SERVICE = 'PodHeitorReceiver';
const AGENT = 'PodHeitorAgent';

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
    await prefix.expect(prefix.file('setup.exe'), ['/S', '/COMPONENTS=receiver,agent']);
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

  describe('with the agent as a service', () => {
    const bench = new ReceiverBench(work.file('agent/store'), work.file('agent'));
    const LAB = 'C:\\lab';
    const conf = (): string => prefix.file(`${CONFIG}/agent.conf`);
    const agentLog = (): string => readFileSync(prefix.file(`${CONFIG}/log/agent.log`), 'utf8');
    const phsvc = (...words: string[]) => prefix.run(prefix.file(`${PROGRAMS}/phsvc.exe`), words);
    const there = (...args: string[]) => prefix.expect(prefix.file(`${PROGRAMS}/hvdr.exe`), args);
    const write = (seed: string): Promise<unknown> =>
      there(
        ...['lab', 'write', LAB, 'SQL01', '--disk', '0'],
        ...['--random', '8', '--block', '64K', '--seed', seed],
      );

    const guest = async (): Promise<Buffer> =>
      (await there('lab', 'read', LAB, 'SQL01', '--disk', '0')).stdout;

    async function replica(): Promise<Buffer> {
      const file = work.file('of-the-agent.raw');
      await hvdr(
        ...['export', 'SQL01', '--point', 'latest', '--disk', '0', '--format', 'raw'],
        ...['--out', file, '--force', ...bench.access],
      );
      return readFileSync(file);
    }

    before(async () => {
      mkdirSync(work.file('agent'));
      await bench.makeKeys();
      copyFileSync(bench.sourceKey, prefix.file(`${CONFIG}/keys/site-a.psk`));
      await there('lab', 'init', LAB);
      await there('lab', 'create-vm', LAB, 'SQL01', '--disk', '4M');
    });

    after(() => bench.stop('SIGTERM'));

    interface Point {
      readonly kind: string;
      readonly disks: readonly { readonly storedBytes: number }[];
    }

    /** Of the VM, oldest first. */
    async function points(): Promise<readonly Point[]> {
      const run = await runHvdr(['points', 'SQL01', '--json', ...bench.access]);
      // before the first cycle nobody there knows the VM
      if (run.stderr.includes('E_NOT_PROTECTED')) return [];
      expect(run.code, run.stderr).to.equal(0);
      return (JSON.parse(run.stdout.toString()) as { points: Point[] }).points;
    }

    /** A point of the run under way holds what was written last. */
    const untilDeltas = (count: number): Promise<void> =>
      until(async () => {
        const deltas = (await points()).filter(({ kind }) => kind === 'delta');
        return deltas.filter(({ disks }) => (disks[0]?.storedBytes ?? 0) > 0).length === count;
      });

    it('pushes by its config file, cycle after cycle, and ends at a safe point', async () => {
      const { port } = await bench.start();
      const text = readFileSync(conf(), 'utf8')
        .replace(/^host=.*$/m, `host=lab:${LAB}`)
        .replace(/^dr_host=.*$/m, `dr_host=127.0.0.1\ndr_port=${port}`)
        .replace(/^push_interval=.*$/m, 'push_interval=1');
      writeFileSync(conf(), text);
      await write('7');
      expect((await phsvc('start', AGENT)).code, agentLog()).to.equal(0);
      await until(async () => (await points()).length > 0);
      await write('8');
      await untilDeltas(1);
      expect((await phsvc('state', AGENT)).code).to.equal(0);
      expect((await phsvc('stop', AGENT)).code).to.equal(0);
      expect((await phsvc('state', AGENT)).code, 'it is stopped').to.equal(4);
      const log = agentLog();
      expect(log).to.contain('running 1 job\n');
      expect(log).to.match(/^SQL01 seed /m);
      expect(log).to.match(/\n1 VM: [^\n]*\n[^\n]*asked to end, and ended with 0\n$/);
      // whatever was under way: its checkpoint is given back
      const shown = JSON.parse((await there('lab', 'show', LAB, 'SQL01', '--json')).text) as {
        readonly recoveryCheckpoints: readonly unknown[];
        readonly referencePoints: readonly unknown[];
      };
      expect(shown.recoveryCheckpoints).to.deep.equal([]);
      expect(shown.referencePoints).to.have.length(1);
      expect((await replica()).equals(await guest())).to.equal(true);
    });

    it('goes on from the newest point when it is started again', async () => {
      await write('9');
      expect((await phsvc('start', AGENT)).code, agentLog()).to.equal(0);
      await untilDeltas(2);
      expect((await phsvc('stop', AGENT)).code).to.equal(0);
      const kinds = (await points()).map(({ kind }) => kind);
      expect(kinds.filter((kind) => kind !== 'delta')).to.deep.equal(['seed']);
      expect((await replica()).equals(await guest())).to.equal(true);
    });
  });
});
