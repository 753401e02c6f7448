// The bytes of a VHDX that comes through a pipe, in order, and how such a stream is refused.

import { FILE_SIZE_MAX, MIB } from './format.js';
import { VhdxError, type VhdxErrorCode } from './violation.js';

const SEEKABLE = 'Store the file on a disk first, then name it in place of the pipe.';

/** Refuses the stream for a violation. */
export function refuse(
  name: string,
  code: VhdxErrorCode,
  structure: string,
  offset: number,
  message: string,
  hint?: string,
): never {
  throw new VhdxError(
    { code, structure, offset, message },
    name,
    hint === undefined ? {} : { hint },
  );
}

/** Refuses what only a seekable file can answer. */
export function needsSeeking(name: string, structure: string, offset: number, what: string): never {
  const message = `${what} cannot be read from a stream`;
  refuse(name, 'E_VHDX_UNSUPPORTED', structure, offset, message, SEEKABLE);
}

/** Bytes of the stream in order, however they were cut. */
export class StreamInput {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #name: string;
  #rest = Buffer.alloc(0);
  #position = 0;

  constructor(source: AsyncIterable<Uint8Array>, name: string) {
    this.#chunks = source[Symbol.asyncIterator]();
    this.#name = name;
  }

  get position(): number {
    return this.#position;
  }

  /** Between 1 and `maxBytes` of the next bytes. */
  async take(maxBytes: number, structure: string): Promise<Buffer> {
    const bytes = await this.#takeOrEnd(maxBytes);
    if (bytes !== undefined) return bytes;
    const message = `the stream ends at byte ${this.#position}`;
    return refuse(this.#name, 'E_VHDX_TRUNCATED', structure, this.#position, message);
  }

  async #takeOrEnd(maxBytes: number): Promise<Buffer | undefined> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return undefined;
      const { buffer, byteOffset, byteLength } = next.value;
      this.#rest = Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
    }
    const bytes = this.#rest.subarray(0, maxBytes);
    this.#rest = this.#rest.subarray(bytes.length);
    this.#position += bytes.length;
    return bytes;
  }

  async fill(target: Buffer, structure: string): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const bytes = await this.take(target.length - done, structure);
      bytes.copy(target, done);
      done += bytes.length;
    }
  }

  async skipTo(position: number, structure: string): Promise<void> {
    while (this.#position < position) await this.take(position - this.#position, structure);
  }

  /** Takes what is left, so that the writer of the pipe ends in good order. */
  async skipRest(): Promise<void> {
    while ((await this.#takeOrEnd(MIB)) !== undefined) {
      if (this.#position > FILE_SIZE_MAX) {
        const message = `the stream is longer than ${FILE_SIZE_MAX} bytes`;
        refuse(this.#name, 'E_VHDX_LIMIT', 'file', this.#position, message);
      }
    }
  }
}
