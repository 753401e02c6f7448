// A restore that dies at any of its steps, by a power cut: no VM is there over disks that are not right,
// and the same job, delivered again, makes the VM.

import { expect } from 'chai';
import { BackedUpVm, definitionWith, selected, type JobFile } from '../support/backup-job.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { RestoreSite, WHERE } from '../support/restore-site.js';

const MIB = 1024 * 1024;

async function expectRight(site: RestoreSite, vm: BackedUpVm): Promise<void> {
  for (const [index, { diskId }] of vm.definition.disks.entries()) {
    const bytes = await site.diskBytes(`${WHERE}/@hyperv/${vm.names.base(diskId)}`);
    expect(bytes.equals(vm.disks[index] ?? Buffer.alloc(0)), `disk ${index}`).to.equal(true);
  }
}

async function isRegistered(site: RestoreSite): Promise<boolean> {
  return (await (await site.lab()).listVms()).some(({ name }) => name === 'SQL01');
}

describe('a restore with a power cut at every step', function () {
  this.timeout(600_000);
  const vm = new BackedUpVm(definitionWith('SQL01', [MIB, 300 * 1024]), 11);
  let files: JobFile[];
  before(async () => {
    vm.write(5);
    const full = await vm.full();
    vm.write(3);
    files = selected(full, await vm.incremental());
  });

  for (const [what, job] of [
    ['the same job goes on with its session', { jobId: 7, name: 'restore.1' }],
    ['a later job begins anew', { jobId: 8, name: 'restore.2' }],
  ] as const) {
    it(`registers no VM over wrong disks, and ${what}`, async () => {
      const { volume } = await RestoreSite.make();
      const count = await crashEverywhere({
        volume,
        operationsMax: 50,
        seedCount: 1,
        run: async (fs) => {
          const failures = await RestoreSite.over(volume).restore(files, { fs });
          if (failures.length > 0) throw failures[0];
        },
        check: async (found, { hasFinished }) => {
          const site = RestoreSite.over(found);
          if (await isRegistered(site)) await expectRight(site, vm);
          else expect(hasFinished).to.equal(false);
          if (hasFinished) return;
          const wasThere = await isRegistered(site);
          const session = await found.status('/state/restore-7/session.json');
          // all was done but to forget the session: the files are the VM's now
          if (wasThere && (job.jobId !== 7 || session === undefined)) return;
          const failures = await site.restore(files, { job });
          // the session may have ended before the power went
          if (wasThere) for (const error of failures) expect(error).to.include({ code: 'E_STATE' });
          else expect(failures).to.deep.equal([]);
          await expectRight(site, vm);
          expect(await isRegistered(site)).to.equal(true);
          expect(await site.filesBelow(`/state/restore-${job.jobId}`)).to.deep.equal([]);
        },
      });
      expect(count).to.be.greaterThan(100);
    });
  }
});
