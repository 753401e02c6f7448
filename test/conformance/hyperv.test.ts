import { dirname } from 'node:path';
import { nodeFileSystem } from '../../shared/files/index.js';
import { buildDouble, HyperVRig, type Way } from '../support/hyperv-host/rig.js';
import { WorkFolder } from '../support/work-folder.js';
import { hypervisorConformance, type HypervisorUnderTest } from './hypervisor.js';

const WAYS: Readonly<Record<Way, string>> = {
  'in-process': 'Hyper-V over the fake host and the double of virtdisk.dll',
  powershell: 'Hyper-V over PowerShell processes, the fake host behind them',
};

for (const [way, title] of Object.entries(WAYS) as [Way, string][]) {
  describe(title, () => {
    const tools = new WorkFolder('hyperv-double');
    let double = '';

    before(async function () {
      this.timeout(120_000);
      double = await buildDouble(tools.file('virtdisk.so'));
    });
    after(() => {
      tools.dispose();
    });

    hypervisorConformance('Hyper-V', () => makeHyperV(double, way));
  });
}

async function makeHyperV(double: string, way: Way): Promise<HypervisorUnderTest> {
  const rig = await HyperVRig.create(double, way);
  const { lab } = rig.fake;
  return {
    host: rig.open(),
    makeVm: (...made) => rig.makeVm(...made),
    guestWrite: (...write) => lab.guestWrite(...write),
    guestZero: (...range) => lab.guestZero(...range),
    guestRead: (...range) => lab.guestRead(...range),
    addSwitch: (name) => lab.addSwitch({ name, isPrivate: false }),
    makeDiskFile: (...made) => rig.makeDiskFile(...made),
    makeChildFile: (parentPath) => rig.makeChildFile(parentPath),
    addUserCheckpoint: async (vmId) => {
      await lab.addUserCheckpoint(vmId);
    },
    filesBeside: (file) => nodeFileSystem.list(dirname(file)),
    reopen: () => Promise.resolve(rig.open()),
    dispose: () => rig.dispose(),
  };
}
