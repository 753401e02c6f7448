// vm.json: everything that the lab knows about one VM. It is replaced as a whole, durably; that is
// the commit point of every change of a VM. File names are relative to the VM's folder, or absolute
// for disks that stand elsewhere.

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { readJson, writeJsonDurably, type JsonFormat } from '../../files/index.js';
import type { AddressSettings, OwnerTag, PowerState } from '../vm.js';
import type { Consistency, Fence } from '../source.js';
import type { LabContext } from './context.js';
import { Fields } from '../fields.js';
import { vmFile } from './layout.js';

const FORMAT: JsonFormat = { name: 'lab VM', version: 1, limitBytes: 8 * 1024 * 1024 };
/** Ended epochs that are remembered with their reason, per disk. */
export const ENDED_EPOCHS_MAX = 16;

export interface AdapterRecord {
  readonly id: Guid;
  readonly name: string;
  readonly mac: string;
  readonly isMacStatic: boolean;
  readonly switchName: string | undefined;
  readonly vlan: number | undefined;
  /** As the guest has it now. */
  readonly guest: AddressSettings;
  /** Taken over by the guest at its next start. */
  readonly nextGuest: AddressSettings | undefined;
}

/** Why the VM must not be started, and what it had before. */
export interface FenceRecord extends Fence {
  readonly isAutoStart: boolean;
  readonly connections: readonly {
    readonly adapterId: Guid;
    readonly switchName: string;
    readonly vlan: number | undefined;
  }[];
}

/** One VHDX file of a disk. The lowest one has no parent here, though it may be differencing. */
export interface FileRecord {
  readonly file: string;
  readonly parent: string | undefined;
}

export interface TrackingRecord {
  /** Ids of another epoch are invalid. */
  readonly epoch: Guid;
  /** Generations with a tracking file, ascending; guest writes are marked in the last one. */
  readonly sequences: readonly number[];
  readonly ended: readonly { readonly epoch: Guid; readonly reason: string }[];
}

/** A merge that may have changed files already: it must be finished before anything else. */
export interface MergeRecord {
  readonly parent: string;
  readonly child: string;
  /** What the merged file is called at the end: the child's name, unless nothing depends on it. */
  readonly finalName: string;
}

export interface DiskRecord {
  readonly diskId: Guid;
  readonly controller: 'ide' | 'scsi';
  readonly controllerNumber: number;
  readonly controllerLocation: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** False for a disk that was registered where it stood. */
  readonly isOwn: boolean;
  /** The name that the disk's only file has when no checkpoint is there. */
  readonly home: string;
  readonly files: readonly FileRecord[];
  /** The file that the guest writes to. */
  readonly leaf: string;
  readonly merge: MergeRecord | undefined;
  /** Files that the disk stood on before it was put on others. They stay. */
  readonly former: readonly string[];
  readonly tracking: TrackingRecord;
}

/** The file that a checkpoint froze. */
export interface FrozenDisk {
  readonly diskId: Guid;
  readonly file: string;
  readonly epoch: Guid;
  /** Writes of this generation and later ones came after the checkpoint. */
  readonly sequence: number;
}

export interface CheckpointRecord {
  readonly id: string;
  readonly createdAtMs: number;
  readonly consistency: Consistency;
  readonly tag: OwnerTag | undefined;
  readonly disks: readonly FrozenDisk[];
}

export interface UserCheckpointRecord {
  readonly id: string;
  readonly name: string;
  readonly createdAtMs: number;
  readonly parentId: string | undefined;
  readonly disks: readonly { readonly diskId: Guid; readonly file: string }[];
}

export interface ReferencePointRecord {
  readonly id: string;
  readonly createdAtMs: number;
  readonly tag: OwnerTag | undefined;
  readonly disks: readonly {
    readonly diskId: Guid;
    readonly epoch: Guid;
    readonly sequence: number;
  }[];
}

export interface VmRecord {
  readonly id: Guid;
  readonly name: string;
  readonly powerState: PowerState;
  readonly generation: 1 | 2;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly isAutoStart: boolean;
  readonly tag: OwnerTag | undefined;
  readonly fence: FenceRecord | undefined;
  readonly adapters: readonly AdapterRecord[];
  readonly disks: readonly DiskRecord[];
  readonly checkpoints: readonly CheckpointRecord[];
  readonly userCheckpoints: readonly UserCheckpointRecord[];
  /** The user checkpoint that the guest's present state began from. */
  readonly currentCheckpointId: string | undefined;
  readonly referencePoints: readonly ReferencePointRecord[];
  /** By the wall clock; no merge is begun before (scripted delay). */
  readonly mergeNotBeforeMs: number;
  /** By the wall clock; the guest gives no sign of life before (scripted delay). */
  readonly heartbeatNotBeforeMs: number | undefined;
}

/** undefined when there is no such VM. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
export async function readVm(
  { fs }: Pick<LabContext, 'fs'>,
  file: string,
): Promise<VmRecord | undefined> {
  const json = await readJson(fs, file, FORMAT);
  if (json === undefined) return undefined;
  const vm = vmOf(Fields.ofFile(json, file));
  const flaw = flawOf(vm);
  if (flaw === undefined) return vm;
  throw new DrError('E_FILE_DAMAGED', `${file} cannot be used: ${flaw}`, {
    context: { path: file },
  });
}

/**
 * What contradicts itself in a record; undefined: nothing. What no record names is removed as a
 * leftover, so a record that has lost a name must not be worked with.
 */
function flawOf(vm: VmRecord): string | undefined {
  const filesOf = new Map<string, Set<string>>();
  for (const { diskId, files, leaf, home, merge, former } of vm.disks) {
    const names = new Set(files.map(({ file }) => file));
    if (filesOf.has(diskId)) return `the disk ${diskId} is there twice`;
    if (names.size !== files.length) return `the disk ${diskId} names a file twice`;
    filesOf.set(diskId, names);
    const named = [leaf, ...files.flatMap(({ parent }) => parent ?? [])];
    if (merge !== undefined) named.push(merge.parent, merge.child);
    const stranger = named.find((name) => !names.has(name));
    if (stranger !== undefined) return `the disk ${diskId} has no file ${stranger}`;
    const all = [...names, home, ...former, ...(merge === undefined ? [] : [merge.finalName])];
    const outside = all.find((name) => !isPlace(name));
    if (outside !== undefined) return `${JSON.stringify(outside)} is no place for a disk file`;
  }
  for (const mark of [...vm.checkpoints, ...vm.userCheckpoints]) {
    for (const { diskId, file } of mark.disks) {
      if (filesOf.get(diskId)?.has(file) !== true) {
        return `the checkpoint ${mark.id} holds a file of disk ${diskId} that is not there`;
      }
    }
  }
  return undefined;
}

/** A file of the VM's own, or an absolute path of a disk that was registered in its place. */
function isPlace(file: string): boolean {
  return path.isAbsolute(file) || /^disks[/\\][^/\\]+$/.test(file);
}

/** Durable on return. */
export async function saveVm(context: LabContext, vm: VmRecord): Promise<void> {
  const { fs, random, folder } = context;
  const { fence } = vm;
  const written = fence === undefined ? undefined : { ...fence, epoch: fence.epoch.toString() };
  await writeJsonDurably(fs, vmFile(folder, vm.id), FORMAT, { ...vm, fence: written }, random);
}

function vmOf(fields: Fields): VmRecord {
  return {
    id: fields.guid('id'),
    name: fields.string('name'),
    powerState: fields.oneOf('powerState', ['off', 'running', 'paused', 'starting', 'stopping']),
    generation: fields.oneOf('generation', [1, 2]),
    cpuCount: fields.whole('cpuCount', 1),
    memoryBytes: fields.whole('memoryBytes', 1),
    isAutoStart: fields.boolean('isAutoStart'),
    tag: fields.optionalObject('tag', tagOf),
    fence: fields.optionalObject('fence', fenceOf),
    adapters: fields.list('adapters', adapterOf),
    disks: fields.list('disks', diskOf),
    checkpoints: fields.list('checkpoints', (item) => ({
      id: item.string('id'),
      createdAtMs: item.whole('createdAtMs'),
      consistency: item.oneOf('consistency', ['application', 'crash']),
      tag: item.optionalObject('tag', tagOf),
      disks: item.list('disks', (disk) => ({
        diskId: disk.guid('diskId'),
        file: disk.string('file'),
        epoch: disk.guid('epoch'),
        sequence: disk.whole('sequence'),
      })),
    })),
    userCheckpoints: fields.list('userCheckpoints', (item) => ({
      id: item.string('id'),
      name: item.string('name'),
      createdAtMs: item.whole('createdAtMs'),
      parentId: item.optionalString('parentId'),
      disks: item.list('disks', (disk) => ({
        diskId: disk.guid('diskId'),
        file: disk.string('file'),
      })),
    })),
    currentCheckpointId: fields.optionalString('currentCheckpointId'),
    referencePoints: fields.list('referencePoints', (item) => ({
      id: item.string('id'),
      createdAtMs: item.whole('createdAtMs'),
      tag: item.optionalObject('tag', tagOf),
      disks: item.list('disks', (disk) => ({
        diskId: disk.guid('diskId'),
        epoch: disk.guid('epoch'),
        sequence: disk.whole('sequence'),
      })),
    })),
    mergeNotBeforeMs: fields.whole('mergeNotBeforeMs'),
    heartbeatNotBeforeMs: fields.optionalWhole('heartbeatNotBeforeMs', 0),
  };
}

function tagOf(fields: Fields): OwnerTag {
  return { protectionId: fields.guid('protectionId'), operationId: fields.guid('operationId') };
}

function fenceOf(fields: Fields): FenceRecord {
  return {
    tag: fields.object('tag', tagOf),
    epoch: fields.counter('epoch'),
    isAutoStart: fields.boolean('isAutoStart'),
    connections: fields.list('connections', (item) => ({
      adapterId: item.guid('adapterId'),
      switchName: item.string('switchName'),
      vlan: item.optionalWhole('vlan', 1, 4094),
    })),
  };
}

function addressesOf(fields: Fields): AddressSettings {
  return {
    isDhcp: fields.boolean('isDhcp'),
    addresses: fields.strings('addresses'),
    gateways: fields.strings('gateways'),
    dnsServers: fields.strings('dnsServers'),
  };
}

function adapterOf(fields: Fields): AdapterRecord {
  return {
    id: fields.guid('id'),
    name: fields.string('name'),
    mac: fields.string('mac', 12),
    isMacStatic: fields.boolean('isMacStatic'),
    switchName: fields.optionalString('switchName'),
    vlan: fields.optionalWhole('vlan', 1, 4094),
    guest: fields.object('guest', addressesOf),
    nextGuest: fields.optionalObject('nextGuest', addressesOf),
  };
}

function diskOf(fields: Fields): DiskRecord {
  return {
    diskId: fields.guid('diskId'),
    controller: fields.oneOf('controller', ['ide', 'scsi']),
    controllerNumber: fields.whole('controllerNumber'),
    controllerLocation: fields.whole('controllerLocation'),
    sizeBytes: fields.whole('sizeBytes', 1),
    logicalSectorBytes: fields.oneOf('logicalSectorBytes', [512, 4096]),
    physicalSectorBytes: fields.oneOf('physicalSectorBytes', [512, 4096]),
    isOwn: fields.boolean('isOwn'),
    home: fields.string('home'),
    files: fields.list('files', (file) => ({
      file: file.string('file'),
      parent: file.optionalString('parent'),
    })),
    leaf: fields.string('leaf'),
    merge: fields.optionalObject('merge', (merge) => ({
      parent: merge.string('parent'),
      child: merge.string('child'),
      finalName: merge.string('finalName'),
    })),
    former: fields.optionalStrings('former'),
    tracking: fields.object('tracking', (tracking) => ({
      epoch: tracking.guid('epoch'),
      sequences: tracking.wholes('sequences'),
      ended: tracking.list('ended', (ended) => ({
        epoch: ended.guid('epoch'),
        reason: ended.string('reason'),
      })),
    })),
  };
}
