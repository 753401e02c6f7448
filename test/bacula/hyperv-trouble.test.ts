// The main job of the product in a real Bacula when a part of it fails under a running job: what the
// catalog says of the job, what is left at the host, and that the next job carries what was owed.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { expect } from 'chai';
import { DAEMONS, SITE_NAMES } from '../../cli/bacula-site/index.js';
import type { JobResult } from '../support/bacula-site.js';
import { BaculaVms, expectWell, until } from '../support/bacula-vms.js';
import { skipBecause } from '../support/need.js';

const BLOCKS = 20;

describe('VMs in a real Bacula in trouble', function () {
  this.timeout(240_000);
  let vms: BaculaVms;

  before(async function () {
    BaculaVms.need(this);
    vms = await BaculaVms.create({
      Vms: { vm: 'SQL*', config_file: 'pace.conf' },
      Unknown: { vm: 'SQL*', push_cycle: '2' },
      Bad: { vm: 'SQL*', bandwidth: '10Mbit' },
      Outside: { vm: 'SQL*', config_file: '/etc/hostname' },
      Elsewhere: { vm: 'SQL*', host: 'lab:/srv' },
    });
    vms.configFile('pace.conf');
    expectWell(await vms.backUp('Vms', 'Full'));
  });

  after(() => (vms as BaculaVms | undefined)?.close());

  /** An Incremental whose first disk is being sent. */
  async function inMidStream(): Promise<number> {
    await vms.write('SQL01', BLOCKS);
    // the first bytes of a disk leave after some seconds, its last ones after half a minute
    vms.configFile('pace.conf', 'bandwidth=64K');
    const jobId = await vms.site.begin('Vms', 'level=Incremental');
    await until(async () => {
      const status = await vms.site.console(`status client=${SITE_NAMES.client}`);
      return / Files=2 Bytes=\d{3},\d{3} /.test(status);
    });
    vms.configFile('pace.conf');
    expect((await vms.show()).recoveryCheckpoints).to.have.length(1);
    return jobId;
  }

  async function backendGone(): Promise<void> {
    await until(async () => (await vms.site.daemons.fd.children()).length === 0);
  }

  /** The next Incremental brings all that the guest has written. */
  async function expectMended(where: string, leastBytes = 2 * BLOCKS * 65536): Promise<void> {
    const next = await vms.backUp('Vms', 'Incremental');
    expectWell(next);
    expect((await vms.show()).recoveryCheckpoints).to.deep.equal([]);
    // what was written before the job that failed, and not only what came after
    expect(next.bytes).to.be.above(leastBytes);
    expect(next.bytes, 'and no whole disk').to.be.below(16 * 1024 * 1024);
    await vms.expectRestored({ of: 'current', fileSet: 'Vms', where: vms.file(where) }, next.jobId);
  }

  function expectRed(job: JobResult): void {
    expect(job.status, job.log).to.be.oneOf(['f', 'E']);
  }

  it('are estimated without a checkpoint', async () => {
    const before = await vms.show();
    const said = await vms.site.console('estimate job=Vms level=Full listing');
    // configuration, two disks of 16 MiB, state
    expect(said).to.match(/2000 OK estimate files=4 bytes=33,562,624/);
    const names = before.disks.map(({ diskId }) => `/@hyperv/SQL01/disks/SQL01_${diskId}.vhdx`);
    for (const name of names) expect(said).to.contain(name);
    expect(await vms.show()).to.deep.equal(before);
  });

  it('are owed what a job had that was cancelled in the middle of a disk', async () => {
    const jobId = await inMidStream();
    await vms.site.cancel(jobId);
    const job = await vms.site.end(jobId);
    expect(job.status, job.log).to.equal('A');
    await backendGone();
    expect((await vms.show()).recoveryCheckpoints).to.deep.equal([]);
    await expectMended('cancelled');
  });

  it('are owed what a job had whose backend was killed in the middle of a disk', async () => {
    const jobId = await inMidStream();
    const [backend = 0, ...others] = await vms.site.daemons.fd.children();
    expect(others).to.deep.equal([]);
    process.kill(backend, 'SIGKILL');
    const job = await vms.site.end(jobId);
    expectRed(job);
    expect(job.log).to.match(/podheitor-hyperv: .*backend/);
    // nobody was left to remove it: the next job does
    expect((await vms.show()).recoveryCheckpoints).to.have.length(1);
    await expectMended('backend');
  });

  it('are owed what a job had whose File Daemon was killed', async () => {
    const jobId = await inMidStream();
    await vms.site.killHard('fd');
    // its backend sees that nobody listens, and gives the checkpoint back by itself
    await until(async () => (await vms.show()).recoveryCheckpoints.length === 0);
    expectRed(await vms.site.end(jobId));
    await vms.site.restart('fd');
    await expectMended('daemon');
  });

  it('are owed what the Storage Daemon lost after the last byte of the backend', async () => {
    const seen = (event: string): number => vms.backendLog().split(`"${event}"`).length;
    const [runs, points] = [seen('run.started'), seen('cycle.committed')];
    // so little that it fits into the sockets between the daemons, and not sent at once
    await vms.lab('write', 'lab', 'SQL01', '--random', '1', '--block', '4K', '--seed', '1001');
    vms.configFile('pace.conf', 'bandwidth=16K');
    const jobId = await vms.site.begin('Vms', 'level=Incremental');
    await until(() => seen('run.started') > runs);
    vms.site.daemons.sd.freeze();
    vms.configFile('pace.conf');
    await until(() => seen('cycle.committed') > points);
    await vms.site.killHard('sd');
    await vms.site.restart('sd');
    expectRed(await vms.site.end(jobId));
    await backendGone();
    await expectMended('storage', 0);
  });

  it('go on as deltas under a new name', async () => {
    await vms.lab('rename', 'lab', 'SQL01', 'SQL NEW');
    const job = await vms.backUp('Vms', 'Incremental', ['SQL NEW']);
    expectWell(job);
    const names = (await vms.site.catalog.files(job.jobId)).map(({ name }) => name);
    expect(names.every((name) => name.startsWith('/@hyperv/SQL NEW/'))).to.equal(true);
    expect(names.filter((name) => name.endsWith('.cbt'))).to.have.length(2);
    const where = vms.file('renamed');
    expectWell(await vms.restoreElsewhere({ of: 'current', fileSet: 'Vms', where }));
    await vms.expectGuest('SQL NEW', job.jobId, 'SQL NEW');
    await vms.removeElsewhere('SQL NEW');

    // the folder of one name alone is half of the chain
    const files = ['/@hyperv/SQL NEW'];
    const half = { of: 'current', fileSet: 'Vms', where: vms.file('half'), files } as const;
    const restore = await vms.restoreElsewhere(half);
    expectRed(restore);
    expect(restore.log).to.match(/E_RESTORE_CHAIN.*no base is here/);
    expect(restore.log).to.match(/where the VM had another name, from the folder of that name/);
    expect(await vms.list('other')).to.deep.equal([]);
    await vms.lab('rename', 'lab', 'SQL NEW', 'SQL01');
  });

  it('make the job red when the Plugin line is wrong, and nothing is touched', async () => {
    const before = await vms.show();
    const wrong = {
      Unknown: /E_PARAMETER: .*push_cycle.*push_cycles/,
      Bad: /E_PARAMETER: .*bandwidth.*write bytes/,
      Outside: /E_PARAMETER: .*config_file/,
      Elsewhere: /E_PARAMETER: .*host/,
    };
    for (const [name, said] of Object.entries(wrong)) {
      const job = await vms.site.run(name, 'level=Full');
      expect(job, job.log).to.include({ status: 'f', files: 0 });
      expect(job.log).to.match(said);
    }
    expect(await vms.show()).to.deep.equal(before);
  });

  it('are not registered when the volume fills up, and are restored when it has room', async function () {
    const where = vms.file('small');
    mkdirSync(where);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', where]);
    if (mounted.status !== 0) skipBecause(this, 'a small tmpfs cannot be mounted (needs root)');
    try {
      const job = await vms.backUp('Vms', 'Incremental');
      const restore = await vms.restoreElsewhere({ of: 'current', fileSet: 'Vms', where });
      expectRed(restore);
      expect(restore.log).to.match(/E_CAPACITY/);
      expect(await vms.list('other')).to.deep.equal([]);
      const left = readdirSync(where, { recursive: true, withFileTypes: true });
      const names = left.filter((entry) => entry.isFile()).map(({ name }) => name);
      // records fit, and are whole; of disks nothing is left
      expect(names.filter((name) => !name.endsWith('.json'))).to.deep.equal([]);
      spawnSync('mount', ['-o', 'remount,size=256m', where]);
      await vms.expectRestored({ of: 'current', fileSet: 'Vms', where }, job.jobId);
    } finally {
      spawnSync('umount', [where]);
    }
  });

  it('of one name are kept apart, and restored one by one', async () => {
    const { id: first } = await vms.show();
    expectWell(await vms.backUp('Vms', 'Full'));
    await vms.createVm('SQL02');
    const { id: second } = await vms.show('SQL02');
    await vms.lab('rename', 'lab', second, 'SQL01');
    const job = await vms.backUp('Vms', 'Incremental', [first, second]);
    expectWell(job);
    const folderOf = (id: string): string => `SQL01~${id.slice(0, 8)}`;
    const names = (await vms.site.catalog.files(job.jobId)).map(({ name }) => name);
    for (const [id, end] of [
      [first, '.cbt'],
      [second, '.vhdx'],
    ] as const) {
      const own = names.filter((name) => name.startsWith(`/@hyperv/${folderOf(id)}/disks/`));
      expect(
        own.filter((name) => name.endsWith(end)),
        names.join(' '),
      ).to.have.length(2);
    }
    const wish = { of: 'current', fileSet: 'Vms' } as const;
    // the Full of the first stands in the folder that it had then
    const files = ['/@hyperv/SQL01', `/@hyperv/${folderOf(first)}`];
    await vms.expectRestored({ ...wish, where: vms.file('one'), files }, job.jobId, first);
    const others = [`/@hyperv/${folderOf(second)}`];
    await vms.expectRestored({ ...wish, where: vms.file('two'), files: others }, job.jobId, second);

    const both = await vms.restoreElsewhere({ ...wish, where: vms.file('both') });
    expectRed(both);
    expect(both.log).to.match(/E_RESTORE_VM: SQL01 is not replaced: another VM has the name/);
    expect(both.log).to.match(/the disks of SQL01 are whole and stay in/);
    expect(await vms.list('other')).to.have.length(1);
  });

  it('leave every daemon running', () => {
    for (const name of DAEMONS) expect(vms.site.daemons[name].isRunning, name).to.equal(true);
  });
});
