// Overlapped transfers on a virtual disk's handle. A slot is what one transfer needs: memory aligned as disks without
// buffering want it, an OVERLAPPED and an event. Slots are few, made at their first use and used again, so that
// reads under way at once take bounded memory.

import { assert } from '../../../assert.js';
import type { Handle, NativeLibrary } from './library.js';
import { LAYOUTS, nativeBytes, setUint32, setUint64 } from './layouts.js';
import { VirtualDiskError } from './port.js';
import { ERROR_IO_PENDING, WAIT_OBJECT_0, badAnswer, win32Failure } from './win32.js';

/** Alignment of memory, offsets and lengths: a multiple of every sector size there is. */
export const ALIGNMENT = 4096;

export interface TransferLimits {
  /** Most bytes of one native call; a multiple of 4096. */
  readonly chunkBytes: number;
  /** Most native calls of one disk under way at once. */
  readonly slotCount: number;
  /** A transfer without an answer is cancelled after so long. */
  readonly timeoutMs: number;
}

export const TRANSFER_LIMITS: TransferLimits = {
  chunkBytes: 1024 * 1024,
  slotCount: 4,
  timeoutMs: 120_000,
};

/** koffi waits on the few threads that Node reads files with: a disk that hangs must not keep one for long. */
const WAIT_SLICE_MS = 50;
/** A cancelled transfer ends at once, unless its driver is lost. */
const CANCEL_GRACE_MS = 10_000;

export type TransferCall = 'ReadFile' | 'WriteFile';

/** Memory that Windows may still write to: it must outlive the disk and its transfer. */
const abandoned = new Set<TransferSlot>();

export class TransferSlot {
  readonly event: Handle;
  readonly overlapped: Buffer;
  /** chunkBytes long, aligned. */
  readonly data: Buffer;
  readonly transferred = nativeBytes(4);

  constructor(library: NativeLibrary, chunkBytes: number) {
    const block = nativeBytes(2 * ALIGNMENT + chunkBytes);
    // the second page border of the block: before it there is room for the OVERLAPPED, wherever the block lies
    const start = 2 * ALIGNMENT - Number(library.addressOf(block) % BigInt(ALIGNMENT));
    const { size } = LAYOUTS.OVERLAPPED;
    this.overlapped = block.subarray(start - size, start);
    this.data = block.subarray(start, start + chunkBytes);
    this.event = newEvent(library);
  }

  aim(offset: number): void {
    this.overlapped.fill(0);
    setUint32(this.overlapped, 'OVERLAPPED', 'Offset', offset % 2 ** 32);
    setUint32(this.overlapped, 'OVERLAPPED', 'OffsetHigh', Math.floor(offset / 2 ** 32));
    setUint64(this.overlapped, 'OVERLAPPED', 'hEvent', this.event);
  }
}

function newEvent(library: NativeLibrary): Handle {
  const isManualReset = 1;
  const event = library.call('CreateEventW', null, isManualReset, 0, null);
  if (event > 0) return BigInt(event);
  const win32 = library.call('GetLastError');
  throw win32Failure(win32, { call: 'CreateEventW', path: 'a transfer' });
}

export class Transfers {
  readonly #library: NativeLibrary;
  readonly #handle: Handle;
  readonly #path: string;
  readonly #limits: TransferLimits;
  readonly #idle: TransferSlot[] = [];
  readonly #waiting: ((slot: TransferSlot | undefined) => void)[] = [];
  #slotCount = 0;

  constructor(library: NativeLibrary, handle: Handle, path: string, limits: TransferLimits) {
    assert(limits.chunkBytes % ALIGNMENT === 0, 'transfers are whole pages');
    this.#library = library;
    this.#handle = handle;
    this.#path = path;
    this.#limits = limits;
  }

  get chunkBytes(): number {
    return this.#limits.chunkBytes;
  }

  /** Lends a slot to `work`; waits while all are lent. */
  async withSlot<T>(work: (slot: TransferSlot) => Promise<T>): Promise<T> {
    const slot = (await this.#take()) ?? this.#newSlot();
    try {
      return await work(slot);
    } finally {
      if (abandoned.has(slot)) this.#giveUp();
      else this.#putBack(slot);
    }
  }

  /** Moves `lengthBytes` between slot.data and the disk at `offset`, all of them. */
  async run(
    call: TransferCall,
    slot: TransferSlot,
    offset: number,
    lengthBytes: number,
  ): Promise<void> {
    const library = this.#library;
    const { data, overlapped, transferred } = slot;
    slot.aim(offset);
    const isDone = library.call(call, this.#handle, data, lengthBytes, null, overlapped) !== 0;
    if (!isDone) {
      const win32 = library.call('GetLastError');
      // refused at once: nothing is under way, and a wait would never end
      if (win32 !== ERROR_IO_PENDING) throw this.#failure(win32, call, offset);
      await this.#waitFor(call, slot, offset);
    }
    const isGood =
      library.call('GetOverlappedResult', this.#handle, overlapped, transferred, 0) !== 0;
    if (!isGood) throw this.#failure(library.call('GetLastError'), call, offset);
    const moved = transferred.readUInt32LE(0);
    if (moved === lengthBytes) return;
    throw badAnswer(`${moved} of ${lengthBytes} bytes at ${offset}`, { call, path: this.#path });
  }

  /** No transfer may be under way. */
  close(): void {
    for (const slot of this.#idle.splice(0)) this.#library.call('CloseHandle', slot.event);
  }

  async #waitFor(call: TransferCall, slot: TransferSlot, offset: number): Promise<void> {
    const { timeoutMs } = this.#limits;
    // until the event was seen, Windows may use the slot's memory, whatever goes wrong here
    abandoned.add(slot);
    let isSet = await this.#isSetWithin(timeoutMs, slot.event);
    if (isSet) {
      abandoned.delete(slot);
      return;
    }
    // the event belongs to this transfer alone, so a cancelled one sets it as well
    this.#library.call('CancelIoEx', this.#handle, slot.overlapped);
    isSet = await this.#isSetWithin(Math.min(timeoutMs, CANCEL_GRACE_MS), slot.event);
    if (isSet) abandoned.delete(slot);
    throw new VirtualDiskError(
      'E_STALLED',
      `${call} of ${this.#path} at ${offset} had no answer for ${timeoutMs} ms`,
      'stalled',
      { context: { call, path: this.#path, offset }, done: 'the transfer was cancelled' },
    );
  }

  async #isSetWithin(timeoutMs: number, event: Handle): Promise<boolean> {
    for (let leftMs = timeoutMs; leftMs > 0; leftMs -= WAIT_SLICE_MS) {
      const sliceMs = Math.min(leftMs, WAIT_SLICE_MS);
      const answer = await this.#library.callAsync('WaitForSingleObject', event, sliceMs);
      if (answer === WAIT_OBJECT_0) return true;
    }
    return false;
  }

  #failure(win32: number, call: TransferCall, offset: number): VirtualDiskError {
    const done = `the transfer at ${offset} was refused`;
    return win32Failure(win32, { call, path: this.#path, done });
  }

  #newSlot(): TransferSlot {
    try {
      return new TransferSlot(this.#library, this.#limits.chunkBytes);
    } catch (error) {
      this.#giveUp();
      throw error;
    }
  }

  /** An idle slot, or undefined: make one. */
  #take(): Promise<TransferSlot | undefined> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return Promise.resolve(idle);
    if (this.#slotCount < this.#limits.slotCount) {
      this.#slotCount++;
      return Promise.resolve(undefined);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #putBack(slot: TransferSlot): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(slot);
    else next(slot);
  }

  /** The place of a slot that is lost; whoever waits makes a new one. */
  #giveUp(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#slotCount--;
    else next(undefined);
  }
}
