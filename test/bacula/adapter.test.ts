// The plugin in the real File Daemon, against a backend that follows a script: what becomes of a job in
// the catalog when the backend does well, and when it does not.

import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { directorString } from '../../plugin-bridge/plugin-string.js';
import { AdapterRig, GREETING, PARTING } from '../support/adapter-rig.js';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, needBacula } from '../support/bacula-site.js';
import { needTool } from '../support/need.js';

const COMMAND = 'podheitor-hyperv: vm="SQL 01"';
const DISK = '/@hyperv/SQL 01/disks/d.vhdx';
const folder = ['line FNAME:/@hyperv/SQL 01/', 'line STAT:D 0 0 0 40755 1', 'say F', 'say F'];
const attributes = (name: string, size: number): string[] => [
  ...[`line FNAME:${name}`, `line STAT:F ${String(size)} 0 0 100600 1`],
  ...['line TSTAMP:1795444060 1795444061 1795444062', 'say F'],
];
const WHOLE = [
  ...['line RESTOREOBJ:conf', 'line RESTOREOBJ_LEN:5', 'data 5 r', 'say F'],
  ...[...attributes(DISK, 300000), 'line DATA', 'data 200000 d', 'data 100000 d', 'say F'],
  ...[...folder, 'say F', ...PARTING],
];

describe('the plugin in the real File Daemon', function () {
  this.timeout(120_000);
  let rig: AdapterRig;
  let site: BaculaSite;
  let backend: string;

  before(async function () {
    needBacula(this);
    needTool(this, 'gcc');
    rig = await AdapterRig.build('linux');
    const { client, storage, pool } = SITE_NAMES;
    site = await BaculaSite.create({
      resources:
        `FileSet { Name = VM; Include { Plugin = ${directorString(COMMAND)} } }\n` +
        `Job { Name = VM; Type = Backup; Level = Full; Client = ${client}; FileSet = VM; ` +
        `Storage = ${storage}; Pool = ${pool}; Messages = Standard }\n`,
    });
    await rig.release(site.pluginFolder);
    backend = join(site.pluginFolder, rig.backendName);
    copyFileSync(rig.backend, backend);
    await site.start();
  });

  after(async () => {
    await (site as BaculaSite | undefined)?.close();
    (rig as AdapterRig | undefined)?.dispose();
  });

  function script(...steps: readonly string[]): void {
    rmSync(`${backend}.log`, { force: true });
    writeFileSync(`${backend}.script`, `${steps.join('\n')}\n`);
  }
  const log = (): string[] => readFileSync(`${backend}.log`, 'utf8').split('\n').slice(0, -1);

  it('is named by the status of the client', async () => {
    expect(await site.console(`status client=${SITE_NAMES.client}`)).to.match(
      /Plugin: .*podheitor-hyperv/,
    );
  });

  it('saves files and objects, tells the backend the job, and restores them to it', async () => {
    script(...GREETING, ...WHOLE);
    const job = await site.run('VM');
    expect(job).to.include({ status: 'T', errors: 0, files: 4 }, job.log);
    const names = (await site.catalog.files(job.jobId)).map(({ name }) => name);
    expect(names).to.include.members([DISK, '/@hyperv/SQL 01/']);
    expect(log()).to.include.members(['C vm=SQL 01', 'C Level=F', 'C PrevJobName=', 'C END', 'T ']);
    expect(log()[0]).to.equal('inherits 0');

    const loop = ['until', 'line OK', 'until', 'line OK', 'until', 'line OK', 'until', 'line OK'];
    script(...GREETING, ...loop, 'until FINISH', 'say F', ...PARTING);
    const restore = await site.restore({ of: { jobIds: [job.jobId] }, where: '/r' });
    expect(restore).to.include({ status: 'T', errors: 0 }, restore.log);
    expect(log()).to.include.members([
      ...['C Type=R', 'C Where=/r', 'C RESTOREOBJ:conf', 'D rrrrr', 'D 300000 of d'],
      ...[`C FNAME:/r${DISK}`, 'C FNAME:/r/@hyperv/SQL 01/', 'C FINISH', 'C END', 'T '],
    ]);
  });

  it('tells an Incremental which job it builds on', async () => {
    script(...GREETING, ...WHOLE);
    const full = await site.run('VM', 'level=Full');
    script(
      ...GREETING,
      ...attributes('/@hyperv/SQL 01/d.cbt', 3),
      'line DATA',
      'data 3 i',
      'say F',
      'say F',
      ...PARTING,
    );
    const job = await site.run('VM', 'level=Incremental');
    expect(job).to.include({ status: 'T', level: 'I', files: 1 }, job.log);
    expect(full.log).to.match(/VM\.\d{4}-\d\d-\d\d_[0-9._]+/);
    const unique = /VM\.\d{4}-\d\d-\d\d_\d\d\.\d\d\.\d\d_\d+/.exec(full.log)?.[0] ?? '';
    expect(log()).to.include(`C PrevJobName=${unique}`);
    expect(log().find((line) => line.startsWith('C Since='))).to.match(/^C Since=\d{10}$/);
  });

  it('refuses a restore whose changed options were lost by the Director, before any file', async () => {
    script(...GREETING, ...WHOLE);
    const job = await site.run('VM');
    script(...GREETING, 'until', 'line OK', 'wait');
    const pluginOptions = { new_vm_name: 'SQL 02', restore_to: 'disks' };
    const restore = await site.restore({ of: { jobIds: [job.jobId] }, where: '/r', pluginOptions });
    // the Director of 9.6.7 sends other bytes in place of the answers
    expect(restore.status, restore.log).to.equal('f');
    expect(restore.log).to.contain('a Director of Bacula 9.6 loses them');
    expect(log().filter((line) => line.startsWith('C FNAME'))).to.deep.equal([]);
  });

  it('lets the daemon write a file itself where the backend says so', async () => {
    script(...GREETING, ...WHOLE);
    const job = await site.run('VM');
    script(
      ...GREETING,
      'until',
      'line OK',
      'until',
      'line CORE',
      'until',
      'line SKIP',
      'until FINISH',
      'say F',
      ...PARTING,
    );
    const restore = await site.restore({ of: { jobIds: [job.jobId] } });
    expect(restore).to.include({ status: 'T', errors: 0 }, restore.log);
    const bytes = readFileSync(join(site.folder, 'restored', DISK));
    expect(bytes.equals(Buffer.alloc(300000, 'd'))).to.equal(true);
  });

  it('is red, and not green without files, when the backend refuses, dies or is not there', async () => {
    const faults: readonly (readonly string[])[] = [
      ['take', 'line Hello Bacula', 'until', 'say A E_PARAMETER: vm', 'wait'],
      ['take', 'line Hello Nobody', 'wait'],
      ['exit 1'],
      [...GREETING, ...attributes(DISK, 9), 'line DATA', 'data 70000 d', 'exit 1'],
      [...GREETING, ...folder, 'say A in the middle', 'wait'],
      [...GREETING, ...folder, 'say E in the middle', 'wait'],
      [...GREETING, ...folder, 'line NONSENSE', 'wait'],
    ];
    for (const steps of faults) {
      script(...steps);
      const job = await site.run('VM');
      expect(job.status, `${steps.join()}: ${job.log}`).to.equal('f');
    }
    rmSync(backend);
    const job = await site.run('VM');
    copyFileSync(rig.backend, backend);
    expect(job.status, job.log).to.equal('f');
    expect(job.log).to.contain('podheitor-hyperv-backend beside the plugin');
  });

  it('ends with warnings when one file was truncated, and keeps the others', async () => {
    script(
      ...GREETING,
      ...attributes(DISK, 9),
      'line DATA',
      'data 70000 d',
      'say E read error',
      ...folder,
      'say F',
      ...PARTING,
    );
    const job = await site.run('VM');
    expect(job.status, job.log).to.equal('T');
    expect(job.errors, job.log).to.be.greaterThan(0);
    expect(job.log).to.contain('with warnings');
  });

  it('makes a restore red when the backend does not commit', async () => {
    script(...GREETING, ...WHOLE);
    const job = await site.run('VM');
    const loop = ['until', 'line OK', 'until', 'line OK', 'until', 'line OK', 'until', 'line OK'];
    script(...GREETING, ...loop, 'until FINISH', 'say A E_VERIFY: it differs', 'wait');
    const restore = await site.restore({ of: { jobIds: [job.jobId] }, where: '/r' });
    expect(restore.status, restore.log).to.equal('f');
  });

  it('estimates, and the console reads on', async () => {
    script(...GREETING, ...attributes(DISK, 9_000_000), 'say F', ...PARTING);
    expect(await site.console('estimate job=VM listing')).to.contain(DISK);
    expect(log()).to.include.members(['C Type=E', 'C EstimateStart', 'T ']);
    script('take', 'line Hello Bacula', 'until', 'say A no such VM', 'wait');
    expect(await site.console('estimate job=VM', 'version')).to.contain('no such VM');
  });

  it('gives the backend its cancel', async () => {
    script(...GREETING, ...attributes(DISK, 9), 'line DATA', 'data 9 d', 'wait');
    const jobId = await site.begin('VM');
    while (!existsSync(`${backend}.log`) || !log().includes('C BackupStart')) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await site.cancel(jobId);
    const job = await site.end(jobId);
    expect(job.status, job.log).to.equal('A');
    expect(log().at(-1)).to.match(/SIGUSR1|end of input/);
  });
});
