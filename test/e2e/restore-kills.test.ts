// A restore whose backend process is killed with -9: before any change of a name, in the middle of a disk,
// between two files. The same job in another backend, or a later job, makes the VM; no VM is there half
// registered, and `hvdr gc` leaves nothing of the dead one.

import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { defined } from '../../shared/assert.js';
import { BackedUpVm, definitionWith, type JobFile, selected } from '../support/backup-job.js';
import { runHvdr } from '../support/cli.js';
import { dyingAtChange } from '../support/preloaded.js';
import { inPackets, RestoringBackend } from '../support/restoring-backend.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const FIRST = { jobId: 7, name: 'restore.2026-11-26_20.00.00_07' };
const LATER = { jobId: 8, name: 'restore.2026-11-26_21.00.00_08' };

describe('a restore whose backend is killed', function () {
  this.timeout(600_000);
  let vm: BackedUpVm;
  let files: JobFile[];
  let folder: WorkFolder;
  let site: RestoringBackend;

  before(async () => {
    vm = new BackedUpVm(definitionWith('SQL01', [2 * MIB, 300 * 1024]), 11);
    vm.write(8);
    const full = await vm.full();
    vm.write(5);
    files = selected(full, await vm.incremental());
  });

  async function freshSite(): Promise<void> {
    folder = new WorkFolder('restore-kills');
    site = await RestoringBackend.make(folder, vm);
  }

  /** After the dead job: does it again, compares, and sweeps. */
  async function expectMended(job: typeof FIRST): Promise<void> {
    const before = await site.vm();
    const { refusals } = await site.run(job, files);
    // all was done but to forget the session: the files are the VM's now
    if (before === 'whole') {
      expect(refusals[0] ?? 'E_STATE').to.match(/E_(STATE|RESTORE_VM)/);
    } else expect(refusals).to.deep.equal([]);
    expect(await site.vm()).to.equal('whole');
    expect((await site.adapters()).map(({ switchName }) => switchName)).to.deep.equal(['LAN']);
    if (site.leftOver().length === 0) return;
    const gc = ['gc', '--host', `lab:${folder.file('lab')}`];
    const state = ['--state-dir', folder.file('state')];
    const swept = await runHvdr([...gc, ...state]);
    expect(swept.code, swept.stderr).to.equal(0);
    expect(await site.vm()).to.equal('whole');
    expect(site.leftOver()).to.deep.equal([]);
  }

  /** The changes of names of a restore that nobody disturbs, in order. */
  async function undisturbed(): Promise<string[]> {
    await freshSite();
    const log = folder.file('changes');
    const { signal, refusals } = await site.run(FIRST, files, dyingAtChange(0, log));
    expect({ signal, refusals }).to.deep.equal({ signal: null, refusals: [] });
    const text = readFileSync(log, 'utf8').trimEnd();
    folder.dispose();
    return text.split('\n');
  }

  it('before changes of names: it is done again, by the same job and by a later one', async () => {
    const changes = await undisturbed();
    const placed = changes.findIndex((line) => /^rename .*\/disks\/[^/.][^/]*\.vhdx$/.test(line));
    const sweeping = changes.findIndex((line) => /^unlink .*\/items\//.test(line));
    expect(placed).to.be.within(1, sweeping);
    let marked = 0;
    for (const [index, change] of changes.entries()) {
      const isRegistering = /\/lab\/.*\/vm\.json$/.test(change);
      // taking files and sweeping are many times the same
      if ((index < placed && index % 5 > 0) || (index > sweeping && index % 16 > 0)) continue;
      for (const job of isRegistering ? [FIRST, LATER] : [index % 2 === 0 ? FIRST : LATER]) {
        await freshSite();
        const dying = dyingAtChange(index + 1, folder.file('changes'));
        expect((await site.run(FIRST, files, dying)).signal, change).to.equal('SIGKILL');
        if ((await site.vm()) === 'marked') marked++;
        await expectMended(job);
        folder.dispose();
      }
    }
    expect(marked).to.be.greaterThan(2);
  });

  for (const [what, job] of [
    ['another backend of the job', FIRST],
    ['a later job', LATER],
  ] as const) {
    it(`in the middle of a disk: ${what} does it again`, async () => {
      await freshSite();
      const backend = site.start();
      await site.begin(backend, FIRST);
      const base = defined(
        files.find(({ path }) => path.endsWith('.vhdx')),
        'a base is among the files',
      );
      const place = `${site.where}/@hyperv/${base.path}`;
      expect(await backend.peer.announce(place, 'F', base.bytes.length)).to.equal('C OK');
      await backend.peer.command('DATA');
      const packets = inPackets(base.bytes);
      for (const packet of packets.slice(0, packets.length / 2)) {
        await backend.peer.send('D', packet);
      }
      backend.child.kill('SIGKILL');
      await backend.peer.untilEnd();
      expect(await backend.exit).to.deep.equal([null, 'SIGKILL']);
      expect(backend.stderr()).to.equal('');
      expect(site.leftOver()).to.include('restore-7');
      await expectMended(job);
      folder.dispose();
    });

    it(`between two files: ${what} does it again`, async () => {
      await freshSite();
      const backend = site.start();
      await site.begin(backend, FIRST);
      for (const file of files.slice(0, 6)) {
        expect(await site.deliver(backend, file)).to.deep.equal([]);
      }
      backend.child.kill('SIGKILL');
      await once(backend.child, 'close');
      expect(site.leftOver()).to.include('restore-7');
      await expectMended(job);
      folder.dispose();
    });
  }

  it('with the VM half registered: `hvdr gc` names it, removes it, and leaves its disks', async () => {
    const changes = await undisturbed();
    const made = changes.findIndex((line) => /^unlink .*\/lab\/.*\/creating$/.test(line));
    await freshSite();
    await site.run(FIRST, files, dyingAtChange(made + 2, folder.file('changes')));
    expect(await site.vm()).to.equal('marked');
    const gc = ['gc', '--host', `lab:${folder.file('lab')}`, '--state-dir', folder.file('state')];
    const plan = await runHvdr([...gc, '--plan']);
    expect(plan.stdout.toString()).to.match(/would go: source: VM of a restore of SQL01/);
    expect(await site.vm()).to.equal('marked');
    const run = await runHvdr(gc);
    expect(run.stdout.toString()).to.match(/removed: source: VM of a restore of SQL01/);
    expect(await site.vm()).to.equal('absent');
    const disks = readdirSync(join(site.where, '@hyperv', 'SQL01', 'disks'));
    expect(disks).to.have.length(2);
    await expectMended(LATER);
    folder.dispose();
  });
});
