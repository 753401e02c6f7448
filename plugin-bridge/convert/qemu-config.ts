// The configuration of a Proxmox VM (qemu-server, NNN.conf): lines `key: value`; values are lists
// `first,key=value,…`. What follows the first `[section]` belongs to snapshots and is left out.

import {
  bootOrder,
  checkedForeignVm,
  checkedValue,
  configurationError,
  configurationLines,
  type ForeignAdapter,
  type ForeignDisk,
  type ForeignVm,
  macOf,
  wholeNumber,
} from './foreign-vm.js';

const MIB = 1024 * 1024;
const LINE = /^([A-Za-z][A-Za-z0-9_-]{0,60}):\s*(.*)$/;
const SLOT = /^(scsi|virtio|sata|ide)(\d{1,2})$/;
/** In this order a VM without a boot order of its own looks for a disk. */
const BUSES = ['scsi', 'virtio', 'sata', 'ide'];
const DEFAULT_MEMORY_MIB = '512';
const LEFT_OUT =
  /^(hostpci|usb|serial|parallel|audio|rng|virtiofs)\d+$|^(efidisk0|tpmstate0|ivshmem|vmgenid)$/;

type Settings = ReadonlyMap<string, string>;

/** @throws DrError E_CONVERT_CONFIG */
export function parseQemuConfig(file: string, bytes: Buffer): ForeignVm {
  const settings = settingsOf(file, bytes.toString('utf8'));
  const get = (key: string, otherwise: string): string => settings.get(key) ?? otherwise;
  const name = get('name', '');
  if (name === '') throw configurationError(file, 'has no name');
  const cores = wholeNumber(file, 'cores', get('cores', '1'), { min: 1, max: 2048 });
  const sockets = wholeNumber(file, 'sockets', get('sockets', '1'), { min: 1, max: 64 });
  const memory =
    get('memory', DEFAULT_MEMORY_MIB)
      .replace(/^current=/, '')
      .split(',')[0] ?? '';
  return checkedForeignVm(file, {
    name,
    firmware: get('bios', 'seabios') === 'ovmf' ? 'uefi' : 'bios',
    memoryBytes: wholeNumber(file, 'memory', memory, { min: 1, max: 32 * MIB }) * MIB,
    cpuCount: Math.min(2048, cores * sockets),
    disks: bootOrder(disksOf(settings), bootSlots(settings)),
    adapters: adaptersOf(file, settings),
    notes: notesOf(settings),
  });
}

function settingsOf(file: string, text: string): Settings {
  const settings = new Map<string, string>();
  for (const line of configurationLines(file, text)) {
    if (line.startsWith('[')) break;
    const [, key, value] = LINE.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    settings.set(key, checkedValue(file, key, value.trim()));
  }
  return settings;
}

/** `local:100/disk.qcow2,size=32G` as its first part and the options. */
function partsOf(value: string): { first: string; options: ReadonlyMap<string, string> } {
  const [first = '', ...rest] = value.split(',');
  const options = new Map<string, string>();
  for (const part of rest) {
    const at = part.indexOf('=');
    if (at > 0) options.set(part.slice(0, at), part.slice(at + 1));
  }
  return { first, options };
}

function isDisk(value: string): boolean {
  const { first, options } = partsOf(value);
  return first !== 'none' && options.get('media') !== 'cdrom' && !first.includes('cloudinit');
}

function disksOf(settings: Settings): ForeignDisk[] {
  return [...settings]
    .filter(([slot, value]) => SLOT.test(slot) && isDisk(value))
    .map(([slot, value]) => ({ slot, image: imageOf(value) }))
    .toSorted((one, other) => rankOf(one.slot) - rankOf(other.slot));
}

/** Older configurations write `file=VOLUME`. */
function imageOf(value: string): string {
  return partsOf(value).first.replace(/^(file|volume)=/, '');
}

function rankOf(slot: string): number {
  const [, bus = '', number = '0'] = SLOT.exec(slot) ?? [];
  return BUSES.indexOf(bus) * 100 + Number(number);
}

/** `boot: order=scsi0;net0`, or the older `bootdisk: scsi0`. */
function bootSlots(settings: Settings): string[] {
  const order = /(?:^|,)order=([^,]*)/.exec(settings.get('boot') ?? '')?.[1];
  if (order !== undefined) return order.split(';').map((slot) => slot.trim());
  const disk = settings.get('bootdisk');
  return disk === undefined ? [] : [disk];
}

function adaptersOf(file: string, settings: Settings): ForeignAdapter[] {
  const adapters: (ForeignAdapter & { readonly number: number })[] = [];
  for (const [key, value] of settings) {
    const number = /^net(\d{1,2})$/.exec(key)?.[1];
    if (number === undefined) continue;
    const { first, options } = partsOf(value);
    // the first part is `MODEL=MAC`, or the model alone
    const mac = macOf(first.split('=')[1] ?? options.get('macaddr'));
    const tag = options.get('tag');
    adapters.push({
      number: Number(number),
      name: key,
      mac,
      network: options.get('link_down') === '1' ? undefined : options.get('bridge'),
      vlan:
        tag === undefined ? undefined : wholeNumber(file, `${key} tag`, tag, { min: 1, max: 4094 }),
    });
  }
  return adapters
    .toSorted((one, other) => one.number - other.number)
    .map(({ name, mac, network, vlan }) => ({ name, mac, network, vlan }));
}

function notesOf(settings: Settings): string[] {
  const notes: string[] = [];
  for (const [key, value] of settings) {
    if (SLOT.test(key) && !isDisk(value)) notes.push(`the CD drive ${key} is left out`);
    else if (key === 'tpmstate0')
      notes.push('its virtual TPM is left out: what it sealed cannot be opened');
    else if (key === 'efidisk0')
      notes.push('its UEFI variables are left out: the guest boots by its default loader');
    else if (LEFT_OUT.test(key)) notes.push(`the device ${key} is left out`);
  }
  return notes;
}
