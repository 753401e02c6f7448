// VMs come and go: made with disks of their own, registered over disks that stand elsewhere,
// forgotten, removed with their disks. A VM is there from the moment vm.json is.

import path from 'node:path';
import { parseGuid, randomGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { makeLockFile } from '../../files/index.js';
import { withSource, writeImage, type CopyProgress } from '../../image/index.js';
import { createVhdx, openVhdx } from '../../vhdx/index.js';
import type { RegisterRequest } from '../target.js';
import type { AddressSettings } from '../vm.js';
import { removeStrayFiles, settle } from './chain.js';
import { withLockFile, type LabContext } from './context.js';
import {
  creatingFile,
  diskPath,
  disksFolder,
  hostLockFile,
  mergeFailureFile,
  ownDiskName,
  removingFile,
  trackingFolder,
  vmFile,
  vmFolder,
  vmLockFile,
} from './layout.js';
import { dropFaultsOf } from './faults.js';
import { addSwitches } from './network.js';
import { saveVm, type AdapterRecord, type DiskRecord, type VmRecord } from './record.js';
import { contentIdOf, firstEpoch } from './tracking.js';
import { allVms, changingVm, removeVmFiles, surveyVms, withVmLock } from './vms.js';

export interface NewDisk {
  /** An image whose bytes are copied, or the size of an empty disk. */
  readonly source: { readonly importFile: string } | { readonly sizeBytes: number };
  readonly type?: 'fixed' | 'dynamic' | undefined;
  /** Default: 512. An imported VHDX keeps its own. */
  readonly logicalSectorBytes?: 512 | 4096 | undefined;
  readonly blockSizeBytes?: number | undefined;
  /** Told now and then while an image is copied. */
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
}

export interface NewAdapter {
  readonly switchName?: string | undefined;
  readonly vlan?: number | undefined;
  readonly guest?: AddressSettings | undefined;
}

export interface NewVm {
  readonly name: string;
  readonly disks?: readonly NewDisk[] | undefined;
  readonly adapters?: readonly NewAdapter[] | undefined;
  readonly generation?: 1 | 2 | undefined;
  readonly memoryBytes?: number | undefined;
  readonly cpuCount?: number | undefined;
  readonly isAutoStart?: boolean | undefined;
}

export const DHCP: AddressSettings = {
  isDhcp: true,
  addresses: [],
  gateways: [],
  dnsServers: [],
};

const DEFAULT_MEMORY_BYTES = 2 * 1024 ** 3;
const DEFAULT_CPUS = 2;
const NAME_LENGTH_MAX = 100;
export const DISKS_MAX = 64;

/** Makes a VM, off; its switches are made when they are not there. @throws DrError E_EXISTS */
export async function createVm(context: LabContext, request: NewVm): Promise<Guid> {
  const { name, disks = [], adapters = [] } = request;
  checkName(name);
  if (disks.length > DISKS_MAX) {
    throw new DrError('E_PARAMETER', `a VM has at most ${DISKS_MAX} disks, not ${disks.length}`);
  }
  const { vms, unfinished } = await surveyVms(context);
  refuseTakenName(context, vms, name);
  await removeUnfinishedVms(context, unfinished);
  const switches = adapters.flatMap(({ switchName }) => switchName ?? []);
  return buildingVm(context, async (vmId) => {
    const made: DiskRecord[] = [];
    for (const [index, disk] of disks.entries()) {
      made.push(await newDisk(context, vmId, disk, index));
    }
    const vm: VmRecord = {
      ...emptyVm(vmId, name),
      generation: request.generation ?? 2,
      cpuCount: request.cpuCount ?? DEFAULT_CPUS,
      memoryBytes: request.memoryBytes ?? DEFAULT_MEMORY_BYTES,
      isAutoStart: request.isAutoStart ?? false,
      disks: made,
      adapters: adapters.map((adapter, index) => ({
        id: randomGuid(context.random),
        name: index === 0 ? 'Network Adapter' : `Network Adapter ${index + 1}`,
        mac: randomMac(context),
        isMacStatic: false,
        switchName: adapter.switchName,
        vlan: adapter.vlan,
        guest: adapter.guest ?? DHCP,
        nextGuest: undefined,
      })),
    };
    await addSwitches(context, switches);
    return vm;
  });
}

/** See TargetHypervisor.registerVm. */
export async function registerVm(context: LabContext, request: RegisterRequest): Promise<Guid> {
  const { definition, name, diskPaths, tag, keepsMacAddresses = false } = request;
  checkName(name);
  if (diskPaths.length !== definition.disks.length) {
    throw new DrError(
      'E_HYPERVISOR',
      `the VM ${name} has ${definition.disks.length} disks, but ${diskPaths.length} files are given`,
    );
  }
  const { vms, unfinished } = await surveyVms(context);
  refuseTakenName(context, vms, name);
  refuseDisksInUse(context, vms, diskPaths);
  await removeUnfinishedVms(context, unfinished);
  return buildingVm(context, async (vmId) => {
    const disks: DiskRecord[] = [];
    for (const [index, file] of diskPaths.entries()) {
      const place = definition.disks[index];
      const found = await diskInPlace(context, vmId, path.resolve(file));
      disks.push({
        ...found,
        controller: place?.controller ?? 'scsi',
        controllerNumber: place?.controllerNumber ?? 0,
        controllerLocation: place?.controllerLocation ?? index,
      });
    }
    const adapters: AdapterRecord[] = definition.adapters.map((adapter) => ({
      id: randomGuid(context.random),
      name: adapter.name,
      mac: keepsMacAddresses ? adapter.mac : randomMac(context),
      isMacStatic: keepsMacAddresses && adapter.isMacStatic,
      switchName: undefined,
      vlan: undefined,
      guest: adapter.guest,
      nextGuest: undefined,
    }));
    const { generation, cpuCount, memoryBytes, isAutoStart } = definition;
    return {
      ...emptyVm(vmId, name),
      ...{ generation, cpuCount, memoryBytes, isAutoStart, tag, disks, adapters },
    };
  });
}

function emptyVm(id: Guid, name: string): VmRecord {
  return {
    id,
    name,
    powerState: 'off',
    generation: 2,
    cpuCount: DEFAULT_CPUS,
    memoryBytes: DEFAULT_MEMORY_BYTES,
    isAutoStart: false,
    tag: undefined,
    fence: undefined,
    adapters: [],
    disks: [],
    checkpoints: [],
    userCheckpoints: [],
    currentCheckpointId: undefined,
    referencePoints: [],
    mergeNotBeforeMs: 0,
    heartbeatNotBeforeMs: undefined,
  };
}

/**
 * Makes the folder of a new VM, lets `build` fill it, and publishes the record. What goes wrong
 * leaves nothing; what a crash leaves is recognised by its mark.
 */
async function buildingVm(
  context: LabContext,
  build: (vmId: Guid) => Promise<VmRecord>,
): Promise<Guid> {
  const { fs, folder, random } = context;
  const vmId = randomGuid(random);
  const home = vmFolder(folder, vmId);
  await fs.makeFolder(home);
  await makeLockFile(fs, vmLockFile(folder, vmId));
  await withLockFile(context, vmLockFile(folder, vmId), async () => {
    await makeLockFile(fs, creatingFile(folder, vmId));
    await fs.makeFolder(disksFolder(folder, vmId));
    await fs.makeFolder(trackingFolder(folder, vmId));
    try {
      const vm = await build(vmId);
      await withLockFile(context, hostLockFile(folder), async () => {
        refuseTakenName(context, await allVms(context), vm.name);
        await saveVm(context, vm);
      });
    } catch (error) {
      await removeUnfinished(context, vmId).catch(() => undefined);
      throw error;
    }
    await fs.remove(creatingFile(folder, vmId));
    await fs.flushFolder(home);
  });
  return vmId;
}

async function removeUnfinished(context: LabContext, vmId: Guid): Promise<void> {
  if ((await context.fs.status(vmFile(context.folder, vmId))) !== undefined) return;
  await removeVmFiles(context, vmId);
  await context.fs.remove(creatingFile(context.folder, vmId));
  await context.fs.flushFolder(vmFolder(context.folder, vmId));
}

/** What crashes left of VMs that were being made or removed; those under way are left alone. */
async function removeUnfinishedVms(context: LabContext, vmIds: readonly Guid[]): Promise<void> {
  const { fs, folder } = context;
  for (const vmId of vmIds) {
    const isUnfinished =
      (await fs.status(creatingFile(folder, vmId))) !== undefined ||
      (await fs.status(removingFile(folder, vmId))) !== undefined;
    if (!isUnfinished) continue;
    try {
      await withLockFile(
        context,
        vmLockFile(folder, vmId),
        () => removeUnfinished(context, vmId),
        0,
      );
    } catch (error) {
      if (!(error instanceof DrError) || error.code !== 'E_LOCKED') throw error;
    }
  }
}

/** Gives a VM another name, also one that another VM has: hypervisors tell VMs apart by their ids. */
export async function renameVm(context: LabContext, vmId: Guid, name: string): Promise<void> {
  checkName(name);
  await withVmLock(context, vmId, (vm) => saveVm(context, { ...vm, name }));
}

function checkName(name: string): void {
  const isLegal = name.trim() === name && name !== '' && name.length <= NAME_LENGTH_MAX;
  if (isLegal && !/[\u0000-\u001f\u007f]/.test(name)) return;
  throw new DrError('E_PARAMETER', `${JSON.stringify(name)} is no name for a VM`, {
    hint: `1 to ${NAME_LENGTH_MAX} characters, without blanks around it and control characters.`,
  });
}

function refuseTakenName({ folder }: LabContext, vms: readonly VmRecord[], name: string): void {
  const other = vms.find((vm) => vm.name === name);
  if (other === undefined) return;
  throw new DrError('E_EXISTS', `the lab ${folder} has a VM ${name} already`, {
    context: { vmId: other.id },
    hint: 'Choose another name; names are how the command line tells VMs apart.',
  });
}

/** Two VMs over one file would ruin it. `ownerId`: this one may have them. */
export function refuseDisksInUse(
  context: LabContext,
  vms: readonly VmRecord[],
  files: readonly string[],
  ownerId?: Guid,
): void {
  const wanted = new Set(files.map((file) => path.resolve(file)));
  for (const vm of vms) {
    if (vm.id === ownerId) continue;
    for (const disk of vm.disks) {
      for (const { file } of disk.files) {
        const used = diskPath(context.folder, vm.id, file);
        if (!wanted.has(used)) continue;
        throw new DrError('E_HYPERVISOR', `${used} belongs to the VM ${vm.name} already`, {
          context: { vmId: vm.id, file: used },
        });
      }
    }
  }
  if (wanted.size === files.length) return;
  throw new DrError('E_HYPERVISOR', 'one file is given for two disks');
}

/** A static or dynamic address out of Hyper-V's range, 00-15-5D. */
export function randomMac({ random }: Pick<LabContext, 'random'>): string {
  return `00155D${random.fill(Buffer.alloc(3)).toString('hex').toUpperCase()}`;
}

/** Makes the file of a new disk in the VM's folder. Durable, but for vm.json. */
export async function newDisk(
  context: LabContext,
  vmId: Guid,
  request: NewDisk,
  index: number,
): Promise<DiskRecord> {
  const { fs, folder, random } = context;
  const { source, type = 'dynamic', logicalSectorBytes = 512, blockSizeBytes } = request;
  const { onProgress } = request;
  const name = ownDiskName(`${randomGuid(random)}.vhdx`);
  const file = diskPath(folder, vmId, name);
  if ('importFile' in source) {
    const options = { to: 'vhdx', type, blockSizeBytes, onProgress } as const;
    await withSource(source.importFile, file, { fs, random }, (disk) =>
      writeImage(disk, file, options, { fs, random }),
    );
  } else {
    await createVhdx(
      file,
      { type, sizeBytes: source.sizeBytes, blockSizeBytes, logicalSectorBytes },
      { fs, random },
    );
  }
  const found = await diskInPlace(context, vmId, file);
  return {
    ...found,
    isOwn: true,
    home: name,
    files: [{ file: name, parent: undefined }],
    leaf: name,
    controllerLocation: index,
  };
}

/** The record of a disk over a file that stands ready. @throws DrError E_NOT_FOUND, VhdxError */
export async function diskInPlace(
  context: LabContext,
  vmId: Guid,
  file: string,
): Promise<DiskRecord> {
  const { contentId, ...disk } = await diskFileOf(context, file);
  return {
    ...disk,
    controller: 'scsi',
    controllerNumber: 0,
    controllerLocation: 0,
    isOwn: false,
    home: file,
    files: [{ file, parent: undefined }],
    leaf: file,
    merge: undefined,
    former: [],
    tracking: await firstEpoch(context, vmId, disk, contentId),
  };
}

/** What a file says of its disk, with all of its parents checked. @throws DrError E_NOT_FOUND, VhdxError */
export async function diskFileOf(
  context: LabContext,
  file: string,
): Promise<
  Pick<DiskRecord, 'diskId' | 'sizeBytes' | 'logicalSectorBytes' | 'physicalSectorBytes'> & {
    readonly contentId: Guid;
  }
> {
  const { fs, random } = context;
  const disk = await openVhdx(file, { fs, random });
  const { diskId } = disk.top.structures.disk;
  const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
  await disk.close();
  const contentId = await contentIdOf(context, file);
  return { diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes, contentId };
}

/**
 * Forgets a VM that is off. Of each disk the file stays that it was registered with; what checkpoints
 * put above it goes with what the guest wrote there, without a merge: that would need room on a volume
 * which may be full.
 */
export async function forgetVm(context: LabContext, vmId: Guid): Promise<void> {
  await changingVm(context, vmId, async (vm) => {
    refuseRunning(vm, 'removed');
    const released: VmRecord = {
      ...vm,
      checkpoints: [],
      userCheckpoints: [],
      currentCheckpointId: undefined,
      disks: vm.disks.map(onLowestFile),
    };
    await saveVm(context, released);
    await removeStrayFiles(context, await settle(context, released, 'all'));
    const { fs, folder } = context;
    await context.fs.remove(mergeFailureFile(context.folder, vmId));
    // With its mark of creation and without its record, the folder would be taken for a leftover.
    await fs.remove(creatingFile(folder, vmId));
    await fs.flushFolder(vmFolder(folder, vmId));
    await fs.remove(vmFile(folder, vmId));
    await fs.flushFolder(vmFolder(folder, vmId));
    for (const name of await fs.list(trackingFolder(folder, vmId))) {
      await fs.remove(path.join(trackingFolder(folder, vmId), name));
    }
  });
  await dropFaultsOf(context, vmId);
}

/**
 * The disk without the files above the one that it was registered with. When that one was merged into
 * the file of a later checkpoint, all are kept, and merged under its name.
 */
function onLowestFile(disk: DiskRecord): DiskRecord {
  const lowest = disk.files.find(({ file }) => file === disk.home);
  return lowest === undefined ? disk : { ...disk, files: [lowest], leaf: lowest.file };
}

/** Removes a VM that is off, with the disks in its own folder; disks elsewhere stay. */
export async function deleteVm(context: LabContext, vmId: Guid): Promise<void> {
  const { fs, folder } = context;
  await changingVm(context, vmId, async (vm) => {
    refuseRunning(vm, 'removed');
    await fs.rename(vmFile(folder, vmId), removingFile(folder, vmId));
    await fs.flushFolder(vmFolder(folder, vmId));
    await removeVmFiles(context, vmId);
  });
  await dropFaultsOf(context, vmId);
}

export function refuseRunning(vm: VmRecord, action: string): void {
  if (vm.powerState === 'off') return;
  throw new DrError(
    'E_HYPERVISOR',
    `the VM ${vm.name} is ${vm.powerState}, so it is not ${action}`,
    {
      context: { vmId: vm.id, powerState: vm.powerState },
      hint: `Stop it first: \`hvdr lab stop DIR ${vm.name}\`.`,
    },
  );
}

/** The VM whose name, or id, is `text`. @throws DrError E_NOT_FOUND, E_USAGE (a name of several) */
export async function findVm(context: LabContext, text: string): Promise<VmRecord> {
  const vms = await allVms(context);
  const id = parseGuid(text);
  const named = vms.filter(({ name }) => name === text);
  if (named.length > 1) {
    const ids = named.map((vm) => vm.id).join(', ');
    throw new DrError('E_USAGE', `${named.length} VMs are named ${text}: ${ids}`, {
      hint: 'Name the VM by its id.',
    });
  }
  const vm = named[0] ?? vms.find((other) => other.id === id);
  if (vm !== undefined) return vm;
  const names = vms.map(({ name }) => name).join(', ');
  throw new DrError('E_NOT_FOUND', `the lab ${context.folder} has no VM ${text}`, {
    hint: names === '' ? 'It has no VM at all.' : `Its VMs: ${names}.`,
  });
}
