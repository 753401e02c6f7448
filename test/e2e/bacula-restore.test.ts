// What a restore makes, beside the DR store: its files seed a VM there, and a point of the store equals,
// byte for byte, the disks that the restore of the same moment makes.

import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { openRestore, type RestoreValues } from '../../plugin-bridge/restore/index.js';
import { defined } from '../../shared/assert.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import { BackedUpVm, deliver, type JobFile, selected } from '../support/backup-job.js';
import { SEED_VM, SeedSite } from '../support/seed-site.js';
import { WorkFolder } from '../support/work-folder.js';

const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };

class RestoredSite extends SeedSite {
  lab(): Promise<Lab> {
    return Lab.open(this.at('lab'), SEAMS);
  }

  /** A Full, and an Incremental after the guest wrote. */
  async jobs(): Promise<{ vm: BackedUpVm; files: JobFile[] }> {
    const lab = await this.lab();
    const [found] = (await lab.listVms()).filter(({ name }) => name === SEED_VM);
    const { id } = defined(found, 'the VM is there');
    const vm = new BackedUpVm(await lab.describeVm(id), 4);
    const look = async (): Promise<void> => {
      for (const [index, { sizeBytes }] of vm.definition.disks.entries()) {
        vm.disks[index] = await lab.guestRead(id, index, 0, sizeBytes);
      }
    };
    await look();
    const full = await vm.full();
    await this.write(0, 20, 7);
    await this.write(1, 10, 8);
    await look();
    return { vm, files: selected(full, await vm.incremental()) };
  }

  async restore(files: readonly JobFile[], values: Partial<RestoreValues>): Promise<void> {
    const where = this.at('restored');
    const lab = await this.lab();
    const work = await openRestore(
      { name: 'restore.1', jobId: 12, where, regexWhere: '', replace: 'a' },
      {
        new_vm_name: undefined,
        restore_path: undefined,
        restore_to: 'vm',
        replace_vm: false,
        network_map: undefined,
        unmapped: 'refuse',
        mac_policy: undefined,
        ...values,
      },
      {
        ...SEAMS,
        stateFolder: this.at('restore-state'),
        roots: [this.folder],
        host: () => Promise.resolve(lab),
        say: () => undefined,
      },
    );
    for (const file of files) await deliver(work, file, where);
    await work.finish();
  }
}

async function diskHash(file: string): Promise<string> {
  const disk = await openVhdx(file, SEAMS);
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, bytes);
  await disk.close();
  return createHash('sha256').update(bytes).digest('hex');
}

describe('a restore from Bacula beside a DR store', function () {
  this.timeout(240_000);
  let folder: WorkFolder;
  let site: RestoredSite;
  beforeEach(async () => {
    folder = new WorkFolder('bacula-restore');
    site = new RestoredSite(folder.path);
    await site.prepare();
    await site.makeVm();
  });
  afterEach(async () => {
    await site.stopReceiver();
    folder.dispose();
  });

  it('seeds the VM with its files, and the first push sends next to nothing', async () => {
    const { files } = await site.jobs();
    await site.restore(files, { restore_to: 'files' });
    await site.startReceiver();
    await site.stopReceiver();
    await site.hvdr(
      ...['seed', '--vm', SEED_VM, '--principal', 'primary', '--store', 'store'],
      ...['--from', 'bacula:restored'],
    );
    await site.startReceiver();
    const pushed = await site.push(SEED_VM);
    expect(pushed.bytesSent).to.be.lessThan(64 * 1024);
    await site.expectGuest(pushed.point, 2);
  });

  it('makes the disks that the point of the same moment has', async () => {
    const { vm, files } = await site.jobs();
    await site.restore(files, { new_vm_name: 'copy' });
    await site.startReceiver();
    const pushed = await site.push(SEED_VM);
    const restored: string[] = [];
    for (const { diskId } of vm.definition.disks) {
      restored.push(await diskHash(site.at('restored', '@hyperv', vm.names.base(diskId))));
    }
    expect(restored).to.deep.equal(await site.pointHashes(SEED_VM, pushed.point, 2));
    expect((await (await site.lab()).listVms()).map(({ name }) => name)).to.include('copy');
  });
});
