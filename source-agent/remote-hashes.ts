// Cell hashes that the receiver tells, asked for cell by cell in ascending order while the disk is
// read. The stream is checked as it arrives: legal records, ascending, inside the disk. Memory is
// one message.

import { guidToWire, type Guid } from '../shared/bytes/index.js';
import type { HashesRequest, ReplicationService, ServiceClient } from '../shared/channel/index.js';
import {
  cellCount,
  MANIFEST_RECORD_BYTES,
  type ManifestRecord,
  parseManifestRecord,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import { protocolError } from './receiver-view.js';

export interface HashesOf {
  /** As it travels. */
  readonly vmId: Buffer;
  readonly diskId: Guid;
  readonly generation: number;
  readonly diskSizeBytes: number;
  readonly of: { readonly pointId: Guid } | { readonly cycleId: Guid };
}

export class RemoteHashes {
  readonly #messages: AsyncIterator<{ readonly records: Buffer }>;
  readonly #lastCell: number;
  #records: Buffer = Buffer.alloc(0);
  #at = 0;
  #isEnded = false;
  /** The record that stands next, already parsed. */
  #next: ManifestRecord | undefined;
  #afterCell = 0;

  private constructor(
    messages: AsyncIterator<{ readonly records: Buffer }>,
    diskSizeBytes: number,
  ) {
    this.#messages = messages;
    this.#lastCell = cellCount(diskSizeBytes);
  }

  /** Of an answer that tells them as messages of manifest records. */
  static of(
    messages: AsyncIterator<{ readonly records: Buffer }>,
    diskSizeBytes: number,
  ): RemoteHashes {
    return new RemoteHashes(messages, diskSizeBytes);
  }

  static open(
    client: ServiceClient<ReplicationService>,
    what: HashesOf,
    signal: AbortSignal,
  ): RemoteHashes {
    const of: HashesRequest['of'] =
      'pointId' in what.of
        ? { $case: 'pointId', value: guidToWire(what.of.pointId) }
        : { $case: 'cycleId', value: guidToWire(what.of.cycleId) };
    const request: HashesRequest = {
      vmId: what.vmId,
      diskId: guidToWire(what.diskId),
      generation: what.generation,
      of,
    };
    const messages = client.hashes(request, { signal });
    return new RemoteHashes(messages[Symbol.asyncIterator](), what.diskSizeBytes);
  }

  /** The hash of `cell`; undefined when the receiver lists none. Cells are asked in order. */
  async at(cell: number): Promise<Buffer | undefined> {
    const record = await this.#skipTo(cell);
    return record?.kind === 'data' && record.cell === cell ? record.hash : undefined;
  }

  /** The cells in [start, end) that the receiver lists as data, in order. */
  async *dataIn(start: number, end: number): AsyncGenerator<number> {
    let cell = start;
    for (;;) {
      const record = await this.#skipTo(cell);
      if (record === undefined || record.cell >= end) return;
      if (record.kind === 'data') {
        yield record.cell;
        cell = record.cell + 1;
      } else {
        cell = record.cell + record.count;
        if (cell >= end) return;
      }
    }
  }

  async close(): Promise<void> {
    this.#isEnded = true;
    // An answer that nobody waits for any more may still fail, which says nothing about us.
    await this.#messages.return?.().catch(() => undefined);
  }

  /** The first record that ends after `cell`. */
  async #skipTo(cell: number): Promise<ManifestRecord | undefined> {
    for (;;) {
      const record = this.#next ?? (await this.#read());
      this.#next = record;
      if (record === undefined) return undefined;
      const end = record.cell + (record.kind === 'zero' ? record.count : 1);
      if (end > cell) return record;
      this.#next = undefined;
    }
  }

  async #read(): Promise<ManifestRecord | undefined> {
    while (this.#at >= this.#records.length) {
      if (this.#isEnded) return undefined;
      const answer = await this.#messages.next();
      if (answer.done === true) {
        this.#isEnded = true;
        return undefined;
      }
      this.#records = answer.value.records;
      this.#at = 0;
      if (this.#records.length % MANIFEST_RECORD_BYTES !== 0) {
        throw protocolError(`${this.#records.length} bytes of hashes`);
      }
    }
    const record = parse(this.#records, this.#at);
    this.#at += MANIFEST_RECORD_BYTES;
    const end = record.cell + (record.kind === 'zero' ? record.count : 1);
    if (record.cell < this.#afterCell || end > this.#lastCell || end <= record.cell) {
      throw protocolError(`the hash of cell ${record.cell} is out of place`);
    }
    this.#afterCell = end;
    return record;
  }
}

function parse(bytes: Buffer, at: number): ManifestRecord {
  let record: ManifestRecord | 'trailer';
  try {
    record = parseManifestRecord(bytes, at, at);
  } catch (error) {
    if (error instanceof DrError) throw protocolError(error.message);
    throw error;
  }
  if (record === 'trailer') throw protocolError('a trailer stands among hashes');
  return record;
}
