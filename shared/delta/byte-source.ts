// How bytes come in and go out: chunks of any size on one side, a sink on the other. Formats of
// this folder read through ByteReader, so it makes no difference whether a file arrives whole, in
// random pieces or byte by byte.

import { assert } from '../assert.js';
import type { BlockFile } from '../files/index.js';

/** Takes bytes in order; the buffer is the caller's again when the promise has settled. */
export type ByteSink = (chunk: Uint8Array) => Promise<void>;

export type Chunks = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

const CHUNK_BYTES = 1024 * 1024;

/**
 * The bytes of [start, end) of a file, in chunks of at most `chunkBytes`; the next chunk is read
 * while the consumer works on the current one. A chunk is valid until the next one is asked for.
 * Ends early when the file does.
 */
export async function* fileChunks(
  file: BlockFile,
  start = 0,
  end = Number.MAX_SAFE_INTEGER,
  chunkBytes = CHUNK_BYTES,
): AsyncGenerator<Uint8Array> {
  const stop = Math.min(end, await file.size());
  if (start >= stop) return;
  const size = Math.min(chunkBytes, stop - start);
  let current = Buffer.allocUnsafe(size);
  let next = Buffer.allocUnsafe(stop - start > size ? size : 0);
  const fill = (into: Buffer, position: number): Promise<number> =>
    file.read(position, into.subarray(0, Math.min(into.length, stop - position)));
  let position = start;
  let pending: Promise<number> | undefined = fill(current, position);
  try {
    while (pending !== undefined) {
      const lengthBytes: number = await pending;
      pending = undefined;
      if (lengthBytes === 0) return;
      position += lengthBytes;
      if (position < stop && next.length > 0) pending = fill(next, position);
      // A failed read-ahead is reported when its turn comes, not as an unhandled rejection.
      pending?.catch(() => undefined);
      yield current.subarray(0, lengthBytes);
      [current, next] = [next, current];
    }
  } finally {
    await pending?.catch(() => undefined);
  }
}

/** The same memory as a Buffer. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Exact reads from chunks of any size. Holds one chunk of the producer and a small buffer; never
 * more, whatever the input says about itself.
 */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #rest: Buffer = Buffer.alloc(0);
  #isEnded = false;
  #position = 0;

  constructor(chunks: Chunks) {
    this.#chunks =
      Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  }

  /** Number of bytes consumed so far. */
  get position(): number {
    return this.#position;
  }

  async #more(): Promise<boolean> {
    while (this.#rest.length === 0 && !this.#isEnded) {
      const result = await this.#chunks.next();
      if (result.done === true) this.#isEnded = true;
      else this.#rest = asBuffer(result.value);
    }
    return this.#rest.length > 0;
  }

  /** Fills `target`; returns the number of bytes, less than its length only at the end. */
  async read(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.length && (await this.#more())) {
      const part = this.#rest.subarray(0, target.length - filled);
      target.set(part, filled);
      filled += part.length;
      this.#take(part.length);
    }
    return filled;
  }

  /**
   * The next 1 to `limitBytes` bytes as a view of the producer's chunk, valid until the next call;
   * undefined at the end.
   */
  async some(limitBytes: number): Promise<Buffer | undefined> {
    assert(limitBytes > 0, 'a read asks for bytes');
    if (!(await this.#more())) return undefined;
    const part = this.#rest.subarray(0, limitBytes);
    this.#take(part.length);
    return part;
  }

  #take(lengthBytes: number): void {
    this.#rest = this.#rest.subarray(lengthBytes);
    this.#position += lengthBytes;
  }

  async isAtEnd(): Promise<boolean> {
    return !(await this.#more());
  }

  /** Lets the producer release what it holds; call when reading stops early. */
  async close(): Promise<void> {
    this.#isEnded = true;
    await this.#chunks.return?.();
  }
}
