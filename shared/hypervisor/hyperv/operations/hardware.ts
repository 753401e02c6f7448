// What the hardware of a VM is like for its guest, beside its disks and adapters (hyperv.md § 3.2).

import { parseGuid, type Guid } from '../../../bytes/index.js';
import type { Fields } from '../../fields.js';
import type { BootClass } from '../../vm.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, done, methodAnswer, type MethodAnswer } from './answers.js';

/** Components that the host does not have are left out. */
export const setServices: Operation<
  {
    readonly vmId: Guid;
    readonly enabledIds: readonly string[];
    readonly disabledIds: readonly string[];
  },
  void
> = { name: 'machine.setServices', timeoutMs: CHANGE_MS, read: done };

/** Generation 2: a disk by its place at the SCSI controllers, `0/1`, an adapter by its id. What is not named goes last. */
export const setBootOrder: Operation<
  { readonly vmId: Guid; readonly devices: readonly string[] },
  void
> = { name: 'machine.setBootOrder', timeoutMs: CHANGE_MS, read: done };

/** Generation 1: every kind of device that its firmware knows, once. */
export const setStartupOrder: Operation<
  { readonly vmId: Guid; readonly classes: readonly BootClass[] },
  void
> = { name: 'machine.setStartupOrder', timeoutMs: CHANGE_MS, read: done };

export interface MachineBootDevice {
  readonly kind: 'disk' | 'adapter' | 'class';
  /** As setBootOrder and setStartupOrder take them. */
  readonly device: string;
}

export function bootDeviceOf(fields: Fields): MachineBootDevice {
  const kind = fields.oneOf('kind', ['disk', 'adapter', 'class']);
  return { kind, device: fields.string('device', 64) };
}

/** How a disk is called in a boot order. */
export function bootPlaceOf(disk: {
  readonly controllerNumber: number;
  readonly controllerLocation: number;
}): string {
  return `${disk.controllerNumber}/${disk.controllerLocation}`;
}

export interface MachineFirmwareIds {
  readonly biosGuid: Guid | null;
  readonly biosSerialNumber: string;
  readonly baseBoardSerialNumber: string;
  readonly chassisSerialNumber: string;
  readonly chassisAssetTag: string;
}

export function firmwareIdsOf(fields: Fields): MachineFirmwareIds {
  return {
    biosGuid: parseGuid(fields.optionalString('biosGuid', 64) ?? '') ?? null,
    biosSerialNumber: fields.string('biosSerialNumber', 1024),
    baseBoardSerialNumber: fields.string('baseBoardSerialNumber', 1024),
    chassisSerialNumber: fields.string('chassisSerialNumber', 1024),
    chassisAssetTag: fields.string('chassisAssetTag', 1024),
  };
}

/** Of a VM that is off. */
export const setFirmwareIds: Operation<
  {
    readonly vmId: Guid;
    readonly biosGuid: Guid | null;
    readonly biosSerialNumber: string;
    readonly baseBoardSerialNumber: string;
    readonly chassisSerialNumber: string;
    readonly chassisAssetTag: string;
  },
  MethodAnswer
> = { name: 'machine.setFirmwareIds', timeoutMs: CHANGE_MS, read: methodAnswer };

/** A new and empty TPM, under a key of this host. */
export const enableTpm: Operation<{ readonly vmId: Guid }, void> = {
  name: 'machine.enableTpm',
  timeoutMs: CHANGE_MS,
  read: done,
};
