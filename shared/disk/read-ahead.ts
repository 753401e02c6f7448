// Reads a disk from start to end, several pieces ahead of whoever uses them, into a few buffers
// that go round. What the disk knows to be zero is passed on without being read. Convert, stream
// and compare stand on this; the memory is depth * pieceBytes, whatever the size of the disk.

import { assert } from '../assert.js';
import type { Extent, ReadableDisk } from './disk.js';

/** A stretch of guest bytes. Data pieces must be released, in any order, when no longer used. */
export interface Piece {
  readonly offset: number;
  readonly lengthBytes: number;
  /** Undefined: zeros, of any length. Otherwise at most pieceBytes. */
  readonly bytes: Buffer | undefined;
  /** Gives the buffer back; nobody may look at `bytes` afterwards. */
  release(): void;
}

export interface ReadAheadOptions {
  /** What to read, ascending. Default: all extents of the disk. */
  readonly extents?: AsyncIterable<Extent> | undefined;
  /** Data pieces do not cross multiples of this. A power of two. */
  readonly pieceBytes: number;
  /** Buffers in all: those being read, and those not yet released. */
  readonly depth: number;
}

/** The extents as pieces, in order. @throws what the disk throws */
export async function* readAhead(
  disk: ReadableDisk,
  options: ReadAheadOptions,
): AsyncGenerator<Piece, void, void> {
  const { pieceBytes, depth } = options;
  const pool = new BufferPool(depth, pieceBytes);
  const source = split(options.extents ?? disk.extents(0, disk.sizeBytes), pieceBytes);
  const queue: { readonly piece: Piece; readonly ready: Promise<void> }[] = [];
  let isEnded = false;
  try {
    for (;;) {
      while (!isEnded && queue.length < depth && pool.hasFree) {
        const next = await source.next();
        if (next.done === true) isEnded = true;
        else queue.push(begin(disk, next.value, pool));
      }
      const head = queue.shift();
      if (head !== undefined) {
        await head.ready;
        yield head.piece;
      } else if (isEnded) {
        return;
      } else {
        await pool.whenFree();
      }
    }
  } finally {
    await Promise.allSettled(queue.map((entry) => entry.ready));
    await source.return();
  }
}

function begin(
  disk: ReadableDisk,
  extent: Extent,
  pool: BufferPool,
): { piece: Piece; ready: Promise<void> } {
  const offset = extent.start;
  const lengthBytes = extent.end - extent.start;
  assert(extent.kind !== 'parent', 'a whole disk leaves nothing to a parent');
  if (extent.kind === 'zero') {
    const piece = { offset, lengthBytes, bytes: undefined, release: () => undefined };
    return { piece, ready: Promise.resolve() };
  }
  const buffer = pool.take();
  const bytes = buffer.subarray(0, lengthBytes);
  const ready = disk.read(offset, bytes);
  ready.catch(() => undefined); // seen when the piece is awaited
  const release = (): void => {
    pool.giveBack(buffer);
  };
  return { piece: { offset, lengthBytes, bytes, release }, ready };
}

/** Data extents cut at multiples of `pieceBytes`; the others pass as they are. */
async function* split(
  extents: AsyncIterable<Extent>,
  pieceBytes: number,
): AsyncGenerator<Extent, void, void> {
  for await (const extent of extents) {
    if (extent.kind !== 'data') {
      yield extent;
      continue;
    }
    let start = extent.start;
    while (start < extent.end) {
      const end = Math.min(extent.end, start - (start % pieceBytes) + pieceBytes);
      yield { start, end, kind: 'data' };
      start = end;
    }
  }
}

/** Buffers are made when first needed and used again and again. */
class BufferPool {
  readonly #count: number;
  readonly #bytes: number;
  readonly #free: Buffer[] = [];
  #made = 0;
  #wake: (() => void) | undefined;

  constructor(count: number, bytes: number) {
    this.#count = count;
    this.#bytes = bytes;
  }

  get hasFree(): boolean {
    return this.#free.length > 0 || this.#made < this.#count;
  }

  take(): Buffer {
    assert(this.hasFree, 'a buffer is taken only when one is free');
    const free = this.#free.pop();
    if (free !== undefined) return free;
    this.#made++;
    return Buffer.allocUnsafeSlow(this.#bytes);
  }

  giveBack(buffer: Buffer): void {
    assert(!this.#free.includes(buffer), 'a buffer is released once');
    this.#free.push(buffer);
    this.#wake?.();
  }

  async whenFree(): Promise<void> {
    if (this.hasFree) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}
