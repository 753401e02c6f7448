// Ways to restore VMs from a real Bacula: a moment, a part, another name, another folder, what is there
// already. Each is typed into bconsole; disks are compared to the byte.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import type { JobResult, RestoreWish } from '../support/bacula-site.js';
import { BaculaVms, expectWell, type ShownVm, until } from '../support/bacula-vms.js';

const CURRENT = { of: 'current', fileSet: 'Vms' } as const;
const DAY_MS = 24 * 60 * 60 * 1000;

describe('restores of VMs from a real Bacula', function () {
  this.timeout(240_000);
  let vms: BaculaVms;
  let source: ShownVm;
  let [full, middle, newest] = [0, 0, 0];
  let folders = 0;

  before(async function () {
    BaculaVms.need(this);
    vms = await BaculaVms.create({ Vms: { vm: 'SQL*' } });
    const jobs: JobResult[] = [];
    for (const level of ['Full', 'Incremental', 'Incremental']) {
      jobs.push(await vms.backUp('Vms', level));
    }
    jobs.forEach(expectWell);
    source = await vms.show();
    [full = 0, middle = 0, newest = 0] = jobs.map(({ jobId }) => jobId);
  });

  after(() => (vms as BaculaVms | undefined)?.close());

  afterEach(async () => {
    for (const { id } of await vms.list('other')) {
      await vms.lab('stop', 'other', id, '--turn-off');
      await vms.removeElsewhere(id);
    }
  });

  /** A new folder, and what its podheitor-restore.conf says. */
  function where(...options: readonly string[]): string {
    const folder = vms.file(`restore ${++folders}`);
    mkdirSync(folder, { mode: 0o700 });
    if (options.length > 0) say(folder, ...options);
    return folder;
  }

  function say(folder: string, ...options: readonly string[]): void {
    writeFileSync(join(folder, 'podheitor-restore.conf'), `${options.join('\n')}\n`, {
      mode: 0o600,
    });
  }

  function diskFile(folder: string, disk: number, vm = 'SQL01'): string {
    const id = source.disks[disk]?.diskId ?? '';
    return join(folder, '@hyperv', vm, 'disks', `${vm}_${id}.vhdx`);
  }

  async function expectDisk(folder: string, disk: number, jobId: number): Promise<void> {
    const seams = { fs: nodeFileSystem, random: systemRandom };
    const opened = await openVhdx(diskFile(folder, disk), seams);
    const bytes = Buffer.alloc(opened.sizeBytes);
    await opened.read(0, bytes);
    await opened.close();
    const isEqual = vms.guestAt(jobId)[disk]?.equals(bytes);
    expect(isEqual, `disk ${disk} after job ${jobId}`).to.equal(true);
  }

  async function expectRed(wish: RestoreWish, said: RegExp): Promise<void> {
    const restore = await vms.restoreElsewhere(wish);
    expect(restore.status, restore.log).to.be.oneOf(['f', 'E']);
    expect(restore.log).to.match(said);
  }

  it('go back to a moment', async () => {
    const [row] = await vms.site.catalog.query(`SELECT StartTime FROM Job WHERE JobId = ${newest}`);
    const before = String(row?.['StartTime']);
    await vms.expectRestored({ of: { before }, fileSet: 'Vms', where: where() }, middle);
  });

  it('make one disk of those that are selected, and no VM', async () => {
    const [first = '', second = ''] = source.disks.map(({ diskId }) => diskId);
    const all = await vms.site.catalog.query(
      `SELECT DISTINCT Path.Path || Filename.Name AS Name FROM File
       JOIN Path USING (PathId) JOIN Filename USING (FilenameId) WHERE Name LIKE '%${second}%'`,
    );
    const files = all.map((row) => String(row['Name']));
    expect(files, files.join(' ')).to.have.length(6);
    const folder = where();
    expectWell(await vms.restoreElsewhere({ ...CURRENT, where: folder, files }));
    await expectDisk(folder, 1, newest);
    expect(existsSync(diskFile(folder, 0)), first).to.equal(false);
    expect(await vms.list('other')).to.deep.equal([]);
  });

  it('bring the definition of a VM alone', async () => {
    const folder = where();
    const files = ['/@hyperv/SQL01/config/vm.json'];
    expectWell(await vms.restoreElsewhere({ ...CURRENT, where: folder, files }));
    const text = readFileSync(join(folder, '@hyperv/SQL01/config/vm.json'), 'utf8');
    expect((JSON.parse(text) as { vm: unknown }).vm).to.include({ id: source.id, name: 'SQL01' });
    expect(readdirSync(join(folder, '@hyperv/SQL01'))).to.deep.equal(['config']);
    expect(await vms.list('other')).to.deep.equal([]);
  });

  it('make a second VM under the name that podheitor-restore.conf gives', async () => {
    const first = where();
    expectWell(await vms.restoreElsewhere({ ...CURRENT, where: first }));
    await vms.lab('start', 'other', 'SQL01');
    const folder = where('# beside the first', 'new_vm_name=SQL01 copy');
    const restore = await vms.restoreElsewhere({ ...CURRENT, where: folder });
    expectWell(restore);
    expect(restore.log).to.match(/line 2 of .*podheitor-restore\.conf: new_vm_name=SQL01 copy/);
    await vms.expectGuest('SQL01 copy', newest);
    const copy = await vms.show('SQL01 copy', 'other');
    const original = await vms.show('SQL01', 'other');
    expect(copy.id).not.to.be.oneOf([original.id, source.id]);
    expect(copy.adapters[0]?.mac).not.to.equal(source.adapters[0]?.mac);
    expect(copy.adapters[0]).not.to.have.property('switchName');
    expect(original.powerState).to.equal('running');
    // the new name is taken now
    const again = where('new_vm_name=SQL01 copy');
    await expectRed({ ...CURRENT, where: again }, /E_RESTORE_VM: .*a VM has the new name/);
    expect(await vms.list('other')).to.have.length(2);
  });

  it('replace a VM that runs when podheitor-restore.conf says so, and not without', async () => {
    expectWell(await vms.restoreElsewhere({ of: { jobIds: [full] }, where: where() }));
    await vms.lab('start', 'other', 'SQL01');
    const { files: former, id } = await vms.show('SQL01', 'other');
    const taken = /E_RESTORE_VM: .*another VM has the name/;
    await expectRed({ ...CURRENT, where: where() }, taken);
    await vms.expectGuest('SQL01', full);

    const restore = await vms.restoreElsewhere({ ...CURRENT, where: where('replace_vm=yes') });
    expectWell(restore);
    await vms.expectGuest('SQL01', newest);
    const [replaced, ...others] = await vms.list('other');
    expect(others).to.deep.equal([]);
    expect(replaced?.id).not.to.equal(id);
    for (const file of former) expect(existsSync(file), file).to.equal(true);
    expect(restore.log).to.contain(former[0]);
  });

  it('leave the VM alone that was backed up and still runs', async () => {
    const before = await vms.guestOf('SQL01');
    const folder = where();
    const restore = await vms.site.restore({ of: { jobIds: [full] }, where: folder });
    expect(restore.status, restore.log).to.equal('f');
    expect(restore.log).to.match(/E_RESTORE_VM: SQL01 is not replaced: it is running/);
    expect(restore.log).to.match(/the disks of SQL01 are whole and stay in/);
    for (const disk of [0, 1]) await expectDisk(folder, disk, full);
    expect(await vms.show()).to.deep.equal(source);
    expect(await vms.guestOf('SQL01')).to.deep.equal(before);
  });

  it('go where podheitor-restore.conf says, below the restore roots', async () => {
    const target = vms.file('elsewhere');
    const folder = where(`restore_path="${target}"`, 'restore_to=disks');
    expectWell(await vms.restoreElsewhere({ ...CURRENT, where: folder }));
    for (const disk of [0, 1]) await expectDisk(target, disk, newest);
    expect(readdirSync(folder)).to.deep.equal(['podheitor-restore.conf']);
    expect(await vms.list('other')).to.deep.equal([]);
    const outside = where('restore_path=/srv/anywhere');
    await expectRed({ ...CURRENT, where: outside }, /E_RESTORE_PATH: .*restore roots/);
    expect(existsSync('/srv/anywhere')).to.equal(false);
  });

  it('heed no podheitor-restore.conf that others could have written, or that says more', async () => {
    const changeable = where('replace_vm=yes');
    chmodSync(join(changeable, 'podheitor-restore.conf'), 0o666);
    await expectRed({ ...CURRENT, where: changeable }, /E_STATE: .*can be changed by others/);
    const open = where('replace_vm=yes');
    chmodSync(open, 0o777);
    await expectRed({ ...CURRENT, where: open }, /E_STATE: .*can be changed by others/);
    const linked = where();
    symlinkSync('/etc/hostname', join(linked, 'podheitor-restore.conf'));
    await expectRed({ ...CURRENT, where: linked }, /E_STATE: .*it is a link/);
    for (const [line, said] of [
      ['mode=rct-push', /E_PARAMETER: line 1 of .*mode: not for a restore to change/],
      ['state_dir=/tmp', /E_PARAMETER: line 1 of .*state_dir: not for a restore/],
      ['restore_to=tape', /E_PARAMETER: .*restore_to/],
      ['replace_vm', /E_PARAMETER: .*no key=value/],
    ] as const) {
      await expectRed({ ...CURRENT, where: where(line) }, said);
    }
    expect(await vms.list('other')).to.deep.equal([]);
  });

  it('name that file when the Director has lost what was changed in its dialogue', async () => {
    const pluginOptions = { new_vm_name: 'SQL02' };
    const wish = { of: { jobIds: [full] }, where: where(), pluginOptions };
    await expectRed(wish, /write them into the file podheitor-restore\.conf/);
    expect(await vms.list('other')).to.deep.equal([]);
  });

  it('replace a disk that is there, or leave it, as Replace says', async () => {
    const folder = where('restore_to=disks');
    const restored = async (
      replace: 'always' | 'never' | 'ifnewer' | 'ifolder',
    ): Promise<JobResult> => {
      const result = await vms.restoreElsewhere({ ...CURRENT, where: folder, replace });
      expectWell(result);
      return result;
    };
    const standing = (ageMs: number): void => {
      const at = (Date.now() - ageMs) / 1000;
      for (const disk of [0, 1]) utimesSync(diskFile(folder, disk), at, at);
    };
    const expectDisks = async (jobId: number): Promise<void> => {
      for (const disk of [0, 1]) await expectDisk(folder, disk, jobId);
    };
    const first = { of: { jobIds: [full] }, where: folder } as const;
    const reset = async (): Promise<void> => {
      expectWell(await vms.restoreElsewhere({ ...first, replace: 'always' }));
      await expectDisks(full);
    };

    await reset();
    expect((await restored('never')).log).to.match(/is there and stays, as Replace says/);
    await expectDisks(full);
    await restored('ifnewer');
    await expectDisks(full);
    standing(DAY_MS);
    await restored('ifolder');
    await expectDisks(full);
    await restored('ifnewer');
    await expectDisks(newest);
    await reset();
    await restored('ifolder');
    await expectDisks(newest);
    await reset();
    await restored('always');
    await expectDisks(newest);
    // a disk that stays is no disk of a VM that is made
    rmSync(join(folder, 'podheitor-restore.conf'));
    const kept = await restored('never');
    expect(kept.log).to.match(/SQL01 is not registered: a file that was there stayed/);
    expect(await vms.list('other')).to.deep.equal([]);
  });

  it('never replace a disk that a VM uses', async () => {
    const folder = where();
    const wish = { of: { jobIds: [full] }, where: folder, replace: 'always' } as const;
    expectWell(await vms.restoreElsewhere(wish));
    await vms.expectGuest('SQL01', full);
    await expectRed(
      { ...CURRENT, where: folder, replace: 'always' },
      /E_RESTORE_VM: .*is a disk of the VM SQL01/,
    );
    await vms.expectGuest('SQL01', full);
    expect(await vms.list('other')).to.have.length(1);
  });

  it('make no VM, and nothing that is cut short, when the Storage Daemon is killed', async () => {
    const folder = where();
    const { sd, fd } = vms.site.daemons;
    vms.backendAt('other');
    const jobId = await vms.site.beginRestore({ ...CURRENT, where: folder });
    await until(async () => (await fd.children()).length > 0);
    sd.freeze();
    await vms.site.killHard('sd');
    await vms.site.restart('sd');
    const restore = await vms.site.end(jobId);
    expect(restore.status, restore.log).to.be.oneOf(['f', 'E']);
    await until(async () => (await fd.children()).length === 0);
    vms.backendAt('lab');
    expect(await vms.list('other')).to.deep.equal([]);
    // where the daemon goes away between two records, a disk that came whole before may stand there
    for (const disk of [0, 1]) {
      if (existsSync(diskFile(folder, disk))) await expectDisk(folder, disk, full);
    }
    await vms.expectRestored({ ...CURRENT, where: folder }, newest);
  });

  it('go where RegexWhere leads', async () => {
    const folder = where();
    await vms.expectRestored({ ...CURRENT, regexWhere: `!^!${folder}/moved!` }, newest);
    await expectDisk(join(folder, 'moved'), 0, newest);
  });

  it('go to the place for VMs of the host when Where is the top', async () => {
    const restore = await vms.restoreElsewhere({ ...CURRENT, where: '/' });
    expectWell(restore);
    await vms.expectGuest('SQL01', newest);
    for (const file of (await vms.show('SQL01', 'other')).files) {
      expect(file).to.match(new RegExp(`^${vms.file('other')}/.*restore-${restore.jobId}/`));
    }
  });

  it('bring the VMs that can be restored when a disk of another one is refused', async () => {
    await vms.createVm('SQL02');
    const job = await vms.backUp('Vms', 'Incremental', ['SQL01', 'SQL02']);
    expectWell(job);
    const folder = where();
    const first = { ...CURRENT, where: folder, files: ['/@hyperv/SQL01'] };
    expectWell(await vms.restoreElsewhere(first));
    const refused = /E_RESTORE_VM: .*is a disk of the VM SQL01/;
    await expectRed({ ...CURRENT, where: folder, replace: 'always' }, refused);
    await vms.expectGuest('SQL02', job.jobId, 'SQL02');
    await vms.expectGuest('SQL01', job.jobId);
    expect(await vms.list('other')).to.have.length(2);
  });
});
