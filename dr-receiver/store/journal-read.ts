// Reads a journal whole and checks every byte of it (journal-format.ts): records in order, each chained
// to the one before. A journal that was written anew begins with the state of its forerunner: its first
// record names the number and the chain of the last record of that one.

import { crc32c, type Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile } from '../../shared/files/index.js';
import {
  findRecordHead,
  firstChain,
  JOURNAL_HEADER_BYTES,
  nextChain,
  parseJournalHeader,
  parseRecordHead,
  RECORD_HEAD_BYTES,
  RECORD_PAYLOAD_MAX,
} from './journal-format.js';

/** How far a journal has come. */
export interface JournalMark {
  readonly sequence: number;
  /** Of the last record, hex. */
  readonly chain: string;
}

export interface JournalReading {
  readonly expected: { readonly vmId: Guid; readonly storeId: Guid };
  /** How far it had come when its snapshot was written. */
  readonly mark: JournalMark | undefined;
  /** Each record in order. A message tells why it cannot be used. */
  readonly onRecord: (payload: unknown) => string | undefined;
  /** After the last one: why the records are not a whole. */
  readonly onEnd?: (() => string | undefined) | undefined;
}

/** Why a journal cannot be used. */
export function journalDamaged(path: string, position: number, what: string): DrError {
  return new DrError('E_HALTED', `${path} is damaged at byte ${position}: ${what}`, {
    context: { file: path, position },
    done: 'nothing of this VM is changed any more; other VMs go on',
  });
}

/** Which record a rewritten journal goes on from; undefined: its first record does not say. */
function forerunnerOf(value: unknown): JournalMark | undefined {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return undefined;
  if (value.kind !== 'state' || !('before' in value)) return undefined;
  const { before } = value;
  if (typeof before !== 'object' || before === null) return undefined;
  if (!('sequence' in before) || !('chain' in before)) return undefined;
  const { sequence, chain } = before;
  if (typeof sequence !== 'number' || typeof chain !== 'string') return undefined;
  return /^[0-9a-f]{64}$/.test(chain) ? { sequence, chain } : undefined;
}

export interface JournalContent {
  readonly end: number;
  readonly sequence: number;
  readonly chain: Buffer;
  readonly sizeBytes: number;
  /** The last record as it stands in the file. */
  readonly last: Buffer;
}

/** @throws DrError E_HALTED (damage), E_FILE_VERSION, E_IO */
export async function readJournal(
  file: BlockFile,
  options: JournalReading,
): Promise<JournalContent> {
  const { path } = file;
  const { expected, mark } = options;
  const sizeBytes = await file.size();
  const window = new Window(file, sizeBytes);
  const head = (await window.at(0)).subarray(0, JOURNAL_HEADER_BYTES);
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
    const value = parsePayload(payload);
    if (sequence === 0 && record.sequence > 1) {
      const before = forerunnerOf(value);
      if (before?.sequence !== record.sequence - 1) {
        throw journalDamaged(path, position, `it begins with record ${record.sequence}`);
      }
      ({ sequence } = before);
      chain = Buffer.from(before.chain, 'hex');
      if (isOther(mark, sequence, chain)) throw unknownToSnapshot(path, position);
    }
    if (record.sequence !== sequence + 1) {
      throw journalDamaged(path, position, `record ${record.sequence} follows record ${sequence}`);
    }
    chain = nextChain(chain, record.sequence, payload);
    if (!chain.equals(record.chain)) {
      throw journalDamaged(path, position, 'the chain of hashes is broken');
    }
    sequence = record.sequence;
    if (isOther(mark, sequence, chain)) throw unknownToSnapshot(path, position);
    const wrong = value === undefined ? 'the record is no JSON text' : options.onRecord(value);
    if (wrong !== undefined) throw journalDamaged(path, position, wrong);
    position += payloadEnd;
    last = bytes.subarray(0, payloadEnd);
  }
  if (sequence === 0) throw journalDamaged(path, position, 'it has no record');
  if (mark !== undefined && mark.sequence > sequence) {
    const message = `it ends after record ${sequence}, its snapshot knows ${mark.sequence}`;
    throw journalDamaged(path, position, message);
  }
  const wrong = options.onEnd?.();
  if (wrong !== undefined) throw journalDamaged(path, position, wrong);
  return { end: position, sequence, chain, sizeBytes, last };
}

function isOther(mark: JournalMark | undefined, sequence: number, chain: Buffer): boolean {
  return sequence === mark?.sequence && chain.toString('hex') !== mark.chain;
}

function unknownToSnapshot(path: string, position: number): DrError {
  return journalDamaged(path, position, 'the record is not the one that its snapshot knows');
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** undefined: it is no JSON text. */
function parsePayload(payload: Buffer): unknown {
  try {
    return JSON.parse(UTF8.decode(payload));
  } catch {
    return undefined;
  }
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
