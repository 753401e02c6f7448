// The journal in its file (bytes: journal-format.ts): read and checked whole at the start, appended
// to afterwards. Each append is durable on return. Invariants:
//
// - What append() returned for is there after any power cut; what it did not return for is there whole
//   or not at all.
// - A torn tail is cut off before anything is appended. Damage in front of the last record, and a
//   file that is shorter than its snapshot remembers, are told and never mended.
// - After a failed write or flush nothing is appended any more through this object: a record that
//   may or may not be there must be read again first.
// - What open() reads is durable before anybody is told. An earlier process may have died between
//   write and flush, or its flush may have failed: then the system shows bytes that no device has. A
//   snapshot that knows the last record is proof of the opposite: it is written only after the flush
//   of that record returned. Then, and when nothing is torn, opening flushes nothing.
// - rewrite() replaces the file by one that begins with the state; at every moment the one or the
//   other has the name.
//
// The file is open while it is used: open-journals.ts closes those that are not.

import { dirname } from 'node:path';
import { DrError } from '../../shared/errors.js';
import {
  type BlockFile,
  type FileSystem,
  temporaryPathBeside,
  writeDurably,
} from '../../shared/files/index.js';
import type { Random } from '../../shared/clock.js';
import { archiveJournal, boundArchives } from './journal-archive.js';
import {
  encodeJournalHeader,
  encodeRecord,
  firstChain,
  type JournalHeader,
  nextChain,
} from './journal-format.js';
import {
  journalDamaged,
  type JournalContent,
  type JournalMark,
  type JournalReading,
  readJournal,
} from './journal-read.js';
import type { OpenJournals, Parkable } from './open-journals.js';

export interface JournalOptions extends JournalReading {
  readonly fs: FileSystem;
  readonly path: string;
  /** Nothing is changed, a torn tail is passed over. */
  readonly isReadOnly: boolean;
  /** Closes journals that are not in use. Default: this one stays open once it was appended to. */
  readonly openJournals?: OpenJournals | undefined;
}

export class Journal implements Parkable {
  readonly path: string;
  readonly #options: JournalOptions;
  #file: BlockFile | undefined;
  #parking: Promise<void> = Promise.resolve();
  #isBusy = false;
  #end: number;
  #sequence: number;
  #chain: Buffer;
  #failure: DrError | undefined;

  private constructor(options: JournalOptions, { end, sequence, chain }: JournalContent) {
    this.path = options.path;
    this.#options = options;
    this.#end = end;
    this.#sequence = sequence;
    this.#chain = chain;
  }

  /** Makes a journal whose first record is `payload`: durable and whole, or not there. */
  static async create(
    { fs, random }: { readonly fs: FileSystem; readonly random: Random },
    path: string,
    header: JournalHeader,
    payload: object,
  ): Promise<void> {
    const head = encodeJournalHeader(header);
    const body = Buffer.from(JSON.stringify(payload));
    const record = encodeRecord(1, nextChain(firstChain(head), 1, body), body);
    await writeDurably(fs, path, Buffer.concat([head, record]), random);
  }

  /**
   * Reads and checks all of a journal, for appending unless it is read only.
   * @throws DrError E_HALTED (damage), E_FILE_VERSION, E_IO, E_LOCKED
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const { fs, path, isReadOnly, mark } = options;
    const file = await fs.open(path, { mode: isReadOnly ? 'read' : 'write' });
    try {
      const content = await readJournal(file, options);
      const { end, sequence, sizeBytes, last } = content;
      if (!isReadOnly && (end < sizeBytes || mark?.sequence !== sequence)) {
        if (end < sizeBytes) await file.truncate(end);
        await writeAgain(file, end - last.length, last);
        await file.flush();
        await fs.flushFolder(dirname(path));
      }
      return new Journal(options, content);
    } finally {
      await file.close();
    }
  }

  /** Why nothing is appended any more; undefined: all is well. */
  get failure(): DrError | undefined {
    return this.#failure;
  }

  get mark(): JournalMark {
    return { sequence: this.#sequence, chain: this.#chain.toString('hex') };
  }

  get lengthBytes(): number {
    return this.#end;
  }

  get isBusy(): boolean {
    return this.#isBusy;
  }

  /**
   * Appends a record; durable on return. One call at a time.
   * @throws DrError E_IO, E_CAPACITY: whether the record is there is known after the next open()
   */
  append(payload: object): Promise<void> {
    return this.#busy(async () => {
      const body = Buffer.from(JSON.stringify(payload));
      const sequence = this.#sequence + 1;
      const chain = nextChain(this.#chain, sequence, body);
      const record = encodeRecord(sequence, chain, body);
      const file = await this.#opened();
      try {
        await file.write(this.#end, record);
      } catch (error) {
        await this.#takeBack(file, error);
        throw error;
      }
      try {
        await file.flush();
      } catch (error) {
        this.#failure = this.#poisoned(error);
        throw error;
      }
      this.#end += record.length;
      this.#sequence = sequence;
      this.#chain = chain;
    });
  }

  /**
   * Writes the journal anew: `payloads`, which stand for all of its records, take their place, and the
   * records become an archive. `payloads` gets the mark that its first record has to name. The snapshot
   * must know the last record before: a power cut may bring the old file back, and then nothing is
   * missing. Durable on return; one call at a time, and no append meanwhile.
   * @throws DrError E_IO, E_CAPACITY: the journal goes on as it was, unless `failure` says otherwise
   */
  rewrite(random: Random, payloads: (before: JournalMark) => readonly object[]): Promise<void> {
    return this.#busy(async () => {
      const { fs, path, expected } = this.#options;
      await archiveJournal({ fs, random }, await this.#opened(), this.#end, this.#sequence);
      const parts = [encodeJournalHeader(expected)];
      let sequence = this.#sequence;
      let chain = this.#chain;
      for (const payload of payloads(this.mark)) {
        const body = Buffer.from(JSON.stringify(payload));
        sequence += 1;
        chain = nextChain(chain, sequence, body);
        parts.push(encodeRecord(sequence, chain, body));
      }
      const bytes = Buffer.concat(parts);
      const temporary = temporaryPathBeside(path, random);
      try {
        const file = await fs.open(temporary, { mode: 'create' });
        try {
          await file.write(0, bytes);
          await file.flush();
        } finally {
          await file.close();
        }
        await this.park();
        await fs.rename(temporary, path);
      } catch (error) {
        await fs.remove(temporary).catch(() => undefined);
        throw error;
      }
      this.#end = bytes.length;
      this.#sequence = sequence;
      this.#chain = chain;
      try {
        await fs.flushFolder(dirname(path));
      } catch (error) {
        // what would be appended now could be lost with the file that it is in
        this.#failure = this.#poisoned(error);
        throw error;
      }
      await boundArchives(fs, path).catch(() => undefined);
    });
  }

  async #busy(work: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#isBusy = true;
    try {
      await work();
    } finally {
      this.#isBusy = false;
    }
  }

  /** @throws DrError E_IO, E_LOCKED, E_HALTED when it is not what it was */
  async #opened(): Promise<BlockFile> {
    const { fs, path, openJournals } = this.#options;
    if (this.#file === undefined) {
      await this.#parking;
      const file = await fs.open(path, { mode: 'write' });
      const sizeBytes = await file.size().catch(() => undefined);
      if (sizeBytes !== this.#end) {
        await file.close();
        if (sizeBytes === undefined) throw new DrError('E_IO', `${path} cannot be read`);
        this.#failure = journalDamaged(path, this.#end, `it has ${sizeBytes} bytes now`);
        throw this.#failure;
      }
      this.#file = file;
    }
    openJournals?.used(this);
    return this.#file;
  }

  /** A write that failed left a part at most: without it the journal is as it was. */
  async #takeBack(file: BlockFile, error: unknown): Promise<void> {
    try {
      await file.truncate(this.#end);
    } catch {
      this.#failure = this.#poisoned(error);
    }
  }

  #poisoned(cause: unknown): DrError {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new DrError('E_HALTED', `${this.path} could not be written: ${why}`, {
      context: { file: this.path, position: this.#end },
      done: 'nothing of this VM is changed any more; what had been acknowledged is intact',
      hint: 'Mend the volume, then start the receiver again.',
      cause,
    });
  }

  /** Closes the file; whatever needs it opens it again. */
  async park(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#options.openJournals?.gone(this);
    if (file !== undefined) this.#parking = file.close().catch(() => undefined);
    await this.#parking;
  }

  async close(): Promise<void> {
    await this.park();
  }
}

/**
 * Puts the last record down once more before it is flushed: a system forgets what a flush that failed
 * left behind. They are the same bytes, so a power cut meanwhile changes nothing, and all records
 * before had been flushed when this one was begun. A full volume that wants new space for that is no
 * reason not to read.
 */
async function writeAgain(file: BlockFile, position: number, record: Buffer): Promise<void> {
  try {
    await file.write(position, record);
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_CAPACITY') throw error;
  }
}
