// gRPC messages on a stream of node:http2: each has a flag byte (0: not compressed) and its length
// (u32, big-endian) in front. Both ends of the channel are made of these two classes; that the wire
// is gRPC's is proven against @grpc/grpc-js in test/interop.
//
// Why not @grpc/grpc-js itself: it joins a message with its prefix and the frames of a message by
// copying, keeps what it sends for retries, reconnects on its own while a session is bound to its
// connection, and leaves windows, header limits and `grpc-encoding` to private fields. Measured in
// docs/protocol.md.

import type { Http2Stream } from 'node:http2';
import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import { SEND_BUFFER_BYTES } from './limits.js';

const PREFIX_BYTES = 5;
/** Arrived bytes that wait for a reader; the stream is paused beyond it. */
const HIGH_WATER_BYTES = 1 << 20;

export function transportFailed(why: string, cause?: unknown): DrError {
  return new DrError('E_CHANNEL', why, {
    done: 'the call was ended, nothing was decided by it',
    cause,
  });
}

/** Takes the messages of the peer from a stream, one after the other. */
export class MessageReader {
  readonly #stream: Http2Stream;
  #limitBytes: number;
  readonly #prefix = Buffer.alloc(PREFIX_BYTES);
  #prefixFilled = 0;
  #message: Buffer = Buffer.alloc(0);
  #messageBytes = 0;
  #messageFilled = 0;
  #chunks: Buffer[] = [];
  #chunkBytes = 0;
  #isEnded = false;
  /** The current message is complete and not taken yet. */
  #isWhole = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(stream: Http2Stream, limitBytes: number) {
    this.#stream = stream;
    this.#limitBytes = limitBytes;
    stream.on('data', (chunk: Buffer) => {
      this.#arrived(chunk);
    });
    stream.on('end', () => {
      this.#isEnded = true;
      this.#awake();
    });
    stream.on('error', (error: Error) => {
      this.fail(transportFailed('the connection broke off', error));
    });
    stream.on('aborted', () => {
      this.fail(transportFailed('the other side reset the call'));
    });
    stream.on('close', () => {
      if (!this.#isEnded) this.fail(transportFailed('the call broke off'));
      this.#awake();
    });
    stream.pause();
  }

  /** From the next message on. */
  setLimit(limitBytes: number): void {
    this.#limitBytes = limitBytes;
  }

  /** Ends waiting: the next call of next() and all later ones throw `error`. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#chunks = [];
    this.#chunkBytes = 0;
    this.#awake();
  }

  /**
   * The bytes of the next message, or undefined at the end of the stream. They are valid until the
   * next call, which may use the same memory.
   * @throws DrError E_CHANNEL, E_LIMIT (by the prefix, nothing of the message was kept), E_PROTOCOL
   */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isWhole || this.#take()) {
        this.#isWhole = false;
        this.#prefixFilled = 0;
        return this.#message.subarray(0, this.#messageBytes);
      }
      if (this.#isEnded) {
        if (this.#prefixFilled === 0) return undefined;
        throw transportFailed('the call ended inside a message');
      }
      assert(this.#wake === undefined, 'one reader waits at a time');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#stream.resume();
      });
    }
  }

  /** Wakes the reader for whole messages only: a large one comes in dozens of chunks. */
  #arrived(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    this.#chunks.push(chunk);
    this.#chunkBytes += chunk.length;
    if (this.#wake === undefined) {
      if (this.#chunkBytes > HIGH_WATER_BYTES) this.#stream.pause();
      return;
    }
    try {
      this.#isWhole = this.#take();
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
    if (this.#isWhole) this.#awake();
  }

  #awake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** Moves what has arrived into the current message. True when it is whole. */
  #take(): boolean {
    for (;;) {
      if (this.#prefixFilled === PREFIX_BYTES && this.#messageFilled === this.#messageBytes) {
        return true;
      }
      const chunk = this.#chunks[0];
      if (chunk === undefined) return false;
      const used =
        this.#prefixFilled < PREFIX_BYTES ? this.#takePrefix(chunk) : this.#takeBody(chunk);
      this.#chunkBytes -= used;
      if (used === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(used);
    }
  }

  #takePrefix(chunk: Buffer): number {
    const used = Math.min(PREFIX_BYTES - this.#prefixFilled, chunk.length);
    chunk.copy(this.#prefix, this.#prefixFilled, 0, used);
    this.#prefixFilled += used;
    if (this.#prefixFilled < PREFIX_BYTES) return used;
    if (this.#prefix[0] !== 0) {
      throw new DrError('E_PROTOCOL', 'a compressed message arrived; the channel has none');
    }
    this.#messageBytes = this.#prefix.readUInt32BE(1);
    this.#messageFilled = 0;
    if (this.#messageBytes > this.#limitBytes) {
      throw new DrError(
        'E_LIMIT',
        `a message of ${this.#messageBytes} bytes arrived, at most ${this.#limitBytes} are legal`,
      );
    }
    if (this.#message.length < this.#messageBytes) {
      // grows to what this stream really carries, and is used again for each message
      const size = Math.min(this.#limitBytes, Math.max(4096, this.#messageBytes));
      this.#message = Buffer.allocUnsafeSlow(size);
    }
    return used;
  }

  #takeBody(chunk: Buffer): number {
    const used = Math.min(this.#messageBytes - this.#messageFilled, chunk.length);
    chunk.copy(this.#message, this.#messageFilled, 0, used);
    this.#messageFilled += used;
    return used;
  }
}

/** Puts messages on a stream; whoever awaits write() is held back by a slow peer. */
export class MessageWriter {
  readonly #stream: Http2Stream;
  #waitingBytes = 0;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(stream: Http2Stream) {
    this.#stream = stream;
    stream.on('close', () => {
      this.fail(transportFailed('the call broke off'));
    });
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#awake();
  }

  #refuseFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Writes one message made of parts, without joining them. `release` is called when their memory
   * is the caller's again; never when the stream broke off.
   * @throws DrError E_CHANNEL
   */
  async write(parts: readonly Buffer[], release?: () => void): Promise<void> {
    this.#refuseFailed();
    const lengthBytes = parts.reduce((sum, part) => sum + part.length, 0);
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(lengthBytes, 1);
    const [head = Buffer.alloc(0), ...rest] = parts;
    const all = [Buffer.concat([prefix, head]), ...rest].filter((part) => part.length > 0);
    this.#waitingBytes += lengthBytes;
    this.#stream.cork();
    all.forEach((part, index) => {
      if (index < all.length - 1) this.#stream.write(part);
      else {
        this.#stream.write(part, (error?: Error | null) => {
          this.#waitingBytes -= lengthBytes;
          if (error === undefined || error === null) release?.();
          this.#awake();
        });
      }
    });
    this.#stream.uncork();
    while (this.#waitingBytes > SEND_BUFFER_BYTES) {
      this.#refuseFailed();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #awake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
