// Jobs that move VMs for good or bring them home: failback, unplanned and permanent, reprotect; and what a
// cancelled job leaves behind. Real processes, two labs.

import { expect } from 'chai';
import type { RunningBackendJob } from '../support/backend-process.js';
import { expectViews } from '../support/lab-model.js';
import { documentOf, ModeSite } from '../support/mode-site.js';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

const VMS = ['SQL01', 'SQL02', 'SQL03'];
describe('jobs that move VMs', function () {
  this.timeout(240_000);
  let work: WorkFolder;
  let site: ModeSite;
  /** The receiver at the primary, for the way back. */
  let home: Site;

  before(async () => {
    work = new WorkFolder('bacula-moves');
    site = new ModeSite(work.path);
    await site.prepare(VMS);
    await site.prepareJobs();
    await site.replicate(VMS);
    home = new Site(work.path);
    await home.startReceiver('--store', 'store-home');
  });

  after(async () => {
    await (home as Site | undefined)?.stopReceiver('SIGKILL');
    await (site as ModeSite | undefined)?.dispose();
    (work as WorkFolder | undefined)?.dispose();
  });

  /** Confirms what the job says that it would do, and has it done. */
  async function confirmed(mode: string, ...words: readonly string[]): Promise<string> {
    const hash = await site.hashOf(mode, ...words);
    const { messages } = await site.green(mode, ...words, `confirm=${hash.slice(0, 12)}`);
    return messages.join('\n');
  }

  async function until({ backend }: RunningBackendJob, said: RegExp): Promise<void> {
    await site.until(String(said), () =>
      Promise.resolve(backend.peer.messages.some((line) => said.test(line))),
    );
  }

  it('failback brings home what was written at the DR site', async () => {
    await site.green('failover-planned', 'vm=SQL01');
    await site.write('SQL01', 40, 'dr');
    const wanted = await site.views('dr', 'SQL01');
    const back = await site.green('failback', 'vm=SQL01');
    expect(back.messages.join('\n'))
      .to.match(/SQL01: F4 /)
      .and.match(/SQL01 is FAILED_BACK/);
    expectViews(await site.views('lab', 'SQL01'), wanted, 'at the primary');
    expect(await confirmed('failover-permanent', 'vm=SQL01')).to.match(/SQL01 is PROTECTED/);
  });

  it('a cancelled job says that the operation stands, and the operation ends by itself', async () => {
    await site.site.hvdr('lab', 'fault', 'dr', 'set', 'no-heartbeat');
    const job = site.beginJob('failover-planned', 'vm=SQL03', 'boot_timeout=200');
    await until(job, /SQL03: P8 /);
    job.backend.child.kill('SIGUSR1');
    const { messages, colour, exitCode } = await job.ended;
    expect([colour, exitCode]).to.deep.equal(['cancelled', 0]);
    expect(messages.at(-1)).to.match(
      /^Q the job was cancelled at P8; SQL03: operation [0-9a-f-]{36} stands at 127.*hvdr resume SQL03/,
    );
    expect((await site.status('SQL03')).operation).to.match(/planned/);
    await site.site.hvdr('lab', 'fault', 'dr', 'clear', 'no-heartbeat');
    await site.until('the end of it', async () => {
      const { state, operation } = await site.status('SQL03');
      return state === 'FAILED_OVER' && operation === null;
    });
    expect(await confirmed('failover-undo', 'vm=SQL03')).to.match(/SQL03 is PROTECTED/);
  });

  it('a VM that runs at the primary is not failed over, and the job is red', async () => {
    const alive = await site.job('failover-unplanned', 'vm=SQL02');
    expect(alive.failure).to.match(/^E_SOURCE_ALIVE: /);
    expect(documentOf(alive, /operation-/)).to.have.nested.property('error.code', 'E_SOURCE_ALIVE');
  });

  it('unplanned and permanent, then reprotect from what was left at the primary', async () => {
    await site.stopDaemon();
    await site.site.hvdr('lab', 'stop', 'lab', 'SQL02');
    const moved = await site.green('failover-unplanned', 'vm=SQL02');
    expect(moved.messages.join('\n')).to.match(/SQL02 is FAILED_OVER/);
    const back = [
      ...[`dr_port=${home.port}`, 'principal=primary', 'retired_host=127.0.0.1'],
      ...[`retired_port=${site.site.port}`, 'retired_psk_file=operator.psk', 'vm=SQL02'],
    ];
    expect((await site.job('reprotect', ...back)).failure).to.match(/^E_UNCOMMITTED: /);
    expect(await confirmed('failover-permanent', 'vm=SQL02')).to.match(/SQL02 is COMMITTED/);
    const skipped = await site.job('failover-test', 'vm=SQL*2');
    expect(skipped.failure).to.match(/^E_NO_MATCH: /);

    await site.write('SQL02', 50, 'dr');
    const plan = await site.green('reprotect', 'plan=yes', ...back);
    expect(plan.messages.join('\n')).to.match(/^I R1 {2}stage the disks/m);
    const done = await site.green('reprotect', ...back);
    expect(done.messages.join('\n'))
      .to.match(/SQL02: R5 /)
      .and.match(/SQL02 is protected at 127\.0\.0\.1 for primary, point [0-9a-f-]{36}/);
    expect(documentOf(done, /operation-/)).to.have.nested.property('result.point');
    const status = await site.green('replication-status', `dr_port=${home.port}`);
    expect(status.messages.join('\n')).to.match(/^I SQL02 {2}PROTECTED ok {2}1 points/m);
    const again = await site.green('reprotect', ...back);
    expect(again.messages.join('\n')).not.to.match(/SQL02: R/);
  });
});
