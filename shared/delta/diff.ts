// What changed between two disks, in two passes. The first compares and remembers the changed cells
// (cell-set.ts; the bytes are not kept), because PCBT wants the number of blocks first. The second
// reads the changed cells again and writes delta and manifest together. A running checksum over
// both passes tells when the disk changed in between. Only what either disk stores is read.

import { crc32 } from 'node:zlib';

import { defined } from '../assert.js';
import { isAllZero, type ReadableDisk } from '../disk/index.js';
import { CELL_BYTES, cellLength, cellOffset, checkDiskSize, hashCell } from './cell.js';
import { type CellRange, CellSet } from './cell-set.js';
import { DeltaError } from './delta-error.js';
import type { ManifestWriter } from './manifest.js';
import { encodePcbt, PIECE_BYTES, planPcbt, type PcbtPlan } from './pcbt.js';
import type { PcbtRange } from './pcbt-format.js';
import { Peekable } from './peekable.js';

const WINDOW_CELLS = PIECE_BYTES / CELL_BYTES;
/** Windows being read while one is compared; each has 2 MiB of buffers. */
const WINDOWS_UNDER_WAY = 2;

/** Told now and then how far a pass has come, in guest bytes. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

export interface DeltaPlan {
  readonly cells: CellSet;
  /** CRC-32 over the bytes of the cells in order, when they were read already. */
  readonly checksum: number | undefined;
}

/** The cells of `disk` that store data, as ranges that do not touch; the rest is zeros. */
export async function* storedCells(disk: ReadableDisk): AsyncGenerator<CellRange> {
  let open: CellRange | undefined;
  for await (const extent of disk.extents(0, disk.sizeBytes)) {
    if (extent.kind === 'zero') continue;
    const start = Math.floor(extent.start / CELL_BYTES);
    const end = Math.ceil(extent.end / CELL_BYTES);
    if (open !== undefined && start <= open.end) {
      open = { start: open.start, end: Math.max(open.end, end) };
    } else {
      if (open !== undefined) yield open;
      open = { start, end };
    }
  }
  if (open !== undefined) yield open;
}

interface Segment extends CellRange {
  readonly isInOld: boolean;
  readonly isInNew: boolean;
}

/** Splits the cells that either disk stores into windows in which the same disks store them. */
async function* storedInEither(
  oldDisk: ReadableDisk | undefined,
  newDisk: ReadableDisk,
): AsyncGenerator<Segment> {
  const oldRanges = new Peekable(oldDisk === undefined ? noRanges() : storedCells(oldDisk));
  const newRanges = new Peekable(storedCells(newDisk));
  try {
    for (;;) {
      const inOld = await oldRanges.peek();
      const inNew = await newRanges.peek();
      if (inOld === undefined && inNew === undefined) return;
      const start = Math.min(inOld?.start ?? Infinity, inNew?.start ?? Infinity);
      const isInOld = inOld?.start === start;
      const isInNew = inNew?.start === start;
      let end = start + WINDOW_CELLS;
      for (const [range, isIn] of [
        [inOld, isInOld],
        [inNew, isInNew],
      ] as const) {
        if (range !== undefined) end = Math.min(end, isIn ? range.end : range.start);
      }
      yield { start, end, isInOld, isInNew };
      if (isInOld) await shorten(oldRanges, end);
      if (isInNew) await shorten(newRanges, end);
    }
  } finally {
    await oldRanges.close();
    await newRanges.close();
  }
}

async function* noRanges(): AsyncGenerator<CellRange> {
  // A disk that is not there stores nothing.
}

async function shorten(ranges: Peekable<CellRange>, start: number): Promise<void> {
  const range = await ranges.next();
  if (range !== undefined && range.end > start) ranges.replace({ start, end: range.end });
}

/** The bytes of both disks in one window of cells; valid until the next window is asked for. */
interface Window extends CellRange {
  readonly oldBytes: Buffer;
  readonly newBytes: Buffer;
}

/** What either disk stores, the next windows being read while the caller looks at one. */
async function* readBoth(
  oldDisk: ReadableDisk | undefined,
  newDisk: ReadableDisk,
): AsyncGenerator<Window> {
  const pairs = Array.from({ length: WINDOWS_UNDER_WAY + 1 }, () => ({
    oldBuffer: Buffer.alloc(PIECE_BYTES),
    newBuffer: Buffer.alloc(PIECE_BYTES),
  }));
  const queue: { readonly window: Window; readonly ready: Promise<void> }[] = [];
  let begunCount = 0;
  const begin = ({ start, end, isInOld, isInNew }: Segment): void => {
    const pair = defined(pairs[begunCount++ % pairs.length], 'each window has its buffers');
    const offset = start * CELL_BYTES;
    const lengthBytes = cellOffset(end, newDisk.sizeBytes) - offset;
    const oldBytes = pair.oldBuffer.subarray(0, lengthBytes);
    const newBytes = pair.newBuffer.subarray(0, lengthBytes);
    const reads: Promise<void>[] = [];
    if (isInOld && oldDisk !== undefined) reads.push(oldDisk.read(offset, oldBytes));
    else oldBytes.fill(0);
    if (isInNew) reads.push(newDisk.read(offset, newBytes));
    else newBytes.fill(0);
    const ready = settled(reads);
    // a failure is reported when its window's turn comes, not as an unhandled rejection
    ready.catch(() => undefined);
    queue.push({ window: { start, end, oldBytes, newBytes }, ready });
  };
  try {
    for await (const segment of storedInEither(oldDisk, newDisk)) {
      begin(segment);
      if (queue.length <= WINDOWS_UNDER_WAY) continue;
      const head = defined(queue.shift(), 'a window is under way');
      await head.ready;
      yield head.window;
    }
    for (let head = queue.shift(); head !== undefined; head = queue.shift()) {
      await head.ready;
      yield head.window;
    }
  } finally {
    await Promise.allSettled(queue.map(({ ready }) => ready));
  }
}

/**
 * The cells in which `newDisk` differs from `oldDisk`; without an old disk those that are not all
 * zeros. Reads only where either disk stores data.
 * @throws DeltaError E_DISK_MISMATCH when the sizes differ
 */
export async function diffDisks(
  oldDisk: ReadableDisk | undefined,
  newDisk: ReadableDisk,
  progress?: Progress,
): Promise<DeltaPlan> {
  const { sizeBytes } = newDisk;
  checkDiskSize(sizeBytes, 'the new disk');
  if (oldDisk !== undefined && oldDisk.sizeBytes !== sizeBytes) {
    throw new DeltaError(
      'E_DISK_MISMATCH',
      `the old disk has ${oldDisk.sizeBytes} bytes, the new one ${sizeBytes}: no delta leads from one to the other`,
      { context: { oldSizeBytes: oldDisk.sizeBytes, newSizeBytes: sizeBytes } },
    );
  }
  const cells = new CellSet();
  let checksum = 0;
  for await (const { start, end, oldBytes, newBytes } of readBoth(oldDisk, newDisk)) {
    const offset = start * CELL_BYTES;
    progress?.(offset, sizeBytes);
    if (oldBytes.equals(newBytes)) continue;
    for (let cell = start; cell < end; cell++) {
      const at = cell * CELL_BYTES - offset;
      const behind = at + cellLength(cell, sizeBytes);
      const bytes = newBytes.subarray(at, behind);
      if (oldBytes.subarray(at, behind).equals(bytes)) continue;
      cells.add(cell, cell + 1);
      checksum = crc32(bytes, checksum);
    }
  }
  progress?.(sizeBytes, sizeBytes);
  return { cells, checksum };
}

/** Waits for all, then throws the first failure: no read goes on into a buffer that is reused. */
async function settled(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

/** The blocks of a delta of these cells: joined where cells touch, up to 1 MiB each. */
function* deltaBlocks(cells: CellSet, diskSizeBytes: number): Generator<PcbtRange> {
  for (const range of cells.ranges()) {
    for (let start = range.start; start < range.end; start += WINDOW_CELLS) {
      const end = Math.min(range.end, start + WINDOW_CELLS);
      const offset = start * CELL_BYTES;
      yield { offset, lengthBytes: cellOffset(end, diskSizeBytes) - offset };
    }
  }
}

/** Length and block count of the PCBT file that encodeDelta makes. */
export function planDelta(disk: Pick<ReadableDisk, 'sizeBytes'>, plan: DeltaPlan): PcbtPlan {
  const ranges = { [Symbol.iterator]: () => deltaBlocks(plan.cells, disk.sizeBytes) };
  return planPcbt(ranges, { diskSizeBytes: disk.sizeBytes });
}

/**
 * The second pass: the bytes of the PCBT file, while the records go to `manifest` (which the caller
 * finishes). A chunk is valid until the next one is asked for.
 * @throws DeltaError E_DELTA_UNSTABLE after the last chunk when the disk has changed since the first
 *   pass: what was made is to be thrown away
 */
export async function* encodeDelta(
  disk: ReadableDisk,
  plan: DeltaPlan,
  options: {
    readonly manifest?: ManifestWriter | undefined;
    readonly progress?: Progress | undefined;
  } = {},
): AsyncGenerator<Buffer> {
  const { sizeBytes } = disk;
  const pcbt = planDelta(disk, plan);
  const { manifest, progress } = options;
  const totalBytes = pcbt.fileBytes;
  let checksum = 0;
  let doneBytes = 0;
  yield* encodePcbt(pcbt, { diskSizeBytes: sizeBytes }, async (offset, target) => {
    await disk.read(offset, target);
    if (plan.checksum !== undefined) checksum = crc32(target, checksum);
    if (manifest !== undefined) await addCells(manifest, offset, target);
    doneBytes += target.length;
    progress?.(doneBytes, totalBytes);
  });
  if (plan.checksum !== undefined && plan.checksum !== checksum) {
    throw new DeltaError(
      'E_DELTA_UNSTABLE',
      'the new disk changed while the delta was being made from it',
      { done: 'the delta is not valid and must not be used' },
    );
  }
}

/** Adds whole cells that begin at `offset` to a manifest. */
export async function addCells(
  manifest: ManifestWriter,
  offset: number,
  bytes: Buffer,
): Promise<void> {
  for (let at = 0; at < bytes.length; at += CELL_BYTES) {
    const cell = (offset + at) / CELL_BYTES;
    const data = bytes.subarray(at, at + CELL_BYTES);
    if (isAllZero(data)) await manifest.addZero(cell);
    else await manifest.addData(cell, hashCell(data));
  }
}
