// The packets of the plugin protocol: a letter, six decimal digits, a newline, and so many bytes of
// payload (ptcomm.md § 2). The reader takes any chunking and runs ahead by a bounded amount, so that
// the end of the stream is noticed while nobody waits for a packet; the writer waits for the pipe.

import { defined } from '../../shared/assert.js';
import { DrError } from '../../shared/errors.js';

export const HEADER_BYTES = 8;
export const PAYLOAD_MAX = 999_999;
/** The reader stops taking more when so much waits for its user. */
const READ_AHEAD = 2 * (PAYLOAD_MAX + HEADER_BYTES);

/** Below this a copy costs less than a second call of the system. */
const JOINED_BYTES = 16 * 1024;

/** What Bacula may send; anything else is no protocol of ours. */
export type InLetter = 'C' | 'D' | 'F' | 'T' | 'E';
/** Messages: they may stand between any two packets and change nothing. */
export type MessageLetter = 'I' | 'W' | 'Q' | 'S' | 'N' | 'R' | 'P';
export type OutLetter = 'C' | 'D' | 'F' | 'E' | 'A' | MessageLetter;

export interface Packet {
  readonly letter: InLetter;
  /** Valid until the next packet is read. */
  readonly payload: Buffer;
}

function violation(message: string): DrError {
  return new DrError('E_PROTOCOL', `the plugin's packets: ${message}`);
}

function isInLetter(letter: string): letter is InLetter {
  return letter.length === 1 && 'CDFTE'.includes(letter);
}

interface Header {
  readonly letter: InLetter;
  readonly length: number;
}

/** @throws DrError E_PROTOCOL */
export function parseHeader(header: Buffer): Header {
  const text = header.toString('latin1');
  const match = /^(.)(\d{6})\n$/.exec(text);
  const letter = match?.[1];
  if (header.length !== HEADER_BYTES || match === null || letter === undefined) {
    throw violation(`${JSON.stringify(text)} is no header`);
  }
  if (!isInLetter(letter)) throw violation(`the letter ${JSON.stringify(letter)} is not known`);
  const length = Number(match[2]);
  if (length > 0 && (letter === 'F' || letter === 'T')) {
    throw violation(`${letter} has ${length} bytes of payload`);
  }
  return { letter, length };
}

export function encodeHeader(letter: OutLetter | InLetter, length: number): Buffer {
  return Buffer.from(`${letter}${length.toString().padStart(6, '0')}\n`, 'latin1');
}

/** Reads packets off a stream of chunks; one reader for a stream. */
export class PacketReader {
  /** Resolves when the stream has ended or failed, also while nobody reads. */
  readonly ended: Promise<void>;
  readonly #chunks: Buffer[] = [];
  /** Bytes of the first chunk that were taken. */
  #cutOfFirst = 0;
  #copies = Buffer.alloc(0);
  #buffered = 0;
  readonly #release: (chunk: Buffer) => void;
  #isEnded = false;
  #wakeReader: (() => void) | undefined;
  #wakePump: (() => void) | undefined;

  /** `release` is told each chunk that nobody uses any more. */
  constructor(source: AsyncIterable<Uint8Array>, release?: (chunk: Buffer) => void) {
    this.#release = release ?? (() => undefined);
    this.ended = this.#pump(source);
  }

  /** The next packet; undefined at the end of the stream. @throws DrError E_PROTOCOL */
  async read(): Promise<Packet | undefined> {
    if (!(await this.#has(HEADER_BYTES, true))) return undefined;
    const { letter, length } = parseHeader(this.#take(HEADER_BYTES));
    await this.#has(length, false);
    return { letter, payload: this.#take(length) };
  }

  async #pump(source: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const chunk of source) {
        if (chunk.length === 0) continue;
        this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
        this.#buffered += chunk.length;
        this.#wakeReader?.();
        while (this.#buffered >= READ_AHEAD) {
          await new Promise<void>((resolve) => {
            this.#wakePump = resolve;
          });
        }
      }
    } catch {
      // a pipe that fails has ended: there is nobody left to tell
    }
    this.#isEnded = true;
    this.#wakeReader?.();
  }

  /** Whether so many bytes are here; false at the end of the stream between two packets. */
  async #has(length: number, mayEnd: boolean): Promise<boolean> {
    while (this.#buffered < length && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
    if (this.#buffered >= length) return true;
    if (mayEnd && this.#buffered === 0) return false;
    throw violation('the stream ends inside a packet');
  }

  /** So many bytes, valid until the next ones are taken: where they lie in one chunk, else copied together. */
  #take(length: number): Buffer {
    this.#giveBack();
    const first = this.#chunks[0];
    const isInOne = first !== undefined && first.length - this.#cutOfFirst >= length;
    const taken = isInOne
      ? first.subarray(this.#cutOfFirst, this.#cutOfFirst + length)
      : this.#copied(length);
    if (isInOne) this.#cutOfFirst += length;
    this.#buffered -= length;
    this.#wakePump?.();
    return taken;
  }

  #copied(length: number): Buffer {
    if (this.#copies.length < length) this.#copies = Buffer.allocUnsafeSlow(length);
    const taken = this.#copies.subarray(0, length);
    for (let at = 0; at < length;) {
      const copied = defined(this.#chunks[0], 'so much is buffered').copy(
        taken,
        at,
        this.#cutOfFirst,
      );
      at += copied;
      this.#cutOfFirst += copied;
      this.#giveBack();
    }
    return taken;
  }

  /** The chunks that were taken whole. */
  #giveBack(): void {
    const first = this.#chunks[0];
    if (first === undefined || this.#cutOfFirst < first.length) return;
    this.#chunks.shift();
    this.#cutOfFirst = 0;
    this.#release(first);
  }
}

/** What bytes are written to; a stream of Node is one. */
export interface ByteDestination {
  write(bytes: Uint8Array, done: (error?: Error | null) => void): unknown;
  /** Between the two, writes are held back to go out in one call of the system. */
  cork?(): void;
  uncork?(): void;
}

/** Writes packets, one after the other; each write resolves when the pipe has taken it. */
export class PacketWriter {
  readonly #destination: ByteDestination;
  #last: Promise<void> = Promise.resolve();
  #failure: DrError | undefined;

  constructor(destination: ByteDestination) {
    this.#destination = destination;
  }

  /**
   * A payload above the longest is cut into several packets; C and D without one are never sent.
   * @throws DrError E_CHANNEL when the reader has gone
   */
  async packet(letter: OutLetter, ...payload: readonly Buffer[]): Promise<void> {
    const length = payload.reduce((sum, part) => sum + part.length, 0);
    if (length === 0 && letter !== 'F') {
      if (letter === 'D') return;
      throw violation(`${letter} without a payload is not sent`);
    }
    if (length > 0 && letter === 'F') throw violation('F has no payload');
    for (const parts of cutAt(PAYLOAD_MAX, payload)) {
      const partsBytes = parts.reduce((sum, part) => sum + part.length, 0);
      await this.#write([encodeHeader(letter, partsBytes), ...parts]);
    }
  }

  /** A line of text; the newline is added. */
  async line(letter: OutLetter, text: string): Promise<void> {
    await this.packet(letter, Buffer.from(`${text}\n`, 'utf8'));
  }

  #write(parts: readonly Buffer[]): Promise<void> {
    const written = this.#last.then(() => this.#writeNow(parts));
    this.#last = written.catch(() => undefined);
    return written;
  }

  #writeNow(parts: readonly Buffer[]): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const pieces = joined(parts);
    return new Promise((resolve, reject) => {
      this.#destination.cork?.();
      for (const [index, bytes] of pieces.entries()) {
        this.#destination.write(bytes, (error) => {
          if (error !== undefined && error !== null) {
            this.#failure ??= new DrError('E_CHANNEL', 'Bacula no longer reads', { cause: error });
            reject(this.#failure);
          } else if (index === pieces.length - 1) {
            resolve();
          }
        });
      }
      this.#destination.uncork?.();
    });
  }
}

/** Small packets in one piece; of large ones the payload is not copied. */
function joined(parts: readonly Buffer[]): readonly Buffer[] {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  return bytes < JOINED_BYTES ? [Buffer.concat(parts, bytes)] : parts;
}

/** The same bytes in lists of at most `limit` bytes; one empty list when there are none. */
function* cutAt(limit: number, parts: readonly Buffer[]): Generator<readonly Buffer[]> {
  let list: Buffer[] = [];
  let room = limit;
  for (const part of parts) {
    let rest = part;
    while (rest.length > room) {
      yield [...list, rest.subarray(0, room)];
      rest = rest.subarray(room);
      list = [];
      room = limit;
    }
    list.push(rest);
    room -= rest.length;
  }
  if (list.length > 0 || parts.length === 0) yield list;
}
