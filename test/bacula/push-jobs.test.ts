// Jobs of a real Bacula that push VMs of a lab host straight to a DR receiver, beside the nightly backup of
// the same VMs: neither misses a change, and what a job's status says is read from the catalog.

import { join } from 'node:path';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { AdapterRig } from '../support/adapter-rig.js';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, type JobResult, needBacula } from '../support/bacula-site.js';
import { checkoutFolder } from '../support/checkout.js';
import { needTool } from '../support/need.js';
import { PushJobSite } from '../support/push-job-site.js';
import { WorkFolder } from '../support/work-folder.js';

const VM = 'SQL01';

function fileSet(name: string, words: readonly string[]): string {
  const given = words.map((word) => {
    const [key = '', value = ''] = word.split('=');
    return { key, value };
  });
  const plugin = directorString(pluginCommand('podheitor-hyperv', given));
  return `FileSet { Name = ${name}; Include { Plugin = ${plugin} } }\n`;
}

function job(name: string): string {
  const { client, storage, pool } = SITE_NAMES;
  return `Job {
  Name = ${name}; Type = Backup; Level = Incremental; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}
`;
}

describe('VMs pushed by a real Bacula', function () {
  this.timeout(240_000);
  let work: WorkFolder;
  let rig: AdapterRig;
  let bacula: BaculaSite;
  let site: PushJobSite;
  let seed = 0;

  before(async function () {
    needBacula(this);
    needTool(this, 'gcc');
    work = new WorkFolder('bacula-push');
    site = new PushJobSite(work.path);
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '8M', '--disk', '8M');
    await write();
    allow();
    await site.startReceiver();
    const direct = ['mode=rct-push', 'push_apply_remote=yes', ...site.line()];
    bacula = await BaculaSite.create({
      resources: [
        fileSet('Vms', ['vm=SQL*']),
        fileSet('Direct', ['vm=SQL*', ...direct, 'push_cycles=2', 'push_interval=1']),
        fileSet('Verify', ['vm=SQL*', 'mode=verify', ...site.line()]),
        fileSet('Elsewhere', [
          ...['vm=SQL*', 'mode=rct-push', 'push_apply_remote=yes'],
          ...['dr_host=dr.example', 'dr_psk_file=source.psk'],
        ]),
        ...['Vms', 'Direct', 'Verify', 'Elsewhere'].map(job),
      ].join(''),
      environment: {
        HVDR_BACKEND: join(checkoutFolder, 'bin', 'podheitor-hyperv-backend'),
        HVDR_BACKEND_CONF: site.conf,
      },
    });
    rig = await AdapterRig.build('linux');
    await rig.release(bacula.pluginFolder);
    await bacula.start();
  });

  after(async () => {
    await (bacula as BaculaSite | undefined)?.close();
    (rig as AdapterRig | undefined)?.dispose();
    await (site as PushJobSite | undefined)?.stopReceiver();
    (work as WorkFolder | undefined)?.dispose();
  });

  function allow(): void {
    site.allow('backup,rct-push,verify', `restore_roots=${work.path}`);
  }

  async function write(): Promise<void> {
    for (const disk of [0, 1]) await site.write(VM, ++seed, disk);
  }

  function expectWell(result: JobResult): void {
    expect(result, result.log).to.include({ status: 'T', errors: 0 });
  }

  async function namesOf({ jobId }: JobResult): Promise<string[]> {
    return (await bacula.catalog.files(jobId)).map(({ name }) => name);
  }

  it('bring points to the receiver, and a report for each cycle to the catalog', async () => {
    const result = await bacula.run('Direct', 'level=Full');
    expectWell(result);
    const names = await namesOf(result);
    expect(names, names.join(' ')).to.have.length(2);
    for (const name of names)
      expect(name).to.match(/^\/@hyperv\/SQL01\/\.meta\/push-\d{13}\.json$/);
    const [row] = (await bacula.catalog.jobs()).filter(({ jobId }) => jobId === result.jobId);
    // what an operator may change at a restore counts as one, in a Full
    expect(row).to.include({ files: 3 });
    expect(row?.bytes, 'no byte of a disk').to.be.below(64 * 1024);
    expect(result.log).to.match(/SQL01 seed .*, 2 disks, /);
    await site.expectHead(VM, 2);
  });

  it('go beside the nightly backup, and neither misses a change', async () => {
    for (const [name, level] of [
      ['Vms', 'Full'],
      ['Direct', 'Incremental'],
      ['Vms', 'Incremental'],
      ['Direct', 'Incremental'],
    ] as const) {
      await write();
      const result = await bacula.run(name, `level=${level}`);
      expectWell(result);
      if (name === 'Direct') {
        expect(result.log).to.match(/SQL01 delta /);
        await site.expectHead(VM, 2);
      } else {
        const data = (await namesOf(result)).filter((file) => /\.(vhdx|cbt)$/.test(file));
        const ending = level === 'Full' ? '.vhdx' : '.cbt';
        expect(data.map((file) => file.endsWith(ending))).to.deep.equal([true, true]);
      }
    }
    await write();
    expectWell(await bacula.run('Vms', 'level=Incremental'));
    await expectRestored(await site.guestHashes(VM, 2));
  });

  /** The nightly job, restored at another host, has what the guest had. */
  async function expectRestored(guest: readonly string[]): Promise<void> {
    await site.hvdr('lab', 'init', 'other');
    site.backendLab = 'other';
    allow();
    const where = work.file('restored');
    expectWell(await bacula.restore({ of: 'current', fileSet: 'Vms', where }));
    site.backendLab = 'lab';
    allow();
    await site.hvdr('lab', 'start', 'other', VM);
    expect(await site.guestHashes(VM, 2, 'other')).to.deep.equal(guest);
  }

  it('are compared by a job that holds a report', async () => {
    const result = await bacula.run('Verify', 'level=Full');
    expectWell(result);
    const [report = '', ...more] = await namesOf(result);
    expect(more).to.deep.equal([]);
    expect(report).to.match(/^\/@hyperv\/SQL01\/\.meta\/verify-\d{13}\.json$/);
    expect(result.log).to.match(/SQL01 agrees with its point: 2 disks/);
  });

  it('make the job red when the receiver is down, and when it is one that is not allowed', async () => {
    const other = await bacula.run('Elsewhere', 'level=Full');
    expect(other.status, other.log).to.equal('f');
    expect(other.log).to.match(/E_PARAMETER: dr_host, .* backend\.conf lists/);
    await site.stopReceiver();
    const lonely = await bacula.run('Direct', 'level=Incremental');
    expect(lonely.status, lonely.log).to.equal('f');
    expect(lonely.log).to.match(/E_SOURCE_UNREACHABLE/);
    await site.startReceiver();
    await write();
    expectWell(await bacula.run('Direct', 'level=Incremental'));
    await site.expectHead(VM, 2);
  });
});
