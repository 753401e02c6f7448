// Reads a layer back against its manifest, in pieces: who calls says how much is read before it gets
// a word, and a later call goes on where an earlier one stopped, in another process as well. Used by
// the verification of points and by the scrub.

import {
  CELL_BYTES,
  cellCount,
  cellLength,
  hashCell,
  verifyBase,
} from '../../shared/delta/index.js';
import type { ManifestRecord } from '../../shared/delta/index.js';
import { isAllZero } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { OpenLayer } from './point-sources.js';
import type { LayerPosition } from './scrub-state.js';

export interface BadCell {
  readonly cell: number;
  /** What it should have; undefined: it should be zeros. */
  readonly hash: Buffer | undefined;
}

export interface CheckedPart {
  /** Where to go on; undefined: the layer was checked to its end. */
  readonly position: LayerPosition | undefined;
  readonly checkedBytes: number;
  readonly bad: readonly BadCell[];
  /** The device failed at `position`; what was found before still counts. */
  readonly failure: DrError | undefined;
}

const BATCH_CELLS = 16;
const RECORDS_AT_ONCE = 1024;
/** So many cells in a row that cannot be read at all are no bad places but a device that is failing. */
const UNREADABLE_MAX = 16;

export function isDeviceFailure(error: unknown): error is DrError {
  return error instanceof DrError && error.code === 'E_IO';
}

type DataRecord = ManifestRecord & { readonly kind: 'data' };

/**
 * Checks from `from` on until `budgetBytes` were read or the layer ends. The order and the root of the
 * manifest are not checked here but by its verify(). `isDeviceSound`: however many cells in a row cannot
 * be read, they are bad places.
 * @throws DeltaError, VhdxError: the layer cannot be used; DrError E_IO when the device fails in a base
 * that is being changed
 */
export async function checkPart(
  layer: OpenLayer,
  from: LayerPosition,
  budgetBytes: number,
  isDeviceSound = false,
): Promise<CheckedPart> {
  return layer.announced === undefined
    ? new PartCheck(layer, from, isDeviceSound ? Infinity : UNREADABLE_MAX).run(budgetBytes)
    : checkChanging(layer);
}

/** A base into which deltas are being folded: each cell has the one hash or the other. At once. */
async function checkChanging({ base, manifest, announced, disk }: OpenLayer): Promise<CheckedPart> {
  const bad: BadCell[] = [];
  if (base === undefined || announced === undefined) throw new Error('a base is folded into');
  for await (const { cell } of verifyBase(base, [manifest, announced])) {
    bad.push({ cell, hash: undefined });
  }
  return { position: undefined, checkedBytes: disk.dataBytes, bad, failure: undefined };
}

class PartCheck {
  readonly #layer: OpenLayer;
  readonly #sizeBytes: number;
  readonly #unreadableMax: number;
  readonly #buffer = Buffer.alloc(BATCH_CELLS * CELL_BYTES);
  readonly #bad: BadCell[] = [];
  #record: number;
  #dataCells: number;
  #nextCell: number;
  #checkedBytes = 0;
  #unreadable = 0;

  constructor(
    layer: OpenLayer,
    { record, dataCells, nextCell }: LayerPosition,
    unreadableMax: number,
  ) {
    this.#layer = layer;
    this.#unreadableMax = unreadableMax;
    this.#sizeBytes = layer.manifest.header.diskSizeBytes;
    this.#record = record;
    this.#dataCells = dataCells;
    this.#nextCell = nextCell;
  }

  async run(budgetBytes: number): Promise<CheckedPart> {
    try {
      return { ...(await this.#run(budgetBytes)), failure: undefined };
    } catch (error) {
      if (!isDeviceFailure(error)) throw error;
      return { ...this.#part(), failure: error };
    }
  }

  async #run(budgetBytes: number): Promise<Omit<CheckedPart, 'failure'>> {
    const { manifest } = this.#layer;
    for (;;) {
      const records = await manifest.recordsAt(this.#record, RECORDS_AT_ONCE);
      if (records.length === 0) {
        await this.#unlisted(cellCount(this.#sizeBytes));
        return { ...this.#part(), position: undefined };
      }
      for (let at = 0; at < records.length;) {
        if (this.#checkedBytes >= budgetBytes) return this.#part();
        const batch = this.#batchAt(records, at);
        if (batch.length > 0) await this.#data(batch);
        const taken = Math.max(1, batch.length);
        const last = records[at + taken - 1];
        if (last?.kind === 'zero') this.#nextCell = last.cell + last.count;
        at += taken;
        this.#record += taken;
      }
    }
  }

  #part(): Omit<CheckedPart, 'failure'> {
    const position = {
      record: this.#record,
      dataCells: this.#dataCells,
      nextCell: this.#nextCell,
    };
    return { position, checkedBytes: this.#checkedBytes, bad: this.#bad };
  }

  /** Data records from `at` on that one read serves. */
  #batchAt(records: readonly ManifestRecord[], at: number): DataRecord[] {
    const batch: DataRecord[] = [];
    const isBase = this.#layer.base !== undefined;
    for (const record of records.slice(at, at + BATCH_CELLS)) {
      if (record.kind === 'zero') break;
      const last = batch.at(-1);
      // a base keeps its cells at their places, a delta in a row
      if (isBase && last !== undefined && record.cell !== last.cell + 1) break;
      batch.push(record);
    }
    return batch;
  }

  async #data(batch: readonly DataRecord[]): Promise<void> {
    const { base, source } = this.#layer;
    const first = batch[0]?.cell ?? 0;
    await this.#unlisted(first);
    const start = base === undefined ? this.#dataCells * CELL_BYTES : first * CELL_BYTES;
    let position = start;
    const places = batch.map((record) => {
      const place = { record, position, lengthBytes: cellLength(record.cell, this.#sizeBytes) };
      position += place.lengthBytes;
      return place;
    });
    const whole = this.#buffer.subarray(0, position - start);
    if (await this.#read(() => source.read(start, whole), batch.length === 1)) {
      for (const { record, position: at, lengthBytes } of places) {
        this.#compare(record, whole.subarray(at - start, at - start + lengthBytes));
      }
    } else if (batch.length > 1) {
      for (const { record, position: at, lengthBytes } of places) {
        const one = this.#buffer.subarray(0, lengthBytes);
        if (await this.#read(() => source.read(at, one), true)) this.#compare(record, one);
        else this.#bad.push({ cell: record.cell, hash: record.hash });
      }
    } else {
      this.#bad.push(...batch.map(({ cell, hash }) => ({ cell, hash })));
    }
    this.#checkedBytes += whole.length;
    this.#dataCells += batch.length;
    this.#nextCell = (batch.at(-1)?.cell ?? 0) + 1;
  }

  #compare({ cell, hash }: DataRecord, bytes: Buffer): void {
    if (isAllZero(bytes) || !hashCell(bytes).equals(hash)) this.#bad.push({ cell, hash });
  }

  /** False when the device cannot read these bytes. @throws what else goes wrong */
  async #read(read: () => Promise<void>, isOne: boolean): Promise<boolean> {
    try {
      await read();
      this.#unreadable = 0;
      return true;
    } catch (error) {
      if (!isDeviceFailure(error)) throw error;
      if (isOne && ++this.#unreadable > this.#unreadableMax) throw error;
      return false;
    }
  }

  /** What a base stores before `cell` although its manifest does not list it has to be zeros. */
  async #unlisted(cell: number): Promise<void> {
    const { base } = this.#layer;
    if (base === undefined || cell <= this.#nextCell) return;
    const end = Math.min(this.#sizeBytes, cell * CELL_BYTES);
    for await (const extent of base.extents(this.#nextCell * CELL_BYTES, end)) {
      if (extent.kind === 'zero') continue;
      const from = extent.start - (extent.start % CELL_BYTES);
      const stop = Math.min(end, Math.ceil(extent.end / CELL_BYTES) * CELL_BYTES);
      for (let offset = from; offset < stop; offset += this.#buffer.length) {
        const bytes = this.#buffer.subarray(0, Math.min(this.#buffer.length, stop - offset));
        const isRead = await this.#read(() => base.read(offset, bytes), false);
        for (let at = 0; isRead && at < bytes.length; at += CELL_BYTES) {
          if (isAllZero(bytes.subarray(at, at + CELL_BYTES))) continue;
          this.#bad.push({ cell: (offset + at) / CELL_BYTES, hash: undefined });
        }
        this.#checkedBytes += bytes.length;
      }
    }
    this.#nextCell = cell;
  }
}
