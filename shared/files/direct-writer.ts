// Writes past the page cache (O_DIRECT), for large files that are written once and flushed often: a
// flush then finds nothing to write, and a copy of every byte is saved. The system wants memory,
// position and length aligned, so the bytes go through aligned slots; what is not aligned is the
// caller's to write the ordinary way. Linux keeps both ways coherent.
//
// Linux only, and only where the file system takes part; open() answers undefined elsewhere, and a
// write that the system refuses as unaligned answers 0.

import fs from 'node:fs';
import { assert } from '../assert.js';
import { systemCode } from './system-error.js';

/** The largest sector of any device, and a page. */
const ALIGNMENT_BYTES = 4096;
/** Below this the page cache is cheaper. */
const DIRECT_BYTES_MIN = 64 * 1024;
const SLOT_BYTES = 1024 * 1024;
/** For all files of the process: as many writes are under way at most. */
const SLOT_COUNT = 8;
const WASM_PAGE_BYTES = 64 * 1024;

/** What is used of WebAssembly: memory that begins on a page. The compiler's library leaves it out. */
interface PageMemory {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
}

/** Aligned memory, handed out piece by piece. */
class SlotPool {
  #memory: ArrayBuffer | undefined;
  readonly #free: Buffer[] = [];
  #made = 0;
  readonly #waiting: ((slot: Buffer) => void)[] = [];

  async take(): Promise<Buffer> {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#made < SLOT_COUNT) return this.#make();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  giveBack(slot: Buffer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slot);
    else next(slot);
  }

  #make(): Buffer {
    const initial = (SLOT_COUNT * SLOT_BYTES) / WASM_PAGE_BYTES;
    const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: PageMemory };
    this.#memory ??= new WebAssembly.Memory({ initial }).buffer;
    const slot = Buffer.from(this.#memory, this.#made * SLOT_BYTES, SLOT_BYTES);
    this.#made++;
    return slot;
  }
}

const slots = new SlotPool();

export class DirectWriter {
  readonly #descriptor: number;

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** A second way into the file behind `descriptor`, or undefined where there is none. */
  static async open(descriptor: number): Promise<DirectWriter | undefined> {
    if (process.platform !== 'linux') return undefined;
    const { O_WRONLY, O_DIRECT } = fs.constants;
    return new Promise((resolve) => {
      // by the descriptor, so that it is the same file whatever its name means by now
      fs.open(`/proc/self/fd/${descriptor}`, O_WRONLY | O_DIRECT, (error, opened) => {
        resolve(error === null ? new DirectWriter(opened) : undefined);
      });
    });
  }

  /** How many bytes of a write at `position` one call of write() takes; 0: none. */
  static takes(position: number, lengthBytes: number): number {
    if (position % ALIGNMENT_BYTES !== 0) return 0;
    const aligned = Math.min(lengthBytes - (lengthBytes % ALIGNMENT_BYTES), SLOT_BYTES);
    return aligned < DIRECT_BYTES_MIN ? 0 : aligned;
  }

  /**
   * Writes `source`, whose length takes() gave. Calls back with the number of bytes written; 0 when
   * the system wants another alignment.
   */
  write(
    position: number,
    source: Uint8Array,
    settle: (error: Error | null, count: number) => void,
  ): void {
    assert(DirectWriter.takes(position, source.length) === source.length, 'a write is aligned');
    void slots.take().then((slot) => {
      slot.set(source);
      fs.write(this.#descriptor, slot, 0, source.length, position, (error, count) => {
        slots.giveBack(slot);
        if (error !== null && systemCode(error) === 'EINVAL') settle(null, 0);
        else settle(error, count);
      });
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      // nothing is lost with it: flushes go through the file's own descriptor
      fs.close(this.#descriptor, () => {
        resolve();
      });
    });
  }
}
