import { dirname } from 'node:path';
import { nodeFileSystem } from '../../shared/files/index.js';
import { buildDouble, HyperVRig } from '../support/hyperv-host/rig.js';
import { WorkFolder } from '../support/work-folder.js';
import { hypervisorConformance, type HypervisorUnderTest } from './hypervisor.js';

describe('Hyper-V over the fake host and the double of virtdisk.dll', () => {
  const tools = new WorkFolder('hyperv-double');
  const double = tools.file('virtdisk.so');

  before(async function () {
    this.timeout(120_000);
    await buildDouble(double);
  });
  after(() => {
    tools.dispose();
  });

  hypervisorConformance('Hyper-V', () => makeHyperV(double));
});

async function makeHyperV(double: string): Promise<HypervisorUnderTest> {
  const rig = await HyperVRig.create(double);
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
