// The loop of a restore: the plugin streams files, the work takes them (ptcomm.md § 8). Each block gets
// exactly one answer, after everything of it was read: the plugin does not look while it sends.

import { DrError } from '../../shared/errors.js';
import type { RestoreEntry, RestoreWork } from '../restore/index.js';
import { type FoundAttributes, parseAttributes, splitPlacedName } from './attributes.js';
import { JobGone, lineOf, messageText, type PluginLink } from './link.js';

/** Lines that describe one file. */
const ATTRIBUTE_LINES_MAX = 16;
/** Bacula keeps restore objects as one value of its catalog. */
const OBJECT_MAX = 16 * 1024 * 1024;

function violation(message: string): DrError {
  return new DrError('E_PROTOCOL', `the plugin ${message}`);
}

/** What breaks the conversation itself; no error of one file. */
class BrokenStream extends Error {
  override readonly name = 'BrokenStream';
}

/** Fits where a file fails: the rest of the job goes on. What is no error of the world is thrown on. */
function fileError(error: unknown): DrError {
  if (error instanceof BrokenStream) throw error.cause;
  if (error instanceof DrError && !(error instanceof JobGone)) return error;
  throw error;
}

/** The data of one block, each piece valid until the next; it is read to its end even when its user stops early. */
class DataStream implements AsyncIterable<Buffer> {
  /** What the plugin or the pipe did wrong. */
  failure: BrokenStream | undefined;
  readonly #link: PluginLink;
  #isEnded = false;

  constructor(link: PluginLink) {
    this.#link = link;
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return { next: () => this.#next() };
  }

  async drain(): Promise<void> {
    while ((await this.#next()).done !== true) {
      // what nobody wants
    }
  }

  async #next(): Promise<IteratorResult<Buffer, undefined>> {
    try {
      while (!this.#isEnded) {
        const packet = await this.#link.read();
        if (packet.letter === 'F') this.#isEnded = true;
        else if (packet.letter !== 'D') throw violation(`sent ${packet.letter} among data`);
        else if (packet.payload.length > 0) return { value: packet.payload, done: false };
      }
      return { value: undefined, done: true };
    } catch (error) {
      this.#isEnded = true;
      this.failure = new BrokenStream('the stream of the plugin broke', { cause: error });
      throw this.failure;
    }
  }
}

/** What became of the file that was announced last. */
type OpenFile =
  /** None, or the work does not want its bytes. */
  | { readonly is: 'closed' }
  | { readonly is: 'taken'; readonly path: string; hasFailed: boolean; hasData: boolean };

export class RestoreLoop {
  readonly #link: PluginLink;
  readonly #work: RestoreWork;
  readonly #where: string;
  #open: OpenFile = { is: 'closed' };

  constructor(link: PluginLink, work: RestoreWork, where: string) {
    this.#link = link;
    this.#work = work;
    this.#where = where;
  }

  /**
   * Until FINISH, whose work is done and whose answer is left to the caller.
   * @throws DrError of finish(), E_PROTOCOL, JobGone; the work is abandoned then
   */
  async run(): Promise<void> {
    try {
      while (await this.#step()) {
        // each step handles one command of the plugin
      }
      await this.#link.working('the end of the restore', async () => {
        await this.#closeFile();
        await this.#work.finish();
      });
    } catch (error) {
      await this.#work.abandon();
      throw error instanceof BrokenStream ? error.cause : error;
    }
  }

  /** False: FINISH was said. */
  async #step(): Promise<boolean> {
    const line = lineOf(await this.#link.read());
    if (line.startsWith('FNAME:')) await this.#file(line.slice('FNAME:'.length));
    else if (line.startsWith('RESTOREOBJ:')) await this.#object(line.slice('RESTOREOBJ:'.length));
    else if (line === 'DATA') await this.#data();
    else if (line === 'FINISH') return false;
    else if (['ACL', 'XATTR', 'METADATA_STREAM'].includes(line)) await this.#passOver();
    else throw violation(`sent ${JSON.stringify(line.slice(0, 32))} in a restore`);
    return true;
  }

  async #file(name: string): Promise<void> {
    const lines: string[] = [];
    for (;;) {
      const line = await this.#link.readLine();
      if (line === undefined) break;
      if (lines.length >= ATTRIBUTE_LINES_MAX) throw violation('describes a file without end');
      lines.push(line);
    }
    const attributes = parseAttributes(name, lines);
    await this.#answer(async () => {
      await this.#closeFile();
      return this.#begin(attributes);
    });
  }

  async #begin(attributes: FoundAttributes): Promise<'OK' | 'SKIP' | 'CORE'> {
    const { name } = attributes;
    const placed = splitPlacedName(name, this.#where);
    if (placed === undefined || attributes.isForeign) {
      throw new DrError('E_PARAMETER', `${JSON.stringify(name)} is no file of this plugin`, {
        hint: 'Bacula changed its name (RegexWhere, strip prefix), or another plugin made it: select it without.',
      });
    }
    const entry: RestoreEntry = {
      ...placed,
      placedAt: name,
      kind: attributes.kind,
      sizeBytes: attributes.sizeBytes,
      modifiedAtMs: attributes.modifiedAtMs,
    };
    const answer = await this.#work.begin(entry);
    if (answer === 'skip') return 'SKIP';
    if (answer === 'core') return 'CORE';
    this.#open = { is: 'taken', path: placed.path, hasFailed: false, hasData: false };
    return 'OK';
  }

  async #data(): Promise<void> {
    const open = this.#open;
    if (open.is !== 'taken' || open.hasData) throw violation('sent data of no file');
    open.hasData = true;
    const stream = new DataStream(this.#link);
    await this.#answer(async () => {
      try {
        await this.#work.data(stream);
      } catch (error) {
        open.hasFailed = true;
        // what broke the stream itself ends the job, whatever the work made of it
        if (stream.failure !== undefined) throw stream.failure;
        await stream.drain();
        throw error;
      }
      await stream.drain();
      if (stream.failure !== undefined) throw stream.failure;
      return 'OK';
    });
  }

  async #object(name: string): Promise<void> {
    const parts: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const packet = await this.#link.read();
      if (packet.letter === 'F') break;
      if (packet.letter === 'C') {
        if (/^RESTOREOBJ_LEN:\d{1,15}$/.test(lineOf(packet))) continue;
        throw violation('sent a command inside a restore object');
      }
      if (packet.letter !== 'D') throw violation(`sent ${packet.letter} inside a restore object`);
      bytes += packet.payload.length;
      // what is too long is read to its end all the same, and not kept
      if (bytes <= OBJECT_MAX) parts.push(Buffer.from(packet.payload));
    }
    await this.#answer(async () => {
      if (bytes > OBJECT_MAX) {
        throw new DrError('E_LIMIT', `the restore object has ${bytes} bytes`, {
          hint: `At most ${OBJECT_MAX} are taken.`,
        });
      }
      await this.#work.object(name, Buffer.concat(parts, bytes));
      return 'OK';
    });
  }

  /** ACLs and the like mean nothing for a VM. */
  async #passOver(): Promise<void> {
    await new DataStream(this.#link).drain();
    await this.#link.sendLine('C', 'OK');
  }

  /** The file before, if one is open, is whole now. It cannot be answered any more, only told. */
  async #closeFile(): Promise<void> {
    const open = this.#open;
    if (open.is !== 'taken') return;
    this.#open = { is: 'closed' };
    try {
      await this.#work.endFile();
    } catch (error) {
      const { message } = fileError(error);
      if (!open.hasFailed) this.#link.say('error', `${open.path}: ${message}`);
    }
  }

  /** One answer: what `act` says, or the error of the file. */
  async #answer(act: () => Promise<'OK' | 'SKIP' | 'CORE'>): Promise<void> {
    let refused: DrError | undefined;
    const said = await this.#link.working('the restore', async () => {
      try {
        return await act();
      } catch (error) {
        refused = fileError(error);
        return 'OK';
      }
    });
    if (refused === undefined) await this.#link.sendLine('C', said);
    else await this.#link.sendLine('E', messageText(refused.line));
  }
}
