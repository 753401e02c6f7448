// The modes of an operator in a real Bacula: status and drill as jobs of a Director, their JobStatus and
// files from the catalog, a restored report, and a job that is cancelled.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { AdapterRig } from '../support/adapter-rig.js';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, type JobResult, needBacula } from '../support/bacula-site.js';
import { checkoutFolder } from '../support/checkout.js';
import { ModeSite } from '../support/mode-site.js';
import { needTool } from '../support/need.js';
import { WorkFolder } from '../support/work-folder.js';

/** Job and FileSet of one mode. */
function resources(name: string, parameters: Readonly<Record<string, string>>): string {
  const given = Object.entries(parameters).map(([key, value]) => ({ key, value }));
  const plugin = directorString(pluginCommand('podheitor-hyperv', given));
  const { client, storage, pool } = SITE_NAMES;
  return `FileSet { Name = ${name}; Include { Plugin = ${plugin} } }
Job {
  Name = ${name}; Type = Backup; Level = Full; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}
`;
}

describe('modes of an operator in a real Bacula', function () {
  this.timeout(240_000);
  let work: WorkFolder;
  let dr: ModeSite;
  let rig: AdapterRig;
  let site: BaculaSite;

  before(async function () {
    needBacula(this);
    needTool(this, 'gcc');
    work = new WorkFolder('bacula-mode-jobs');
    dr = new ModeSite(work.path);
    await dr.prepare(['SQL01']);
    await dr.prepareJobs();
    await dr.site.push('SQL01');
    const access = { dr_host: '127.0.0.1', dr_port: String(dr.site.port) };
    const drill = { ...access, dr_psk_file: 'drill.psk', vm: 'SQL*', mode: 'failover-test' };
    const operator = { ...access, dr_psk_file: 'operator.psk', vm: 'SQL01' };
    site = await BaculaSite.create({
      resources: [
        resources('Status', { ...access, dr_psk_file: 'viewer.psk', mode: 'replication-status' }),
        resources('Drill', drill),
        resources('Failing', { ...drill, checks: 'tcp:9', check_timeout: '1' }),
        resources('Kept', { ...drill, checks: 'tcp:9', check_timeout: '1', on_partial: 'warn' }),
        resources('Long', { ...operator, mode: 'failover-unplanned', boot_timeout: '600' }),
        resources('Undo', { ...operator, mode: 'failover-undo' }),
      ].join(''),
      environment: {
        HVDR_BACKEND: join(checkoutFolder, 'bin', 'podheitor-hyperv-backend'),
        HVDR_BACKEND_CONF: dr.confOf('dr'),
      },
    });
    rig = await AdapterRig.build('linux');
    await rig.release(site.pluginFolder);
    await site.start();
  });

  after(async () => {
    await (site as BaculaSite | undefined)?.close();
    (rig as AdapterRig | undefined)?.dispose();
    await (dr as ModeSite | undefined)?.dispose();
    (work as WorkFolder | undefined)?.dispose();
  });

  async function namesOf({ jobId }: JobResult): Promise<string[]> {
    const rows = await site.catalog.files(jobId);
    return rows.map(({ name }) => name.replace(/\d{13}/, 'N')).sort();
  }

  it('status is green while all is well, with the document in the catalog', async () => {
    const result = await site.run('Status');
    expect(result, result.log).to.include({ status: 'T', errors: 0 });
    expect(result.log).to.match(/SQL01 {2}PROTECTED ok {2}1 points/);
    expect(await namesOf(result)).to.deep.equal(['/@hyperv/.meta/status.json']);
  });

  it('status has an error for each VM that is critical', async () => {
    await dr.site.push('SQL01', '--rpo-seconds', '1');
    await dr.until('an RPO that is not held', async () => {
      const run = await dr.site.try('status', '--check', ...dr.operator);
      return run.code === 2;
    });
    const result = await site.run('Status');
    expect(result, result.log).to.include({ status: 'T', errors: 1 });
    expect(result.log)
      .to.match(/Backup OK -- with warnings/)
      .and.match(/SQL01 {2}PROTECTED critical/);
    await dr.site.push('SQL01', '--rpo-seconds', '900');
  });

  it('a drill that passes is green, and its report is restored', async () => {
    const result = await site.run('Drill');
    expect(result, result.log).to.include({ status: 'T', errors: 0 });
    expect(await namesOf(result)).to.deep.equal([
      '/@hyperv/SQL01/.meta/drill-N.html',
      '/@hyperv/SQL01/.meta/drill-N.json',
      '/@hyperv/SQL01/.meta/operation-N.json',
    ]);
    const where = work.file('restored');
    const restore = await site.restore({ of: { jobIds: [result.jobId] }, where });
    expect(restore, restore.log).to.include({ status: 'T', errors: 0 });
    const folder = join(where, '@hyperv/SQL01/.meta');
    const page = readdirSync(folder).find((name) => name.endsWith('.html')) ?? '';
    const key = work.file('store.pub');
    await dr.site.stopReceiver();
    await dr.site.hvdr('drill', 'public-key', '--store', 'store', '--out', key);
    await dr.site.startReceiver();
    await dr.site.hvdr('drill', 'verify-report', join(folder, page), '--public-key', key);
    expect(readFileSync(join(folder, page), 'utf8')).to.contain('SQL01');
  });

  it('a drill that fails is red; with on_partial=warn it has an error, and its report is kept', async () => {
    const red = await site.run('Failing');
    expect(red.status, red.log).to.equal('f');
    expect(red.log).to.match(/E_TEST_FAILED: the test of SQL01 failed: .*tcp:9/);
    // Bacula forgets what a job has sent that ends so
    expect(await namesOf(red)).to.deep.equal([]);
    const kept = await site.run('Kept');
    expect(kept, kept.log).to.include({ status: 'T', errors: 1 });
    expect(kept.log)
      .to.match(/Backup OK -- with warnings/)
      .and.match(/E_TEST_FAILED/);
    expect(await namesOf(kept)).to.include('/@hyperv/SQL01/.meta/drill-N.html');
  });

  it('what destroys something is red until its plan is confirmed', async () => {
    const nothing = await site.run('Undo');
    expect(nothing.status, nothing.log).to.equal('f');
    expect(nothing.log).to.match(/E_NOTHING_TO_UNDO/);
  });

  it('a cancelled failover goes on, and the job is told as cancelled', async () => {
    await dr.site.hvdr('lab', 'stop', 'lab', 'SQL01');
    await dr.site.hvdr('lab', 'fault', 'dr', 'set', 'no-heartbeat');
    const jobId = await site.begin('Long');
    await dr.until('the last step', async () =>
      (await site.catalog.log(jobId)).includes('SQL01: U6 '),
    );
    await site.cancel(jobId);
    const result = await site.end(jobId);
    expect(result.status, result.log).to.equal('A');
    await dr.site.hvdr('lab', 'fault', 'dr', 'clear', 'no-heartbeat');
    await dr.until('the end of it', async () => {
      const { state, operation } = await dr.status('SQL01');
      return state === 'FAILED_OVER' && operation === null;
    });
    const id = /SQL01: operation ([0-9a-f-]{36}) stands at .*`hvdr resume SQL01`/.exec(result.log);
    expect(id, result.log).not.to.equal(null);
  });
});
