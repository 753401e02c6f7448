// An upgrade of the .deb while programs of the former one run: dpkg replaces the files under them, and what they load only
// later has to be there. In a copy of this machine, by dpkg.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { type BackendProcess, backendOf } from '../support/backend-process.js';
import { laterRelease, makePackages, onlyFile } from '../support/linux-package.js';
import { MachineCopy } from '../support/machine-copy.js';
import { needTool } from '../support/need.js';
import { WorkFolder } from '../support/work-folder.js';

const RUNNING = '/usr/lib/podheitor/running';
const JOB = ['Name=nightly.2026-11-26_20.00.00_01', 'JobID=7', 'Type=B', 'Level=F'];

describe('an upgrade of the .deb', () => {
  const work = new WorkFolder('package-upgrade');
  let copy: MachineCopy;
  const started: BackendProcess[] = [];

  before(async function () {
    needTool(this, 'gcc', 'dpkg-deb');
    copy = await MachineCopy.make(this);
    await makePackages('--out', work.path, '--only', 'deb', '--compress', 'off');
    const package_ = onlyFile(work.path, '.deb');
    await copy.shell('cat > /tmp/now.deb', readFileSync(package_));
    const later = await laterRelease(package_, work.path);
    await copy.shell('cat > /tmp/later.deb', readFileSync(later));
    await copy.shell(`
      rm -rf /etc/podheitor /var/lib/podheitor /var/log/podheitor
      dpkg -i /tmp/now.deb
      sed -i 's/^host=.*/host=lab:\\/var\\/lib\\/podheitor\\/lab/' /etc/podheitor/backend.conf
      hvdr lab init /var/lib/podheitor/lab
      hvdr lab create-vm /var/lib/podheitor/lab SQL01 --disk 4M
    `);
  });

  after(async () => {
    for (const { child } of started) child.kill('SIGKILL');
    await copy.dispose();
    work.dispose();
  });

  /** A backend that has loaded what it needs to answer, as the plugin of the File Daemon starts it. */
  async function greeted(): Promise<BackendProcess> {
    const [program, args] = copy.command('/usr/lib/podheitor/podheitor-hyperv-backend');
    const backend = backendOf(spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] }));
    started.push(backend);
    await backend.peer.hello();
    return backend;
  }

  /** Backs up the VM; returns the names of what came. */
  async function backUp({ peer, exit, stderr }: BackendProcess): Promise<string[]> {
    await peer.block('Job', [...JOB, 'Namespace=@hyperv']);
    await peer.expect('F');
    await peer.block('Params', ['vm=SQL01']);
    await peer.expect('F');
    await peer.start('BackupStart');
    const items = await peer.takeItems();
    await peer.end();
    peer.close();
    await peer.untilEnd();
    expect(await exit, stderr()).to.deep.equal([0, null]);
    return items.map(({ name }) => name);
  }

  it('lets a job that runs come to its end on the programs that it was started from', async () => {
    const before = await greeted();
    await copy.shell('dpkg -i /tmp/later.deb');
    expect(await copy.shell('hvdr --version')).to.equal('hvdr 99.0.0\n');
    // opening the log and the host loads parts that were not loaded before
    const names = await backUp(before);
    expect(names.some((name) => name.endsWith('.vhdx'))).to.equal(true);
    expect(await copy.shell('cat /var/log/podheitor/backend.log')).to.contain('"job');
    expect((await backUp(await greeted())).length).to.equal(names.length);
  });

  it('keeps the former programs until the next upgrade, and as long as something runs from them', async () => {
    const builds = async () => (await copy.shell(`ls ${RUNNING}`)).trim().split('\n');
    expect(await builds()).to.have.length(3);
    const last = await greeted();
    await copy.shell('dpkg -i /tmp/now.deb');
    await copy.shell(
      "sed -i 's/^build=.*/build=third/' /var/lib/dpkg/info/podheitor-hvdr.postinst",
    );
    await copy.shell('/var/lib/dpkg/info/podheitor-hvdr.postinst configure 1');
    expect(await builds()).to.include.members(['99.0.0-of-the-test', 'current', 'third']);
    expect((await backUp(last)).length).to.be.above(0);
    await copy.shell('dpkg -i /tmp/now.deb');
    expect(await builds()).not.to.include('99.0.0-of-the-test');
  });

  it('takes no room for them, and leaves nothing when the package is removed', async () => {
    const links = `stat -c %h ${RUNNING}/current/node`;
    expect(Number(await copy.shell(links))).to.be.above(1);
    expect(await copy.shell('dpkg --remove podheitor-hvdr 2>&1')).not.to.contain('not empty');
    await copy.shell('test ! -e /usr/lib/podheitor');
  });
});
