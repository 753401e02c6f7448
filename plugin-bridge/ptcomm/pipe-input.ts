// Standard input as large chunks in memory that is used again. A stream of Node brings 64 KiB at a time, each in
// memory of its own; a restore has a chunk for every packet then, and garbage of its whole size
// (docs/performance.md "What a VM costs on its way through Bacula").

import net from 'node:net';

/** Several packets of data: one that lies in two blocks has to be copied together. */
const BLOCK_BYTES = 4 * 1024 * 1024;
/** Less room than this is not worth a read. */
const ROOM_MIN = 64 * 1024;
/** So much may wait for its user before the pipe is left full. */
const WAITING_MAX = 2 * 1024 * 1024;

interface Block {
  readonly bytes: Buffer;
  filled: number;
  released: number;
}

/** Chunks of a pipe, in order; each is its user's until it is released. */
export class PipeInput implements AsyncIterable<Buffer> {
  readonly #socket: net.Socket;
  readonly #blocks = new Map<ArrayBufferLike, Block>();
  readonly #free: Block[] = [];
  readonly #waiting: Buffer[] = [];
  #block: Block;
  #waitingBytes = 0;
  #isPaused = false;
  #isEnded = false;
  #wake: (() => void) | undefined;

  /** @throws ERR_INVALID_FD_TYPE when `descriptor` is no pipe and no socket; it is left as it was */
  constructor(descriptor: number) {
    this.#block = this.#takeBlock();
    this.#socket = new net.Socket({
      fd: descriptor,
      readable: true,
      writable: false,
      onread: {
        buffer: () => this.#room(),
        callback: (count) => this.#arrived(count),
      },
    });
    const ended = (): void => {
      this.#isEnded = true;
      this.#wake?.();
    };
    // a pipe that fails has ended: there is nobody left to tell
    this.#socket.on('error', ended).on('end', ended).on('close', ended);
    this.#socket.resume();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      const chunk = this.#waiting.shift();
      if (chunk !== undefined) {
        this.#waitingBytes -= chunk.length;
        this.#goOn();
        yield chunk;
      } else if (this.#isEnded) {
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }

  /** To be called once for each chunk, when nobody uses it any more. */
  release(chunk: Buffer): void {
    const block = this.#blocks.get(chunk.buffer);
    if (block === undefined) return;
    block.released += chunk.length;
    if (block !== this.#block && block.released === block.filled) this.#free.push(block);
  }

  #goOn(): void {
    if (!this.#isPaused || this.#waitingBytes >= WAITING_MAX) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  #room(): Buffer {
    if (BLOCK_BYTES - this.#block.filled < ROOM_MIN) {
      const full = this.#block;
      this.#block = this.#takeBlock();
      if (full.released === full.filled) this.#free.push(full);
    }
    return this.#block.bytes.subarray(this.#block.filled);
  }

  /** False: the pipe is left alone until resume(). */
  #arrived(count: number): boolean {
    const { bytes, filled } = this.#block;
    this.#block.filled += count;
    this.#waiting.push(bytes.subarray(filled, filled + count));
    this.#waitingBytes += count;
    this.#wake?.();
    this.#isPaused = this.#waitingBytes >= WAITING_MAX;
    return !this.#isPaused;
  }

  #takeBlock(): Block {
    const block = this.#free.pop() ?? this.#newBlock();
    block.filled = 0;
    block.released = 0;
    return block;
  }

  #newBlock(): Block {
    const bytes = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    const block = { bytes, filled: 0, released: 0 };
    this.#blocks.set(bytes.buffer, block);
    return block;
  }
}
