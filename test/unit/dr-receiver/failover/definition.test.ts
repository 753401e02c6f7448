// What a source says of a VM comes out at the other site as it went in, over the wire and the store.

import { expect } from 'chai';
import { definitionOf } from '../../../../dr-receiver/failover/definition.js';
import { guid } from '../../../../shared/bytes/index.js';
import { VmDefinition as WireDefinition } from '../../../../shared/channel/index.js';
import type {
  HyperVSettings,
  VmAdapter,
  VmDefinition,
} from '../../../../shared/hypervisor/index.js';
import { wireDefinition } from '../../../../source-agent/wire-definition.js';

const VM_ID = guid('aaaaaaaa-0000-4000-8000-000000000001');
const MIB = 1024 * 1024;
const SETTINGS: HyperVSettings = {
  isSecureBoot: true,
  secureBootTemplate: '272e7447-90a4-4563-a4b9-8e4ab00526ce',
  dynamicMemory: { minimumBytes: 512 * MIB, maximumBytes: 8192 * MIB },
  hasTpm: true,
  integrationServices: [
    { id: guid('2497f4de-e9fa-4204-80e4-4b75c46419c0'), isEnabled: false },
    { id: guid('6c09bb55-d683-4da0-8931-c9bf705f6480'), isEnabled: true },
  ],
  bootOrder: [
    { kind: 'adapter', adapterId: guid('aaaaaaaa-0000-4000-8000-000000000003') },
    { kind: 'disk', diskId: guid('aaaaaaaa-0000-4000-8000-000000000002') },
    { kind: 'class', deviceClass: 'IDE' },
  ],
  firmwareIds: {
    biosGuid: guid('aaaaaaaa-0000-4000-8000-000000000004'),
    biosSerialNumber: 'bios 1',
    baseBoardSerialNumber: 'board 2',
    chassisSerialNumber: 'chassis 3',
    chassisAssetTag: 'asset 4',
  },
};

const ADAPTER: VmAdapter = {
  id: guid('aaaaaaaa-0000-4000-8000-000000000003'),
  name: 'LAN',
  mac: '00155D010203',
  isMacStatic: true,
  switchName: 'production',
  vlan: 7,
  guest: { isDhcp: true, addresses: [], gateways: [], dnsServers: [] },
};

function travelled(hyperV: HyperVSettings | undefined): VmDefinition {
  const sent: VmDefinition = {
    id: VM_ID,
    name: 'vm',
    generation: 2,
    cpuCount: 4,
    memoryBytes: 2048 * MIB,
    isAutoStart: true,
    disks: [],
    adapters: [ADAPTER, { ...ADAPTER, isLegacy: true }],
    hyperV,
  };
  const bytes = WireDefinition.encode(wireDefinition(sent, [])).finish();
  const definition = Buffer.from(bytes).toString('base64');
  const vm = { vmId: VM_ID, protection: { vmName: 'vm' } };
  return definitionOf(vm, { pointId: VM_ID, definition, disks: [] });
}

describe('the definition of a VM, over the wire and the store', () => {
  it('keeps what only Hyper-V knows', () => {
    expect(travelled(SETTINGS).hyperV).to.deep.equal(SETTINGS);
    const plain = { ...SETTINGS, secureBootTemplate: undefined, dynamicMemory: undefined };
    expect(travelled(plain).hyperV).to.deep.equal(plain);
  });

  it('keeps its adapters, legacy ones as such', () => {
    expect(travelled(SETTINGS).adapters).to.deep.equal([ADAPTER, { ...ADAPTER, isLegacy: true }]);
  });

  it('says nothing of it for another hypervisor', () => {
    expect(travelled(undefined)).not.to.have.property('hyperV');
  });

  it('hands on no template that is not an id, and no maximum below the minimum', () => {
    const odd = {
      ...SETTINGS,
      secureBootTemplate: "x'; Remove-VM",
      dynamicMemory: { minimumBytes: 512 * MIB, maximumBytes: MIB },
    };
    expect(travelled(odd).hyperV?.secureBootTemplate).to.equal(undefined);
    expect(travelled(odd).hyperV?.dynamicMemory).to.deep.equal({
      minimumBytes: 512 * MIB,
      maximumBytes: 512 * MIB,
    });
  });
});
