// A dynamic VHDX written strictly from front to back, without seeking, so that a disk can go to a
// pipe or a backup volume. Possible because the allocation map is asked for first: then the BAT, and
// even the length of the whole file, are known before the first byte of payload is read.
//
// The map is read twice, once for the BAT and once for the payload; between the two only one bit for
// each block is kept (at most 8 MiB, for 64 TiB in blocks of 1 MiB). The disk must not change
// meanwhile: give this a checkpoint or a sealed file.

import { defined } from '../assert.js';
import type { Guid } from '../bytes/index.js';
import type { Random } from '../clock.js';
import { readAhead, type Extent, type ReadableDisk } from '../disk/index.js';
import { AscendingBat, type BatPage } from './ascending-bat.js';
import { BLOCK_FULLY_PRESENT, MIB } from './format.js';
import { payloadEntryIndex, type Geometry } from './geometry.js';
import { planNewFile, type NewFileLayout } from './layout.js';

/** Fifteen cells: less than a packet of the plugin protocol carries, and no rest of one is a packet of its own. */
const PIECE_BYTES = (15 / 16) * MIB;
const PIECES_AHEAD = 6;
const ZEROS = Buffer.alloc(PIECE_BYTES);

export interface StreamVhdxOptions {
  readonly random: Random;
  /** Default: 32 MiB, as Hyper-V does. */
  readonly blockSizeBytes?: number | undefined;
  readonly diskId?: Guid | undefined;
  readonly dataWriteGuid?: Guid | undefined;
  /** Told the disk's data in ascending order as it goes into the file; what is not told is zeros. */
  readonly onData?: ((offset: number, bytes: Buffer) => Promise<void>) | undefined;
}

export interface VhdxStream {
  /** Exact length of all chunks together. */
  readonly lengthBytes: number;
  readonly dataWriteGuid: Guid;
  readonly diskId: Guid;
  /**
   * The bytes of the file, in chunks of up to 3 MiB. A chunk may be looked at until the next one is
   * asked for. To be iterated once.
   */
  readonly chunks: AsyncGenerator<Buffer, void, void>;
}

/**
 * Prepares the stream: reads the disk's allocation map, not its payload. A block is stored when any
 * 'data' extent touches it.
 * @throws DrError E_USAGE for an impossible block size, and what the disk throws
 */
export async function streamVhdx(
  disk: ReadableDisk,
  options: StreamVhdxOptions,
): Promise<VhdxStream> {
  const layout = planNewFile(
    {
      type: 'dynamic',
      // A VHDX holds whole sectors; the end of an odd raw disk is filled up with zeros.
      sizeBytes: Math.ceil(disk.sizeBytes / disk.logicalSectorBytes) * disk.logicalSectorBytes,
      blockSizeBytes: options.blockSizeBytes,
      logicalSectorBytes: disk.logicalSectorBytes,
      physicalSectorBytes: disk.physicalSectorBytes,
      diskId: options.diskId,
      dataWriteGuid: options.dataWriteGuid,
    },
    options.random,
  );
  const blocks = await allocatedBlocks(disk, layout.geometry);
  return {
    lengthBytes: layout.firstBlockOffset + blocks.count * layout.geometry.blockSizeBytes,
    dataWriteGuid: layout.dataWriteGuid,
    diskId: layout.disk.diskId,
    chunks: produce(disk, layout, blocks, options.onData),
  };
}

async function* produce(
  disk: ReadableDisk,
  layout: NewFileLayout,
  blocks: BlockSet,
  onData: StreamVhdxOptions['onData'],
): AsyncGenerator<Buffer, void, void> {
  const { geometry } = layout;
  yield layout.head;
  yield* batRegion(layout, blocks);
  const extents = storedExtents(disk, geometry, blocks);
  let end = 0;
  for await (const piece of readAhead(disk, {
    extents,
    pieceBytes: PIECE_BYTES,
    depth: PIECES_AHEAD,
  })) {
    if (piece.bytes === undefined) {
      yield* zeros(piece.lengthBytes);
    } else {
      await onData?.(piece.offset, piece.bytes);
      yield piece.bytes;
    }
    end = piece.offset + piece.lengthBytes;
    piece.release();
  }
  // Only the last block of the disk can be cut short for the guest; in the file it is whole.
  const storedEnd = Math.ceil(end / geometry.blockSizeBytes) * geometry.blockSizeBytes;
  yield* zeros(storedEnd - end);
}

/** The disk's extents inside the blocks that are stored. */
async function* storedExtents(
  disk: ReadableDisk,
  geometry: Geometry,
  blocks: BlockSet,
): AsyncGenerator<Extent, void, void> {
  for (const run of blocks.runs()) {
    const start = run.start * geometry.blockSizeBytes;
    yield* disk.extents(start, Math.min(run.end * geometry.blockSizeBytes, disk.sizeBytes));
  }
}

function* batRegion(layout: NewFileLayout, blocks: BlockSet): Generator<Buffer, void, void> {
  const { geometry } = layout;
  const bat = new AscendingBat();
  let sentBytes = 0;
  let place: number = layout.firstBlockOffset;
  function* send(page: BatPage | undefined): Generator<Buffer, void, void> {
    if (page === undefined) return;
    yield* zeros(page.position - sentBytes);
    yield page.bytes;
    sentBytes = page.position + page.bytes.length;
  }
  for (const { start, end } of blocks.runs()) {
    for (let block = start; block < end; block++) {
      const page = bat.put(payloadEntryIndex(geometry, block), BLOCK_FULLY_PRESENT, place);
      yield* send(page);
      place += geometry.blockSizeBytes;
    }
  }
  yield* send(bat.finish());
  yield* zeros(geometry.batRegionBytes - sentBytes);
}

function* zeros(lengthBytes: number): Generator<Buffer, void, void> {
  for (let left = lengthBytes; left > 0; left -= PIECE_BYTES) {
    yield left >= PIECE_BYTES ? ZEROS : ZEROS.subarray(0, left);
  }
}

async function allocatedBlocks(disk: ReadableDisk, geometry: Geometry): Promise<BlockSet> {
  const blocks = new BlockSet(geometry.payloadBlockCount);
  for await (const extent of disk.extents(0, disk.sizeBytes)) {
    if (extent.kind !== 'data') continue;
    const first = Math.floor(extent.start / geometry.blockSizeBytes);
    const end = Math.ceil(extent.end / geometry.blockSizeBytes);
    for (let block = first; block < end; block++) blocks.add(block);
  }
  return blocks;
}

/** A set of block numbers below a known count, one bit each. */
class BlockSet {
  readonly #words: Uint32Array;
  readonly #blockCount: number;
  #count = 0;

  constructor(blockCount: number) {
    this.#words = new Uint32Array(Math.ceil(blockCount / 32));
    this.#blockCount = blockCount;
  }

  get count(): number {
    return this.#count;
  }

  add(block: number): void {
    const word = this.#word(block >>> 5);
    const bit = (1 << (block & 31)) >>> 0;
    if ((word & bit) !== 0) return;
    this.#words[block >>> 5] = word | bit;
    this.#count++;
  }

  #word(index: number): number {
    return defined(this.#words[index], 'a block lies inside the disk');
  }

  #has(block: number): boolean {
    return (this.#word(block >>> 5) & (1 << (block & 31))) !== 0;
  }

  /** Runs [start, end) of neighbouring blocks, ascending. */
  *runs(): Generator<{ start: number; end: number }, void, void> {
    let block = 0;
    while (block < this.#blockCount) {
      if ((block & 31) === 0 && this.#word(block >>> 5) === 0) {
        block += 32;
      } else if (this.#has(block)) {
        const start = block;
        while (block < this.#blockCount && this.#has(block)) block++;
        yield { start, end: block };
      } else {
        block++;
      }
    }
  }
}
