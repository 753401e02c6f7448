// The modes of an operator as jobs of Bacula: the real backend behind the scripted plugin, a real receiver
// and daemon, two labs.

import { expect } from 'chai';
import { documentOf, ModeSite } from '../support/mode-site.js';
import { WorkFolder } from '../support/work-folder.js';

const PLANNED = ['vm=SQL01', 'boot_timeout=20'];

describe('modes of an operator as jobs', function () {
  this.timeout(240_000);
  let work: WorkFolder;
  let site: ModeSite;

  before(async () => {
    work = new WorkFolder('bacula-modes');
    site = new ModeSite(work.path);
    await site.prepare(['SQL01', 'SQL02']);
    await site.prepareJobs();
    await site.replicate(['SQL01', 'SQL02']);
  });

  after(async () => {
    await (site as ModeSite | undefined)?.dispose();
    (work as WorkFolder | undefined)?.dispose();
  });

  it('replication-status: a line for each VM, and what hvdr status says as a file', async () => {
    const job = await site.green('replication-status', 'vm=*', 'dr_psk_file=viewer.psk');
    const said = job.messages.join('\n');
    expect(said).to.match(/^I SQL01 {2}PROTECTED ok {2}1 points, RPO \d+\/900 s, /m);
    expect(said).to.match(/^I 2 VMs at 127\.0\.0\.1:\d+, 2 ok/m);
    const { protections } = documentOf(job, /^\/@hyperv\/\.meta\/status\.json$/) as {
      protections: { vm: string; state: string }[];
    };
    expect(protections.map(({ vm, state }) => [vm, state])).to.deep.equal([
      ['SQL01', 'PROTECTED'],
      ['SQL02', 'PROTECTED'],
    ]);
    expect((await site.job('replication-status', 'vm=X*')).failure).to.match(/^E_NO_MATCH: /);
  });

  it('replication-status: what is critical is an error, what warns a warning', async () => {
    await site.site.hvdr('pause', 'SQL01', ...site.operator);
    await site.site.push('SQL02', '--rpo-seconds', '1');
    await site.until('an RPO that is not held', async () => {
      const run = await site.site.try('status', '--check', ...site.operator);
      return run.code === 2;
    });
    const warned = await site.job('replication-status');
    const said = warned.messages.join('\n');
    expect(warned.colour, said).to.equal('warned');
    expect(said).to.match(/^Q SQL02 {2}PROTECTED critical .*the newest point is \d+ s old/m);
    expect(said).to.match(/^W SQL01 {2}PAUSED warn .*the protection is paused/m);
    expect(said).to.match(/^I 2 VMs at .*, 1 critical, 1 warn/m);
    const red = await site.job('replication-status', 'on_partial=fail');
    expect(red.failure).to.match(/^E_PARTIAL: 1 VM is critical: SQL02/);
    expect(red.files.map(({ name }) => name)).to.deep.equal(['/@hyperv/.meta/status.json']);
    await site.green('replication-status', 'vm=SQL*', 'exclude=SQL01,SQL02');
    await site.site.hvdr('unpause', 'SQL01', ...site.operator);
    await site.site.push('SQL02', '--rpo-seconds', '900');
  });

  it('failover-test: the verdict is that of the job, and the signed report is in it', async () => {
    const job = await site.green('failover-test', 'vm=SQL*', 'dr_psk_file=drill.psk');
    expect(job.messages.join('\n'))
      .to.match(/SQL02: T4 /)
      .and.match(/2 VMs: 2 done/);
    const names = job.files.map(({ name }) => name).filter((name) => name.includes('drill-'));
    expect(names.map((name) => name.replace(/\d{13}/, 'N')).sort()).to.deep.equal([
      '/@hyperv/SQL01/.meta/drill-N.html',
      '/@hyperv/SQL01/.meta/drill-N.json',
      '/@hyperv/SQL02/.meta/drill-N.html',
      '/@hyperv/SQL02/.meta/drill-N.json',
    ]);
    const failed = await site.job('failover-test', 'vm=SQL*', 'checks=tcp:9', 'check_timeout=1');
    expect(failed.failure).to.match(/^E_TEST_FAILED: /);
    expect(failed.failure).to.match(/reports\/[0-9a-f-]{36}\.html in the store/);
    expect(documentOf(failed, /SQL01\/\.meta\/drill-\d+\.json$/)).to.have.nested.property(
      'report.verdict',
      'failed',
    );
  });

  it('goes on with the others when one fails, unless abort_on_error', async () => {
    await site.site.hvdr('lab', 'fault', 'dr', 'set', 'boot-fails');
    const both = await site.job('failover-test', 'vm=SQL*');
    expect(both.messages.join('\n')).to.match(/2 VMs: 2 failed/);
    const first = await site.job('failover-test', 'vm=SQL*', 'abort_on_error=yes');
    expect(first.messages.join('\n')).to.match(/1 of 2 VMs: nothing was begun/);
    expect(first.failure).to.match(/^E_/);
    await site.site.hvdr('lab', 'fault', 'dr', 'clear', 'boot-fails');
  });

  it('refuses lines that do not say what is meant, before anything is asked', async () => {
    const wrong: readonly (readonly [said: RegExp, mode: string, ...words: string[]])[] = [
      [/^E_PARAMETER: vm: nothing says which VM/, 'failover-planned'],
      [/^E_PARAMETER: keep_disk, .*planned takes none/, 'failover-planned', 'vm=*', 'keep_disk=x'],
      [
        /^E_PARAMETER: plan, .*mode=replication-status has no plan/,
        'replication-status',
        'plan=yes',
      ],
      [/^E_PARAMETER: retired_host, .*not allowed/, 'reprotect', 'vm=SQL01', 'retired_host=evil'],
      [/^E_PARAMETER: vm: mode=reprotect is of one VM/, 'reprotect', 'vm=SQL*'],
      [/^E_NO_MATCH: /, 'failover-test', 'vm=X*'],
      [/^E_NOT_FAILED_OVER: /, 'failback', 'vm=SQL01'],
      [/^E_PARAMETER: dr_psk_file, .*no file in/, 'failover-test', 'dr_psk_file=../store/x'],
    ];
    for (const [said, mode, ...words] of wrong) {
      expect((await site.job(mode, ...words)).failure, mode).to.match(said);
    }
  });

  it('refuses what the key may not do, and says which role would', async () => {
    const job = await site.job('failover-planned', ...PLANNED, 'dr_psk_file=viewer.psk');
    expect(job.failure).to.match(/^E_AUTH: .*role viewer/);
  });

  it('failover-planned moves the VM; failover-undo wants the hash of its plan', async () => {
    const plan = await site.green('failover-planned', ...PLANNED, 'plan=yes');
    expect(plan.messages.join('\n')).to.match(/PROTECTED → FAILED_OVER/);
    expect((await site.status('SQL01')).state).to.equal('PROTECTED');
    const done = await site.green('failover-planned', ...PLANNED);
    expect(done.messages.join('\n'))
      .to.match(/SQL01: P8 /)
      .and.match(/SQL01 is FAILED_OVER/);
    expect(await site.powerOf('dr', 'SQL01')).to.equal('running');

    const bare = await site.job('failover-undo', 'vm=SQL01');
    expect(bare.failure).to.match(/^E_CONFIRM: .*confirm=[0-9a-f]{64}/);
    expect(bare.messages.join('\n')).to.match(/hash [0-9a-f]{64} \(wants it\)/);
    const wrong = await site.job('failover-undo', 'vm=SQL01', `confirm=${'0'.repeat(64)}`);
    expect(wrong.failure).to.match(/^E_CONFIRM: .*another one than the confirmed one/);
    expect((await site.status('SQL01')).state).to.equal('FAILED_OVER');

    const hash = await site.hashOf('failover-undo', 'vm=SQL01');
    const same = await site.site.try(...['failover', 'undo', 'SQL01', '--plan', ...site.operator]);
    expect(same.stdout.toString()).to.include(hash);
    const undone = await site.green('failover-undo', 'vm=SQL01', `confirm=${hash}`);
    expect(undone.messages.join('\n')).to.match(/SQL01 is PROTECTED/);
    expect(documentOf(undone, /SQL01\/\.meta\/operation-\d+\.json$/)).to.have.nested.property(
      'result.state',
      'PROTECTED',
    );
    expect(await site.powerOf('lab', 'SQL01')).to.equal('running');
  });
});
