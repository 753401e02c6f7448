// Small pieces on their way to a file, gathered into large ones; one is written while the next is filled.

import type { ByteSink } from '../../shared/delta/index.js';

const PIECE_BYTES = 1024 * 1024;

export class GatheredSink {
  readonly #sink: ByteSink;
  #filling = Buffer.alloc(0);
  #writing = Buffer.alloc(0);
  #filled = 0;
  #written: Promise<void> = Promise.resolve();

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  /** The bytes are the caller's again on return. @throws what the sink threw, maybe for earlier bytes */
  async add(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      this.#makeRoom(bytes.length - at);
      const copied = bytes.copy(this.#filling, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled === PIECE_BYTES) await this.#handOn();
    }
  }

  /** Returns when the sink has taken everything. @throws what it threw */
  async end(): Promise<void> {
    if (this.#filled > 0) await this.#handOn();
    await this.#written;
  }

  /** Returns when nothing is under way; does not throw. */
  async settled(): Promise<void> {
    await this.#written.catch(() => undefined);
  }

  /** Small files take little memory. */
  #makeRoom(lengthBytes: number): void {
    const wanted = Math.min(PIECE_BYTES, this.#filled + lengthBytes);
    if (this.#filling.length >= wanted) return;
    const larger = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, 2 * wanted));
    this.#filling.copy(larger, 0, 0, this.#filled);
    this.#filling = larger;
  }

  async #handOn(): Promise<void> {
    await this.#written;
    const full = this.#filling;
    this.#written = this.#sink(full.subarray(0, this.#filled));
    this.#written.catch(() => undefined); // thrown by the next call
    this.#filling = this.#writing;
    this.#writing = full;
    this.#filled = 0;
  }
}
