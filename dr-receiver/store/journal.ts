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
//   write and flush, or its flush may have failed: then the system shows bytes that no device has.

import { dirname } from 'node:path';
import { DrError } from '../../shared/errors.js';
import type { Guid } from '../../shared/bytes/index.js';
import { type BlockFile, type FileSystem, writeDurably } from '../../shared/files/index.js';
import type { Random } from '../../shared/clock.js';
import {
  encodeJournalHeader,
  encodeRecord,
  findRecordHead,
  firstChain,
  JOURNAL_HEADER_BYTES,
  type JournalHeader,
  nextChain,
  parseJournalHeader,
  parseRecordHead,
  RECORD_HEAD_BYTES,
  RECORD_PAYLOAD_MAX,
} from './journal-format.js';
import { crc32c } from '../../shared/bytes/index.js';

/** How far a journal had come when its snapshot was written. */
export interface JournalMark {
  readonly sequence: number;
  readonly chain: string;
}

export interface JournalOptions {
  readonly fs: FileSystem;
  readonly path: string;
  readonly expected: { readonly vmId: Guid; readonly storeId: Guid };
  readonly mark: JournalMark | undefined;
  /** Nothing is changed, a torn tail is passed over. */
  readonly isReadOnly: boolean;
  /** Each record in order. A message tells why it cannot be used. */
  readonly onRecord: (payload: unknown) => string | undefined;
}

/** Why a journal cannot be used. */
export function journalDamaged(path: string, position: number, what: string): DrError {
  return new DrError('E_HALTED', `${path} is damaged at byte ${position}: ${what}`, {
    context: { file: path, position },
    done: 'nothing of this VM is changed any more; other VMs go on',
  });
}

export class Journal {
  readonly path: string;
  readonly #file: BlockFile;
  #end: number;
  #sequence: number;
  #chain: Buffer;
  #failure: DrError | undefined;

  private constructor(file: BlockFile, end: number, sequence: number, chain: Buffer) {
    this.path = file.path;
    this.#file = file;
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
   * Reads and checks all of a journal, and opens it for appending unless it is read only.
   * @throws DrError E_HALTED (damage), E_FILE_VERSION, E_IO, E_LOCKED
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const { fs, path, isReadOnly } = options;
    const file = await fs.open(path, { mode: isReadOnly ? 'read' : 'write' });
    try {
      const { end, sequence, chain, sizeBytes, last } = await readAll(file, options);
      if (!isReadOnly) {
        if (end < sizeBytes) await file.truncate(end);
        await writeAgain(file, end - last.length, last);
        await file.flush();
        await fs.flushFolder(dirname(path));
      }
      return new Journal(file, end, sequence, chain);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Why nothing is appended any more; undefined: all is well. */
  get failure(): DrError | undefined {
    return this.#failure;
  }

  get mark(): JournalMark {
    return { sequence: this.#sequence, chain: this.#chain.toString('hex') };
  }

  /**
   * Appends a record; durable on return. One call at a time.
   * @throws DrError E_IO, E_CAPACITY: whether the record is there is known after the next open()
   */
  async append(payload: object): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const body = Buffer.from(JSON.stringify(payload));
    const sequence = this.#sequence + 1;
    const chain = nextChain(this.#chain, sequence, body);
    const record = encodeRecord(sequence, chain, body);
    try {
      await this.#file.write(this.#end, record);
    } catch (error) {
      await this.#takeBack(error);
      throw error;
    }
    try {
      await this.#file.flush();
    } catch (error) {
      this.#failure = this.#poisoned(error);
      throw error;
    }
    this.#end += record.length;
    this.#sequence = sequence;
    this.#chain = chain;
  }

  /** A write that failed left a part at most: without it the journal is as it was. */
  async #takeBack(error: unknown): Promise<void> {
    try {
      await this.#file.truncate(this.#end);
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

  async close(): Promise<void> {
    await this.#file.close();
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

interface Reading {
  readonly end: number;
  readonly sequence: number;
  readonly chain: Buffer;
  readonly sizeBytes: number;
  /** The last record as it stands in the file. */
  readonly last: Buffer;
}

async function readAll(file: BlockFile, options: JournalOptions): Promise<Reading> {
  const { path, expected, mark } = options;
  const sizeBytes = await file.size();
  const head = Buffer.alloc(Math.min(JOURNAL_HEADER_BYTES, sizeBytes));
  await readWhole(file, 0, head);
  const header = parseJournalHeader(head);
  if ('wrong' in header) {
    if (!header.isVersion) throw journalDamaged(path, 0, header.wrong);
    throw new DrError(
      'E_FILE_VERSION',
      `${path} is a journal that cannot be read: ${header.wrong}`,
      {
        context: { file: path },
      },
    );
  }
  if (header.vmId !== expected.vmId) throw journalDamaged(path, 16, `it is of VM ${header.vmId}`);
  if (header.storeId !== expected.storeId) {
    throw journalDamaged(path, 32, `it is of store ${header.storeId}`);
  }
  let chain = firstChain(head);
  let sequence = 0;
  let position = JOURNAL_HEADER_BYTES;
  let last: Buffer = Buffer.alloc(0);
  const window = new Window(file, sizeBytes);
  while (position < sizeBytes) {
    const bytes = await window.at(position);
    const record = parseRecordHead(bytes, 0);
    const payloadEnd = RECORD_HEAD_BYTES + (record?.payloadBytes ?? 0);
    const payload = bytes.subarray(RECORD_HEAD_BYTES, payloadEnd);
    if (
      record === undefined ||
      bytes.length < payloadEnd ||
      crc32c(payload) !== record.payloadChecksum
    ) {
      refuseUnlessTorn(path, position, bytes, sizeBytes, record && position + payloadEnd);
      break;
    }
    if (record.sequence !== sequence + 1) {
      throw journalDamaged(path, position, `record ${record.sequence} follows record ${sequence}`);
    }
    chain = nextChain(chain, record.sequence, payload);
    if (!chain.equals(record.chain)) {
      throw journalDamaged(path, position, 'the chain of hashes is broken');
    }
    sequence = record.sequence;
    if (sequence === mark?.sequence && chain.toString('hex') !== mark.chain) {
      throw journalDamaged(path, position, 'the record is not the one that its snapshot knows');
    }
    const wrong = takePayload(payload, options);
    if (wrong !== undefined) throw journalDamaged(path, position, wrong);
    position += payloadEnd;
    last = bytes.subarray(0, payloadEnd);
  }
  if (sequence === 0) throw journalDamaged(path, position, 'it has no record');
  if (mark !== undefined && mark.sequence > sequence) {
    const message = `it ends after record ${sequence}, its snapshot knows ${mark.sequence}`;
    throw journalDamaged(path, position, message);
  }
  return { end: position, sequence, chain, sizeBytes, last };
}

function takePayload(payload: Buffer, options: JournalOptions): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch {
    return 'the record is no JSON text';
  }
  return options.onRecord(value);
}

/**
 * The rest of a file from a record that is not whole: fine when it can be what a power cut left of
 * the one append that was under way.
 */
function refuseUnlessTorn(
  path: string,
  position: number,
  bytes: Buffer,
  sizeBytes: number,
  recordEnd: number | undefined,
): void {
  const restBytes = sizeBytes - position;
  if (restBytes > RECORD_HEAD_BYTES + RECORD_PAYLOAD_MAX) {
    throw journalDamaged(path, position, `no record stands here, and ${restBytes} bytes follow`);
  }
  if (recordEnd !== undefined && sizeBytes > recordEnd) {
    throw journalDamaged(path, position, 'the checksum of a record is wrong, and more follows it');
  }
  const next = findRecordHead(bytes, 1);
  if (next !== undefined) {
    throw journalDamaged(path, position, `no record stands here, but one at ${position + next}`);
  }
}

/** Bytes of the file from a position on, enough for the longest record. */
class Window {
  readonly #file: BlockFile;
  readonly #sizeBytes: number;
  #start = 0;
  #bytes = Buffer.alloc(0);

  constructor(file: BlockFile, sizeBytes: number) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
  }

  async at(position: number): Promise<Buffer> {
    const needed = Math.min(RECORD_HEAD_BYTES + RECORD_PAYLOAD_MAX, this.#sizeBytes - position);
    const end = this.#start + this.#bytes.length;
    if (position < this.#start || position + needed > end) {
      const lengthBytes = Math.min(4 * RECORD_PAYLOAD_MAX, this.#sizeBytes - position);
      this.#bytes = Buffer.alloc(lengthBytes);
      this.#start = position;
      await readWhole(this.#file, position, this.#bytes);
    }
    return this.#bytes.subarray(position - this.#start);
  }
}

async function readWhole(file: BlockFile, position: number, target: Buffer): Promise<void> {
  const count = await file.read(position, target);
  if (count === target.length) return;
  throw journalDamaged(file.path, position + count, 'it became shorter while it was read');
}
