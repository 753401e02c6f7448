// A Full and an Incremental of a VM of a lab host on real files: what a restore of their files gives is
// what the guest sees, and nothing is left at the host but the reference point.

import { expect } from 'chai';
import type { JobInfo } from '../../plugin-bridge/job-info.js';
import { runBackup } from '../../plugin-bridge/jobs/backup.js';
import { guid, type Guid } from '../../shared/bytes/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { silentLog } from '../../shared/log.js';
import { parsePluginString, resolveParameters } from '../../shared/params/index.js';
import { Bandwidth } from '../../source-agent/index.js';
import { BackupVolume, restoredDisks } from '../support/backup-volume.js';
import { kindOf } from '../support/job-site.js';
import { viewsOf } from '../support/lab-model.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;

describe('backup job of a lab host', () => {
  const random = new SeededRandom(11);
  let work: WorkFolder;
  let lab: Lab;
  let vmId: Guid = guid('00000000-0000-4000-8000-000000000001');

  before(async () => {
    work = new WorkFolder('backup-job');
    const lockTimeoutMs = 10_000;
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom, lockTimeoutMs };
    lab = await Lab.create(work.file('lab'), seams);
    const disks = [8, 3].map((mib) => ({ source: { sizeBytes: mib * MIB } }));
    vmId = await lab.createVm({ name: 'SQL01', disks });
    await nodeFileSystem.makeFolder(work.file('state'));
  });

  after(async () => {
    await lab.close();
    work.dispose();
  });

  async function guestWrites(): Promise<void> {
    for (const disk of [0, 1]) {
      const at = random.int(2 * MIB) & ~511;
      await lab.guestWrite(vmId, disk, at, random.bytes(100 * 512));
    }
  }

  async function backUp(level: 'F' | 'I', name: string, prevJobName: string) {
    const volume = new BackupVolume();
    const info: JobInfo = {
      ...{ name, jobId: 1, type: 'B', level, sinceSeconds: undefined, prevJobName },
      ...{ where: '', regexWhere: '', replace: undefined, namespace: '@hyperv' },
      ...{ isAccurate: false, workingFolder: undefined },
    };
    const { values } = resolveParameters(parsePluginString('podheitor-hyperv: ').given);
    await runBackup(info, values, volume, {
      hypervisor: lab,
      files: nodeFileSystem,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      stateFolder: work.file('state'),
      bandwidth: new Bandwidth(systemClock, { bytesPerSecond: 0 }),
    });
    expect(volume.said.filter((line) => !line.startsWith('info'))).to.deep.equal([]);
    return volume;
  }

  it('gives the guest after the Full, and after the Incremental', async () => {
    const first = 'nightly.2026-11-26_20.00.00_01';
    await guestWrites();
    const full = await backUp('F', first, '');
    expect(kindOf(full)).to.equal('whole');
    await expectGuest([full]);

    await guestWrites();
    const next = await backUp('I', 'nightly.2026-11-27_20.00.00_02', first);
    expect(kindOf(next)).to.equal('delta');
    await expectGuest([full, next]);
    expect(await lab.listCheckpoints(vmId)).to.have.length(0);
    expect(await lab.listReferencePoints(vmId)).to.have.length(1);
  });

  async function expectGuest(volumes: readonly BackupVolume[]): Promise<void> {
    const disks = await restoredDisks(volumes);
    const views = await viewsOf(lab, vmId);
    expect(disks.map((bytes, index) => bytes.equals(views[index] ?? bytes))).to.eql([true, true]);
  }
});
