// Jobs of one Bacula against a host in memory: what a restore of the jobs that count gives must be the
// guest's bytes at the last checkpoint, whichever jobs failed or were deleted in between.

import { expect } from 'chai';
import { DrError } from '../../../../shared/errors.js';
import { BackupVolume, restoredDisks } from '../../../support/backup-volume.js';
import { JobSite, kindOf } from '../../../support/job-site.js';
import { refusal } from '../../../support/refusal.js';

const CELL = 65536;

class Site extends JobSite {
  async check(...jobs: readonly { readonly volume: BackupVolume }[]): Promise<void> {
    const disks = await restoredDisks(jobs.map(({ volume }) => volume));
    expect(disks.map((bytes, index) => bytes.equals(this.vm.disks[index]?.bytes ?? bytes))).to.eql([
      true,
      true,
    ]);
    expect(this.world.hypervisor.checkpoints.size).to.equal(0);
    expect(this.world.hypervisor.referencePoints.size).to.be.at.most(
      this.world.hypervisor.vms.size,
    );
  }
}

describe('backup job', () => {
  it('Full, three Incrementals, Differential, Incremental: each chain gives the guest', async () => {
    const site = new Site();
    site.guestWrites();
    const full = await site.run('F', '');
    await site.check(full);
    const chain = [full];
    for (let i = 0; i < 3; i++) {
      site.guestWrites();
      const next = await site.run('I', chain.at(-1)?.name ?? '');
      expect(kindOf(next.volume)).to.equal('delta');
      chain.push(next);
      await site.check(...chain);
    }
    site.guestWrites();
    const differential = await site.run('D', full.name);
    expect(kindOf(differential.volume)).to.equal('delta');
    await site.check(full, differential);
    site.guestWrites();
    const last = await site.run('I', differential.name);
    expect(kindOf(last.volume)).to.equal('delta');
    await site.check(full, differential, last);
  });

  it('sends the state last, and every file below the folder of the VM', async () => {
    const site = new Site();
    const { volume } = await site.run('F', '');
    const names = [...volume.files.keys()];
    expect(names[0]).to.equal('SQL01/config/vm.json');
    expect(names.at(-1)).to.equal('SQL01/.meta/rct-state.json');
    expect(names).to.have.length(6);
  });

  it('a job that failed or was deleted is made up for by the next', async () => {
    const site = new Site();
    const full = await site.run('F', '');
    site.guestWrites();
    await site.run('I', full.name); // failed: the next builds on the Full again
    site.guestWrites();
    const second = await site.run('I', full.name);
    expect(kindOf(second.volume)).to.equal('delta');
    await site.check(full, second);
    site.guestWrites();
    const third = await site.run('I', second.name);
    site.guestWrites();
    // the third was deleted; afterwards all but the Full
    await site.check(full, second, await site.run('I', second.name));
    const again = await site.run('I', full.name);
    expect(kindOf(again.volume)).to.equal('delta');
    await site.check(full, again);
    expect(kindOf(third.volume)).to.equal('delta');
  });

  it('a Full that failed costs no other one: the former chain goes on', async () => {
    const site = new Site();
    const full = await site.run('F', '');
    site.guestWrites();
    const first = await site.run('I', full.name);
    site.guestWrites();
    await site.run('F', '');
    site.guestWrites();
    const next = await site.run('I', first.name);
    expect(kindOf(next.volume)).to.equal('delta');
    await site.check(full, first, next);
    site.guestWrites();
    const differential = await site.run('D', full.name);
    expect(kindOf(differential.volume)).to.equal('delta');
    await site.check(full, differential);
  });

  it('goes whole, and says why, where nothing is known of the job it builds on', async () => {
    const site = new Site();
    const { volume } = await site.run('I', 'nightly.2020-01-01_00.00.00_01');
    expect(kindOf(volume)).to.equal('whole');
    expect(volume.said.join('\n')).to.include('every disk went whole');
    await site.check({ volume });
  });

  it('a file that could not be sent: the job is red, and the next brings all of it', async () => {
    for (const fatal of ['vm.json', '.cbt', '.manifest', 'rct-state.json']) {
      const site = new Site();
      const full = await site.run('F', '');
      site.guestWrites();
      const broken = new BackupVolume();
      broken.onFile = (path) => {
        if (path.endsWith(fatal)) throw new DrError('E_IO', 'the volume is full');
      };
      const error = await refusal(() => site.run('I', full.name, { volume: broken }));
      expect(error.code).to.equal('E_IO');
      site.guestWrites();
      const next = await site.run('I', full.name);
      expect(kindOf(next.volume)).to.equal('delta');
      await site.check(full, next);
    }
  });

  it('a VM without a point in a job that counted goes on from its former one', async () => {
    const site = new Site();
    const other = site.world.hypervisor.addVm(2, 'WEB01', [2 * CELL]);
    const full = await site.run('F', '');
    site.guestWrites();
    const partial = await site.run('I', full.name, { parameters: 'exclude=SQL*' });
    expect([...partial.volume.files.keys()].every((path) => path.startsWith('WEB01/'))).to.equal(
      true,
    );
    site.guestWrites();
    const next = await site.run('I', partial.name, { parameters: 'exclude=WEB*' });
    expect(kindOf(next.volume)).to.equal('delta');
    const names = new Map(full.volume.files);
    for (const path of names.keys()) if (path.startsWith('WEB01/')) full.volume.files.delete(path);
    await site.check(full, next);
    expect(other.name).to.equal('WEB01');
  });

  it('two jobs and a DR store share one VM, and each stays right', async () => {
    const site = new Site();
    const full = await site.run('F', '');
    await site.world.cycle(site.vm);
    site.guestWrites();
    const hourly = await site.run('F', '', { job: 'hourly' });
    site.guestWrites();
    await site.world.cycle(site.vm);
    site.guestWrites();
    const next = await site.run('I', full.name);
    await site.check(full, next);
    site.guestWrites();
    const second = await site.run('I', hourly.name, { job: 'hourly' });
    expect(kindOf(second.volume)).to.equal('delta');
    await site.check(hourly, second);
    await site.world.cycle(site.vm);
    expect(site.world.receiver.points(site.vm.id).map(({ kind }) => kind)).to.deep.equal([
      'seed',
      'delta',
      'delta',
    ]);
  });

  it('a renamed VM keeps its chain', async () => {
    const site = new Site();
    const full = await site.run('F', '');
    site.vm.name = 'SQL/new';
    site.guestWrites();
    const next = await site.run('I', full.name);
    expect(kindOf(next.volume)).to.equal('delta');
    expect([...next.volume.files.keys()].at(-1)).to.equal('SQL%2Fnew/.meta/rct-state.json');
    await site.check(full, next);
  });

  it('VMs of one name get folders of their own', async () => {
    const site = new Site();
    site.world.hypervisor.addVm(3, 'sql01', [CELL]);
    const { volume } = await site.run('F', '');
    const folders = new Set([...volume.files.keys()].map((path) => path.split('/')[0]));
    expect(folders.size).to.equal(2);
  });

  it('the cycles of a push job lead on from each other, and count together or not at all', async () => {
    const site = new Site();
    const full = await site.run('F', '');
    for (const counts of [false, true]) {
      site.guestWrites();
      const volume = new BackupVolume();
      volume.onFile = (path) => {
        if (path.endsWith('rct-state.json')) site.guestWrites();
      };
      const push = await site.run('I', full.name, {
        parameters: 'mode=rct-push push_cycles=3',
        volume,
      });
      expect([...volume.files.keys()].filter((path) => path.endsWith('.cbt'))).to.have.length(6);
      const next = await site.run('I', counts ? push.name : full.name);
      expect(kindOf(next.volume)).to.equal('delta');
      await site.check(...(counts ? [full, push, next] : [full, next]));
    }
  });

  it('nothing matched is red', async () => {
    const error = await refusal(() => new Site().run('F', '', { parameters: 'vm=NONE*' }));
    expect(error.code).to.equal('E_NO_MATCH');
  });
});
