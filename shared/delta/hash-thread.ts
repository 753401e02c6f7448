// SHA-256 of cells in a thread of its own: the caller goes on reading and writing meanwhile, which is worth
// having where a whole disk goes by (docs/performance.md "What a VM costs on its way through Bacula").

import { Worker } from 'node:worker_threads';
import { defined } from '../assert.js';
import { DrError } from '../errors.js';
import { isAllZero } from '../disk/index.js';
import { CELL_BYTES, HASH_BYTES, hashCell } from './cell.js';

/** Cells that go to the thread at once: a message costs about as much as the hash of one. */
export const CELLS_AT_ONCE = 16;
const SLOTS = 4;
/** The start of the thread costs as much as hashing so much here. */
const BYTES_BEFORE_THREAD = 32 * 1024 * 1024;

// As text, so that a single executable has no file beside it. It is given shared memory: bytes come in the
// slot's data, hashes go out in its hashes, and a flag for each cell says that it is not all zeros.
const THREAD = `'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const { hash } = require('node:crypto');
const { cellBytes, hashBytes, slots } = workerData;
const zeros = Buffer.alloc(cellBytes);
parentPort.on('message', ({ slot, lengthBytes }) => {
  const { data, hashes, flags } = slots[slot];
  for (let at = 0, cell = 0; at < lengthBytes; at += cellBytes, cell++) {
    const bytes = Buffer.from(data, at, Math.min(cellBytes, lengthBytes - at));
    const isZero = bytes.equals(zeros.subarray(0, bytes.length));
    new Uint8Array(flags)[cell] = isZero ? 0 : 1;
    if (!isZero) hash('sha256', bytes, 'buffer').copy(Buffer.from(hashes, cell * hashBytes, hashBytes));
  }
  parentPort.postMessage(slot);
});`;

interface Slot {
  readonly data: SharedArrayBuffer;
  readonly hashes: SharedArrayBuffer;
  readonly flags: SharedArrayBuffer;
}

/** The hash of each cell; undefined for one that is all zeros. */
export type CellHashes = readonly (Buffer | undefined)[];

interface Waiting {
  readonly cells: number;
  readonly resolve: (hashes: CellHashes) => void;
  readonly reject: (error: unknown) => void;
}

/** To be closed. Small disks never start the thread. */
export class HashThread {
  #worker: Worker | undefined;
  #failure: DrError | undefined;
  #bytesBefore = 0;
  readonly #slots: Slot[] = [];
  readonly #free: number[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #wake: (() => void) | undefined;

  /**
   * Takes whole cells, the last one may be short, CELLS_AT_ONCE at most. The bytes are the caller's again when
   * the outer promise is fulfilled, which waits for room; the hashes come with the inner one.
   * @throws what ended the thread
   */
  async submit(bytes: Buffer): Promise<{ readonly hashes: Promise<CellHashes> }> {
    if (this.#bytesBefore < BYTES_BEFORE_THREAD) {
      this.#bytesBefore += bytes.length;
      return { hashes: Promise.resolve(hashesOf(bytes)) };
    }
    const worker = (this.#worker ??= this.#start());
    while (this.#free.length === 0 && this.#failure === undefined) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    if (this.#failure !== undefined) throw this.#failure;
    const slot = defined(this.#free.pop(), 'a slot is free');
    bytes.copy(Buffer.from(defined(this.#slots[slot], 'it is a slot').data));
    const hashes = new Promise<CellHashes>((resolve, reject) => {
      this.#waiting.set(slot, { cells: Math.ceil(bytes.length / CELL_BYTES), resolve, reject });
    });
    hashes.catch(() => undefined); // seen by whoever awaits them
    worker.postMessage({ slot, lengthBytes: bytes.length });
    return { hashes };
  }

  async close(): Promise<void> {
    this.#fail(new Error('the thread was closed'));
    await this.#worker?.terminate();
  }

  #start(): Worker {
    for (let slot = 0; slot < SLOTS; slot++) {
      this.#slots.push({
        data: new SharedArrayBuffer(CELLS_AT_ONCE * CELL_BYTES),
        hashes: new SharedArrayBuffer(CELLS_AT_ONCE * HASH_BYTES),
        flags: new SharedArrayBuffer(CELLS_AT_ONCE),
      });
      this.#free.push(slot);
    }
    const worker = new Worker(THREAD, {
      eval: true,
      workerData: { cellBytes: CELL_BYTES, hashBytes: HASH_BYTES, slots: this.#slots },
    });
    worker.on('message', (slot: number) => {
      this.#done(slot);
    });
    worker.on('error', (error: unknown) => {
      this.#fail(error);
    });
    worker.on('exit', () => {
      this.#fail(new Error('the thread has ended'));
    });
    worker.unref(); // whoever waits for hashes holds the process by what it reads
    return worker;
  }

  #done(slot: number): void {
    const { hashes, flags } = defined(this.#slots[slot], 'it is a slot');
    const waiting = defined(this.#waiting.get(slot), 'it was given work');
    this.#waiting.delete(slot);
    const isData = new Uint8Array(flags);
    waiting.resolve(
      Array.from({ length: waiting.cells }, (_, cell) =>
        isData[cell] === 1
          ? Buffer.from(Buffer.from(hashes, cell * HASH_BYTES, HASH_BYTES))
          : undefined,
      ),
    );
    this.#free.push(slot);
    this.#wake?.();
  }

  #fail(error: unknown): void {
    this.#failure ??= new DrError('E_INTERNAL', 'the thread that hashes has ended', {
      cause: error,
    });
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#wake?.();
  }
}

function hashesOf(bytes: Buffer): CellHashes {
  return Array.from({ length: Math.ceil(bytes.length / CELL_BYTES) }, (_, cell) => {
    const part = bytes.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
    return isAllZero(part) ? undefined : hashCell(part);
  });
}
