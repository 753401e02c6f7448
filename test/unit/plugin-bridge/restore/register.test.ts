import { expect } from 'chai';
import { decideName } from '../../../../plugin-bridge/restore/register.js';
import { guid } from '../../../../shared/bytes/index.js';
import type { PowerState, VmSummary } from '../../../../shared/hypervisor/index.js';

const BACKED_UP = guid('0f000000-0000-4000-8000-000000000001');
const ANOTHER = guid('0f000000-0000-4000-8000-000000000002');

function vm(id: typeof BACKED_UP, name: string, powerState: PowerState = 'off'): VmSummary {
  return { id, name, powerState };
}

interface Row {
  readonly is: string;
  readonly vms: readonly VmSummary[];
  readonly newVmName?: string;
  readonly mayReplace?: boolean;
  readonly then: 'free' | 'replace' | 'refused';
}

const ROWS: readonly Row[] = [
  { is: 'a free name', vms: [vm(ANOTHER, 'other')], then: 'free' },
  { is: 'the VM itself, off', vms: [vm(BACKED_UP, 'SQL01')], then: 'replace' },
  { is: 'the VM itself, running', vms: [vm(BACKED_UP, 'SQL01', 'running')], then: 'refused' },
  {
    is: 'the VM itself, in no known state',
    vms: [vm(BACKED_UP, 'SQL01', 'unknown')],
    then: 'refused',
  },
  { is: 'another VM of the name, in other letters', vms: [vm(ANOTHER, 'sql01')], then: 'refused' },
  {
    is: 'the VM itself, running, with replace_vm',
    vms: [vm(BACKED_UP, 'SQL01', 'running')],
    mayReplace: true,
    then: 'replace',
  },
  {
    is: 'another VM, with replace_vm',
    vms: [vm(ANOTHER, 'SQL01')],
    mayReplace: true,
    then: 'replace',
  },
  {
    is: 'two VMs of the name, with replace_vm',
    vms: [vm(ANOTHER, 'SQL01'), vm(BACKED_UP, 'SQL01')],
    mayReplace: true,
    then: 'refused',
  },
  {
    is: 'a new name beside the VM itself, running',
    vms: [vm(BACKED_UP, 'SQL01', 'running')],
    newVmName: 'copy',
    then: 'free',
  },
  {
    is: 'a new name that is taken, with replace_vm',
    vms: [vm(ANOTHER, 'copy')],
    newVmName: 'copy',
    mayReplace: true,
    then: 'refused',
  },
];

describe('whose place a restored VM takes', () => {
  for (const { is, vms, newVmName, mayReplace = false, then } of ROWS) {
    it(`${is}: ${then}`, () => {
      const wish = { vmId: BACKED_UP, vmName: 'SQL01', newVmName, mayReplace };
      expect(decideName(wish, vms).kind).to.equal(then);
    });
  }
});
