// Data of a disk that goes by in pieces of any length, as the hashes of its cells.

import { cellLength, CELL_BYTES } from './cell.js';
import { CELLS_AT_ONCE, type CellHashes, HashThread } from './hash-thread.js';

const BYTES_AT_ONCE = CELLS_AT_ONCE * CELL_BYTES;
/** Pieces whose hashes are not written yet; the thread has room for one more. */
const PIECES_BEHIND = 3;

/** Takes the hash of a cell; in ascending order. */
export type HashSink = (cell: number, hash: Buffer) => Promise<void>;

interface Piece {
  readonly firstCell: number;
  readonly hashes: Promise<CellHashes>;
}

/** Zeros are not told: a base does not list them. To be closed. */
export class GatheredHashes {
  readonly #sink: HashSink;
  readonly #diskSizeBytes: number;
  readonly #thread = new HashThread();
  readonly #behind: Piece[] = [];
  readonly #cellBytes = Buffer.alloc(CELL_BYTES);
  /** The cell that is being gathered; undefined: none. */
  #cell: number | undefined;

  constructor(diskSizeBytes: number, sink: HashSink) {
    this.#diskSizeBytes = diskSizeBytes;
    this.#sink = sink;
  }

  /** In ascending order; what is left out is zeros. The bytes are the caller's again on return. */
  async add(offset: number, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const cell = Math.floor((offset + at) / CELL_BYTES);
      const within = offset + at - cell * CELL_BYTES;
      if (cell !== this.#cell) await this.#endCell();
      const left = bytes.length - at;
      if (within === 0 && left >= CELL_BYTES) {
        const whole = Math.min(left - (left % CELL_BYTES), BYTES_AT_ONCE);
        await this.#submit(cell, bytes.subarray(at, at + whole));
        at += whole;
      } else {
        const part = bytes.subarray(at, at + CELL_BYTES - within);
        this.#cell = cell;
        part.copy(this.#cellBytes, within);
        at += part.length;
      }
    }
  }

  /** To be called after the last piece: the sink has every hash then. */
  async finish(): Promise<void> {
    await this.#endCell();
    while (this.#behind.length > 0) await this.#settleOldest();
  }

  close(): Promise<void> {
    return this.#thread.close();
  }

  async #endCell(): Promise<void> {
    const cell = this.#cell;
    if (cell === undefined) return;
    this.#cell = undefined;
    await this.#submit(cell, this.#cellBytes.subarray(0, cellLength(cell, this.#diskSizeBytes)));
    this.#cellBytes.fill(0);
  }

  async #submit(firstCell: number, bytes: Buffer): Promise<void> {
    while (this.#behind.length >= PIECES_BEHIND) await this.#settleOldest();
    const { hashes } = await this.#thread.submit(bytes);
    this.#behind.push({ firstCell, hashes });
  }

  async #settleOldest(): Promise<void> {
    const piece = this.#behind.shift();
    if (piece === undefined) return;
    let cell = piece.firstCell;
    for (const hash of await piece.hashes) {
      if (hash !== undefined) await this.#sink(cell, hash);
      cell++;
    }
  }
}
