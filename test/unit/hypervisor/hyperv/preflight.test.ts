// What a VM of Hyper-V can have that no cycle can bring over: it is refused while nothing was made at the host, towards a
// receiver, for a backup job and for a seed medium. The host is the fake one.

import { expect } from 'chai';
import { createSecretKey } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import type { Guid } from '../../../../shared/bytes/index.js';
import type { PreSharedKey } from '../../../../shared/channel/index.js';
import { nodeFileSystem } from '../../../../shared/files/index.js';
import { runCycle } from '../../../../source-agent/cycle.js';
import { runFileCycle } from '../../../../source-agent/file-cycle.js';
import type { FileSink } from '../../../../source-agent/file-sink.js';
import { writeVmMedium } from '../../../../source-agent/seed-medium.js';
import { buildDouble, HyperVRig } from '../../../support/hyperv-host/rig.js';
import { refusal } from '../../../support/refusal.js';
import { WorkFolder } from '../../../support/work-folder.js';
import { AgentWorld, SETTINGS } from '../../source-agent/agent-world.js';

const SIZE = 4 * 1024 * 1024;

const job = { name: 'backup-1', level: 'full', builtOn: [] } as const;
const key: PreSharedKey = {
  ...{ keyId: 'key-1', principal: 'site-a', role: 'source', vmPattern: '*', createdAtMs: 0 },
  secret: createSecretKey(Buffer.alloc(32, 1)),
};
const sink: FileSink = {
  signal: new AbortController().signal,
  file: () => Promise.reject(new Error('nothing is sent')),
  say: () => undefined,
};

describe('a VM of Hyper-V that cannot be replicated', function () {
  this.timeout(120_000);
  const tools = new WorkFolder('hyperv-double');
  let double = '';
  let rig: HyperVRig;
  let vmId: Guid;

  before(async () => {
    double = await buildDouble(tools.file('virtdisk.so'));
  });
  after(() => {
    tools.dispose();
  });
  beforeEach(async () => {
    rig = await HyperVRig.create(double);
    vmId = await rig.makeVm('vm', [SIZE]);
  });
  afterEach(() => rig.dispose());

  async function vhd(): Promise<void> {
    const { disks } = await rig.open().describeVm(vmId);
    for (const { path } of disks) rig.fake.diskFormats.set(path, 'VHD');
  }

  const havingTrait = (trait: 'isShielded' | 'isPassThrough' | 'isShared') => (): void => {
    rig.fake.overlayOf(vmId)[trait] = true;
  };

  const KINDS = [
    ['it is shielded', 'the VM is shielded', havingTrait('isShielded')],
    ['a physical disk is passed through', 'passed through', havingTrait('isPassThrough')],
    ['a disk is shared', 'it is shared with other VMs', havingTrait('isShared')],
    ['a disk is a VHD', 'it is a VHD', vhd],
  ] as const;

  for (const [what, said, make] of KINDS) {
    for (const way of ['a receiver', 'a backup job', 'a seed medium'] as const) {
      it(`is refused for ${way} before a checkpoint is made, since ${what}`, async () => {
        await make();
        const hypervisor = rig.open();
        const world = new AgentWorld(nodeFileSystem);
        const stateFolder = rig.work.file('agent');
        mkdirSync(stateFolder);
        const vm = { id: vmId, name: 'vm', powerState: 'off' } as const;
        const seams = world.seams({ hypervisor, stateFolder });
        const cycles = {
          'a receiver': () => runCycle(vm, SETTINGS, seams),
          'a backup job': () =>
            runFileCycle(vm, [vm], { ...SETTINGS, rpoSeconds: undefined, job }, { ...seams, sink }),
          'a seed medium': () =>
            writeVmMedium(
              vm,
              { ...SETTINGS, folder: rig.work.path, isReplacing: false, key },
              { ...seams, onProgress: () => undefined },
            ),
        };
        const cycle = (): Promise<unknown> => cycles[way]();
        const error = await refusal(() => world.running(cycle()));
        expect(error.code, error.line).to.equal('E_HYPERVISOR');
        expect(error.message).to.contain(said);
        expect(rig.fake.trace).to.include('machine.get');
        expect(rig.fake.trace).to.not.include('checkpoint.create');
      });
    }
  }
});
