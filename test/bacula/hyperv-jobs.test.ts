// The main job of the product in a real Bacula: VMs of a lab host go through our plugin and backend onto
// volumes, and come back equal to the byte. What a job's status says is read from the catalog.

import { expect } from 'chai';
import type { JobResult } from '../support/bacula-site.js';
import { BaculaVms, expectWell } from '../support/bacula-vms.js';

describe('VMs in a real Bacula', function () {
  this.timeout(240_000);
  let vms: BaculaVms;
  /** Of the Vms job, oldest first. */
  const jobs: number[] = [];

  async function backUp(level: string): Promise<JobResult> {
    const result = await vms.backUp('Vms', level);
    jobs.push(result.jobId);
    return result;
  }

  before(async function () {
    BaculaVms.need(this);
    vms = await BaculaVms.create({
      Vms: { vm: 'SQL*' },
      Push: { vm: 'SQL*', mode: 'rct-push', push_cycles: '2', push_interval: '1' },
      Nobody: { vm: 'X*' },
      Wrong: { vm: 'SQL*', push_cycles: 'many' },
    });
  });

  after(() => (vms as BaculaVms | undefined)?.close());

  it('go into a Full, three Incrementals, a Differential and an Incremental', async () => {
    const levels = [
      'Full',
      'Incremental',
      'Incremental',
      'Incremental',
      'Differential',
      'Incremental',
    ];
    for (const level of levels) {
      const result = await backUp(level);
      expectWell(result);
      const names = (await vms.site.catalog.files(result.jobId)).map(({ name }) => name);
      const data = names.filter((name) => /\.(vhdx|cbt)$/.test(name));
      expect(data, `${level}: ${names.join(' ')}`).to.have.length(2);
      for (const name of data)
        expect(name.endsWith(level === 'Full' ? '.vhdx' : '.cbt')).to.equal(true);
    }
  });

  it('come back at another host, as they were at the newest job and at one before', async () => {
    const [full = 0, first = 0] = jobs;
    const newest = jobs.at(-1) ?? 0;
    const current = { of: 'current', fileSet: 'Vms', where: vms.file('a') } as const;
    await vms.expectRestored(current, newest);
    await vms.expectRestored({ of: { jobIds: [full, first] }, where: vms.file('b') }, first);
  });

  it('are whole again after an Incremental was deleted', async () => {
    const lost = await backUp('Incremental');
    await vms.site.forget(lost.jobId);
    const next = await backUp('Incremental');
    expectWell(next);
    await vms.expectRestored({ of: 'current', fileSet: 'Vms', where: vms.file('c') }, next.jobId);
  });

  it('are pushed beside the nightly job, and neither misses a change', async () => {
    await vms.write();
    expectWell(await vms.site.run('Push', 'level=Full'));
    const nightly = await backUp('Incremental');
    expectWell(nightly);
    const push = await vms.backUp('Push', 'Incremental');
    expectWell(push);
    const where = vms.file('d');
    await vms.expectRestored({ of: 'current', fileSet: 'Push', where }, push.jobId);
    await vms.expectRestored(
      { of: 'current', fileSet: 'Vms', where: vms.file('e') },
      nightly.jobId,
    );
  });

  it('make the job red when nothing matches, and when a parameter is wrong', async () => {
    const nobody = await vms.site.run('Nobody', 'level=Full');
    expect(nobody.status, nobody.log).to.equal('f');
    expect(nobody.log).to.match(/E_NO_MATCH/);
    const wrong = await vms.site.run('Wrong', 'level=Full');
    expect(wrong.status, wrong.log).to.equal('f');
    expect(wrong.log).to.match(/E_PARAMETER.*push_cycles/);
  });
});
