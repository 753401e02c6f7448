// The writing side of headers and log (§ 1.2, 6, 7).
//
// Every commit is one log entry whose tail is the entry itself. That holds because each commit
// starts with a flush, after which the pages of the entry before are durable in their place. So at
// any moment one entry is enough to recover, and while a new one is written the one before still
// stands: two entries always fit side by side, as an entry is at most half the log.
//
// Invariants between calls:
//   - the header carries our log GUID only while a valid entry with that GUID is in the log
//   - the current header slot is never written to; the other one is written, flushed, then current

import { assert } from '../assert.js';
import { randomGuid, type Guid, ZERO_GUID } from '../bytes/index.js';
import type { Random } from '../clock.js';
import type { BlockFile } from '../files/index.js';
import { HEADER_OFFSETS, LOG_SECTOR_BYTES, LOG_VERSION, MIB } from './format.js';
import { encodeHeader, type CurrentHeader, type Header, type HeaderSlot } from './header.js';
import { encodeLogEntry, entryBytesForPages } from './log-entry.js';
import { VhdxError } from './violation.js';

/** Pages that one commit may log: two such entries fit into the smallest log, 1 MiB. */
export const PAGES_PER_ENTRY_MAX = 126;

/** A session takes less than ten; no honest counter comes near this limit. */
const SEQUENCE_NUMBERS_SPARE = 1024n;

export interface LoggedPage {
  readonly offset: number;
  readonly bytes: Buffer;
}

export class LogWriter {
  readonly #file: BlockFile;
  readonly #random: Random;
  #current: CurrentHeader;
  #nextSequence = 1n;
  /** Where the next entry goes, relative to the log. */
  #head = 0;

  constructor(file: BlockFile, current: CurrentHeader, random: Random) {
    this.#file = file;
    this.#current = current;
    this.#random = random;
  }

  get header(): Header {
    return this.#current.header;
  }

  /**
   * Refuses a file whose header counter is about to overflow: a header with a smaller number would
   * never become the current one. Writes nothing. @throws VhdxError E_VHDX_LIMIT
   */
  refuseExhausted(): void {
    const { header, slot } = this.#current;
    if (header.sequenceNumber < 2n ** 64n - SEQUENCE_NUMBERS_SPARE) return;
    throw new VhdxError(
      {
        code: 'E_VHDX_LIMIT',
        structure: `header ${slot + 1}`,
        offset: HEADER_OFFSETS[slot] + 8,
        message: `sequence number ${header.sequenceNumber.toString()} leaves no room for changes`,
      },
      this.#file.path,
      { hint: 'Convert it to a new file with `hvdr vhdx convert` and use that one.' },
    );
  }

  /**
   * Opens a session of writing: an empty entry under a new log GUID, then the headers with it, a
   * new FileWriteGuid and the given DataWriteGuid. Durable on return.
   */
  async begin(dataWriteGuid: Guid, fileSizeBytes: number): Promise<void> {
    const { logLengthBytes } = this.header;
    if (logLengthBytes < MIB) {
      throw new VhdxError(
        {
          code: 'E_VHDX_LOG',
          structure: 'header',
          offset: HEADER_OFFSETS[this.#current.slot],
          message: 'the file has no log, so it cannot be changed safely',
        },
        this.#file.path,
        { hint: 'Convert it to a new file with `hvdr vhdx convert` and use that one.' },
      );
    }
    const logGuid = randomGuid(this.#random);
    this.#nextSequence = 1n + BigInt(this.#random.fill(Buffer.alloc(6)).readUIntLE(0, 6));
    this.#head = 0;
    await this.#append(logGuid, [], fileSizeBytes, fileSizeBytes);
    await this.updateHeader({ logGuid, logVersion: LOG_VERSION, dataWriteGuid, isNewWrite: true });
  }

  /**
   * Logs `pages` as one atomic unit; durable on return. Everything that the pages refer to must
   * have been flushed before.
   */
  async commit(
    pages: readonly LoggedPage[],
    flushedFileOffset: number,
    lastFileOffset: number,
  ): Promise<void> {
    assert(this.header.logGuid !== ZERO_GUID, 'commits happen inside a session');
    await this.#append(this.header.logGuid, pages, flushedFileOffset, lastFileOffset);
  }

  async #append(
    logGuid: Guid,
    pages: readonly LoggedPage[],
    flushedFileOffset: number,
    lastFileOffset: number,
  ): Promise<void> {
    assert(pages.length <= PAGES_PER_ENTRY_MAX, 'a commit fits into one entry');
    const { logOffset, logLengthBytes } = this.header;
    const entry = encodeLogEntry({
      tail: this.#head,
      sequenceNumber: this.#nextSequence,
      logGuid,
      flushedFileOffset,
      lastFileOffset,
      pages,
    });
    assert(entry.length === entryBytesForPages(pages.length), 'entry length follows from pages');
    const untilEnd = Math.min(entry.length, logLengthBytes - this.#head);
    await this.#file.write(logOffset + this.#head, entry.subarray(0, untilEnd));
    if (untilEnd < entry.length) await this.#file.write(logOffset, entry.subarray(untilEnd));
    await this.#file.flush();
    this.#nextSequence++;
    this.#head = (this.#head + entry.length) % logLengthBytes;
    assert(this.#head % LOG_SECTOR_BYTES === 0, 'entries are whole sectors');
  }

  /** Ends the session: nothing is left to replay. All pages must be durable in their place. */
  async end(): Promise<void> {
    await this.updateHeader({ logGuid: ZERO_GUID, isNewWrite: false });
  }

  /** Writes both header slots, one after the other, each flushed; durable on return. */
  async updateHeader(change: {
    logGuid?: Guid;
    logVersion?: number;
    dataWriteGuid?: Guid;
    isNewWrite: boolean;
  }): Promise<void> {
    const { isNewWrite, ...fields } = change;
    const fileWriteGuid = isNewWrite ? randomGuid(this.#random) : this.header.fileWriteGuid;
    for (let round = 0; round < 2; round++) {
      const slot: HeaderSlot = this.#current.slot === 0 ? 1 : 0;
      const header: Header = {
        ...this.header,
        ...fields,
        fileWriteGuid,
        sequenceNumber: this.header.sequenceNumber + 1n,
      };
      await this.#file.write(HEADER_OFFSETS[slot], encodeHeader(header));
      await this.#file.flush();
      this.#current = { header, slot };
    }
  }
}
