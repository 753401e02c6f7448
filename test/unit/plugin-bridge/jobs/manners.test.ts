// How a backup job treats VMs that it cannot take, and how it ends then.

import { expect } from 'chai';
import { DrError } from '../../../../shared/errors.js';
import { guid } from '../../../../shared/bytes/index.js';
import { takeVmLease, type VmLease } from '../../../../source-agent/vm-lease.js';
import { BackupVolume } from '../../../support/backup-volume.js';
import { JobSite, kindOf } from '../../../support/job-site.js';
import { refusal } from '../../../support/refusal.js';
import { STATE } from '../../source-agent/agent-world.js';

/** SQL01, which comes first, and WEB01. */
class Site extends JobSite {
  readonly other = this.world.hypervisor.addVm(2, 'WEB01', [2 * 65536]);

  async occupy(): Promise<VmLease> {
    const { files: fs, clock } = this.world;
    await fs.makeFolder(STATE);
    const request = {
      vmId: this.vm.id,
      vmName: this.vm.name,
      operationId: guid('0c000000-0000-4000-8000-000000000001'),
      holder: 'another process',
      waitMs: 0,
      signal: new AbortController().signal,
    };
    return takeVmLease(STATE, request, { fs, clock });
  }
}

/** Breaks off in the disks of SQL01. */
function brokenVolume(): BackupVolume {
  const volume = new BackupVolume();
  volume.onFile = (path) => {
    if (path.startsWith('SQL01/disks/')) throw new DrError('E_IO', 'the volume is full');
  };
  return volume;
}

function folders({ files }: BackupVolume): string[] {
  return [...new Set([...files.keys()].map((path) => path.split('/')[0] ?? ''))];
}

function errors({ said }: BackupVolume): string[] {
  return said.filter((line) => line.startsWith('error: '));
}

describe('backup job, VMs that it cannot take', () => {
  it('leaves a VM that is in use to the other process, with an error, and takes the rest', async () => {
    const site = new Site();
    const lease = await site.occupy();
    const { volume } = await site.run('F', '', { parameters: 'overlap=skip' });
    await lease.release();
    expect(folders(volume)).to.deep.equal(['WEB01']);
    expect(errors(volume)).to.have.length(2);
    expect(errors(volume)[0]).to.match(/skipped: .*SQL01/);
    expect(volume.said.join('\n')).to.include('2 VMs: 1 done, 1 skipped');
  });

  it('is red when the VM in use is the only one', async () => {
    const site = new Site();
    const lease = await site.occupy();
    const error = await refusal(() => site.run('F', '', { parameters: 'vm=SQL01' }));
    await lease.release();
    expect(error.code).to.equal('E_LOCKED');
  });

  it('waits for the other process when it is told to', async () => {
    const site = new Site();
    const lease = await site.occupy();
    const { clock } = site.world;
    const released = clock.sleep(5000).then(() => lease.release());
    const { volume } = await site.run('F', '', { parameters: 'overlap=wait vm=SQL01' });
    await released;
    expect(kindOf(volume)).to.equal('whole');
    expect(errors(volume)).to.deep.equal([]);
  });

  it('waits no longer than the timeout', async () => {
    const site = new Site();
    const lease = await site.occupy();
    const parameters = 'overlap=wait timeout=5 vm=SQL01';
    const error = await refusal(() => site.run('F', '', { parameters }));
    await lease.release();
    expect(error.code).to.equal('E_LOCKED');
  });

  it('ends at the first VM that fails with abort_on_error, and goes on without', async () => {
    const parameters = 'abort_on_error=yes';
    const stopped = brokenVolume();
    const error = await refusal(() => new Site().run('F', '', { parameters, volume: stopped }));
    expect(error.code).to.equal('E_IO');
    expect(folders(stopped)).to.deep.equal(['SQL01']);

    const { volume } = await new Site().run('F', '', { volume: brokenVolume() });
    expect(folders(volume)).to.deep.equal(['SQL01', 'WEB01']);
  });

  it('is never plain OK when a VM has no point: an error line, or red with on_partial=fail', async () => {
    const { volume } = await new Site().run('F', '', { volume: brokenVolume() });
    expect(errors(volume).join('\n')).to.match(/SQL01 failed, E_IO[^]*E_PARTIAL/);

    const parameters = 'on_partial=fail';
    const failing = brokenVolume();
    const error = await refusal(() => new Site().run('F', '', { parameters, volume: failing }));
    expect(error.code).to.equal('E_IO');
    expect(folders(failing)).to.deep.equal(['SQL01', 'WEB01']);
  });

  it('is red when every VM fails, also when each fails of something else', async () => {
    const site = new Site();
    const lease = await site.occupy();
    const volume = new BackupVolume();
    volume.onFile = () => {
      throw new DrError('E_IO', 'the volume is full');
    };
    const error = await refusal(() => site.run('F', '', { parameters: 'overlap=skip', volume }));
    await lease.release();
    expect(error.code).to.equal('E_PARTIAL');
    expect(error.message).to.match(/2 VMs have no new point: SQL01 \(E_LOCKED\), WEB01 \(E_IO\)/);
  });

  it('leaves out VMs that run with online=no, says so, and does not fail for them', async () => {
    const site = new Site();
    site.other.powerState = 'off';
    const { volume } = await site.run('F', '', { parameters: 'online=no' });
    expect(folders(volume)).to.deep.equal(['WEB01']);
    expect(errors(volume)).to.deep.equal([]);
    expect(volume.said.join('\n')).to.include('warning: skipped: SQL01 is running');
  });
});
