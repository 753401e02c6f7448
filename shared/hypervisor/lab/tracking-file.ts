// One generation of change tracking of one disk: which 64 KiB cells the guest wrote to.
//
//   sector 0    head: crc32c 4 | ffffffff | magic 8 | version 4 | epoch 16 | disk id 16 |
//               disk size 8 | sequence 8 | content id 16 | session id 16 | zeros
//   sector n    crc32c 4 | n 4 | 4032 bits, one per cell, lowest bit first; or all zeros: nothing
//
// The unit is a 512-byte sector with a checksum of its own, because that is what a power cut leaves
// whole. Bits are only ever set, so an old and a new sector are both right for what was durable at
// their time. The file is sparse: its cost and that of reading it follow what was written to.
//
// Content id and session id tell whether the VHDX was changed by anybody but us: the VHDX has the
// content id, or one of those that the session (which may have been cut off) could give it.

import { createHash } from 'node:crypto';
import { assert } from '../../assert.js';
import { crc32c, readGuid, writeGuid, ZERO_GUID, type Guid } from '../../bytes/index.js';
import type { Random } from '../../clock.js';
import { DrError } from '../../errors.js';
import type { BlockFile, FileSystem } from '../../files/index.js';

export const CELL_BYTES = 65536;
const SECTOR_BYTES = 512;
const SECTOR_HEAD_BYTES = 8;
const CELLS_PER_SECTOR = (SECTOR_BYTES - SECTOR_HEAD_BYTES) * 8;
const HEAD_MARK = 0xffffffff;
const MAGIC = 'hvdrtrck';
const VERSION = 1;
/** Sectors kept in memory, 2 MiB; more may be dirty for the time of one large range. */
const CACHED_SECTORS_MAX = 4096;
const READ_SECTORS = 128;
/** GUIDs that one session of writing can give a VHDX; it takes three or four. */
const SESSION_GUIDS = 64;

export interface TrackingHead {
  readonly epoch: Guid;
  readonly diskId: Guid;
  readonly sizeBytes: number;
  readonly sequence: number;
  /** DataWriteGuid of the leaf when the last session ended. */
  readonly contentId: Guid;
  /** Of the session that is open or was cut off; zero when there is none. */
  readonly sessionId: Guid;
}

/** Why a file cannot be trusted; what it tracked counts as unknown. */
export class TrackingDamaged extends Error {
  override readonly name = 'TrackingDamaged';
}

export interface MarkedSector {
  readonly index: number;
  readonly bits: Buffer;
}

interface CachedSector {
  readonly bytes: Buffer;
  /** Holds bits that are not durable yet. */
  isDirty: boolean;
}

export class TrackingFile {
  readonly #file: BlockFile;
  readonly #sectorCount: number;
  readonly #sectors = new Map<number, CachedSector>();
  #head: TrackingHead;
  #isHeadDirty = false;
  #running: Promise<void> = Promise.resolve();
  #gathering: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  private constructor(file: BlockFile, head: TrackingHead) {
    this.#file = file;
    this.#head = head;
    this.#sectorCount = sectorCountOf(head.sizeBytes);
  }

  /** A new file with nothing marked, durable on return but for its name. Closed again. */
  static async create(fs: FileSystem, path: string, head: TrackingHead): Promise<void> {
    await fs.remove(path);
    const file = await fs.open(path, { mode: 'create' });
    try {
      await file.truncate((1 + sectorCountOf(head.sizeBytes)) * SECTOR_BYTES);
      await file.write(0, encodeHead(head));
      await file.flush();
    } finally {
      await file.close();
    }
  }

  /**
   * Opens a generation, for reading (shared) or marking (exclusive).
   * @throws TrackingDamaged when it is not what `expected` says; DrError E_LOCKED, E_IO
   */
  static async open(
    fs: FileSystem,
    path: string,
    expected: Pick<TrackingHead, 'epoch' | 'diskId' | 'sizeBytes' | 'sequence'>,
    mode: 'read' | 'write',
  ): Promise<TrackingFile> {
    let file: BlockFile;
    try {
      file = await fs.open(path, { mode });
    } catch (error) {
      if (error instanceof DrError && error.code === 'E_NOT_FOUND') {
        throw new TrackingDamaged(`${path} is not there`, { cause: error });
      }
      throw error;
    }
    try {
      const bytes = Buffer.alloc(SECTOR_BYTES);
      await file.read(0, bytes);
      const head = parseHead(bytes);
      const isExpected =
        head?.epoch === expected.epoch &&
        head.diskId === expected.diskId &&
        head.sizeBytes === expected.sizeBytes &&
        head.sequence === expected.sequence;
      if (!isExpected) throw new TrackingDamaged(`${path} has a damaged or foreign head`);
      if ((await file.size()) !== (1 + sectorCountOf(head.sizeBytes)) * SECTOR_BYTES) {
        throw new TrackingDamaged(`${path} has the wrong length`);
      }
      return new TrackingFile(file, head);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get head(): TrackingHead {
    return this.#head;
  }

  /** True when nobody but us changed the content of a VHDX that has `contentId` now. */
  knowsContent(contentId: Guid): boolean {
    if (contentId === this.#head.contentId) return true;
    const { sessionId } = this.#head;
    return sessionId !== ZERO_GUID && sessionGuids(sessionId).includes(contentId);
  }

  /** Durable with the next mark() that is not there yet, before the write that it announces. */
  beginSession(contentId: Guid, sessionId: Guid): void {
    this.#head = { ...this.#head, contentId, sessionId };
    this.#isHeadDirty = true;
  }

  /** Not flushed: the head of the open session stays true, and is as good. */
  async endSession(contentId: Guid): Promise<void> {
    if (this.#failure !== undefined || this.#isHeadDirty) return;
    this.#head = { ...this.#head, contentId, sessionId: ZERO_GUID };
    await this.#file.write(0, encodeHead(this.#head));
  }

  /**
   * Marks the cells of [start, end). Durable on return. Calls under way at once share one flush;
   * cells that were marked before cost nothing.
   */
  async mark(start: number, end: number): Promise<void> {
    assert(start >= 0 && end <= this.#head.sizeBytes, 'marks lie inside the disk');
    if (start >= end) return;
    const endCell = Math.ceil(end / CELL_BYTES);
    let isDue = this.#isHeadDirty;
    let cell = Math.floor(start / CELL_BYTES);
    while (cell < endCell) {
      const index = Math.floor(cell / CELLS_PER_SECTOR);
      const stop = Math.min(endCell, (index + 1) * CELLS_PER_SECTOR);
      const sector = this.#sectors.get(index);
      if (sector === undefined) {
        await this.#load(index);
        continue;
      }
      const first = index * CELLS_PER_SECTOR;
      if (setCells(sector.bytes, cell - first, stop - first)) sector.isDirty = true;
      isDue ||= sector.isDirty;
      cell = stop;
      if (this.#sectors.size > 2 * CACHED_SECTORS_MAX) await this.commit();
    }
    if (isDue) await this.commit();
  }

  /** Takes over what another generation marked; durable after commit(). */
  async take({ index, bits }: MarkedSector): Promise<void> {
    // From the look into the cache to the change of the sector nothing may wait: a clean one can
    // leave the cache at any moment.
    let sector = this.#sectors.get(index);
    while (sector === undefined) {
      await this.#load(index);
      sector = this.#sectors.get(index);
    }
    for (let at = 0; at < bits.length; at++) {
      const place = SECTOR_HEAD_BYTES + at;
      const now = sector.bytes.readUInt8(place);
      const next = now | bits.readUInt8(at);
      if (next === now) continue;
      sector.bytes.writeUInt8(next, place);
      sector.isDirty = true;
    }
    if (this.#sectors.size > CACHED_SECTORS_MAX) await this.commit();
  }

  /** Durable on return: everything marked before the call. */
  commit(): Promise<void> {
    // One flush runs, the next one gathers: it starts when the first has ended, and takes all
    // that was marked until then.
    this.#gathering ??= this.#running.then(async () => {
      this.#running = this.#gathering ?? Promise.resolve();
      this.#gathering = undefined;
      await this.#commitNow();
    });
    return this.#gathering;
  }

  async #commitNow(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    try {
      const dirty = [...this.#sectors].filter(([, sector]) => sector.isDirty);
      if (dirty.length === 0 && !this.#isHeadDirty) return;
      const writes: Promise<void>[] = [];
      if (this.#isHeadDirty) writes.push(this.#file.write(0, encodeHead(this.#head)));
      for (const [index, { bytes }] of dirty) {
        sealSector(bytes, index);
        // a copy: bits that are set meanwhile belong to the next flush, with their own checksum
        writes.push(this.#file.write((1 + index) * SECTOR_BYTES, Buffer.from(bytes)));
      }
      const settled = await Promise.allSettled(writes);
      for (const result of settled) if (result.status === 'rejected') throw result.reason;
      await this.#flushed(dirty);
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  /** A sector that got more bits while it was flushed stays dirty. */
  async #flushed(dirty: readonly (readonly [number, CachedSector])[]): Promise<void> {
    const sums = dirty.map(([, { bytes }]) => bytes.readUInt32LE(0));
    await this.#file.flush();
    this.#isHeadDirty = false;
    dirty.forEach(([, sector], at) => {
      if (checksum(sector.bytes) === sums[at]) sector.isDirty = false;
    });
    if (this.#sectors.size <= CACHED_SECTORS_MAX) return;
    for (const [index, sector] of this.#sectors) {
      if (this.#sectors.size <= CACHED_SECTORS_MAX / 2) break;
      if (!sector.isDirty) this.#sectors.delete(index);
    }
  }

  async #load(index: number): Promise<void> {
    const bytes = Buffer.alloc(SECTOR_BYTES);
    await this.#file.read((1 + index) * SECTOR_BYTES, bytes);
    checkSector(bytes, index, this.#file.path);
    // somebody else may have loaded it, and set bits, meanwhile
    if (!this.#sectors.has(index)) this.#sectors.set(index, { bytes, isDirty: false });
  }

  /**
   * The sectors with marks, ascending. Holes of the file are skipped.
   * @throws TrackingDamaged
   */
  async *marked(): AsyncGenerator<MarkedSector> {
    const buffer = Buffer.alloc(READ_SECTORS * SECTOR_BYTES);
    const end = (1 + this.#sectorCount) * SECTOR_BYTES;
    let position = SECTOR_BYTES;
    while (position < end) {
      const data = await this.#file.nextData(position);
      if (data === undefined) return;
      position = Math.max(position, Math.floor(data.start / SECTOR_BYTES) * SECTOR_BYTES);
      const dataEnd = Math.min(end, Math.ceil(data.end / SECTOR_BYTES) * SECTOR_BYTES);
      while (position < dataEnd) {
        const length = Math.min(buffer.length, dataEnd - position);
        const got = await this.#file.read(position, buffer.subarray(0, length));
        if (got < length) throw new TrackingDamaged(`${this.#file.path} became shorter`);
        for (let at = 0; at < length; at += SECTOR_BYTES) {
          const bytes = buffer.subarray(at, at + SECTOR_BYTES);
          const index = (position + at) / SECTOR_BYTES - 1;
          if (!checkSector(bytes, index, this.#file.path)) continue;
          yield { index, bits: Buffer.from(bytes.subarray(SECTOR_HEAD_BYTES)) };
        }
        position += length;
      }
    }
  }

  async close(): Promise<void> {
    await this.#running.catch(() => undefined);
    await this.#file.close();
  }
}

/** First cell of a sector of bits. */
export function firstCellOf(index: number): number {
  return index * CELLS_PER_SECTOR;
}

/**
 * Randomness for one session of writing a VHDX: its GUIDs can be told again from the session id, so
 * that after a crash the file's content id still says whether we were its last writer.
 */
export function sessionRandom(sessionId: Guid, random: Random): Random {
  let count = 0;
  return {
    fill<T extends Uint8Array>(target: T): T {
      if (target.length !== 16 || count >= SESSION_GUIDS) return random.fill(target);
      target.set(sessionBytes(sessionId, count++));
      return target;
    },
  };
}

function sessionGuids(sessionId: Guid): Guid[] {
  return Array.from({ length: SESSION_GUIDS }, (_, count) => {
    const bytes = sessionBytes(sessionId, count);
    bytes.writeUInt8((bytes.readUInt8(7) & 0x0f) | 0x40, 7);
    bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
    return readGuid(bytes, 0);
  });
}

function sessionBytes(sessionId: Guid, count: number): Buffer {
  return createHash('sha256').update(`${sessionId} ${count}`).digest().subarray(0, 16);
}

function sectorCountOf(sizeBytes: number): number {
  return Math.ceil(Math.ceil(sizeBytes / CELL_BYTES) / CELLS_PER_SECTOR);
}

/** Sets bits [first, end); true when one of them was not set before. */
function setCells(bytes: Buffer, first: number, end: number): boolean {
  let hasChanged = false;
  for (let cell = first; cell < end;) {
    const place = SECTOR_HEAD_BYTES + (cell >> 3);
    const stop = Math.min(end, (cell | 7) + 1);
    const mask = ((1 << (stop - cell)) - 1) << (cell & 7);
    const now = bytes.readUInt8(place);
    if ((now & mask) !== mask) {
      bytes.writeUInt8(now | mask, place);
      hasChanged = true;
    }
    cell = stop;
  }
  return hasChanged;
}

function checksum(bytes: Buffer): number {
  return crc32c(bytes.subarray(4));
}

function sealSector(bytes: Buffer, index: number): void {
  bytes.writeUInt32LE(index, 4);
  bytes.writeUInt32LE(checksum(bytes), 0);
}

/** False for a sector that was never written. @throws TrackingDamaged */
function checkSector(bytes: Buffer, index: number, path: string): boolean {
  if (bytes.every((byte) => byte === 0)) return false;
  const isSound = bytes.readUInt32LE(4) === index && bytes.readUInt32LE(0) === checksum(bytes);
  if (!isSound) throw new TrackingDamaged(`sector ${index} of ${path} is damaged`);
  return true;
}

function encodeHead(head: TrackingHead): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  bytes.writeUInt32LE(HEAD_MARK, 4);
  bytes.write(MAGIC, 8, 'latin1');
  bytes.writeUInt32LE(VERSION, 16);
  writeGuid(bytes, 20, head.epoch);
  writeGuid(bytes, 36, head.diskId);
  bytes.writeBigUInt64LE(BigInt(head.sizeBytes), 52);
  bytes.writeBigUInt64LE(BigInt(head.sequence), 60);
  writeGuid(bytes, 68, head.contentId);
  writeGuid(bytes, 84, head.sessionId);
  bytes.writeUInt32LE(checksum(bytes), 0);
  return bytes;
}

function parseHead(bytes: Buffer): TrackingHead | undefined {
  const isOurs =
    bytes.readUInt32LE(4) === HEAD_MARK &&
    bytes.toString('latin1', 8, 16) === MAGIC &&
    bytes.readUInt32LE(16) === VERSION &&
    bytes.readUInt32LE(0) === checksum(bytes);
  if (!isOurs) return undefined;
  const sizeBytes = bytes.readBigUInt64LE(52);
  const sequence = bytes.readBigUInt64LE(60);
  const most = BigInt(Number.MAX_SAFE_INTEGER);
  if (sizeBytes > most || sequence > most) return undefined;
  return {
    epoch: readGuid(bytes, 20),
    diskId: readGuid(bytes, 36),
    sizeBytes: Number(sizeBytes),
    sequence: Number(sequence),
    contentId: readGuid(bytes, 68),
    sessionId: readGuid(bytes, 84),
  };
}
