// A virtual disk that is attached without a device, read and written on its handle (hyperv.md § 1.5). Windows wants
// sectors; callers may ask for any bytes.

import { assert } from '../../../assert.js';
import type { Extent, ReadableDisk, WritableDisk } from '../../../disk/index.js';
import type { VirtualDiskHandle } from './handle.js';
import type { NativeLibrary } from './library.js';
import { VirtualDiskError, type VirtualDiskFacts } from './port.js';
import { ALIGNMENT, Transfers, type TransferLimits, type TransferSlot } from './transfer.js';

const ZEROS = Buffer.alloc(1024 * 1024);

const alignDown = (offset: number, unit: number): number => offset - (offset % unit);
const alignUp = (offset: number, unit: number): number => alignDown(offset + unit - 1, unit);

export interface AttachedDiskOptions {
  readonly library: NativeLibrary;
  readonly disk: VirtualDiskHandle;
  readonly facts: VirtualDiskFacts;
  readonly limits: TransferLimits;
  /** Answers for extents(); closed with the disk. Without it everything is data. */
  readonly map?: ReadableDisk | undefined;
}

export class AttachedDisk implements WritableDisk {
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly #library: NativeLibrary;
  readonly #disk: VirtualDiskHandle;
  readonly #map: ReadableDisk | undefined;
  readonly #transfers: Transfers;
  /** Sectors written in part are read first: one at a time. */
  #partialWrites: Promise<void> = Promise.resolve();
  readonly #underWay = new Set<Promise<void>>();
  /** Set by a flush that failed: nobody knows what is durable. */
  #poison: VirtualDiskError | undefined;
  #closing: Promise<void> | undefined;

  constructor({ library, disk, facts, limits, map }: AttachedDiskOptions) {
    this.sizeBytes = facts.sizeBytes;
    this.logicalSectorBytes = facts.logicalSectorBytes;
    this.physicalSectorBytes = facts.physicalSectorBytes;
    this.#library = library;
    this.#disk = disk;
    this.#map = map;
    this.#transfers = new Transfers(library, disk.handle, disk.path, limits);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    this.#assertInside(offset, target.length);
    await this.#track(this.#read(offset, target));
  }

  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    this.#assertInside(start, end - start);
    if (this.#map !== undefined) yield* this.#map.extents(start, end);
    else if (start < end) yield { start, end, kind: 'data' };
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.#assertInside(offset, source.length);
    await this.#track(this.#write(offset, source));
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    this.#assertInside(offset, lengthBytes);
    const end = offset + lengthBytes;
    for (let at = offset; at < end; at += ZEROS.length) {
      await this.write(at, ZEROS.subarray(0, Math.min(ZEROS.length, end - at)));
    }
  }

  async flush(): Promise<void> {
    this.#refuseWhenPoisoned();
    if ((await this.#library.callAsync('FlushFileBuffers', this.#disk.handle)) !== 0) return;
    const { path } = this.#disk;
    // it ran on another thread, whose error code is out of reach
    this.#poison = new VirtualDiskError('E_IO', `FlushFileBuffers of ${path} failed`, 'refused', {
      context: { call: 'FlushFileBuffers', path },
      done: 'what was written since the last flush may be lost; the disk must be opened again',
    });
    throw this.#poison;
  }

  /** Waits for reads and writes under way; nothing of the disk is in use on return. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    this.#transfers.close();
    try {
      await this.#disk.close();
    } finally {
      await this.#map?.close();
    }
  }

  async #read(offset: number, target: Uint8Array): Promise<void> {
    const end = offset + target.length;
    for (let at = offset; at < end;) {
      // whole pages, but never behind the end of the disk, which is a whole sector
      const start = alignDown(at, ALIGNMENT);
      const wanted = Math.min(end, start + this.#transfers.chunkBytes);
      const stop = Math.min(this.sizeBytes, alignUp(wanted, ALIGNMENT));
      await this.#transfers.withSlot(async (slot) => {
        await this.#transfers.run('ReadFile', slot, start, stop - start);
        target.set(slot.data.subarray(at - start, wanted - start), at - offset);
      });
      at = wanted;
    }
  }

  async #write(offset: number, source: Uint8Array): Promise<void> {
    this.#refuseWhenPoisoned();
    const end = offset + source.length;
    const sector = this.logicalSectorBytes;
    for (let at = offset; at < end;) {
      const start = alignDown(at, sector);
      const isWhole = at === start && end - at >= sector;
      // whole sectors up to the chunk, or the one sector of which a part is written
      const stop = isWhole
        ? alignDown(Math.min(end, start + this.#transfers.chunkBytes), sector)
        : start + sector;
      const next = Math.min(end, stop);
      const part = source.subarray(at - offset, next - offset);
      if (isWhole) await this.#transfers.withSlot((slot) => this.#put(slot, start, part));
      else await this.#writePart(start, at - start, part);
      at = next;
    }
  }

  async #put(slot: TransferSlot, start: number, bytes: Uint8Array): Promise<void> {
    slot.data.set(bytes);
    await this.#transfers.run('WriteFile', slot, start, bytes.length);
  }

  #writePart(start: number, skipBytes: number, part: Uint8Array): Promise<void> {
    const written = this.#partialWrites.then(() =>
      this.#transfers.withSlot(async (slot) => {
        const sector = this.logicalSectorBytes;
        await this.#transfers.run('ReadFile', slot, start, sector);
        slot.data.set(part, skipBytes);
        await this.#transfers.run('WriteFile', slot, start, sector);
      }),
    );
    this.#partialWrites = written.catch(() => undefined);
    return written;
  }

  #track(work: Promise<void>): Promise<void> {
    const settled = work.finally(() => this.#underWay.delete(settled));
    this.#underWay.add(settled);
    return settled;
  }

  #refuseWhenPoisoned(): void {
    if (this.#poison !== undefined) throw this.#poison;
  }

  #assertInside(offset: number, lengthBytes: number): void {
    assert(offset >= 0 && lengthBytes >= 0, 'ranges do not start before the disk');
    assert(offset + lengthBytes <= this.sizeBytes, 'ranges do not reach behind the disk');
    assert(this.#closing === undefined, 'a closed disk is not used');
  }
}
