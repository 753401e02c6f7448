// What the provider has to remember about a VM and Hyper-V cannot: whose a reference point is and of which
// disks, what it was about to make (so that a crash leaves no orphan that nobody owns), and addresses that the
// guest takes over at its next start. One file a VM, replaced as a whole, durably: in our own folder, or beside the
// configuration of a clustered VM, where every node reads it that comes to own the VM (hyperv.md § 5).

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';
import {
  lockedFile,
  makeLockFile,
  readJson,
  writeJsonDurably,
  type JsonFields,
  type JsonFormat,
} from '../../files/index.js';
import { Fields } from '../fields.js';
import type { AddressSettings, OwnerTag } from '../vm.js';
import type { HyperVContext } from './context.js';
import { machineOrNone } from './machines.js';
import type { MachineFacts } from './operations/machines.js';

const FORMAT: JsonFormat = { name: 'memory of a VM', version: 1, limitBytes: 4 * 1024 * 1024 };
const PLACE_FORMAT: JsonFormat = { name: 'place of a memory', version: 1, limitBytes: 256 * 1024 };
const LOCK_MS = 120_000;
/** A checkpoint that was asked for comes within so long, or later when its caller waits longer. */
export const CREATION_MS = 10 * 60_000;
/** Beside the configurations of clustered VMs. */
const SHARED_FOLDER = 'podheitor-hvdr';

export interface KnownDisk {
  /** Of the storage setting, without the part that names the VM or the checkpoint. */
  readonly place: string;
  readonly diskId: Guid;
  readonly sizeBytes: number;
  /** The frozen file. What the guest wrote since stands in it or above it, unless the disk went back. */
  readonly file: string | undefined;
}

/** A reference point of ours. */
export interface KnownPoint {
  readonly id: string;
  readonly createdAtMs: number;
  readonly tag: OwnerTag;
  readonly disks: readonly (KnownDisk & { readonly trackingId: string })[];
  /** The checkpoint that a user had applied last; another one means that the disks went back. */
  readonly lastAppliedId: string | undefined;
}

/** Written before a checkpoint is asked for, gone when it bears its name. */
export interface CreationIntent {
  readonly tag: OwnerTag;
  readonly startedAtMs: number;
  /** It is given up then; whatever comes much later is somebody else's. */
  readonly untilMs: number;
  readonly others: readonly string[];
}

/** Written before a checkpoint is converted, gone when its reference point is known. */
export interface ConversionIntent {
  readonly checkpointId: string;
  readonly tag: OwnerTag;
  readonly createdAtMs: number;
  readonly disks: readonly KnownDisk[];
  readonly others: readonly string[];
  readonly lastAppliedId: string | undefined;
}

/** A file above a frozen one, which the host is to merge into it. */
export interface ExpectedMerge {
  readonly place: string;
  readonly file: string;
  readonly into: string;
  /** While it is there, nothing merges. */
  readonly checkpointId: string | undefined;
  /** When it was about to begin. */
  readonly sinceMs: number | undefined;
}

export interface VmMemory {
  readonly points: readonly KnownPoint[];
  readonly creation: CreationIntent | undefined;
  readonly conversion: ConversionIntent | undefined;
  readonly merges: readonly ExpectedMerge[];
  readonly addresses: readonly {
    readonly adapterId: Guid;
    readonly settings: AddressSettings;
  }[];
}

const EMPTY: VmMemory = {
  points: [],
  creation: undefined,
  conversion: undefined,
  merges: [],
  addresses: [],
};

export async function readMemory(context: HyperVContext, vmId: Guid): Promise<VmMemory> {
  return readFrom(context, await placeOfMemory(context, vmId));
}

/** Where the memory of a VM is missed; undefined: it is there. */
export async function missedAt(context: HyperVContext, vmId: Guid): Promise<string | undefined> {
  const { file, earlier } = await placeOfMemory(context, vmId);
  for (const each of [file, ...earlier]) {
    if ((await context.fs.status(each)) !== undefined) return undefined;
  }
  return file;
}

async function readFrom({ fs }: HyperVContext, { file, earlier }: Place): Promise<VmMemory> {
  for (const each of [file, ...earlier]) {
    const json = await readJson(fs, each, FORMAT);
    if (json !== undefined) return memoryOf(json, each);
  }
  return EMPTY;
}

function memoryOf(json: JsonFields, file: string): VmMemory {
  const fields = Fields.ofFile(json, file);
  return {
    points: fields.list('points', (point) => ({
      id: point.string('id'),
      createdAtMs: point.whole('createdAtMs'),
      tag: point.object('tag', tagOf),
      disks: point.list('disks', (disk) => ({
        ...diskOf(disk),
        trackingId: disk.string('trackingId'),
      })),
      lastAppliedId: point.optionalString('lastAppliedId'),
    })),
    creation: fields.optionalObject('creation', (creation) => ({
      tag: creation.object('tag', tagOf),
      startedAtMs: creation.whole('startedAtMs'),
      // an earlier release wrote none
      untilMs: creation.optionalWhole('untilMs') ?? creation.whole('startedAtMs') + CREATION_MS,
      others: creation.strings('others'),
    })),
    conversion: fields.optionalObject('conversion', (conversion) => ({
      checkpointId: conversion.string('checkpointId'),
      tag: conversion.object('tag', tagOf),
      createdAtMs: conversion.whole('createdAtMs'),
      disks: conversion.list('disks', diskOf),
      others: conversion.strings('others'),
      lastAppliedId: conversion.optionalString('lastAppliedId'),
    })),
    merges: fields.list('merges', (merge) => ({
      place: merge.string('place'),
      file: merge.string('file', 32_768),
      into: merge.string('into', 32_768),
      checkpointId: merge.optionalString('checkpointId'),
      sinceMs: merge.optionalWhole('sinceMs'),
    })),
    addresses: fields.list('addresses', (address) => ({
      adapterId: address.guid('adapterId'),
      settings: address.object('settings', (settings) => ({
        isDhcp: settings.boolean('isDhcp'),
        addresses: settings.strings('addresses'),
        gateways: settings.strings('gateways'),
        dnsServers: settings.strings('dnsServers'),
      })),
    })),
  };
}

/** Changes what is remembered, from what stands on disk at that moment. @throws DrError E_LOCKED, E_IO */
export async function remember(
  context: HyperVContext,
  vmId: Guid,
  change: (memory: VmMemory) => VmMemory,
): Promise<VmMemory> {
  const { fs, random } = context;
  const place = await placeOfMemory(context, vmId);
  const folder = path.dirname(place.file);
  // the next owner of the VM may be another account, and over SMB each node is one of its own
  await fs.makeFolder(folder, { inheritsRights: place.isShared });
  const lockFile = path.join(folder, 'lock');
  await makeLockFile(fs, lockFile);
  const lock = await lockedFile(context, lockFile, LOCK_MS);
  try {
    const before = await readFrom(context, place);
    const after = change(before);
    if (after !== before) {
      await writeJsonDurably(fs, place.file, FORMAT, { ...after }, random);
      await notePlace(context, place);
      for (const each of place.earlier) await removeIfThere(context, each);
      if (!place.isShared) await removeIfThere(context, place.note);
    }
    return after;
  } finally {
    await lock.close();
  }
}

/** For a VM that is gone; `machine` is what it was. */
export async function forget(context: HyperVContext, machine: MachineFacts): Promise<void> {
  const { file, earlier, note } = await placeFor(context, machine.id, machine);
  for (const each of [file, ...earlier, note]) await removeIfThere(context, each);
}

async function removeIfThere({ fs }: HyperVContext, file: string): Promise<void> {
  if ((await fs.status(file)) === undefined) return;
  await fs.remove(file);
  await fs.flushFolder(path.dirname(file));
}

interface Place {
  readonly file: string;
  /** Beside the configuration of a clustered VM, for whichever node owns it. */
  readonly isShared: boolean;
  /**
   * Where it may stand still: of before the VM was a role of the cluster, or was none any more, or before its configuration
   * was moved.
   */
  readonly earlier: readonly string[];
  /** Says, in our own folder, where the memory of a clustered VM was written last by this node. */
  readonly note: string;
}

async function placeOfMemory(context: HyperVContext, vmId: Guid): Promise<Place> {
  return placeFor(context, vmId, await machineOrNone(context, vmId));
}

async function placeFor(
  { fs, stateFolder }: HyperVContext,
  vmId: Guid,
  machine: MachineFacts | undefined,
): Promise<Place> {
  const own = path.join(stateFolder, `${vmId}.json`);
  const note = path.join(stateFolder, `${vmId}.place.json`);
  const json = await readJson(fs, note, PLACE_FORMAT);
  const noted = json && Fields.ofFile(json, note).string('file', 32_768);
  if (machine?.isClustered !== true) {
    return { file: own, isShared: false, earlier: noted === undefined ? [] : [noted], note };
  }
  const file = path.join(machine.configurationFolder, SHARED_FOLDER, `${vmId}.json`);
  // a move of the configuration leaves behind what Hyper-V does not know
  const left = noted === undefined || noted === file ? [] : [noted];
  return { file, isShared: true, earlier: [own, ...left], note };
}

async function notePlace(
  { fs, stateFolder, random }: HyperVContext,
  { file, isShared, earlier, note }: Place,
): Promise<void> {
  const isNoted = earlier.length === 1 && (await fs.status(note)) !== undefined;
  if (!isShared || isNoted) return;
  await fs.makeFolder(stateFolder);
  await writeJsonDurably(fs, note, PLACE_FORMAT, { file }, random);
}

function tagOf(fields: Fields): OwnerTag {
  return { protectionId: fields.guid('protectionId'), operationId: fields.guid('operationId') };
}

function diskOf(fields: Fields): KnownDisk {
  return {
    place: fields.string('place'),
    diskId: fields.guid('diskId'),
    sizeBytes: fields.whole('sizeBytes'),
    file: fields.optionalString('file', 32_768),
  };
}
