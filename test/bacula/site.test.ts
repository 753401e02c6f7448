// The Bacula that the other tests here stand on: a plain job of files, there and back.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, needBacula } from '../support/bacula-site.js';
import { WorkFolder } from '../support/work-folder.js';

describe('a Bacula of the tests', function () {
  this.timeout(120_000);
  let data: WorkFolder;
  let site: BaculaSite;

  before(async function () {
    needBacula(this);
    data = new WorkFolder('bacula-data');
    mkdirSync(data.file('in'));
    writeFileSync(data.file('in/one'), 'first\n');
    writeFileSync(data.file('in/grüße 😀'), 'second\n');
    const { client, storage, pool } = SITE_NAMES;
    site = await BaculaSite.create({
      resources: `FileSet { Name = Folder; Include { File = "${data.file('in')}" } }
Job {
  Name = Files; Type = Backup; Level = Full; Client = ${client}; FileSet = Folder
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}`,
    });
    await site.start();
  });

  after(async () => {
    // a suite that was skipped has neither
    await (site as BaculaSite | undefined)?.close();
    (data as WorkFolder | undefined)?.dispose();
  });

  it('backs files up and tells what the catalog has of them', async () => {
    const job = await site.run('Files');
    expect(job).to.include({ status: 'T', errors: 0, level: 'F', files: 3 }, job.log);
    const names = (await site.catalog.files(job.jobId)).map(({ name }) => name);
    expect(names).to.have.members(['one', 'grüße 😀', ''].map((name) => data.file(`in/${name}`)));
    expect(job.log).to.contain('Backup OK');
  });

  it('goes from job to job in the catalog', async () => {
    writeFileSync(data.file('in/two'), 'third\n');
    const job = await site.run('Files', 'level=Incremental');
    expect(job).to.include({ status: 'T', errors: 0, level: 'I' }, job.log);
    const names = (await site.catalog.files(job.jobId)).map(({ name }) => name);
    expect(names).to.include(data.file('in/two')).and.not.include(data.file('in/one'));
  });

  it('restores the newest state, an older one, and chosen files', async () => {
    const current = await site.restore({ of: 'current' });
    expect(current).to.include({ status: 'T', errors: 0, type: 'R', files: 4 }, current.log);
    const restored = join(site.folder, 'restored', data.path, 'in');
    expect(readFileSync(join(restored, 'two'), 'utf8')).to.equal('third\n');
    expect(readFileSync(join(restored, 'grüße 😀'), 'utf8')).to.equal('second\n');

    const where = join(site.folder, 'elsewhere');
    const older = await site.restore({ of: { jobIds: [1] }, where, files: [data.file('in/one')] });
    expect(older).to.include({ status: 'T', files: 1 }, older.log);
    expect(readFileSync(join(where, data.path, 'in', 'one'), 'utf8')).to.equal('first\n');
  });

  it('stands up again after each daemon was killed', async () => {
    for (const name of ['fd', 'sd', 'dir'] as const) {
      await site.killHard(name);
      await site.restart(name);
    }
    const job = await site.run('Files', 'level=Incremental');
    expect(job).to.include({ status: 'T', errors: 0 }, job.log);
  });

  it('forgets a job that an operator deletes', async () => {
    const { jobId } = await site.run('Files');
    const { jobId: later } = await site.run('Files', 'level=Incremental');
    await site.forget(jobId);
    const left = (await site.catalog.jobs()).map((job) => job.jobId);
    expect(left).to.include(later).and.not.include(jobId);
    expect(await site.catalog.files(jobId)).to.have.length(0);
  });
});
