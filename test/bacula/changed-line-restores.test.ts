// Restores over jobs whose Plugin line was changed in between, from a real Bacula: the File Daemon has one
// backend for each line in one job, and all of them make one VM.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import type { JobResult } from '../support/bacula-site.js';
import { BaculaVms, expectWell } from '../support/bacula-vms.js';

type Line = Readonly<Record<string, string>>;

const LINE: Line = { vm: 'SQL01', network_map: 'lan=first' };
const CHANGED: Line = { vm: 'SQL*', network_map: 'lan=second', quiesce: 'no' };

describe('restores from a real Bacula over two Plugin lines of one VM', function () {
  this.timeout(240_000);
  let vms: BaculaVms;
  let [full, changed, back] = [0, 0, 0];

  before(async function () {
    BaculaVms.need(this);
    vms = await BaculaVms.create({ Vms: LINE });
    for (const name of ['first', 'second']) await vms.lab('switch', 'other', 'add', name);
    full = await backedUp('Full');
    await changeLine(LINE, CHANGED);
    changed = await backedUp('Incremental');
    await changeLine(CHANGED, LINE);
    back = await backedUp('Incremental');
  });

  after(() => (vms as BaculaVms | undefined)?.close());

  afterEach(async () => {
    for (const { id } of await vms.list('other')) await vms.removeElsewhere(id);
  });

  function includeOf(line: Line): string {
    const given = Object.entries(line).map(([key, value]) => ({ key, value }));
    return `Include { Plugin = ${directorString(pluginCommand('podheitor-hyperv', given))} }`;
  }

  /** As an administrator does who wants no new Full for it. */
  async function changeLine(from: Line, to: Line): Promise<void> {
    const file = join(vms.site.folder, 'bacula-dir.conf');
    const keep = 'Ignore FileSet Changes = yes; ';
    const before = readFileSync(file, 'utf8').replace(keep, '');
    const after = before.replace(includeOf(from), `${keep}${includeOf(to)}`);
    expect(after).not.to.equal(before);
    writeFileSync(file, after);
    await vms.site.console('reload');
  }

  async function backedUp(level: string): Promise<number> {
    const job = await vms.backUp('Vms', level);
    expectWell(job);
    expect(job.level).to.equal(level[0]);
    return job.jobId;
  }

  /** Restored by a backend of each line, and one VM of it at the other host, equal to the byte. */
  async function restored(where: string, jobIds: readonly number[]): Promise<JobResult> {
    const before = backendCount();
    const restore = await vms.restoreElsewhere({ of: { jobIds }, where });
    expectWell(restore);
    expect(backendCount() - before).to.equal(2);
    await vms.expectGuest('SQL01', jobIds.at(-1) ?? 0);
    expect(await vms.list('other')).to.have.length(1);
    return restore;
  }

  function backendCount(): number {
    if (!existsSync(vms.stateFolder('other'))) return 0;
    return vms.backendLog('other').split('"event":"run.started"').length - 1;
  }

  async function expectSwitch(name: string): Promise<void> {
    expect((await vms.show('SQL01', 'other')).adapters[0]?.switchName).to.equal(name);
  }

  it('make one VM of what both have taken, with the options of the first that took a file', async () => {
    const restore = await restored(vms.file('two'), [full, changed]);
    expect(restore.log.match(/is registered at/g)).to.have.length(1);
    await expectSwitch('first');
  });

  it('do when a line comes back after another one', async () => {
    await restored(vms.file('three'), [full, changed, back]);
  });

  it('heed podheitor-restore.conf, whichever line takes a file', async () => {
    const where = vms.file('told');
    mkdirSync(where, { mode: 0o700 });
    writeFileSync(join(where, 'podheitor-restore.conf'), 'network_map=lan=second\n', {
      mode: 0o600,
    });
    await restored(where, [full, changed]);
    await expectSwitch('second');
  });

  it('make no VM, and leave no session, when the Full of the other line was not selected', async () => {
    const wish = { of: { jobIds: [changed, back] }, where: vms.file('half') };
    const restore = await vms.restoreElsewhere(wish);
    expect(restore.status, restore.log).to.equal('f');
    expect(restore.log).to.match(/E_RESTORE_CHAIN/);
    expect(await vms.list('other')).to.deep.equal([]);
    expect(existsSync(join(vms.stateFolder('other'), `restore-${restore.jobId}`))).to.equal(false);
  });
});
