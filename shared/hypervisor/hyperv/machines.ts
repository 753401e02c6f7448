// What VMs there are, and what each is made of (hyperv.md § 3).

import { ZERO_GUID, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type {
  AddressSettings,
  HyperVSettings,
  PowerState,
  VmAdapter,
  VmDefinition,
  VmDisk,
  VmSummary,
} from '../vm.js';
import { bootOrderOf } from './boot-order.js';
import type { HyperVContext } from './context.js';
import { settingsOf } from './guest-addresses.js';
import { isUnfinishedName } from './naming.js';
import { getDiskFile, type DiskFileFacts } from './operations/disks.js';
import { getGuestAdapters } from './operations/guest.js';
import {
  getMachine,
  listMachines,
  type MachineDisk,
  type MachineFacts,
  type MachineState,
  type MachineSummary,
} from './operations/machines.js';

const UNKNOWN_GUEST: AddressSettings = {
  isDhcp: true,
  addresses: [],
  gateways: [],
  dnsServers: [],
};

const NO_FILE = {
  diskId: ZERO_GUID,
  sizeBytes: 0,
  logicalSectorBytes: 512,
  physicalSectorBytes: 512,
};

const CHAIN_FILES_MAX = 256;

const POWER: Readonly<Record<MachineState, PowerState>> = {
  Off: 'off',
  Running: 'running',
  Starting: 'starting',
  Resuming: 'starting',
  Reset: 'starting',
  Stopping: 'stopping',
  ForceShutdown: 'stopping',
  Saving: 'stopping',
  FastSaving: 'stopping',
  // its memory is kept, and goes on with the disks as they are: not off
  Saved: 'paused',
  FastSaved: 'paused',
  Paused: 'paused',
  Pausing: 'paused',
};

/** 'unknown' also for the states that Hyper-V calls critical: its disks cannot be reached. */
export function powerOf(state: MachineState): PowerState {
  return POWER[state] ?? 'unknown';
}

export async function allMachines({ runner }: HyperVContext): Promise<readonly MachineSummary[]> {
  const machines = await runner.run(listMachines, {});
  return machines.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Without those that are being made. */
export async function listVms(context: HyperVContext): Promise<readonly VmSummary[]> {
  const machines = await allMachines(context);
  return machines.filter(({ name }) => !isUnfinishedName(name)).map(summaryOf);
}

export function summaryOf({ id, name, state }: MachineSummary): VmSummary {
  return { id, name, powerState: powerOf(state) };
}

/** @throws DrError E_NOT_FOUND */
export function loadMachine({ runner }: HyperVContext, vmId: Guid): Promise<MachineFacts> {
  return runner.run(getMachine, { vmId });
}

export async function machineOrNone(
  context: HyperVContext,
  vmId: Guid,
): Promise<MachineFacts | undefined> {
  try {
    return await loadMachine(context, vmId);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return undefined;
    throw error;
  }
}

export async function describeVm(context: HyperVContext, vmId: Guid): Promise<VmDefinition> {
  const machine = await loadMachine(context, vmId);
  const guests = await context.runner.run(getGuestAdapters, { vmId });
  const disks: VmDisk[] = [];
  for (const disk of inOrder(machine.disks)) disks.push(await vmDiskOf(context, machine, disk));
  const adapters = machine.adapters.map((adapter): VmAdapter => {
    const guest = guests.find(({ adapterId }) => adapterId === adapter.id);
    return {
      id: adapter.id,
      name: adapter.name,
      mac: adapter.mac.toUpperCase(),
      isMacStatic: !adapter.isMacDynamic,
      ...(adapter.isLegacy ? { isLegacy: true } : {}),
      switchName: adapter.switchName,
      vlan: adapter.vlanId,
      guest: guest === undefined ? UNKNOWN_GUEST : settingsOf(guest),
    };
  });
  return {
    id: machine.id,
    name: machine.name,
    generation: machine.generation,
    cpuCount: machine.cpuCount,
    memoryBytes: machine.startupMemoryBytes,
    isAutoStart: machine.startAction !== 'Nothing',
    disks,
    adapters,
    hyperV: {
      ...hyperVOf(machine),
      bootOrder: bootOrderOf(machine.bootOrder, { disks, adapters }),
    },
  };
}

function hyperVOf(machine: MachineFacts): Omit<HyperVSettings, 'bootOrder'> {
  const { isSecureBoot = false, secureBootTemplateId, isMemoryDynamic, hasTpm } = machine;
  const { minimumMemoryBytes: minimumBytes, maximumMemoryBytes: maximumBytes } = machine;
  return {
    isSecureBoot,
    secureBootTemplate: secureBootTemplateId,
    dynamicMemory: isMemoryDynamic ? { minimumBytes, maximumBytes } : undefined,
    hasTpm,
    integrationServices: machine.services,
    firmwareIds: { ...machine.firmwareIds, biosGuid: machine.firmwareIds.biosGuid ?? undefined },
  };
}

/** By the places of their controllers: IDE before SCSI. */
export function inOrder(disks: readonly MachineDisk[]): readonly MachineDisk[] {
  return disks.toSorted(
    (a, b) =>
      Number(a.controllerType === 'SCSI') - Number(b.controllerType === 'SCSI') ||
      a.controllerNumber - b.controllerNumber ||
      a.controllerLocation - b.controllerLocation,
  );
}

async function vmDiskOf(
  context: HyperVContext,
  { isShielded }: MachineFacts,
  disk: MachineDisk,
): Promise<VmDisk> {
  const place = {
    controller: disk.controllerType === 'IDE' ? ('ide' as const) : ('scsi' as const),
    controllerNumber: disk.controllerNumber,
    controllerLocation: disk.controllerLocation,
    path: disk.path,
  };
  const reason = isShielded
    ? 'the VM is shielded: it starts with the guardians of this host only'
    : unsupportedReason(disk);
  if (disk.isPassThrough) return { ...NO_FILE, ...place, unsupported: reason };
  const { diskId, format, ...facts } = await context.runner.run(getDiskFile, { path: disk.path });
  const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = facts;
  const sizes = { sizeBytes, logicalSectorBytes, physicalSectorBytes };
  const unsupported =
    reason ??
    (format === 'VHDX' ? undefined : `it is a ${format}: changes are tracked in VHDX only`);
  return { diskId, ...place, ...sizes, ...(unsupported === undefined ? {} : { unsupported }) };
}

function unsupportedReason({ isPassThrough, isShared }: MachineDisk): string | undefined {
  if (isPassThrough) return 'it is a physical disk of the host, passed through';
  if (isShared) return 'it is shared with other VMs';
  return undefined;
}

export function diskFile({ runner }: HyperVContext, path: string): Promise<DiskFileFacts> {
  return runner.run(getDiskFile, { path });
}

/** The files from `path` down to the one without parent; `path` first. @throws DrError E_HYPERVISOR */
export async function chainOf(context: HyperVContext, path: string): Promise<readonly string[]> {
  const files = [path];
  for (;;) {
    const { parentPath } = await diskFile(context, files.at(-1) ?? path);
    if (parentPath === undefined) return files;
    if (files.length >= CHAIN_FILES_MAX || files.some((file) => isSamePath(file, parentPath))) {
      throw new DrError('E_HYPERVISOR', `the chain of files under ${path} has no end`, {
        context: { path, files: files.length },
      });
    }
    files.push(parentPath);
  }
}

/** Windows does not tell upper case from lower case, and answers with either. */
export function isSamePath(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** What a storage setting of a VM and that of its checkpoint have in common: all but the first part. */
export function placeOf(instanceId: string): string {
  return instanceId.slice(instanceId.indexOf('\\') + 1).toLowerCase();
}
