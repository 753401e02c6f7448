// VMs: what there are, what each is made of, its power, and the parts that it is built from (hyperv.md § 3).

import type { Guid } from '../../../bytes/index.js';
import type { Fields } from '../../fields.js';
import type { Operation } from '../powershell/operation.js';
import { bytesOf, CHANGE_MS, done, LOOK_MS, methodAnswer, type MethodAnswer } from './answers.js';
import {
  bootDeviceOf,
  firmwareIdsOf,
  type MachineBootDevice,
  type MachineFirmwareIds,
} from './hardware.js';

/** Names of Microsoft.HyperV.PowerShell.VMState; another one is passed on as it is. */
export type MachineState = string;

export interface MachineSummary {
  readonly id: Guid;
  readonly name: string;
  readonly state: MachineState;
  /** Msvm_ComputerSystem.OperationalStatus: [0] health, [1] what is going on, 32768 and up (hyperv.md § 1.2). */
  readonly operationalStatus: readonly number[];
  readonly isClustered: boolean;
  readonly notes: string;
}

export interface MachineDisk {
  readonly controllerType: 'IDE' | 'SCSI';
  readonly controllerNumber: number;
  readonly controllerLocation: number;
  /** Of the VM's current file; empty for a disk of the host. */
  readonly path: string;
  /** InstanceID of its storage setting: what reference points call it. */
  readonly instanceId: string;
  /** A physical disk of the host, passed through. */
  readonly isPassThrough: boolean;
  readonly isShared: boolean;
}

export interface MachineAdapter {
  /** GUID of the adapter: the last part of its InstanceID. */
  readonly id: Guid;
  readonly name: string;
  /** Twelve hexadecimal digits. */
  readonly mac: string;
  readonly isMacDynamic: boolean;
  readonly isLegacy: boolean;
  readonly switchId: string | undefined;
  readonly switchName: string | undefined;
  /** undefined: untagged. */
  readonly vlanId: number | undefined;
}

export interface MachineService {
  /** Of its component. */
  readonly id: Guid;
  readonly isEnabled: boolean;
}

export interface MachineFacts extends MachineSummary {
  readonly generation: 1 | 2;
  readonly version: string;
  /** `Nothing`, `StartIfRunning`, `Start`. */
  readonly startAction: string;
  readonly stopAction: string;
  readonly configurationFolder: string;
  readonly cpuCount: number;
  readonly startupMemoryBytes: number;
  readonly isMemoryDynamic: boolean;
  readonly minimumMemoryBytes: number;
  readonly maximumMemoryBytes: number;
  /** undefined for generation 1. */
  readonly isSecureBoot: boolean | undefined;
  readonly secureBootTemplateId: string | undefined;
  readonly hasTpm: boolean;
  readonly isShielded: boolean;
  readonly services: readonly MachineService[];
  readonly bootOrder: readonly MachineBootDevice[];
  readonly firmwareIds: MachineFirmwareIds;
  /** Id of the checkpoint above which it runs; changes when a user applies another one. */
  readonly parentCheckpointId: string | undefined;
  readonly lastAppliedId: string | undefined;
  readonly disks: readonly MachineDisk[];
  readonly adapters: readonly MachineAdapter[];
}

interface OfMachine {
  readonly [name: string]: string;
  readonly vmId: Guid;
}

const PLACES = 256;

export const listMachines: Operation<Record<string, never>, readonly MachineSummary[]> = {
  name: 'machine.list',
  timeoutMs: LOOK_MS,
  read: (fields) => fields.list('machines', summaryOf),
};

export const getMachine: Operation<OfMachine, MachineFacts> = {
  name: 'machine.get',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    ...summaryOf(fields),
    generation: fields.oneOf('generation', [1, 2]),
    version: fields.string('version', 16),
    startAction: fields.string('startAction', 32),
    stopAction: fields.string('stopAction', 32),
    configurationFolder: fields.string('configurationFolder'),
    cpuCount: fields.whole('cpuCount', 1, 65_536),
    startupMemoryBytes: bytesOf(fields, 'startupMemoryBytes'),
    isMemoryDynamic: fields.boolean('isMemoryDynamic'),
    minimumMemoryBytes: bytesOf(fields, 'minimumMemoryBytes'),
    maximumMemoryBytes: bytesOf(fields, 'maximumMemoryBytes'),
    isSecureBoot: fields.optionalBoolean('isSecureBoot'),
    secureBootTemplateId: fields.optionalString('secureBootTemplateId'),
    hasTpm: fields.boolean('hasTpm'),
    isShielded: fields.boolean('isShielded'),
    services: fields.list('services', (item) => ({
      id: item.guid('id'),
      isEnabled: item.boolean('isEnabled'),
    })),
    bootOrder: fields.list('bootOrder', bootDeviceOf),
    firmwareIds: fields.object('firmwareIds', firmwareIdsOf),
    parentCheckpointId: fields.optionalString('parentCheckpointId'),
    lastAppliedId: fields.optionalString('lastAppliedId'),
    disks: fields.list('disks', diskOf),
    adapters: fields.list('adapters', adapterOf),
  }),
};

export interface MachineStatus {
  readonly state: MachineState;
  readonly operationalStatus: readonly number[];
}

/** What changes often, asked for alone. */
export const getMachineStatus: Operation<OfMachine, MachineStatus> = {
  name: 'machine.status',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    state: fields.string('state', 64),
    operationalStatus: fields.wholes('operationalStatus'),
  }),
};

export const startMachine: Operation<OfMachine, void> = {
  name: 'machine.start',
  timeoutMs: CHANGE_MS,
  read: done,
};

/** Asks the guest by the shutdown component, without force; 32780 to 32782 are its own refusals. */
export const requestShutdown: Operation<
  { readonly vmId: Guid; readonly reason: string },
  MethodAnswer
> = { name: 'machine.requestShutdown', timeoutMs: CHANGE_MS, read: methodAnswer };

/** Of one that is saved: it is off then, as after a power cut. */
export const dropSavedState: Operation<OfMachine, void> = {
  name: 'machine.dropSavedState',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const turnOffMachine: Operation<OfMachine, void> = {
  name: 'machine.turnOff',
  timeoutMs: CHANGE_MS,
  read: done,
};

export interface NewMachine {
  readonly [name: string]: string | number | null;
  readonly name: string;
  readonly folder: string;
  readonly generation: 1 | 2;
  /** Decimal text. */
  readonly memoryBytes: string;
  /** null: the host's newest. */
  readonly version: string | null;
}

/** Off, without disks and adapters, and never started by the host itself. */
export const createMachine: Operation<NewMachine, { readonly vmId: Guid }> = {
  name: 'machine.create',
  timeoutMs: CHANGE_MS,
  read: (fields) => ({ vmId: fields.guid('vmId') }),
};

/** The one that a new VM of generation 1 comes with, in a place that a disk may have. */
export const removeDvdDrives: Operation<OfMachine, void> = {
  name: 'machine.removeDvdDrives',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const renameMachine: Operation<{ readonly vmId: Guid; readonly name: string }, void> = {
  name: 'machine.rename',
  timeoutMs: CHANGE_MS,
  read: done,
};

/** Its disk files stay. */
export const removeMachine: Operation<OfMachine, void> = {
  name: 'machine.remove',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const setProcessors: Operation<{ readonly vmId: Guid; readonly count: number }, void> = {
  name: 'machine.setProcessors',
  timeoutMs: CHANGE_MS,
  read: done,
};

export interface MemoryWish {
  readonly [name: string]: string | boolean;
  readonly vmId: Guid;
  readonly isDynamic: boolean;
  /** Decimal texts; minimum and maximum count only when it is dynamic. */
  readonly startupBytes: string;
  readonly minimumBytes: string;
  readonly maximumBytes: string;
}

export const setMemory: Operation<MemoryWish, void> = {
  name: 'machine.setMemory',
  timeoutMs: CHANGE_MS,
  read: done,
};

/** `Nothing` or `StartIfRunning`. */
export const setStartAction: Operation<{ readonly vmId: Guid; readonly action: string }, void> = {
  name: 'machine.setStartAction',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const setNotes: Operation<{ readonly vmId: Guid; readonly notes: string }, void> = {
  name: 'machine.setNotes',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const setSecureBoot: Operation<
  { readonly vmId: Guid; readonly isOn: boolean; readonly templateId: string | null },
  void
> = { name: 'machine.setSecureBoot', timeoutMs: CHANGE_MS, read: done };

export interface DiskPlace {
  readonly [name: string]: string | number;
  readonly vmId: Guid;
  readonly controllerType: 'IDE' | 'SCSI';
  readonly controllerNumber: number;
  readonly controllerLocation: number;
}

export const addController: Operation<OfMachine, void> = {
  name: 'machine.addScsiController',
  timeoutMs: CHANGE_MS,
  read: done,
};

export const addDisk: Operation<DiskPlace & { readonly path: string }, void> = {
  name: 'machine.addDisk',
  timeoutMs: CHANGE_MS,
  read: done,
};

/** Puts another file in the place of a disk. */
export const setDiskPath: Operation<DiskPlace & { readonly path: string }, void> = {
  name: 'machine.setDiskPath',
  timeoutMs: CHANGE_MS,
  read: done,
};

function summaryOf(fields: Fields): MachineSummary {
  return {
    id: fields.guid('id'),
    name: fields.string('name', 1024),
    state: fields.string('state', 64),
    operationalStatus: fields.wholes('operationalStatus'),
    isClustered: fields.boolean('isClustered'),
    notes: fields.string('notes', 64 * 1024),
  };
}

function diskOf(fields: Fields): MachineDisk {
  return {
    controllerType: fields.oneOf('controllerType', ['IDE', 'SCSI']),
    controllerNumber: fields.whole('controllerNumber', 0, PLACES),
    controllerLocation: fields.whole('controllerLocation', 0, PLACES),
    path: fields.string('path', 32_768),
    instanceId: fields.string('instanceId', 1024),
    isPassThrough: fields.boolean('isPassThrough'),
    isShared: fields.boolean('isShared'),
  };
}

function adapterOf(fields: Fields): MachineAdapter {
  return {
    id: fields.guid('id'),
    name: fields.string('name', 1024),
    mac: fields.string('mac', 12),
    isMacDynamic: fields.boolean('isMacDynamic'),
    isLegacy: fields.boolean('isLegacy'),
    switchId: fields.optionalString('switchId'),
    switchName: fields.optionalString('switchName'),
    vlanId: fields.optionalWhole('vlanId', 1, 4094),
  };
}
