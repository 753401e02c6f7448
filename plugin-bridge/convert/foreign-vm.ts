// What a VMware or Proxmox configuration says of a VM, in words of neither: the parsers of both make
// it, and the definition of the Hyper-V VM is made from it.

import { DrError } from '../../shared/errors.js';

/** Configurations are small; what is larger is something else. */
export const CONFIGURATION_MAX_BYTES = 1024 * 1024;
export const FOREIGN_DISKS_MAX = 260;
export const FOREIGN_ADAPTERS_MAX = 64;
const VALUE_MAX_CHARACTERS = 4096;
const LINES_MAX = 20_000;
const NOTES_MAX = 64;

export interface ForeignDisk {
  /** Where it hangs: `scsi0:0` (VMware), `scsi0` (Proxmox). */
  readonly slot: string;
  /** Its image as the configuration names it: a file name, or a volume of a storage. */
  readonly image: string;
}

export interface ForeignAdapter {
  /** `ethernet0`, `net0`. */
  readonly name: string;
  /** Twelve upper-case hexadecimal digits. */
  readonly mac: string | undefined;
  /** Port group or bridge: what `network_map` maps. undefined: not connected. */
  readonly network: string | undefined;
  readonly vlan: number | undefined;
}

export interface ForeignVm {
  readonly name: string;
  readonly firmware: 'bios' | 'uefi';
  readonly memoryBytes: number;
  readonly cpuCount: number;
  /** The one that it boots from first. */
  readonly disks: readonly ForeignDisk[];
  readonly adapters: readonly ForeignAdapter[];
  /** What Hyper-V is not given, for people. */
  readonly notes: readonly string[];
}

export function configurationError(file: string, what: string): DrError {
  return new DrError('E_CONVERT_CONFIG', `${file} ${what}`, {
    context: { file },
    done: 'no VM was made',
  });
}

/** The lines of a configuration. @throws DrError E_CONVERT_CONFIG when it is too large to be one */
export function configurationLines(file: string, text: string): string[] {
  if (text.includes('\0')) throw configurationError(file, 'is no text');
  const lines = text.split(/\r?\n/);
  if (lines.length > LINES_MAX) {
    throw configurationError(file, `has ${lines.length} lines; ${LINES_MAX} is the limit`);
  }
  return lines;
}

/** @throws DrError E_CONVERT_CONFIG */
export function checkedValue(file: string, key: string, value: string): string {
  if (value.length > VALUE_MAX_CHARACTERS) {
    throw configurationError(file, `has a value of ${value.length} characters for ${key}`);
  }
  return value;
}

/** A whole number inside limits. @throws DrError E_CONVERT_CONFIG */
export function wholeNumber(
  file: string,
  key: string,
  text: string,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  const number = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (number >= min && number <= max) return number;
  throw configurationError(file, `has ${key} = "${text.slice(0, 40)}", not ${min} to ${max}`);
}

/** `00:0c:29:ab:cd:ef` as Hyper-V writes it; undefined when it is no address. */
export function macOf(text: string | undefined): string | undefined {
  const digits = text?.replaceAll(/[:-]/g, '').toUpperCase();
  return digits !== undefined && /^[0-9A-F]{12}$/.test(digits) ? digits : undefined;
}

/** @throws DrError E_CONVERT_CONFIG when there is nothing to boot from, or too much */
export function checkedForeignVm(file: string, vm: ForeignVm): ForeignVm {
  const { disks, adapters } = vm;
  if (disks.length === 0) throw configurationError(file, 'names no disk');
  if (disks.length > FOREIGN_DISKS_MAX) {
    throw configurationError(
      file,
      `names ${disks.length} disks; ${FOREIGN_DISKS_MAX} is the limit`,
    );
  }
  if (adapters.length > FOREIGN_ADAPTERS_MAX) {
    throw configurationError(
      file,
      `names ${adapters.length} adapters; ${FOREIGN_ADAPTERS_MAX} is the limit`,
    );
  }
  return { ...vm, notes: vm.notes.slice(0, NOTES_MAX) };
}

/** The wanted ones first, in their order; the others behind, in theirs. */
export function bootOrder(
  disks: readonly ForeignDisk[],
  wanted: readonly string[],
): readonly ForeignDisk[] {
  const rank = ({ slot }: ForeignDisk): number => {
    const at = wanted.indexOf(slot);
    return at === -1 ? wanted.length : at;
  };
  return disks.toSorted((one, other) => rank(one) - rank(other));
}
