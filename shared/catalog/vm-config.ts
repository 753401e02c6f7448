// `config/vm.json`: what the VM was when its newest point was made, as far as a VM can be made again
// from it. Paths of the source host are told for people only.

import { MAX_DISK_BYTES, MAX_DISKS } from '../delta/index.js';
import {
  type AddressSettings,
  BOOT_CLASSES,
  type BootDevice,
  type FirmwareIds,
  type HyperVSettings,
  type VmAdapter,
  type VmDefinition,
  type VmDisk,
} from '../hypervisor/index.js';
import { encodeRecord, RecordFields } from './json-record.js';

const ADAPTERS_MAX = 64;
const ADDRESSES_MAX = 256;
const CPUS_MAX = 4096;
const SERIAL_LENGTH_MAX = 1024;
const SERVICES_MAX = 64;
const BOOT_DEVICES_MAX = 512;

export function encodeVmConfig(vm: VmDefinition): Buffer {
  return encodeRecord({ vm });
}

/** `name` is for messages. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
export function parseVmConfig(bytes: Uint8Array, name: string): VmDefinition {
  const vm = RecordFields.parse(bytes, name).object('vm');
  return {
    id: vm.guid('id'),
    name: vm.text('name', 1024),
    generation: vm.choice('generation', [1, 2]),
    cpuCount: vm.whole('cpuCount', CPUS_MAX),
    memoryBytes: vm.whole('memoryBytes'),
    isAutoStart: vm.flag('isAutoStart'),
    disks: vm.objects('disks', MAX_DISKS, parseDisk),
    adapters: vm.objects('adapters', ADAPTERS_MAX, parseAdapter),
    // a backup of another hypervisor has none
    ...(vm.has('hyperV') ? { hyperV: parseSettings(vm.object('hyperV')) } : {}),
  };
}

function parseSettings(settings: RecordFields): HyperVSettings {
  return {
    isSecureBoot: settings.flag('isSecureBoot'),
    secureBootTemplate: settings.guidOrNone('secureBootTemplate'),
    dynamicMemory: settings.has('dynamicMemory')
      ? parseMemory(settings.object('dynamicMemory'))
      : undefined,
    hasTpm: settings.flag('hasTpm'),
    // older backups do not tell
    integrationServices: settings.objectsOrNone('integrationServices', SERVICES_MAX, (item) => ({
      id: item.guid('id'),
      isEnabled: item.flag('isEnabled'),
    })),
    firmwareIds: settings.has('firmwareIds')
      ? parseFirmwareIds(settings.object('firmwareIds'))
      : undefined,
    bootOrder: settings.objectsOrNone('bootOrder', BOOT_DEVICES_MAX, parseBootDevice),
  };
}

function parseBootDevice(device: RecordFields): BootDevice {
  const kind = device.choice('kind', ['disk', 'adapter', 'class']);
  if (kind === 'disk') return { kind, diskId: device.guid('diskId') };
  if (kind === 'adapter') return { kind, adapterId: device.guid('adapterId') };
  return { kind, deviceClass: device.choice('deviceClass', BOOT_CLASSES) };
}

function parseFirmwareIds(ids: RecordFields): FirmwareIds {
  return {
    biosGuid: ids.guidOrNone('biosGuid'),
    biosSerialNumber: ids.text('biosSerialNumber', SERIAL_LENGTH_MAX),
    baseBoardSerialNumber: ids.text('baseBoardSerialNumber', SERIAL_LENGTH_MAX),
    chassisSerialNumber: ids.text('chassisSerialNumber', SERIAL_LENGTH_MAX),
    chassisAssetTag: ids.text('chassisAssetTag', SERIAL_LENGTH_MAX),
  };
}

function parseMemory(memory: RecordFields): HyperVSettings['dynamicMemory'] {
  const minimumBytes = memory.whole('minimumBytes');
  return { minimumBytes, maximumBytes: memory.whole('maximumBytes') };
}

function parseDisk(disk: RecordFields): VmDisk {
  const unsupported = disk.textOrNone('unsupported');
  return {
    diskId: disk.guid('diskId'),
    controller: disk.choice('controller', ['ide', 'scsi']),
    controllerNumber: disk.whole('controllerNumber', 255),
    controllerLocation: disk.whole('controllerLocation', 255),
    sizeBytes: disk.whole('sizeBytes', MAX_DISK_BYTES),
    logicalSectorBytes: disk.choice('logicalSectorBytes', [512, 4096]),
    physicalSectorBytes: disk.choice('physicalSectorBytes', [512, 4096]),
    path: disk.text('path', 32_768),
    ...(unsupported === undefined ? {} : { unsupported }),
  };
}

function parseAdapter(adapter: RecordFields): VmAdapter {
  const mac = adapter.text('mac', 12);
  if (!/^[0-9A-F]{12}$/.test(mac)) throw adapter.bad('mac');
  return {
    id: adapter.guid('id'),
    name: adapter.text('name', 1024),
    mac,
    isMacStatic: adapter.flag('isMacStatic'),
    ...(adapter.has('isLegacy') ? { isLegacy: adapter.flag('isLegacy') } : {}),
    switchName: adapter.textOrNone('switchName', 1024),
    vlan: adapter.wholeOrNone('vlan', 4094),
    guest: parseGuest(adapter.object('guest')),
  };
}

function parseGuest(guest: RecordFields): AddressSettings {
  return {
    isDhcp: guest.flag('isDhcp'),
    addresses: guest.texts('addresses', ADDRESSES_MAX),
    gateways: guest.texts('gateways', ADDRESSES_MAX),
    dnsServers: guest.texts('dnsServers', ADDRESSES_MAX),
  };
}
