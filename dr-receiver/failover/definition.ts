// The VM's definition of a point, from what its source sent: bounded fields and nothing else. Places of
// disks and adapters are taken over; paths, media and devices were never sent.

import { defined } from '../../shared/assert.js';
import { guidFromWire, parseGuid, type Guid } from '../../shared/bytes/index.js';
import {
  type BootDevice as WireBootDevice,
  type FirmwareIds as WireFirmwareIds,
  type HyperVSettings as WireSettings,
  VmDefinition as WireDefinition,
} from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import {
  BOOT_CLASSES,
  type BootDevice,
  type FirmwareIds,
  type HyperVSettings,
  type VmAdapter,
  type VmDefinition,
} from '../../shared/hypervisor/index.js';
import type { Point } from '../store/point.js';

const MIB = 1024 * 1024;
const SERIAL_LENGTH_MAX = 256;
const CPUS_MAX = 2048;
const MEMORY_MAX = 240 * 1024 * 1024 * MIB;
/** Of a VM whose source did not tell. */
const MEMORY_DEFAULT = 1024 * MIB;

/** What is known of a VM beside its points. */
interface DefinedVm {
  readonly vmId: Guid;
  readonly protection: { readonly vmName: string };
}

/** What no VM can have is what the source did not tell. */
function memoryOf(bytes: bigint): number {
  const isLegal = bytes >= BigInt(MIB) && bytes <= BigInt(MEMORY_MAX);
  return isLegal ? Number(bytes) : MEMORY_DEFAULT;
}

/** @throws DrError E_POINT_CORRUPT when the point has no definition that can be used */
export function definitionOf(
  vm: DefinedVm,
  point: Pick<Point, 'pointId' | 'definition' | 'disks'>,
): VmDefinition {
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
        ...(adapter.isLegacy ? { isLegacy: true } : {}),
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
    ...(wire.hyperV === undefined ? {} : { hyperV: settingsOf(wire.hyperV) }),
  };
}

function settingsOf(wire: WireSettings): HyperVSettings {
  const { isSecureBoot, secureBootTemplate, isMemoryDynamic, hasTpm } = wire;
  const minimumBytes = memoryOf(wire.minimumMemoryBytes);
  const maximumBytes = Math.max(minimumBytes, memoryOf(wire.maximumMemoryBytes));
  return {
    isSecureBoot,
    // what is no GUID is none: it is handed to another program
    secureBootTemplate: parseGuid(secureBootTemplate),
    dynamicMemory: isMemoryDynamic ? { minimumBytes, maximumBytes } : undefined,
    hasTpm,
    integrationServices: wire.integrationServices.flatMap(({ componentId, isEnabled }) => {
      const id = guidFromWire(componentId);
      return id === undefined ? [] : [{ id, isEnabled }];
    }),
    bootOrder: wire.bootOrder.flatMap(bootDeviceOf),
    firmwareIds: wire.firmwareIds && firmwareIdsOf(wire.firmwareIds),
  };
}

function firmwareIdsOf(wire: WireFirmwareIds): FirmwareIds {
  return {
    biosGuid: guidFromWire(wire.biosGuid),
    biosSerialNumber: oneLine(wire.biosSerialNumber),
    baseBoardSerialNumber: oneLine(wire.baseBoardSerialNumber),
    chassisSerialNumber: oneLine(wire.chassisSerialNumber),
    chassisAssetTag: oneLine(wire.chassisAssetTag),
  };
}

/** As firmware can show it: bounded, and without characters that XML cannot carry. */
function oneLine(text: string): string {
  return text.replaceAll(/[^ -~]/g, '').slice(0, SERIAL_LENGTH_MAX);
}

/** What we do not know is left out: an order of what is there is better than none. */
function bootDeviceOf(wire: WireBootDevice): readonly BootDevice[] {
  const diskId = guidFromWire(wire.diskId);
  if (diskId !== undefined) return [{ kind: 'disk', diskId }];
  const adapterId = guidFromWire(wire.adapterId);
  if (adapterId !== undefined) return [{ kind: 'adapter', adapterId }];
  const deviceClass = BOOT_CLASSES.find((each) => each === wire.deviceClass);
  return deviceClass === undefined ? [] : [{ kind: 'class', deviceClass }];
}
