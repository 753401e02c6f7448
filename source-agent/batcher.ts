// Gathers the cells of one disk into push messages (shared/delta/cell-batch.ts). Each message is
// built in its final buffer: the payload is copied once, behind room for the longest head; the head
// is then written right before it. A full batch is handed out by the call that found it full. There
// are two such buffers, used in turn: a message is valid until the one after it was asked for.

import { assert } from '../shared/assert.js';
import {
  BATCH_ENTRIES,
  BATCH_PAYLOAD_BYTES,
  type BatchEntry,
  batchHeadBytes,
  encodeBatchHead,
} from '../shared/delta/index.js';
import type { CompressionChoice } from './compression-choice.js';

const HEAD_ROOM_BYTES = batchHeadBytes(BATCH_ENTRIES);

export class Batcher {
  readonly #diskIndex: number;
  readonly #compression: CompressionChoice;
  #entries: BatchEntry[] = [];
  /** The buffer of the batch that is being gathered, and the one of the message before. */
  #buffer: Buffer | undefined;
  #other: Buffer | undefined;
  #payloadBytes = 0;

  constructor(diskIndex: number, compression: CompressionChoice) {
    this.#diskIndex = diskIndex;
    this.#compression = compression;
  }

  /** Adds cells of zeros; returns a full message that had to go first. */
  addZero(cell: number, count: number): Buffer | undefined {
    const last = this.#entries.at(-1);
    if (last?.kind === 'zero' && last.cell + last.count === cell) {
      this.#entries[this.#entries.length - 1] = { ...last, count: last.count + count };
      return undefined;
    }
    const full = this.#entries.length === BATCH_ENTRIES ? this.flush() : undefined;
    this.#entries.push({ kind: 'zero', cell, count });
    return full;
  }

  /** Adds a cell whose bytes the receiver has in an unfinished cycle. */
  addReuse(cell: number, hash: Buffer): Buffer | undefined {
    const full = this.#entries.length === BATCH_ENTRIES ? this.flush() : undefined;
    this.#entries.push({ kind: 'reuse', cell, hash });
    return full;
  }

  /** Adds a cell of data; `bytes` is the caller's again on return. */
  addData(cell: number, hash: Buffer, bytes: Buffer): Buffer | undefined {
    const isFull =
      this.#entries.length === BATCH_ENTRIES ||
      this.#payloadBytes + bytes.length > BATCH_PAYLOAD_BYTES;
    const full = isFull ? this.flush() : undefined;
    this.#buffer ??= Buffer.allocUnsafeSlow(HEAD_ROOM_BYTES + BATCH_PAYLOAD_BYTES);
    bytes.copy(this.#buffer, HEAD_ROOM_BYTES + this.#payloadBytes);
    this.#payloadBytes += bytes.length;
    this.#entries.push({ kind: 'data', cell, hash });
    return full;
  }

  /** What has been gathered as a message of its own; undefined when that is nothing. */
  flush(): Buffer | undefined {
    const entries = this.#entries;
    const payloadBytes = this.#payloadBytes;
    if (entries.length === 0) return undefined;
    this.#entries = [];
    this.#payloadBytes = 0;
    const headBytes = batchHeadBytes(entries.length);
    const buffer = this.#buffer;
    if (buffer === undefined || payloadBytes === 0) {
      assert(payloadBytes === 0, 'bytes stand in a buffer');
      const out = Buffer.alloc(headBytes);
      encodeBatchHead(out, this.#diskIndex, entries, 0);
      return out;
    }
    const payload = buffer.subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + payloadBytes);
    const packed = this.#compression.tryCompress(payload);
    if (packed !== undefined) {
      const out = Buffer.allocUnsafeSlow(headBytes + packed.length);
      encodeBatchHead(out, this.#diskIndex, entries, payloadBytes, packed.length, true);
      packed.copy(out, headBytes);
      return out;
    }
    const out = buffer.subarray(HEAD_ROOM_BYTES - headBytes, HEAD_ROOM_BYTES + payloadBytes);
    encodeBatchHead(out, this.#diskIndex, entries, payloadBytes);
    this.#buffer = this.#other;
    this.#other = buffer;
    return out;
  }
}
