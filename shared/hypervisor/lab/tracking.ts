// Change tracking of the disks of a VM (tracking-file.ts holds one generation of one disk).
//
// A generation begins whenever the guest gets a new leaf. A checkpoint remembers the number of the
// generation that began with it, and so does the reference point that is made of it. What changed
// between reference point r and checkpoint c stands in the generations r … c-1.
//
// An epoch ends when that is not the whole truth any more: the disk was resized, restored, reverted,
// edited by somebody else, or a tracking file is lost. Ids of an ended epoch are invalid, with the
// reason. Generations from which nobody can ask are folded into their predecessor or dropped.

import { randomGuid, ZERO_GUID, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { ByteRange } from '../source.js';
import { VhdxFile } from '../../vhdx/index.js';
import type { LabContext } from './context.js';
import { diskPath, trackingFile, trackingFileName, trackingFolder } from './layout.js';
import { ENDED_EPOCHS_MAX, type DiskRecord, type TrackingRecord, type VmRecord } from './record.js';
import {
  CELL_BYTES,
  firstCellOf,
  TrackingDamaged,
  TrackingFile,
  type MarkedSector,
} from './tracking-file.js';

/** The id of a moment of a disk, opaque to callers. */
export function trackingIdOf(epoch: Guid, sequence: number): string {
  return `lab:${epoch}:${sequence}`;
}

export function parseTrackingId(
  text: string,
): { readonly epoch: string; readonly sequence: number } | undefined {
  const match = /^lab:([0-9a-f-]{36}):(\d{1,15})$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return { epoch: match[1], sequence: Number(match[2]) };
}

/** The content id of a VHDX file as it stands. */
export async function contentIdOf(
  { fs, random }: Pick<LabContext, 'fs' | 'random'>,
  file: string,
): Promise<Guid> {
  const vhdx = await VhdxFile.open(file, { fs, random, isWritable: false, lock: 'none' });
  try {
    return vhdx.header.dataWriteGuid;
  } finally {
    await vhdx.close();
  }
}

/** A disk's first epoch, with its first file. Durable on return. */
export async function firstEpoch(
  context: LabContext,
  vmId: Guid,
  disk: Pick<DiskRecord, 'diskId' | 'sizeBytes'>,
  contentId: Guid,
): Promise<TrackingRecord> {
  const epoch = randomGuid(context.random);
  await createGeneration(context, vmId, disk, epoch, 1, contentId);
  return { epoch, sequences: [1], ended: [] };
}

/** The tracking of a disk that gets a new leaf with `contentId`. Durable, but for vm.json. */
export async function nextGeneration(
  context: LabContext,
  vmId: Guid,
  disk: DiskRecord,
  contentId: Guid,
): Promise<TrackingRecord> {
  const { tracking } = disk;
  const sequence = lastSequence(tracking) + 1;
  await createGeneration(context, vmId, disk, tracking.epoch, sequence, contentId);
  return { ...tracking, sequences: [...tracking.sequences, sequence] };
}

/** Everything that was asked for from before is invalid, because of `reason`. */
export async function endEpoch(
  context: LabContext,
  vmId: Guid,
  disk: Pick<DiskRecord, 'diskId' | 'sizeBytes' | 'tracking'>,
  reason: string,
  contentId: Guid,
): Promise<TrackingRecord> {
  const { tracking } = disk;
  const epoch = randomGuid(context.random);
  const sequence = lastSequence(tracking) + 1;
  await createGeneration(context, vmId, disk, epoch, sequence, contentId);
  const ended = [...tracking.ended, { epoch: tracking.epoch, reason }].slice(-ENDED_EPOCHS_MAX);
  return { epoch, sequences: [sequence], ended };
}

export function lastSequence({ sequences }: TrackingRecord): number {
  return sequences.at(-1) ?? 0;
}

async function createGeneration(
  { fs, folder }: LabContext,
  vmId: Guid,
  { diskId, sizeBytes }: Pick<DiskRecord, 'diskId' | 'sizeBytes'>,
  epoch: Guid,
  sequence: number,
  contentId: Guid,
): Promise<void> {
  const head = { epoch, diskId, sizeBytes, sequence, contentId, sessionId: ZERO_GUID };
  await TrackingFile.create(fs, trackingFile(folder, vmId, diskId, sequence), head);
  await fs.flushFolder(trackingFolder(folder, vmId));
}

export function openGeneration(
  { fs, folder }: LabContext,
  vmId: Guid,
  { diskId, sizeBytes, tracking }: DiskRecord,
  sequence: number,
  mode: 'read' | 'write',
): Promise<TrackingFile> {
  const expected = { epoch: tracking.epoch, diskId, sizeBytes, sequence };
  const file = trackingFile(folder, vmId, diskId, sequence);
  return TrackingFile.open(fs, file, expected, mode);
}

/** Why the current generation does not speak for the leaf with `contentId`; undefined: it does. */
export async function distrustOf(
  context: LabContext,
  vmId: Guid,
  disk: DiskRecord,
  contentId: Guid,
): Promise<string | undefined> {
  try {
    const sequence = lastSequence(disk.tracking);
    const file = await openGeneration(context, vmId, disk, sequence, 'read');
    const isKnown = file.knowsContent(contentId);
    await file.close();
    return isKnown ? undefined : 'the disk file was replaced or changed outside of the lab';
  } catch (error) {
    if (error instanceof TrackingDamaged) return `the tracking data are lost: ${error.message}`;
    throw error;
  }
}

/** The disk with its tracking as it can be trusted now; the same value when nothing happened. */
export async function checkedDisk(
  context: LabContext,
  vm: VmRecord,
  disk: DiskRecord,
): Promise<DiskRecord> {
  const contentId = await contentIdOf(context, diskPath(context.folder, vm.id, disk.leaf));
  const reason = await distrustOf(context, vm.id, disk, contentId);
  if (reason === undefined) return disk;
  return { ...disk, tracking: await endEpoch(context, vm.id, disk, reason, contentId) };
}

/** Generation numbers of `disk` from which a live checkpoint or reference point asks or may ask. */
function liveBoundaries(vm: VmRecord, disk: DiskRecord): number[] {
  return [...vm.checkpoints, ...vm.referencePoints]
    .flatMap((mark) => mark.disks)
    .filter((mark) => mark.diskId === disk.diskId && mark.epoch === disk.tracking.epoch)
    .map((mark) => mark.sequence);
}

/**
 * Joins generations whose border nobody asks from and drops those before the first border, so that
 * their number follows the marks that are alive. The returned record is to be saved; files that it
 * does not name are removed by removeStrayGenerations() then.
 */
export async function compactTracking(
  context: LabContext,
  vm: VmRecord,
  disk: DiskRecord,
): Promise<DiskRecord> {
  const borders = new Set(liveBoundaries(vm, disk));
  const current = lastSequence(disk.tracking);
  const oldest = Math.min(current, ...borders);
  const kept = disk.tracking.sequences.filter((sequence) => sequence >= oldest);
  const sequences: number[] = [];
  for (const sequence of kept) {
    const before = sequences.at(-1);
    const isNeeded = before === undefined || sequence === current || borders.has(sequence);
    if (!isNeeded && (await fold(context, vm.id, disk, sequence, before))) continue;
    sequences.push(sequence);
  }
  if (sequences.length === disk.tracking.sequences.length) return disk;
  return { ...disk, tracking: { ...disk.tracking, sequences } };
}

/** False when a reader is using one of the two: then they stay as they are. */
async function fold(
  context: LabContext,
  vmId: Guid,
  disk: DiskRecord,
  from: number,
  into: number,
): Promise<boolean> {
  let target: TrackingFile | undefined;
  let source: TrackingFile | undefined;
  try {
    target = await openGeneration(context, vmId, disk, into, 'write');
    source = await openGeneration(context, vmId, disk, from, 'read');
    for await (const sector of source.marked()) await target.take(sector);
    await target.commit();
    return true;
  } catch (error) {
    // A damaged one stays in its place, and whoever asks is told so.
    if (error instanceof TrackingDamaged) return false;
    if (error instanceof DrError && error.code === 'E_LOCKED') return false;
    throw error;
  } finally {
    await target?.close();
    await source?.close();
  }
}

/** Removes tracking files that the record does not name. */
export async function removeStrayGenerations(context: LabContext, vm: VmRecord): Promise<void> {
  const { fs, folder } = context;
  const named = new Set(
    vm.disks.flatMap(({ diskId, tracking }) =>
      tracking.sequences.map((sequence) => trackingFileName(diskId, sequence)),
    ),
  );
  const where = trackingFolder(folder, vm.id);
  const stray = (await fs.list(where)).filter((name) => !named.has(name));
  for (const name of stray) await fs.remove(`${where}/${name}`);
}

/**
 * The files that hold what changed in [from, to) of the disk's generations, open for reading.
 * @throws DrError E_TRACKING_INVALID
 */
export async function openGenerations(
  context: LabContext,
  vmId: Guid,
  disk: DiskRecord,
  from: number,
  to: number,
): Promise<TrackingFile[]> {
  const sequences = disk.tracking.sequences.filter((n) => n >= from && n < to);
  if (from < to && sequences[0] !== from) {
    throw trackingInvalid(disk.diskId, 'the reference point is gone, and with it what followed');
  }
  const files: TrackingFile[] = [];
  try {
    for (const sequence of sequences) {
      files.push(await openGeneration(context, vmId, disk, sequence, 'read'));
    }
    return files;
  } catch (error) {
    await Promise.all(files.map((file) => file.close()));
    throw damagedAsInvalid(error, disk.diskId);
  }
}

/** The union of what the files mark, as ranges: ascending, disjoint, inside the disk. */
export async function* unionOf(
  files: readonly TrackingFile[],
  disk: Pick<DiskRecord, 'diskId' | 'sizeBytes'>,
): AsyncGenerator<ByteRange> {
  let pending: { start: number; end: number } | undefined;
  try {
    for await (const { index, bits } of mergedSectors(files)) {
      for (const run of runsOf(bits)) {
        const start = (firstCellOf(index) + run.start) * CELL_BYTES;
        const end = Math.min(disk.sizeBytes, (firstCellOf(index) + run.end) * CELL_BYTES);
        if (pending?.end === start) {
          pending.end = end;
          continue;
        }
        if (pending !== undefined) yield pending;
        pending = { start, end };
      }
    }
  } catch (error) {
    throw damagedAsInvalid(error, disk.diskId);
  }
  if (pending !== undefined) yield pending;
}

async function* mergedSectors(files: readonly TrackingFile[]): AsyncGenerator<MarkedSector> {
  const readers = files.map((file) => file.marked());
  const heads = await Promise.all(readers.map((reader) => reader.next()));
  for (;;) {
    let index: number | undefined;
    for (const head of heads) {
      if (head.done !== true && (index === undefined || head.value.index < index)) {
        index = head.value.index;
      }
    }
    if (index === undefined) return;
    let bits: Buffer | undefined;
    for (const [at, head] of heads.entries()) {
      if (head.done === true || head.value.index !== index) continue;
      if (bits === undefined) bits = head.value.bits;
      else
        for (let i = 0; i < bits.length; i++) bits[i] = (bits[i] ?? 0) | (head.value.bits[i] ?? 0);
      const next = await readers[at]?.next();
      if (next !== undefined) heads[at] = next;
    }
    if (bits !== undefined) yield { index, bits };
  }
}

function* runsOf(bits: Buffer): Generator<{ start: number; end: number }> {
  const count = bits.length * 8;
  let start: number | undefined;
  for (let cell = 0; cell < count;) {
    const byte = bits[cell >> 3] ?? 0;
    const isWholeByte = cell % 8 === 0 && (byte === 0 || byte === 0xff);
    const isSet = (byte & (1 << (cell & 7))) !== 0;
    if (isSet) start ??= cell;
    else if (start !== undefined) {
      yield { start, end: cell };
      start = undefined;
    }
    cell += isWholeByte ? 8 : 1;
  }
  if (start !== undefined) yield { start, end: count };
}

export function trackingInvalid(diskId: Guid, reason: string, cause?: unknown): DrError {
  return new DrError(
    'E_TRACKING_INVALID',
    `what changed on disk ${diskId} cannot be told: ${reason}`,
    { context: { diskId, reason }, cause },
  );
}

function damagedAsInvalid(error: unknown, diskId: Guid): unknown {
  if (!(error instanceof TrackingDamaged)) return error;
  return trackingInvalid(diskId, `the tracking data are damaged: ${error.message}`, error);
}
