// The VM's definition as it travels: bounded fields, data and nothing else.

import { type Guid, guidToWire } from '../shared/bytes/index.js';
import type {
  BootDevice as WireBootDevice,
  FirmwareIds as WireFirmwareIds,
  HyperVSettings as WireSettings,
  VmDefinition as WireDefinition,
} from '../shared/channel/index.js';
import type {
  BootDevice,
  FirmwareIds,
  HyperVSettings,
  VmDefinition,
} from '../shared/hypervisor/index.js';

/** Adapters beyond this are left out: no VM of Hyper-V has more than twelve. */
const ADAPTERS_MAX = 64;
const TEXT_MAX = 256;
const LIST_MAX = 64;
const SERVICES_MAX = 64;
const BOOT_DEVICES_MAX = 512;

/** `disks` gives the order of the places. */
export function wireDefinition(
  vm: VmDefinition,
  disks: readonly { readonly diskId: Guid }[],
): WireDefinition {
  return {
    generation: vm.generation,
    cpuCount: vm.cpuCount,
    memoryBytes: BigInt(vm.memoryBytes),
    isAutoStart: vm.isAutoStart,
    adapters: vm.adapters.slice(0, ADAPTERS_MAX).map((adapter) => ({
      adapterId: guidToWire(adapter.id),
      name: text(adapter.name),
      mac: text(adapter.mac),
      isMacStatic: adapter.isMacStatic,
      isLegacy: adapter.isLegacy ?? false,
      switchName: text(adapter.switchName ?? ''),
      vlan: adapter.vlan ?? 0,
      isDhcp: adapter.guest.isDhcp,
      addresses: texts(adapter.guest.addresses),
      gateways: texts(adapter.guest.gateways),
      dnsServers: texts(adapter.guest.dnsServers),
    })),
    diskPlaces: disks.map(({ diskId }) => {
      const place = vm.disks.find((disk) => disk.diskId === diskId);
      return {
        isScsi: place?.controller !== 'ide',
        controllerNumber: place?.controllerNumber ?? 0,
        controllerLocation: place?.controllerLocation ?? 0,
      };
    }),
    hyperV: vm.hyperV && wireSettings(vm.hyperV),
  };
}

function wireSettings(settings: HyperVSettings): WireSettings {
  const { isSecureBoot, secureBootTemplate = '', dynamicMemory, hasTpm } = settings;
  const { integrationServices, firmwareIds } = settings;
  return {
    isSecureBoot,
    secureBootTemplate: text(secureBootTemplate),
    isMemoryDynamic: dynamicMemory !== undefined,
    minimumMemoryBytes: BigInt(dynamicMemory?.minimumBytes ?? 0),
    maximumMemoryBytes: BigInt(dynamicMemory?.maximumBytes ?? 0),
    hasTpm,
    integrationServices: integrationServices
      .slice(0, SERVICES_MAX)
      .map(({ id, isEnabled }) => ({ componentId: guidToWire(id), isEnabled })),
    firmwareIds: firmwareIds && wireFirmwareIds(firmwareIds),
    bootOrder: settings.bootOrder.slice(0, BOOT_DEVICES_MAX).map(wireBootDevice),
  };
}

function wireFirmwareIds(ids: FirmwareIds): WireFirmwareIds {
  return {
    biosGuid: ids.biosGuid === undefined ? Buffer.alloc(0) : guidToWire(ids.biosGuid),
    biosSerialNumber: text(ids.biosSerialNumber),
    baseBoardSerialNumber: text(ids.baseBoardSerialNumber),
    chassisSerialNumber: text(ids.chassisSerialNumber),
    chassisAssetTag: text(ids.chassisAssetTag),
  };
}

function wireBootDevice(device: BootDevice): WireBootDevice {
  const none = Buffer.alloc(0);
  return {
    diskId: device.kind === 'disk' ? guidToWire(device.diskId) : none,
    adapterId: device.kind === 'adapter' ? guidToWire(device.adapterId) : none,
    deviceClass: device.kind === 'class' ? device.deviceClass : '',
  };
}

function text(value: string): string {
  return value.slice(0, TEXT_MAX);
}

function texts(values: readonly string[]): string[] {
  return values.slice(0, LIST_MAX).map(text);
}
