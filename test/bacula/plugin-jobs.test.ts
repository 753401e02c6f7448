// How a job of a plugin ends in the real catalog when a part of Bacula fails under it. The plugin is
// bpipe, which Debian ships: its programs are shell lines that wait at a named pipe, so each fault
// comes at a known moment of the stream.

import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, needBacula } from '../support/bacula-site.js';
import { WorkFolder } from '../support/work-folder.js';

const BPIPE = '/usr/lib/bacula/bpipe-fd.so';

function jobOf(name: string, plugin: string): string {
  const { client, storage, pool } = SITE_NAMES;
  return `FileSet { Name = ${name}; Include { Plugin = ${directorString(plugin)} } }
Job {
  Name = ${name}; Type = Backup; Level = Full; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}
`;
}

describe('a job of a plugin in Bacula', function () {
  this.timeout(120_000);
  let data: WorkFolder;
  let site: BaculaSite;

  /** Resolves when the plugin's program stands at the gate; its answer lets it go on. */
  async function atGate(): Promise<() => Promise<void>> {
    const gate = await open(data.file('gate'), 'w');
    return () => gate.close();
  }

  before(async function () {
    needBacula(this);
    data = new WorkFolder('bacula-plugin');
    execFileSync('mkfifo', [data.file('gate')]);
    const script = data.file('stream');
    // the gate opens for both at once, and ends for the reader when the test closes it
    writeFileSync(script, `#!/bin/sh\nprintf 'all of it'\ncat '${data.file('gate')}'\n`, {
      mode: 0o755,
    });
    const writer = `/bin/dd of=${data.file('restored')}`;
    site = await BaculaSite.create({
      resources: [
        jobOf('Plain', `bpipe:/@pipe/plain:/bin/echo hello:${writer}`),
        jobOf('Gated', `bpipe:/@pipe/gated:${script}:${writer}`),
        jobOf('Unknown', pluginCommand('podheitor-hyperv', [{ key: 'vm', value: '*' }])),
      ].join(''),
    });
    copyFileSync(BPIPE, `${site.pluginFolder}/bpipe-fd.so`);
    await site.start();
  });

  after(async () => {
    await (site as BaculaSite | undefined)?.close();
    (data as WorkFolder | undefined)?.dispose();
  });

  it('comes back byte for byte', async () => {
    const job = await site.run('Plain');
    expect(job).to.include({ status: 'T', errors: 0, files: 1 }, job.log);
    const names = (await site.catalog.files(job.jobId)).map(({ name }) => name);
    expect(names).to.deep.equal(['/@pipe/plain']);
    const restore = await site.restore({ of: { jobIds: [job.jobId] }, where: '/' });
    expect(restore).to.include({ status: 'T', errors: 0, files: 1 }, restore.log);
    expect(readFileSync(data.file('restored'), 'utf8')).to.equal('hello\n');
  });

  it('is not well when its plugin is not there', async () => {
    const job = await site.run('Unknown');
    expect(job.status, job.log).to.equal('f');
  });

  it('is cancelled in the middle of its stream', async () => {
    const jobId = await site.begin('Gated');
    const go = await atGate();
    await site.cancel(jobId);
    await go();
    const job = await site.end(jobId);
    expect(job.status, job.log).to.equal('A');
  });

  it('is a Full again when every Full below it was deleted', async () => {
    await site.run('Plain');
    const incremental = await site.run('Plain', 'level=Incremental');
    expect(incremental.level, incremental.log).to.equal('I');
    const fulls = (await site.catalog.jobs()).filter(
      ({ name, level }) => name === 'Plain' && level === 'F',
    );
    for (const { jobId } of fulls) await site.forget(jobId);
    const next = await site.run('Plain', 'level=Incremental');
    expect(next.level, next.log).to.equal('F');
  });

  it('fails when the File Daemon is killed under it', async () => {
    const jobId = await site.begin('Gated');
    const go = await atGate();
    await site.killHard('fd');
    await go();
    // the Director gives a client a minute to come back
    const job = await site.end(jobId);
    expect(job.status, job.log).to.be.oneOf(['E', 'f']);
    await site.restart('fd');
    const next = await site.run('Plain');
    expect(next.status, next.log).to.equal('T');
  });
});
