// The operations that change what a VM is like, and none of its files: what the fake host then says of it.

import { DrError } from '../../../shared/errors.js';
import type { VmRecord } from '../../../shared/hypervisor/lab/record.js';
import { wrong, type Given } from './given.js';
import type { Overlay } from './overlay.js';
import type { HostTrouble } from './trouble.js';

type Json = Readonly<Record<string, unknown>>;

export interface Setting {
  readonly vm: VmRecord;
  readonly overlay: Overlay;
  readonly given: Given;
  readonly trouble: HostTrouble;
}

export type SettingHandler = (setting: Setting) => Json;

const DONE = { done: 'yes' };
const INVALID_STATE = 32_775;

const STARTUP_CLASSES = ['CD', 'IDE', 'LegacyNetworkAdapter', 'Floppy'];

/** As they came to the VM. */
export function bootDevicesOf(
  vm: VmRecord,
): readonly { readonly kind: string; readonly device: string }[] {
  if (vm.generation === 1) return STARTUP_CLASSES.map((device) => ({ kind: 'class', device }));
  return [
    ...vm.disks.map(({ controllerNumber, controllerLocation }) => ({
      kind: 'disk',
      device: `${String(controllerNumber)}/${String(controllerLocation)}`,
    })),
    ...vm.adapters.map(({ id }) => ({ kind: 'adapter', device: id })),
  ];
}

export const settingHandlers: Readonly<Record<string, SettingHandler>> = {
  'machine.setProcessors': ({ overlay, given }) => {
    overlay.cpuCount = given.number('count');
    return DONE;
  },
  'machine.setStartAction': ({ overlay, given }) => {
    overlay.startAction = given.text('action');
    return DONE;
  },
  'machine.setNotes': ({ overlay, given }) => {
    overlay.notes = given.text('notes');
    return DONE;
  },
  'machine.setSecureBoot': ({ overlay, given }) => {
    overlay.isSecureBoot = given.flag('isOn');
    const templateId = given.optionalText('templateId');
    overlay.secureBootTemplateId = templateId ?? overlay.secureBootTemplateId;
    return DONE;
  },
  'machine.setFirmwareIds': ({ vm, overlay, given }) => {
    if (vm.powerState !== 'off') return { returnValue: INVALID_STATE, jobId: null };
    const names = Object.keys(overlay.firmwareIds).filter((name) => name !== 'biosGuid');
    const texts = names.map((name) => [name, given.text(name)]);
    const biosGuid = given.optionalText('biosGuid')?.toUpperCase();
    overlay.firmwareIds = {
      ...overlay.firmwareIds,
      ...(Object.fromEntries(texts) as Record<string, string>),
      ...(biosGuid === undefined ? {} : { biosGuid: `{${biosGuid}}` }),
    };
    return { returnValue: 0, jobId: null };
  },
  'machine.enableTpm': ({ overlay, trouble }) => {
    if (trouble.refusesTpm) throw refusal('the host has no\r\nguardian for it');
    overlay.hasTpm = true;
    return DONE;
  },
  'machine.setBootOrder': ({ vm, overlay, given }) => {
    if (vm.generation === 1) throw refusal('a VM of generation 1 has no UEFI');
    const known = bootDevicesOf(vm);
    overlay.bootOrder = given.texts('devices').map((device) => {
      const found = known.find((each) => each.device === device);
      return found ?? wrong('devices', device);
    });
    return DONE;
  },
  'machine.setStartupOrder': ({ vm, overlay, given }) => {
    if (vm.generation === 2) throw refusal('a VM of generation 2 has no BIOS');
    const classes = given.texts('classes');
    const isWhole = classes.toSorted().join() === STARTUP_CLASSES.toSorted().join();
    if (!isWhole) wrong('classes', classes);
    overlay.bootOrder = classes.map((device) => ({ kind: 'class', device }));
    return DONE;
  },
  'machine.setServices': ({ overlay: { services }, given }) => {
    for (const id of services.keys()) {
      if (given.texts('enabledIds').includes(id.toLowerCase())) services.set(id, true);
      if (given.texts('disabledIds').includes(id.toLowerCase())) services.set(id, false);
    }
    return DONE;
  },
  'machine.setMemory': ({ overlay, given }) => {
    overlay.dynamicMemory = [given.text('minimumBytes'), given.text('maximumBytes')];
    return DONE;
  },
  'machine.addScsiController': ({ overlay }) => {
    overlay.scsiControllers += 1;
    return DONE;
  },
};

function refusal(why: string): DrError {
  return new DrError('E_HYPERVISOR', why);
}
