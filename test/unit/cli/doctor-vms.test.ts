// What `hvdr doctor` says of the VMs of a host.

import { expect } from 'chai';
import { examineVms } from '../../../cli/doctor-vms.js';
import type { HyperVSettings, VmDefinition } from '../../../shared/hypervisor/index.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';

const SETTINGS: HyperVSettings = {
  isSecureBoot: true,
  secureBootTemplate: undefined,
  dynamicMemory: undefined,
  hasTpm: false,
  integrationServices: [],
  bootOrder: [],
  firmwareIds: undefined,
};

const vm = (index: number, change: Partial<VmDefinition>): VmDefinition => ({
  id: testGuid(index),
  name: `VM${index}`,
  generation: 2,
  cpuCount: 1,
  memoryBytes: 2 ** 30,
  isAutoStart: false,
  disks: [],
  adapters: [],
  ...change,
});

const examined = (...vms: readonly VmDefinition[]) =>
  examineVms(
    {
      listVms: () => Promise.resolve(vms.map(({ id, name }) => ({ id, name, powerState: 'off' }))),
      describeVm: (id) => Promise.resolve(vms.find((each) => each.id === id) ?? vm(0, {})),
    },
    'hyperv',
  );

describe('hvdr doctor about the VMs of a host', () => {
  it('counts those that can be replicated whole', async () => {
    expect(await examined(vm(1, {}), vm(2, { hyperV: SETTINGS }))).to.deep.equal([
      { check: 'hypervisor', verdict: 'ok', detail: 'hyperv answers, 2 VMs', remedy: '' },
    ]);
  });

  it('names those whose keys stay behind, with what to have at hand', async () => {
    const sealed = vm(2, { hyperV: { ...SETTINGS, hasTpm: true } });
    const [, second, ...others] = await examined(vm(1, {}), sealed);
    expect(others).to.deep.equal([]);
    expect(second).to.include({ check: 'virtual TPM', verdict: 'warn' });
    expect(JSON.stringify(second)).to.contain('VM2').and.contain('recovery keys');
  });
});
