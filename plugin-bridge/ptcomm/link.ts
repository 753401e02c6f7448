// One conversation with the plugin: packets in, packets out, messages in between, the sign of life,
// and the one way in which it is ended from outside (ptcomm.md § 10-12). Strictly sequential: one
// party at a time reads and one writes, except for messages, which may stand between any packets.

import { assert } from '../../shared/assert.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import {
  type ByteDestination,
  type OutLetter,
  type Packet,
  PacketReader,
  PacketWriter,
} from './packet.js';

/** The plugin waits an hour for a packet; silence is broken much earlier. */
const KEEP_ALIVE_MS = 4 * 60_000;
/** Longer lines are no command of the plugin. */
const LINE_MAX = 64 * 1024;
/** The core cuts messages near 2000 bytes. */
const MESSAGE_MAX = 1500;
/** While the plugin does not read, messages wait in memory; this many, the rest is counted. */
const MESSAGES_WAITING = 200;
/** Errors make the colour of a job: they have room that nothing else takes. */
const ERRORS_WAITING = 2 * MESSAGES_WAITING;

export type MessageKind = 'info' | 'warning' | 'error';

const MESSAGE_LETTERS = { info: 'I', warning: 'W', error: 'Q' } as const;

export interface LinkOptions {
  readonly input: AsyncIterable<Uint8Array>;
  /** Told each chunk of the input that nobody uses any more. */
  readonly release?: (chunk: Buffer) => void;
  readonly output: ByteDestination;
  readonly clock: Clock;
  /** Cancel by the file daemon. */
  readonly cancel: AbortSignal;
  /** Milliseconds of silence after which a sign of life is given. Default: 4 minutes. */
  readonly keepAliveMs?: number;
}

/** Bacula cancelled the job or has gone: there is nobody left to tell anything. */
export class JobGone extends DrError {
  override readonly name = 'JobGone';

  constructor(why: string) {
    super('E_CHANNEL', why);
  }
}

export class PluginLink {
  /** Aborts when the job was cancelled, or the plugin closed the pipe; the reason is a JobGone. */
  readonly signal: AbortSignal;
  /** Resolves when the plugin has closed the pipe, also after close(). */
  readonly inputEnded: Promise<void>;
  readonly #reader: PacketReader;
  readonly #writer: PacketWriter;
  readonly #clock: Clock;
  readonly #keepAliveMs: number;
  readonly #gone = new AbortController();
  /** Who waits for the plugin. */
  readonly #waiters = new Set<(reason: Error) => void>();
  #isClosed = false;
  #spokeAt: number;
  #waiting = 0;
  #lost = 0;

  constructor({ input, release, output, clock, cancel, keepAliveMs }: LinkOptions) {
    this.#clock = clock;
    this.#keepAliveMs = keepAliveMs ?? KEEP_ALIVE_MS;
    this.#spokeAt = clock.monotonic();
    this.signal = this.#gone.signal;
    this.signal.addEventListener('abort', () => {
      for (const giveUp of this.#waiters) giveUp(this.signal.reason as JobGone);
    });
    this.#reader = new PacketReader(input, release);
    this.#writer = new PacketWriter(output);
    this.inputEnded = this.#reader.ended;
    void this.inputEnded.then(() => {
      this.#end('the plugin has closed the pipe');
    });
    const cancelled = (): void => {
      this.#end('the job was cancelled');
    };
    if (cancel.aborted) cancelled();
    else cancel.addEventListener('abort', cancelled, { once: true });
  }

  /**
   * What `work` gives, unless the job goes before. No race with a promise that outlives it: that one would keep
   * every packet of the job.
   */
  #untilGone<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = (reason: Error): void => {
        this.#waiters.delete(giveUp);
        reject(reason);
      };
      if (this.signal.aborted) giveUp(this.signal.reason as JobGone);
      else this.#waiters.add(giveUp);
      work.then((value) => {
        this.#waiters.delete(giveUp);
        resolve(value);
      }, giveUp);
    });
  }

  /** From now on the end of the pipe is what is expected, no cancel. */
  close(): void {
    this.#isClosed = true;
  }

  /** @throws JobGone, DrError E_PROTOCOL */
  async read(): Promise<Packet> {
    const packet = await this.#untilGone(this.#reader.read());
    if (packet === undefined) throw new JobGone('the plugin has closed the pipe');
    this.#spokeAt = this.#clock.monotonic();
    return packet;
  }

  /**
   * The text of the next packet, which must be a C; undefined: it was an F, the end of a block.
   * @throws JobGone, DrError E_PROTOCOL
   */
  async readLine(): Promise<string | undefined> {
    const packet = await this.read();
    if (packet.letter === 'F') return undefined;
    return lineOf(packet);
  }

  /** @throws JobGone */
  async send(letter: OutLetter, ...parts: readonly Buffer[]): Promise<void> {
    this.#spokeAt = this.#clock.monotonic();
    try {
      await this.#untilGone(this.#writer.packet(letter, ...parts));
    } catch (error) {
      if (error instanceof DrError && error.code === 'E_CHANNEL') this.#end(error.message);
      throw error;
    }
    this.#spokeAt = this.#clock.monotonic();
  }

  /** A line without its newline. @throws JobGone, DrError E_INTERNAL when it cannot be carried */
  async sendLine(letter: OutLetter, text: string): Promise<void> {
    assert(text !== '' && !/[\n\r\0]/.test(text), 'a line of the protocol is one line');
    await this.send(letter, Buffer.from(`${text}\n`, 'utf8'));
  }

  /** A message for the job's log. Not waited for: it goes out when the plugin reads. */
  say(kind: MessageKind, text: string): void {
    if (this.#waiting >= (kind === 'error' ? ERRORS_WAITING : MESSAGES_WAITING)) {
      this.#lost++;
      return;
    }
    const lost = this.#lost === 0 ? '' : ` (${this.#lost} messages before it were left out)`;
    this.#lost = 0;
    this.#waiting++;
    void this.sendLine(MESSAGE_LETTERS[kind], messageText(text + lost))
      .catch(() => undefined) // nobody is left to read it
      .finally(() => {
        this.#waiting--;
      });
  }

  /** Does `work` while the plugin waits for us: silence is broken every few minutes. */
  async working<T>(what: string, work: () => Promise<T>): Promise<T> {
    const done = new AbortController();
    void this.#keepAlive(what, done.signal);
    try {
      return await work();
    } finally {
      done.abort();
    }
  }

  async #keepAlive(what: string, signal: AbortSignal): Promise<void> {
    this.#spokeAt = this.#clock.monotonic();
    try {
      while (!signal.aborted && !this.signal.aborted) {
        const silence = this.#clock.monotonic() - this.#spokeAt;
        const left = this.#keepAliveMs - silence;
        if (left > 0) await this.#clock.sleep(left, signal);
        else if (this.#waiting === 0) this.say('info', `${what} is still at work`);
        else this.#spokeAt = this.#clock.monotonic();
      }
    } catch {
      // the work has ended, and with it the need
    }
  }

  #end(why: string): void {
    if (!this.#isClosed && !this.signal.aborted) this.#gone.abort(new JobGone(why));
  }
}

/** The text of a C packet without its newline and trailing blanks. @throws DrError E_PROTOCOL */
export function lineOf({ letter, payload }: Packet): string {
  if (letter !== 'C') {
    throw new DrError('E_PROTOCOL', `the plugin sent ${letter} where a command was expected`);
  }
  if (payload.length > LINE_MAX) {
    throw new DrError('E_PROTOCOL', `the plugin sent a command of ${payload.length} bytes`);
  }

  const text = payload.toString('utf8').replace(/[\0-\x20]+$/, '');

  if (/[\0\n\r]/.test(text)) {
    throw new DrError('E_PROTOCOL', 'the plugin sent a command of several lines');
  }
  return text;
}

/** One line, short enough for the core, that cannot disturb a terminal. */
export function messageText(text: string): string {
  const line = text.replace(/[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+/g, ' ').trim();
  if (line === '') return '-';
  const bytes = Buffer.from(line, 'utf8');
  if (bytes.length <= MESSAGE_MAX) return line;
  const cut = new TextDecoder('utf8').decode(bytes.subarray(0, MESSAGE_MAX), { stream: true });
  return `${cut}…`;
}
