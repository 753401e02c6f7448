// The sink of a backup over the plugin protocol: files and objects become items of the loop, one after
// the other, at the pace at which the plugin reads.

import { assert } from '../../shared/assert.js';
import type { FileEntry, FileSink, PluginObject } from '../../source-agent/index.js';
import { type Attributes, attributeLines, isCarried } from './attributes.js';
import { ItemGrammar } from './item-grammar.js';
import type { Greeting } from './job-block.js';
import { messageText, type MessageKind, type PluginLink } from './link.js';

/** Small pieces are gathered up to this much before they are sent. */
const PACKET_BYTES = 256 * 1024;
/** The catalog holds them as one value. */
const RESTORE_OBJECT_MAX = 4 * 1024 * 1024;

/** What the other side can take (ptcomm.md § 13). */
export interface PluginFeatures {
  readonly hasPluginObjects: boolean;
  readonly hasObjectStatus: boolean;
}

/** The metaplugin is there since 13.0, and since 15.0 it tells its working directory. */
export function featuresOf(
  { speaker }: Pick<Greeting, 'speaker'>,
  workingFolder: string | undefined,
): PluginFeatures {
  const isMetaplugin = speaker === 'metaplugin';
  return {
    hasPluginObjects: isMetaplugin,
    hasObjectStatus: isMetaplugin && workingFolder !== undefined,
  };
}

export class BackupItems implements FileSink {
  readonly signal: AbortSignal;
  readonly #link: PluginLink;
  readonly #namespace: string;
  readonly #features: PluginFeatures;
  readonly #grammar = new ItemGrammar();
  #files = 0;
  #isBusy = false;

  constructor(link: PluginLink, namespace: string, features: PluginFeatures) {
    this.#link = link;
    this.#namespace = namespace;
    this.#features = features;
    this.signal = link.signal;
  }

  /** Files that were sent whole so far. */
  get files(): number {
    return this.#files;
  }

  say(kind: MessageKind, text: string): void {
    this.#link.say(kind, text);
  }

  file(entry: FileEntry, content: AsyncIterable<Buffer>): Promise<void> {
    return this.#alone(async () => {
      const name = `/${this.#namespace}/${entry.path}`;
      if (entry.path.endsWith('/')) {
        await this.#describe({ ...entry, name, kind: 'folder' });
        await this.#end();
      } else {
        await this.#regular({ ...entry, name }, gathered(content)[Symbol.asyncIterator]());
      }
      this.#files++;
    });
  }

  pluginObject(object: PluginObject): Promise<void> {
    if (!this.#features.hasPluginObjects) return Promise.resolve();
    return this.#alone(async () => {
      const optional = (key: string, value: string | number | undefined): string[] =>
        value === undefined ? [] : [`PLUGINOBJ_${key}:${value}`];
      const lines = [
        `PLUGINOBJ:/${this.#namespace}/${object.path}`,
        ...optional('NAME', object.name),
        ...optional('CAT', object.category),
        ...optional('TYPE', object.type),
        ...optional('SRC', object.source),
        ...optional('UUID', object.uuid),
        ...optional('SIZE', object.sizeBytes),
        ...optional('STATUS', this.#features.hasObjectStatus ? object.status : undefined),
      ];
      for (const line of lines) await this.#command(messageText(line));
      await this.#end();
    });
  }

  restoreObject(name: string, bytes: Buffer): Promise<void> {
    assert(bytes.length <= RESTORE_OBJECT_MAX, 'a restore object is small');
    return this.#alone(async () => {
      await this.#command(`RESTOREOBJ:${name}`);
      this.#grammar.step({ send: 'length', bytes: bytes.length });
      await this.#link.sendLine('C', `RESTOREOBJ_LEN:${bytes.length}`);
      if (bytes.length > 0) await this.#data([bytes]);
      await this.#end();
    });
  }

  /** Nothing follows: the lone F that ends the loop. */
  finish(): Promise<void> {
    return this.#alone(() => this.#end());
  }

  /** The first bytes are awaited before the file is announced: an empty one is announced as such. */
  async #regular(
    entry: Omit<Attributes, 'kind'>,
    packets: AsyncIterator<readonly Buffer[]>,
  ): Promise<void> {
    try {
      let packet = await packets.next();
      this.signal.throwIfAborted();
      await this.#describe({ ...entry, kind: packet.done === true ? 'empty' : 'file' });
      if (packet.done !== true) await this.#command('DATA');
      while (packet.done !== true) {
        await this.#data(packet.value);
        packet = await packets.next();
        this.signal.throwIfAborted();
      }
    } catch (error) {
      // when the job is gone nobody reads, and nothing is sent
      if (!this.signal.aborted) await this.#cutShort(entry, error);
      throw error;
    } finally {
      await packets.return?.();
    }
    await this.#end();
  }

  async #describe(attributes: Attributes): Promise<void> {
    for (const line of attributeLines(attributes)) await this.#command(line);
    await this.#end();
  }

  /** An `E` among the data cuts the file short, and no F may follow it; before, there is no data. */
  async #cutShort(entry: Omit<Attributes, 'kind'>, error: unknown): Promise<void> {
    const why = messageText(`${entry.name}: ${error instanceof Error ? error.message : 'failed'}`);
    if (this.#grammar.at === 'data') {
      this.#grammar.step({ send: 'E' });
      await this.#link.sendLine('E', why);
    } else if (this.#grammar.at === 'item' && isCarried(entry.name)) {
      this.say('error', why);
      await this.#describe({ ...entry, kind: 'empty' });
      await this.#end();
    }
  }

  async #command(line: string): Promise<void> {
    this.#grammar.step({ send: 'command', word: line.split(':', 1)[0] ?? '' });
    await this.#link.sendLine('C', line);
  }

  async #data(parts: readonly Buffer[]): Promise<void> {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    this.#grammar.step({ send: 'bytes', bytes });
    await this.#link.send('D', ...parts);
  }

  async #end(): Promise<void> {
    this.#grammar.step({ send: 'F' });
    await this.#link.send('F');
  }

  /** Items do not overlap: a second one while one is being sent is a bug of the caller. */
  async #alone(send: () => Promise<void>): Promise<void> {
    assert(!this.#isBusy, 'one item is sent at a time');
    this.#isBusy = true;
    try {
      await send();
    } finally {
      this.#isBusy = false;
    }
  }
}

/**
 * The same bytes in packets of a good size. What is kept while the next piece is asked for is a copy:
 * a source may fill its buffer again.
 */
async function* gathered(content: AsyncIterable<Buffer>): AsyncGenerator<readonly Buffer[]> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const piece of content) {
    if (piece.length === 0) continue;
    bytes += piece.length;
    if (bytes < PACKET_BYTES) {
      parts.push(Buffer.from(piece));
      continue;
    }
    yield [...parts, piece];
    parts = [];
    bytes = 0;
  }
  if (bytes > 0) yield parts;
}
