// The configuration of a VMware VM (.vmx): lines `key = "value"`, keys in any case. Inside of a value
// `|22` stands for the character with that hexadecimal code. The encoding is named in the file itself.

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
const LINE = /^\s*([^=#\s]+)\s*=\s*"(.*)"\s*$/;
const SLOT = /^(scsi|sata|nvme|ide)(\d{1,2}):(\d{1,2})$/;
/** In this order a VM without a boot order of its own looks for a disk. */
const BUSES = ['scsi', 'sata', 'nvme', 'ide'];
const DEFAULT_MEMORY_MIB = '32';

type Settings = ReadonlyMap<string, string>;

/** @throws DrError E_CONVERT_CONFIG */
export function parseVmx(file: string, bytes: Buffer): ForeignVm {
  const settings = settingsOf(file, textOf(file, bytes));
  if (settings.has('encryption.keysafe')) {
    throw configurationError(file, 'is of an encrypted VM: decrypt it where it came from');
  }
  const get = (key: string): string | undefined => settings.get(key);
  const name = get('displayname') ?? '';
  if (name === '') throw configurationError(file, 'has no displayName');
  const memory = get('memsize') ?? DEFAULT_MEMORY_MIB;
  const limits = { min: 1, max: 32 * MIB };
  return checkedForeignVm(file, {
    name,
    firmware: get('firmware')?.toLowerCase() === 'efi' ? 'uefi' : 'bios',
    memoryBytes: wholeNumber(file, 'memSize', memory, limits) * MIB,
    cpuCount: wholeNumber(file, 'numvcpus', get('numvcpus') ?? '1', { min: 1, max: 2048 }),
    disks: bootOrder(disksOf(settings), hardDiskOrder(get('bios.hddorder'))),
    adapters: adaptersOf(settings),
    notes: notesOf(settings),
  });
}

/** UTF-8 unless the file says otherwise. @throws DrError E_CONVERT_CONFIG */
function textOf(file: string, bytes: Buffer): string {
  const named = /^\s*\.encoding\s*=\s*"([^"]{1,40})"/im.exec(bytes.toString('latin1'))?.[1];
  try {
    return new TextDecoder(named ?? 'utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw configurationError(file, `is not written in ${named ?? 'UTF-8'}`);
  }
}

function settingsOf(file: string, text: string): Settings {
  const settings = new Map<string, string>();
  for (const line of configurationLines(file, text)) {
    const [, key, value] = LINE.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    const plain = value.replaceAll(/\|([0-9A-Fa-f]{2})/g, (_all, code: string) =>
      String.fromCharCode(Number.parseInt(code, 16)),
    );
    settings.set(key.toLowerCase(), checkedValue(file, key, plain));
  }
  return settings;
}

function isTrue(text: string | undefined): boolean {
  return text?.toUpperCase() === 'TRUE';
}

interface Placed extends ForeignDisk {
  readonly rank: number;
}

function disksOf(settings: Settings): ForeignDisk[] {
  const disks: Placed[] = [];
  for (const [key, image] of settings) {
    if (!key.endsWith('.filename')) continue;
    const slot = key.slice(0, -'.filename'.length);
    const [, bus, controller, place] = SLOT.exec(slot) ?? [];
    if (bus === undefined || !isDisk(settings, slot)) continue;
    const rank = (BUSES.indexOf(bus) * 100 + Number(controller)) * 100 + Number(place);
    disks.push({ slot, image, rank });
  }
  return disks
    .toSorted((one, other) => one.rank - other.rank)
    .map(({ slot, image }) => ({ slot, image }));
}

function isDisk(settings: Settings, slot: string): boolean {
  const type = settings.get(`${slot}.devicetype`)?.toLowerCase() ?? 'disk';
  return isTrue(settings.get(`${slot}.present`)) && !type.includes('cdrom');
}

/** `scsi0:0,scsi0:1` */
function hardDiskOrder(text: string | undefined): string[] {
  return (text ?? '').split(',').map((slot) => slot.trim().toLowerCase());
}

function adaptersOf(settings: Settings): ForeignAdapter[] {
  const numbers = [...settings.keys()]
    .flatMap((key) => /^ethernet(\d{1,3})\.present$/.exec(key)?.[1] ?? [])
    .filter((number) => isTrue(settings.get(`ethernet${number}.present`)))
    .toSorted((one, other) => Number(one) - Number(other));
  return numbers.map((number) => {
    const get = (key: string): string | undefined => settings.get(`ethernet${number}.${key}`);
    const isConnected = get('startconnected')?.toUpperCase() !== 'FALSE';
    return {
      name: `ethernet${number}`,
      mac: macOf(get('address') ?? get('generatedaddress')),
      network: isConnected ? (get('networkname') ?? get('vnet')) : undefined,
      vlan: undefined,
    };
  });
}

function notesOf(settings: Settings): string[] {
  const notes: string[] = [];
  const note = (key: string, text: string): void => {
    if (isTrue(settings.get(key))) notes.push(text);
  };
  for (const [key, value] of settings) {
    const slot = /^(.+)\.devicetype$/.exec(key)?.[1];
    if (slot !== undefined && value.toLowerCase().includes('cdrom')) {
      note(`${slot}.present`, `the CD drive ${slot} is left out`);
    }
    const device = /^(pcipassthru\d+|usb|sound|serial\d+|parallel\d+)\.present$/.exec(key)?.[1];
    if (device !== undefined) note(key, `the device ${device} is left out`);
  }
  note('vtpm.present', 'its virtual TPM is left out: what it sealed cannot be opened');
  note(
    'uefi.secureboot.enabled',
    'secure boot was on: turn it on again when the guest has started',
  );
  return notes;
}
