// Plays the plugin that talks to a backend: frames, asks, takes items and streams restores as Bacula's
// metaplugin does, and can misbehave in every way that a test wants. Knows the protocol by itself and
// shares no code with the product.

import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

export interface PeerPacket {
  readonly letter: string;
  readonly payload: Buffer;
}

/** How bytes to the backend are cut: as written, one by one, or at random places. */
export type Chunking = 'whole' | 'bytes' | { readonly random: () => number };

export interface TakenFile {
  readonly is: 'file';
  readonly name: string;
  /** Type letter and size of STAT. */
  readonly type: string;
  readonly size: number;
  readonly hasData: boolean;
  /** An E ended the data. */
  readonly isCutShort: boolean;
  readonly content: Buffer;
  readonly bytes: number;
}

export interface TakenObject {
  readonly is: 'restore object' | 'plugin object';
  readonly name: string;
  readonly lines: readonly string[];
  readonly content: Buffer;
}

export interface PeerOptions {
  readonly toBackend: Writable;
  readonly fromBackend: Readable;
  readonly chunking?: Chunking;
  /** Content of files is counted and not kept. */
  readonly forgetsContent?: boolean;
}

const MESSAGES = 'IWQSNRPOV';

export class PtcommPeer {
  /** What the backend said for the job's log, in order: `W text`. */
  readonly messages: string[] = [];
  /** Letters of all packets of the backend. */
  letters = '';
  readonly #options: PeerOptions;
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  #isEnded = false;

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#source = options.fromBackend[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    options.toBackend.on('error', () => undefined);
  }

  async raw(bytes: Buffer | string): Promise<void> {
    const { toBackend, chunking = 'whole' } = this.#options;
    const all = typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : bytes;
    let at = 0;
    while (at < all.length) {
      const size =
        chunking === 'whole'
          ? all.length
          : chunking === 'bytes'
            ? 1
            : 1 + Math.floor(chunking.random() * 20);
      const piece = all.subarray(at, at + size);
      if (!toBackend.write(piece)) await once(toBackend, 'drain');
      at += piece.length;
      // lets the backend see the pieces one by one
      if (chunking !== 'whole') await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async send(letter: string, payload: Buffer | string = ''): Promise<void> {
    const bytes = typeof payload === 'string' ? Buffer.from(payload, 'utf8') : payload;
    const header = Buffer.from(`${letter}${String(bytes.length).padStart(6, '0')}\n`);
    await this.raw(Buffer.concat([header, bytes]));
  }

  command(text: string): Promise<void> {
    return this.send('C', `${text}\n`);
  }

  /** The next packet that is no message; undefined: the backend has closed its stdout. */
  async read(): Promise<PeerPacket | undefined> {
    for (;;) {
      const header = await this.#take(8);
      if (header === undefined) return undefined;
      const match = /^([A-Z])(\d{6})\n$/.exec(header.toString('latin1'));
      if (match === null) throw new Error(`the backend wrote ${JSON.stringify(header.toString())}`);
      const [, letter = '', length = ''] = match;
      const payload = (await this.#take(Number(length))) ?? Buffer.alloc(0);
      if (payload.length !== Number(length)) throw new Error('the backend ended inside a packet');
      this.letters += letter;
      if ('CD'.includes(letter) && payload.length === 0) throw new Error(`an empty ${letter}`);
      if (!MESSAGES.includes(letter)) return { letter, payload };
      this.messages.push(`${letter} ${payload.toString('utf8').trimEnd()}`);
    }
  }

  /** The text of the next packet, which must have this letter. */
  async expect(letter: string): Promise<string> {
    const packet = await this.read();
    const text = packet?.payload.toString('utf8').trimEnd();
    if (packet?.letter !== letter) {
      throw new Error(
        `${letter} was expected, and it was ${packet?.letter ?? 'the end'}: ${text ?? ''}`,
      );
    }
    return text ?? '';
  }

  async block(title: string, lines: readonly string[]): Promise<void> {
    await this.command(title);
    for (const line of lines) await this.command(line);
    await this.send('F');
  }

  async hello(plugin = 'podheitor-hyperv', api = '3'): Promise<void> {
    await this.command(`Hello ${plugin} ${api}`);
    const answer = await this.expect('C');
    if (answer !== 'Hello Bacula') throw new Error(`the backend said ${answer}`);
  }

  /** Greeting, job and parameters; each acknowledged. */
  async begin(job: readonly string[], parameters: readonly string[], api = '3'): Promise<void> {
    await this.hello('podheitor-hyperv', api);
    await this.block('Job', job);
    await this.expect('F');
    await this.block('Params', parameters);
    await this.expect('F');
  }

  async start(word: string): Promise<void> {
    await this.command(word);
    await this.expect('F');
  }

  /** Takes items until the lone F; fails where the metaplugin would. */
  async takeItems(): Promise<(TakenFile | TakenObject)[]> {
    const items: (TakenFile | TakenObject)[] = [];
    for (;;) {
      const item = await this.takeItem();
      if (item === undefined) return items;
      items.push(item);
    }
  }

  async takeItem(): Promise<TakenFile | TakenObject | undefined> {
    const packet = await this.read();
    if (packet?.letter === 'F') return undefined;
    const line = packet?.payload.toString('utf8').trimEnd() ?? 'the end';
    if (packet?.letter !== 'C') throw new Error(`${packet?.letter ?? ''} ${line} at an item`);
    if (line.startsWith('FNAME:')) return this.#takeFile(line.slice(6));
    if (line.startsWith('RESTOREOBJ:')) return this.#takeObject('restore object', line.slice(11));
    if (line.startsWith('PLUGINOBJ:')) return this.#takeObject('plugin object', line.slice(10));
    throw new Error(`${line} is no item`);
  }

  /** Attribute blocks of an estimate or a listing: name, type, size. */
  async takeList(): Promise<{ name: string; type: string; size: number }[]> {
    const found: { name: string; type: string; size: number }[] = [];
    for (;;) {
      const packet = await this.read();
      if (packet?.letter === 'F') return found;
      const line = packet?.payload.toString('utf8').trimEnd() ?? 'the end';
      if (packet?.letter !== 'C' || !line.startsWith('FNAME:'))
        throw new Error(`${line} in a list`);
      found.push({ name: line.slice(6), ...(await this.#attributes()) });
    }
  }

  /** Announces a file of a restore; the answer: `C OK`, `C SKIP`, `C CORE`, `E …`. */
  async announce(name: string, type = 'F', size = 1): Promise<string> {
    await this.command(`FNAME:${name}`);
    await this.command(`STAT:${type} ${size} 0 0 ${type === 'D' ? '40755' : '100600'} 1 0`);
    await this.command('TSTAMP:1795444060 1795444060 1795444060');
    await this.send('F');
    return this.answer();
  }

  async data(pieces: readonly Buffer[]): Promise<string> {
    await this.command('DATA');
    for (const piece of pieces) await this.send('D', piece);
    await this.send('F');
    return this.answer();
  }

  async answer(): Promise<string> {
    const packet = await this.read();
    return packet === undefined
      ? 'the end'
      : `${packet.letter} ${packet.payload.toString('utf8').trimEnd()}`.trimEnd();
  }

  /** END, its F, T. */
  async end(): Promise<void> {
    await this.command('END');
    await this.expect('F');
    await this.send('T');
  }

  /** Closes the pipe to the backend. */
  close(): void {
    this.#options.toBackend.end();
  }

  /** Reads until the backend closes its stdout. */
  async untilEnd(): Promise<void> {
    while ((await this.read()) !== undefined) {
      // counted in `letters`
    }
  }

  async #attributes(): Promise<{ type: string; size: number }> {
    let type = '';
    let size = 0;
    for (;;) {
      const packet = await this.read();
      if (packet?.letter === 'F') break;
      const line = packet?.payload.toString('utf8').trimEnd() ?? 'the end';
      const stat = /^STAT:([FED]) (\d+) 0 0 (100600|40755) 1$/.exec(line);
      if (stat !== null) [, type, size] = ['', stat[1] ?? '', Number(stat[2])];
      else if (!/^TSTAMP:\d+ \d+ \d+$/.test(line)) throw new Error(`${line} in attributes`);
    }
    if (type === '') throw new Error('attributes without STAT');
    return { type, size };
  }

  async #takeFile(name: string): Promise<TakenFile> {
    const attributes = await this.#attributes();
    const parts: Buffer[] = [];
    let bytes = 0;
    const file = (hasData: boolean, isCutShort: boolean): TakenFile => ({
      is: 'file',
      name,
      ...attributes,
      hasData,
      isCutShort,
      content: Buffer.concat(parts),
      bytes,
    });
    const first = await this.read();
    if (first?.letter === 'F') return file(false, false);
    if (first?.letter !== 'C' || first.payload.toString('utf8').trimEnd() !== 'DATA') {
      throw new Error(`${first?.letter ?? 'the end'} where DATA was expected`);
    }
    for (;;) {
      const packet = await this.read();
      if (packet?.letter === 'F') return file(true, false);
      if (packet?.letter === 'E') return file(true, true);
      if (packet?.letter !== 'D') throw new Error(`${packet?.letter ?? 'the end'} among data`);
      bytes += packet.payload.length;
      if (this.#options.forgetsContent !== true) parts.push(packet.payload);
    }
  }

  async #takeObject(is: TakenObject['is'], name: string): Promise<TakenObject> {
    const lines: string[] = [];
    const parts: Buffer[] = [];
    for (;;) {
      const packet = await this.read();
      if (packet?.letter === 'F') break;
      if (packet?.letter === 'D' && is === 'restore object') parts.push(packet.payload);
      else if (packet?.letter === 'C') lines.push(packet.payload.toString('utf8').trimEnd());
      else throw new Error(`${packet?.letter ?? 'the end'} in a ${is}`);
    }
    return { is, name, lines, content: Buffer.concat(parts) };
  }

  async #take(length: number): Promise<Buffer | undefined> {
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < length && !this.#isEnded) {
      const { value, done } = (await this.#source.next()) as IteratorResult<Buffer, undefined>;
      if (done === true) {
        this.#isEnded = true;
      } else {
        parts.push(value);
        have += value.length;
      }
    }
    const all = Buffer.concat(parts, have);
    this.#rest = all.subarray(length);
    if (have === 0 && length > 0) return undefined;
    return all.subarray(0, length);
  }
}

/** Lines of a Job block as 15.0 sends them. */
export function jobLines(type: 'B' | 'R' | 'E', ...more: readonly string[]): string[] {
  return [
    'Name=hv.2026-11-23_14.27.37_04',
    'JobID=1',
    `Type=${type}`,
    ...more,
    'Namespace=@hyperv',
    'WorkingDir=/var/lib/bacula',
    'Unheard=of',
  ];
}
