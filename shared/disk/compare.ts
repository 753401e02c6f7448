// Where two disks differ, and the hash of a disk. Both read only what a disk stores, ahead of the
// work, into a few buffers: memory does not grow with the disk.

import { createHash } from 'node:crypto';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import type { Extent, ReadableDisk } from './disk.js';
import { readAhead } from './read-ahead.js';
import { isAllZero } from './zero-runs.js';

const CELL_BYTES = 64 * 1024;
const WINDOW_BYTES = 1024 * 1024;
/** Windows being read or compared: 8 MiB for the two disks together. */
const WINDOW_COUNT = 4;
const ZEROS = Buffer.alloc(WINDOW_BYTES);
/** After so many bytes of zeros were hashed without a read, others get a turn. */
const ZEROS_PER_TURN = 16 * WINDOW_BYTES;

/** A run of neighbouring cells that differ: guest bytes [start, end) on the 64 KiB grid. */
export interface Difference {
  readonly start: number;
  readonly end: number;
  /** The first byte that differs. */
  readonly firstByte: number;
}

export interface CompareOptions {
  /** Told now and then how far the comparison has come, in guest bytes. */
  readonly onProgress?: ((position: number, sizeBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The differences in ascending order. What both disks know to be zero is not read; what one knows
 * to be zero is read from the other only.
 * @throws DrError E_DISK_MISMATCH when the sizes differ, or what a disk throws, or the signal's reason
 */
export async function* compareDisks(
  one: ReadableDisk,
  other: ReadableDisk,
  { onProgress, signal }: CompareOptions = {},
): AsyncGenerator<Difference, void, void> {
  const { sizeBytes } = one;
  if (other.sizeBytes !== sizeBytes) {
    throw new DrError(
      'E_DISK_MISMATCH',
      `the disks have ${sizeBytes} and ${other.sizeBytes} bytes; only disks of one size are compared`,
      { context: { sizeBytes, otherSizeBytes: other.sizeBytes } },
    );
  }
  let open: Difference | undefined;
  for await (const window of readWindows(one, other)) {
    signal?.throwIfAborted();
    for (const found of differencesIn(window, sizeBytes)) {
      if (open !== undefined && found.start <= open.end) {
        open = { ...open, end: Math.max(open.end, found.end) };
      } else {
        if (open !== undefined) yield open;
        open = found;
      }
    }
    onProgress?.(window.end, sizeBytes);
  }
  if (open !== undefined) yield open;
  onProgress?.(sizeBytes, sizeBytes);
}

export interface HashOptions {
  readonly onProgress?: ((position: number, sizeBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * SHA-256 over all guest bytes, zeros included, in hex: what `sha256sum` says of the disk as a raw
 * file. Holes are hashed without being read.
 */
export async function hashDisk(
  disk: ReadableDisk,
  { onProgress, signal }: HashOptions = {},
): Promise<string> {
  const hash = createHash('sha256');
  let position = 0;
  for await (const piece of readAhead(disk, { pieceBytes: WINDOW_BYTES, depth: WINDOW_COUNT })) {
    assert(piece.offset === position, 'pieces come in order and without gaps');
    const end = piece.offset + piece.lengthBytes;
    if (piece.bytes !== undefined) {
      signal?.throwIfAborted();
      hash.update(piece.bytes);
      piece.release();
      position = end;
      onProgress?.(position, disk.sizeBytes);
    }
    while (position < end) {
      const turnEnd = Math.min(end, position + ZEROS_PER_TURN);
      while (position < turnEnd) {
        const length = Math.min(ZEROS.length, turnEnd - position);
        hash.update(ZEROS.subarray(0, length));
        position += length;
      }
      await yieldToOthers();
      signal?.throwIfAborted();
      onProgress?.(position, disk.sizeBytes);
    }
  }
  assert(position === disk.sizeBytes, 'the extents of a disk cover it');
  return hash.digest('hex');
}

interface Segment {
  readonly start: number;
  readonly end: number;
  readonly isInOne: boolean;
  readonly isInOther: boolean;
}

interface Window {
  readonly start: number;
  readonly end: number;
  /** Undefined where the disk knows its bytes to be zero. */
  readonly one: Buffer | undefined;
  readonly other: Buffer | undefined;
}

interface WindowUnderWay {
  readonly window: Window;
  readonly ready: Promise<unknown>;
}

/** The windows in which at least one disk stores data, in order, several being read at a time. */
async function* readWindows(
  one: ReadableDisk,
  other: ReadableDisk,
): AsyncGenerator<Window, void, void> {
  // A window's buffers are used again when the consumer asks for the next window but some.
  const buffers = Array.from({ length: WINDOW_COUNT }, () => ({
    one: Buffer.allocUnsafeSlow(WINDOW_BYTES),
    other: Buffer.allocUnsafeSlow(WINDOW_BYTES),
  }));
  const queue: WindowUnderWay[] = [];
  let startedCount = 0;
  try {
    for await (const segment of windowsOf(segmentsOf(one, other))) {
      if (queue.length === WINDOW_COUNT - 1) {
        const head = queue.shift();
        assert(head !== undefined, 'a full queue has a head');
        await head.ready;
        yield head.window;
      }
      const pair = buffers[startedCount++ % WINDOW_COUNT];
      assert(pair !== undefined, 'there is a pair of buffers for each window under way');
      queue.push(begin(one, other, segment, pair));
    }
    for (let head = queue.shift(); head !== undefined; head = queue.shift()) {
      await head.ready;
      yield head.window;
    }
  } finally {
    await Promise.allSettled(queue.map((entry) => entry.ready));
  }
}

function begin(
  one: ReadableDisk,
  other: ReadableDisk,
  { start, end, isInOne, isInOther }: Segment,
  pair: { readonly one: Buffer; readonly other: Buffer },
): WindowUnderWay {
  const length = end - start;
  const window: Window = {
    start,
    end,
    one: isInOne ? pair.one.subarray(0, length) : undefined,
    other: isInOther ? pair.other.subarray(0, length) : undefined,
  };
  const reads: Promise<void>[] = [];
  if (window.one !== undefined) reads.push(one.read(start, window.one));
  if (window.other !== undefined) reads.push(other.read(start, window.other));
  // Both have to end before a failure is passed on: the buffers are used again.
  const ready = Promise.allSettled(reads).then((results) => {
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  });
  ready.catch(() => undefined); // seen when the window is awaited
  return { window, ready };
}

/** Segments cut at multiples of WINDOW_BYTES; those without data are left out. */
async function* windowsOf(segments: AsyncIterable<Segment>): AsyncGenerator<Segment, void, void> {
  for await (const segment of segments) {
    if (!segment.isInOne && !segment.isInOther) continue;
    let { start } = segment;
    while (start < segment.end) {
      const end = Math.min(segment.end, start - (start % WINDOW_BYTES) + WINDOW_BYTES);
      yield { ...segment, start, end };
      start = end;
    }
  }
}

/** The whole disk, cut wherever the kind of either disk's extents changes. */
async function* segmentsOf(
  one: ReadableDisk,
  other: ReadableDisk,
): AsyncGenerator<Segment, void, void> {
  const extentsOfOther = other.extents(0, other.sizeBytes)[Symbol.asyncIterator]();
  let beside: Extent | undefined;
  try {
    for await (const extent of one.extents(0, one.sizeBytes)) {
      let { start } = extent;
      while (start < extent.end) {
        if (beside === undefined || beside.end <= start) {
          const next = await extentsOfOther.next();
          assert(next.done !== true, 'the extents of a disk cover it');
          beside = next.value;
        }
        const end = Math.min(extent.end, beside.end);
        yield { start, end, isInOne: isStored(extent), isInOther: isStored(beside) };
        start = end;
      }
    }
  } finally {
    await extentsOfOther.return?.();
  }
}

function isStored(extent: Extent): boolean {
  assert(extent.kind !== 'parent', 'a whole disk leaves nothing to a parent');
  return extent.kind === 'data';
}

function* differencesIn(window: Window, sizeBytes: number): Generator<Difference, void, void> {
  const { start, end, one, other } = window;
  if (isEqual(one, other)) return;
  let position = start;
  while (position < end) {
    const cellStart = position - (position % CELL_BYTES);
    const pieceEnd = Math.min(end, cellStart + CELL_BYTES);
    const first = one?.subarray(position - start, pieceEnd - start);
    const second = other?.subarray(position - start, pieceEnd - start);
    if (!isEqual(first, second)) {
      yield {
        start: cellStart,
        end: Math.min(cellStart + CELL_BYTES, sizeBytes),
        firstByte: position + firstDifference(first, second),
      };
    }
    position = pieceEnd;
  }
}

function isEqual(one: Buffer | undefined, other: Buffer | undefined): boolean {
  if (one !== undefined && other !== undefined) return one.equals(other);
  const stored = one ?? other;
  return stored === undefined || isAllZero(stored);
}

function firstDifference(one: Buffer | undefined, other: Buffer | undefined): number {
  const length = (one ?? other)?.length ?? 0;
  for (let i = 0; i < length; i++) if ((one?.[i] ?? 0) !== (other?.[i] ?? 0)) return i;
  return length;
}
