// A disk of a simulated guest: cells that are never changed but replaced, so that a frozen moment is
// a list of references; and the hypervisor's memory of what was written when.

import type { Guid } from '../../shared/bytes/index.js';
import { CELL_BYTES, cellCount, cellLength } from '../../shared/delta/index.js';
import type { Extent, ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { ByteRange } from '../../shared/hypervisor/index.js';
import { SeededRandom } from '../support/seeded-random.js';

/** undefined: zeros. */
export type Cell = Buffer | undefined;

/** A moment of one disk. */
export interface FrozenDisk {
  readonly diskId: Guid;
  readonly sizeBytes: number;
  readonly cells: readonly Cell[];
  /** When each cell was written last, by the host's count of writes. */
  readonly writtenAt: readonly number[];
  /** The written part of each cell, as long as the disk is tracked. */
  readonly written: readonly ByteRange[];
}

const SECTOR = 512;
const ZEROS = Buffer.alloc(CELL_BYTES);

export class GuestDisk {
  readonly diskId: Guid;
  sizeBytes: number;
  /** Another history of changes: what was asked for before is not valid. */
  trackingEpoch = 0;
  #cells: Cell[];
  #writtenAt: number[];
  #written: ByteRange[];
  /** Replaced since the last freeze, with what was there before; lost when the host loses power. */
  #unflushed: { readonly cell: number; readonly before: Cell }[] = [];

  constructor(diskId: Guid, sizeBytes: number) {
    this.diskId = diskId;
    this.sizeBytes = sizeBytes;
    const count = cellCount(sizeBytes);
    this.#cells = Array.from({ length: count });
    this.#writtenAt = Array.from({ length: count }, () => 0);
    this.#written = Array.from({ length: count }, () => ({ start: 0, end: 0 }));
  }

  get cellCount(): number {
    return this.#cells.length;
  }

  get cells(): readonly Cell[] {
    return this.#cells;
  }

  get writtenAt(): readonly number[] {
    return this.#writtenAt;
  }

  /** Writes to a part of a cell: `contentSeed` 0 makes all of it zero. */
  write(cell: number, contentSeed: number, atTime: number): void {
    const before = this.#cells[cell];
    const length = cellLength(cell, this.sizeBytes);
    const sectors = Math.floor(length / SECTOR);
    if (sectors === 0) return;
    this.#unflushed.push({ cell, before });
    const random = new SeededRandom(contentSeed);
    let start = 0;
    let end = length;
    if (contentSeed === 0) {
      this.#cells[cell] = undefined;
    } else {
      const first = random.int(sectors);
      const count = 1 + random.int(Math.min(4, sectors - first));
      start = first * SECTOR;
      end = start + count * SECTOR;
      const bytes = Buffer.alloc(length);
      before?.copy(bytes);
      random.fill(bytes.subarray(start, start + 64));
      bytes.fill(contentSeed & 0xff, start + 64, end);
      this.#cells[cell] = bytes;
    }
    this.#touch(cell, start, end, atTime);
  }

  #touch(cell: number, start: number, end: number, atTime: number): void {
    const known = this.#written[cell];
    const isFirst = known === undefined || known.end === 0;
    this.#written[cell] = isFirst
      ? { start, end }
      : { start: Math.min(known.start, start), end: Math.max(known.end, end) };
    this.#writtenAt[cell] = atTime;
  }

  freeze(): FrozenDisk {
    this.#unflushed = [];
    return {
      diskId: this.diskId,
      sizeBytes: this.sizeBytes,
      cells: [...this.#cells],
      writtenAt: [...this.#writtenAt],
      written: [...this.#written],
    };
  }

  /** Goes back to a former moment; tracking does not know how. */
  revert(to: FrozenDisk, atTime: number): void {
    this.#cells = [...to.cells];
    this.#writtenAt = this.#cells.map(() => atTime);
    this.#unflushed = [];
    this.trackingEpoch++;
  }

  resize(sizeBytes: number, atTime: number): void {
    const count = cellCount(sizeBytes);
    const cells = this.#cells.slice(0, count).map((cell, index) => {
      const length = cellLength(index, sizeBytes);
      if (cell === undefined || cell.length === length) return cell;
      const bytes = Buffer.alloc(length);
      cell.copy(bytes);
      return bytes.equals(ZEROS.subarray(0, length)) ? undefined : bytes;
    });
    while (cells.length < count) cells.push(undefined);
    this.sizeBytes = sizeBytes;
    this.#cells = cells;
    this.#writtenAt = cells.map(() => atTime);
    this.#written = cells.map((_, cell) => ({ start: 0, end: cellLength(cell, sizeBytes) }));
    this.#unflushed = [];
    this.trackingEpoch++;
  }

  /** The host lost power: the last `count` writes are gone, and tracking reports them all the same. */
  losePower(count: number, atTime: number): void {
    for (const { cell, before } of this.#unflushed.splice(-count).reverse()) {
      this.#cells[cell] = before;
      this.#touch(cell, 0, cellLength(cell, this.sizeBytes), atTime);
    }
    this.#unflushed = [];
  }
}

/** What was written after `since`, as far as `frozen` knows; too much, never too little. */
export function* rangesSince(
  frozen: FrozenDisk,
  since: number,
  random: SeededRandom,
): Generator<ByteRange> {
  const isGenerous = random.chance(0.3);
  for (const [cell, at] of frozen.writtenAt.entries()) {
    const isExtra = isGenerous && random.chance(0.15);
    if (at <= since && !isExtra) continue;
    const start = cell * CELL_BYTES;
    const end = start + cellLength(cell, frozen.sizeBytes);
    const part = frozen.written[cell] ?? { start: 0, end: 0 };
    if (part.end === 0 || isGenerous) yield { start, end };
    else yield { start: start + part.start, end: Math.min(end, start + part.end) };
  }
}

export function bytesOf(cell: Cell, lengthBytes: number): Buffer {
  return cell ?? ZEROS.subarray(0, lengthBytes);
}

/** A frozen disk to read; `isOpen` tells whether it still may be. */
export function readable(
  frozen: FrozenDisk,
  isOpen: () => boolean,
  close: () => void,
): ReadableDisk {
  const { sizeBytes, cells } = frozen;
  return {
    sizeBytes,
    logicalSectorBytes: SECTOR,
    physicalSectorBytes: 4096,
    read: async (offset, target) => {
      await Promise.resolve();
      if (!isOpen()) throw new DrError('E_IO', 'the checkpoint is gone');
      let done = 0;
      while (done < target.length) {
        const cell = Math.floor((offset + done) / CELL_BYTES);
        const within = offset + done - cell * CELL_BYTES;
        const length = Math.min(target.length - done, cellLength(cell, sizeBytes) - within);
        target.set(bytesOf(cells[cell], CELL_BYTES).subarray(within, within + length), done);
        done += length;
      }
    },
    extents: (start, end) => extentsOf(cells, start, end),
    close: () => {
      close();
      return Promise.resolve();
    },
  };
}

async function* extentsOf(
  cells: readonly Cell[],
  start: number,
  end: number,
): AsyncGenerator<Extent> {
  await Promise.resolve();
  let open: Extent | undefined;
  for (let at = start; at < end;) {
    const cell = Math.floor(at / CELL_BYTES);
    const next = Math.min(end, (cell + 1) * CELL_BYTES);
    const kind = cells[cell] === undefined ? 'zero' : 'data';
    if (open?.kind === kind) open = { ...open, end: next };
    else {
      if (open !== undefined) yield open;
      open = { start: at, end: next, kind };
    }
    at = next;
  }
  if (open !== undefined) yield open;
}
