// A disk as its guest has it: every write and discard is marked in the tracking file, durably,
// before it reaches the VHDX. So a power cut can leave a mark without a write, never a write without
// its mark.

import { assert } from '../../assert.js';
import { randomGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { Extent, WritableDisk } from '../../disk/index.js';
import { openVhdx, type VhdxDisk } from '../../vhdx/index.js';
import { withDisk } from './chain.js';
import type { LabContext } from './context.js';
import { diskPath } from './layout.js';
import { saveVm, type DiskRecord, type VmRecord } from './record.js';
import { endEpoch, lastSequence, openGeneration } from './tracking.js';
import { sessionRandom, TrackingDamaged, type TrackingFile } from './tracking-file.js';

interface Session {
  readonly context: LabContext;
  readonly vm: VmRecord;
  readonly record: DiskRecord;
  readonly sessionId: Guid;
  readonly isFull: boolean;
}

export class GuestDisk implements WritableDisk {
  readonly #disk: VhdxDisk;
  readonly #session: Session;
  #marks: TrackingFile;
  #damaged: TrackingFile | undefined;
  #renewing: Promise<void> | undefined;
  #hasWritten = false;

  private constructor(disk: VhdxDisk, marks: TrackingFile, session: Session) {
    this.#disk = disk;
    this.#marks = marks;
    this.#session = session;
  }

  /**
   * Opens a disk whose tracking was checked, under the VM's lock, for reading and writing.
   * @param isFull scripted fault: every write answers that the volume is full
   */
  static async open(
    context: LabContext,
    vm: VmRecord,
    disk: DiskRecord,
    isFull: boolean,
  ): Promise<GuestDisk> {
    const { fs, folder, random } = context;
    const sequence = lastSequence(disk.tracking);
    const marks = await openGeneration(context, vm.id, disk, sequence, 'write');
    try {
      const sessionId = randomGuid(random);
      const vhdx = await openVhdx(diskPath(folder, vm.id, disk.leaf), {
        fs,
        random: sessionRandom(sessionId, random),
        isWritable: true,
      });
      marks.beginSession(vhdx.top.header.dataWriteGuid, sessionId);
      const session = { context, vm, record: disk, sessionId, isFull };
      return new GuestDisk(vhdx, marks, session);
    } catch (error) {
      await marks.close();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#disk.sizeBytes;
  }

  get logicalSectorBytes(): number {
    return this.#disk.logicalSectorBytes;
  }

  get physicalSectorBytes(): number {
    return this.#disk.physicalSectorBytes;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#disk.read(offset, target);
  }

  extents(start: number, end: number): AsyncIterable<Extent> {
    return this.#disk.extents(start, end);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    await this.#announce(offset, source.length);
    await this.#disk.write(offset, source);
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    await this.#announce(offset, lengthBytes);
    await this.#disk.zero(offset, lengthBytes);
  }

  /** Many writes with one flush of the marks; the buffers are the caller's again on return. */
  async writeAll(
    writes: readonly { readonly offset: number; readonly bytes: Uint8Array }[],
  ): Promise<void> {
    await Promise.all(writes.map(({ offset, bytes }) => this.#announce(offset, bytes.length)));
    const settled = await Promise.allSettled(
      writes.map(({ offset, bytes }) => this.#disk.write(offset, bytes)),
    );
    for (const result of settled) if (result.status === 'rejected') throw result.reason;
  }

  async #announce(offset: number, lengthBytes: number): Promise<void> {
    assert(offset >= 0 && lengthBytes >= 0, 'guest ranges do not start before the disk');
    assert(offset + lengthBytes <= this.sizeBytes, 'guest ranges do not reach behind the disk');
    if (this.#session.isFull) {
      throw new DrError('E_CAPACITY', `the volume of ${this.#disk.top.path} is full`, {
        context: { fault: 'disk-full' },
        done: 'the guest got a write error',
        hint: 'This is a scripted fault; `hvdr lab fault DIR NAME clear disk-full` ends it.',
      });
    }
    this.#hasWritten = true;
    await this.#renewing;
    try {
      await this.#marks.mark(offset, offset + lengthBytes);
    } catch (error) {
      if (!(error instanceof TrackingDamaged)) throw error;
      this.#renewing ??= this.#renewMarks(error);
      await this.#renewing;
      await this.#marks.mark(offset, offset + lengthBytes);
    }
  }

  /**
   * The guest goes on when its tracking file turns out to be damaged: a new epoch begins, and with
   * it a new file. Whoever asks from before is told that nothing is known.
   */
  async #renewMarks(damage: TrackingDamaged): Promise<void> {
    const { context, vm, record, sessionId } = this.#session;
    const contentId = this.#disk.top.header.dataWriteGuid;
    const reason = `the tracking data are lost: ${damage.message}`;
    const tracking = await endEpoch(context, vm.id, record, reason, contentId);
    const renewed = { ...record, tracking };
    await saveVm(context, withDisk(vm, renewed));
    // Other writes may still be marking in it; it is closed with the disk.
    this.#damaged = this.#marks;
    this.#marks = await openGeneration(context, vm.id, renewed, lastSequence(tracking), 'write');
    this.#marks.beginSession(contentId, sessionId);
  }

  flush(): Promise<void> {
    return this.#disk.flush();
  }

  /** Durable on return: everything written. */
  async close(): Promise<void> {
    try {
      try {
        // A session that failed says so here. Its content id is not known then, and stays open.
        await this.#disk.flush();
      } finally {
        await this.#disk.close();
      }
      if (this.#hasWritten) await this.#marks.endSession(this.#disk.top.header.dataWriteGuid);
    } finally {
      await this.#marks.close();
      await this.#damaged?.close();
    }
  }
}
