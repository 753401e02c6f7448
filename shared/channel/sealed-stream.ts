// The two directions of a call on top of its HTTP/2 stream: typed values are the business of
// client-call.ts and server-call.ts; here are sealed messages between OPEN and FINAL.
//
// Memory: what goes out is sealed before send() returns for the first time, so its buffer may be
// used again as soon as the caller has awaited it. What comes in lies in memory of its own, which
// nobody else has.

import type { Http2Stream } from 'node:http2';
import { encodeFinal, type Final, parseFinal } from './final.js';
import { MessageReader, MessageWriter, transportFailed } from './grpc-wire.js';
import { MESSAGE_BYTES_MAX, RECORD_OVERHEAD_MAX } from './limits.js';
import { releaseMemory } from '../bytes/index.js';
import {
  type RecordOpener,
  type RecordSealer,
  type RecordKind,
  UnopenedRecord,
} from './records.js';

const OPEN_BYTES = 5;
const FLAG_BULK_DOWN = 1;
const RECORD_BYTES_MAX = MESSAGE_BYTES_MAX + RECORD_OVERHEAD_MAX;
/** Which direction of a connection carries bulk: to the receiver or from it. */
export type Bulk = 'up' | 'down';

export interface Opening {
  /** After how long the receiver ends the call; undefined: never. */
  readonly deadlineMs: number | undefined;
  /** What the connection is for; the connection's first record decides. */
  readonly bulk: Bulk;
}

/** The longest deadline that OPEN can say. */
const DEADLINE_MAX_MS = 0xffffffff;

export class SealedSender {
  readonly #writer: MessageWriter;
  readonly #sealer: RecordSealer;

  constructor(stream: Http2Stream, sealer: RecordSealer) {
    this.#writer = new MessageWriter(stream);
    this.#sealer = sealer;
  }

  /** The initiator's first record. */
  open({ deadlineMs, bulk }: Opening): Promise<void> {
    const bytes = Buffer.alloc(OPEN_BYTES);
    bytes.writeUInt32BE(Math.min(DEADLINE_MAX_MS, Math.max(0, Math.ceil(deadlineMs ?? 0))));
    bytes.writeUInt8(bulk === 'down' ? FLAG_BULK_DOWN : 0, 4);
    return this.#send('open', bytes);
  }

  /** @throws DrError E_CHANNEL, E_LIMIT */
  message(bytes: Uint8Array): Promise<void> {
    return this.#send('message', bytes);
  }

  /** `error` undefined: all went well. Nothing may follow. */
  final(error: unknown): Promise<void> {
    return this.#send('final', encodeFinal(this.#sealer.recordCount, error));
  }

  fail(error: Error): void {
    this.#writer.fail(error);
  }

  /** Nothing is sent any more. */
  wipe(): void {
    this.#sealer.wipe();
  }

  async #send(kind: RecordKind, plaintext: Uint8Array): Promise<void> {
    const { head, ciphertext, tag } = this.#sealer.seal(kind, plaintext);
    await this.#writer.write([head, ciphertext, tag], () => {
      releaseMemory(ciphertext);
    });
  }
}

export type Received =
  | { readonly kind: 'message'; readonly bytes: Buffer }
  | { readonly kind: 'final'; readonly final: Final };

export class SealedReceiver {
  readonly #reader: MessageReader;
  readonly #opener: RecordOpener;

  constructor(stream: Http2Stream, opener: RecordOpener) {
    this.#reader = new MessageReader(stream, RECORD_BYTES_MAX);
    this.#opener = opener;
  }

  /**
   * The first record of an initiator.
   * @throws DrError E_REPLAY, E_CHANNEL
   */
  async opening(): Promise<Opening> {
    // nobody has proved anything yet
    this.#reader.setLimit(OPEN_BYTES + RECORD_OVERHEAD_MAX);
    const record = await this.#record();
    this.#reader.setLimit(RECORD_BYTES_MAX);
    const { kind, plaintext } = this.#opener.open(record);
    if (kind !== 'open' || plaintext.length !== OPEN_BYTES) throw new UnopenedRecord();
    const deadlineMs = plaintext.readUInt32BE(0);
    // flags that this release does not know are a later one's to define
    const isDown = (plaintext.readUInt8(4) & FLAG_BULK_DOWN) !== 0;
    return {
      deadlineMs: deadlineMs === 0 ? undefined : deadlineMs,
      bulk: isDown ? 'down' : 'up',
    };
  }

  /**
   * The next message, or FINAL, after which nothing is to be read.
   * @throws DrError E_REPLAY (ends the session), E_CHANNEL (also: the stream ended without FINAL)
   */
  async next(): Promise<Received> {
    const record = await this.#record();
    const recordCount = this.#opener.recordCount;
    const { kind, plaintext } = this.#opener.open(record);
    if (kind === 'message') return { kind, bytes: plaintext };
    if (kind !== 'final') throw new UnopenedRecord();
    const final = parseFinal(plaintext);
    if (final?.recordCount !== recordCount) throw new UnopenedRecord();
    return { kind, final };
  }

  /** All later calls throw `error`. */
  fail(error: Error): void {
    this.#reader.fail(error);
  }

  /** Nothing is read any more. */
  wipe(): void {
    this.#reader.fail(transportFailed('the call is over'));
    this.#opener.wipe();
  }

  async #record(): Promise<Buffer> {
    const record = await this.#reader.next();
    if (record === undefined) throw transportFailed('the call ended without its sealed end');
    return record;
  }
}
