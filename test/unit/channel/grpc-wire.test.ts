// gRPC's frames on an HTTP/2 stream, fed whole, in pieces and byte by byte, and their bounds.

import { Duplex } from 'node:stream';
import type { Http2Stream } from 'node:http2';
import { expect } from 'chai';
import fc from 'fast-check';
import { MessageReader, MessageWriter } from '../../../shared/channel/grpc-wire.js';
import { framed } from '../../support/raw-peer.js';
import { refusal } from '../../support/refusal.js';

/** A stream that gives these chunks and keeps what is written. */
class PieceStream extends Duplex {
  readonly written: Buffer[] = [];
  readonly #pieces: Buffer[];
  readonly #hold: boolean;
  readonly #held: (() => void)[] = [];

  constructor(pieces: readonly Buffer[] = [], hold = false) {
    super();
    this.#pieces = [...pieces];
    this.#hold = hold;
  }

  override _read(): void {
    this.push(this.#pieces.shift() ?? null);
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.written.push(chunk);
    if (this.#hold) this.#held.push(done);
    else done();
  }

  release(): void {
    this.#held.shift()?.();
  }

  /** As the wire classes see it: they use what every stream has. */
  get http2(): Http2Stream {
    return this as unknown as Http2Stream;
  }
}

function cut(bytes: Buffer, lengths: readonly number[]): Buffer[] {
  const out: Buffer[] = [];
  let position = 0;
  for (const length of lengths) {
    if (position >= bytes.length) break;
    out.push(bytes.subarray(position, position + length));
    position += length;
  }
  if (position < bytes.length) out.push(bytes.subarray(position));
  return out;
}

async function readAll(reader: MessageReader): Promise<Buffer[]> {
  const out: Buffer[] = [];
  for (;;) {
    const message = await reader.next();
    if (message === undefined) return out;
    out.push(Buffer.from(message));
  }
}

describe('channel: frames', () => {
  it('give the same messages however the bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 100 }),
        async (messages, lengths) => {
          const bytes = Buffer.concat(messages.map((message) => framed(message)));
          const single = Array.from({ length: bytes.length }, () => 1);
          for (const pieces of [[bytes], cut(bytes, lengths), cut(bytes, single)]) {
            const stream = new PieceStream(pieces.filter((piece) => piece.length > 0));
            const read = await readAll(new MessageReader(stream.http2, 300));
            expect(read.map((message) => message.toString('hex'))).to.deep.equal(
              messages.map((message) => Buffer.from(message).toString('hex')),
            );
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('end in an error when they end inside a message', async () => {
    const bytes = framed(Buffer.alloc(20, 1));
    for (let length = 1; length < bytes.length; length++) {
      const reader = new MessageReader(new PieceStream([bytes.subarray(0, length)]).http2, 100);
      expect((await refusal(() => reader.next())).code).to.equal('E_CHANNEL');
    }
  });

  it('are refused by their prefix: too long, or compressed', async () => {
    const long = new MessageReader(new PieceStream([framed(Buffer.alloc(0), 0, 101)]).http2, 100);
    expect((await refusal(() => long.next())).code).to.equal('E_LIMIT');
    for (const flag of [1, 2, 255]) {
      const reader = new MessageReader(new PieceStream([framed(Buffer.alloc(1), flag)]).http2, 9);
      expect((await refusal(() => reader.next())).code).to.equal('E_PROTOCOL');
    }
  });

  it('are written as they are read, from any parts', async () => {
    const stream = new PieceStream();
    const writer = new MessageWriter(stream.http2);
    await writer.write([Buffer.from('ab'), Buffer.alloc(0), Buffer.from('cd')]);
    await writer.write([]);
    await writer.write([Buffer.from('e')]);
    const back = new PieceStream([Buffer.concat(stream.written)]);
    const read = await readAll(new MessageReader(back.http2, 10));
    expect(read.map(String)).to.deep.equal(['abcd', '', 'e']);
  });

  it('hold a writer back when 4 MiB wait, and give memory back when it is written', async () => {
    const stream = new PieceStream([], true);
    const writer = new MessageWriter(stream.http2);
    let released = 0;
    let written = 0;
    const writing = (async () => {
      for (let i = 0; i < 8; i++) {
        await writer.write([Buffer.alloc(1 << 20)], () => released++);
        written++;
      }
    })();
    const settle = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    };
    await settle();
    expect({ written, released }).to.deep.equal({ written: 4, released: 0 });
    for (let i = 0; i < 16; i++) {
      stream.release();
      await settle();
    }
    await writing;
    expect(released).to.equal(8);
  });

  it('wake a writer that is held back when the stream breaks', async () => {
    const stream = new PieceStream([], true);
    const writer = new MessageWriter(stream.http2);
    const failing = refusal(async () => {
      for (;;) await writer.write([Buffer.alloc(1 << 20)]);
    });
    await new Promise((resolve) => setImmediate(resolve));
    stream.destroy();
    expect((await failing).code).to.equal('E_CHANNEL');
  });
});
