// The VM's definition of a point, from what its source sent: bounded fields and nothing else. Places of
// disks and adapters are taken over; paths, media and devices were never sent.

import { defined } from '../../shared/assert.js';
import { guidFromWire } from '../../shared/bytes/index.js';
import { VmDefinition as WireDefinition } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmAdapter, VmDefinition } from '../../shared/hypervisor/index.js';
import type { Point } from '../store/point.js';
import type { VmStore } from '../store/vm-store.js';

const MIB = 1024 * 1024;
const CPUS_MAX = 2048;
const MEMORY_MAX = 240 * 1024 * 1024 * MIB;
/** Of a VM whose source did not tell. */
const MEMORY_DEFAULT = 1024 * MIB;

/** What no VM can have is what the source did not tell. */
function memoryOf(bytes: bigint): number {
  const isLegal = bytes >= BigInt(MIB) && bytes <= BigInt(MEMORY_MAX);
  return isLegal ? Number(bytes) : MEMORY_DEFAULT;
}

/** @throws DrError E_POINT_CORRUPT when the point has no definition that can be used */
export function definitionOf(vm: VmStore, point: Point): VmDefinition {
  const { vmName } = vm.protection;
  let wire: WireDefinition;
  try {
    wire = WireDefinition.decode(Buffer.from(point.definition, 'base64'));
  } catch (error) {
    throw new DrError('E_POINT_CORRUPT', `${vmName}: the definition of the VM cannot be read`, {
      context: { pointId: point.pointId },
      cause: error,
    });
  }
  return {
    id: vm.vmId,
    name: vmName,
    generation: wire.generation === 1 ? 1 : 2,
    cpuCount: Math.min(CPUS_MAX, Math.max(1, wire.cpuCount)),
    memoryBytes: memoryOf(wire.memoryBytes),
    isAutoStart: wire.isAutoStart,
    disks: point.disks.map((disk, index) => {
      const place = wire.diskPlaces[index];
      return {
        ...disk,
        controller: place?.isScsi === false ? 'ide' : 'scsi',
        controllerNumber: place?.controllerNumber ?? 0,
        controllerLocation: place?.controllerLocation ?? index,
        path: '',
      };
    }),
    adapters: wire.adapters.map((adapter): VmAdapter => {
      const id = guidFromWire(adapter.adapterId);
      return {
        id: defined(id ?? vm.vmId, 'a VM has an id'),
        name: adapter.name,
        mac: adapter.mac,
        isMacStatic: adapter.isMacStatic,
        switchName: adapter.switchName === '' ? undefined : adapter.switchName,
        vlan: adapter.vlan === 0 ? undefined : adapter.vlan,
        guest: {
          isDhcp: adapter.isDhcp,
          addresses: adapter.addresses,
          gateways: adapter.gateways,
          dnsServers: adapter.dnsServers,
        },
      };
    }),
  };
}
