// The form of a delta in the DR store (design.md § 7): a manifest, and a file that holds nothing but
// the bytes of the data cells in disk order. Cells of zeros stand in the manifest only. The place of
// a cell follows from the manifest: the n-th data cell begins at n times 64 KiB.

import { assert } from '../assert.js';
import { isAllZero } from '../disk/index.js';
import type { BlockFile } from '../files/index.js';
import type { ByteSink } from './byte-source.js';
import { CELL_BYTES, cellCount, cellLength, hashCell } from './cell.js';
import { DeltaError } from './delta-error.js';
import type { DeltaEntry, DeltaSource } from './delta-source.js';
import { type ManifestFile, ManifestWriter } from './manifest.js';
import type { ManifestHeader, ManifestTrailer } from './manifest-format.js';

/** Writes both files of a delta in one pass, from cells in ascending order. */
export class CellDeltaWriter {
  readonly #diskSizeBytes: number;
  readonly #data: ByteSink;
  readonly #manifest: ManifestWriter;

  constructor(header: ManifestHeader, data: ByteSink, manifest: ByteSink) {
    this.#diskSizeBytes = header.diskSizeBytes;
    this.#data = data;
    this.#manifest = new ManifestWriter(header, manifest);
  }

  /** Adds a cell, computing its hash unless the caller has verified one. */
  async add(cell: number, bytes: Buffer, verifiedHash?: Buffer): Promise<void> {
    assert(bytes.length === cellLength(cell, this.#diskSizeBytes), 'a cell is whole');
    if (verifiedHash === undefined && isAllZero(bytes)) {
      await this.#manifest.addZero(cell);
      return;
    }
    await this.#manifest.addData(cell, verifiedHash ?? hashCell(bytes));
    await this.#data(bytes);
  }

  async addZero(cell: number, count: number): Promise<void> {
    await this.#manifest.addZero(cell, count);
  }

  /** Both sinks have all bytes then, durable or not. */
  async finish(): Promise<ManifestTrailer> {
    return this.#manifest.finish();
  }
}

/** Reads the two files of a delta; both stay the caller's. */
export class CellDelta implements DeltaSource {
  readonly header: ManifestHeader;
  readonly #manifest: ManifestFile;
  readonly #data: BlockFile;

  private constructor(manifest: ManifestFile, data: BlockFile) {
    this.header = manifest.header;
    this.#manifest = manifest;
    this.#data = data;
  }

  /** @throws DeltaError E_DELTA_COVERAGE when the data file does not have the manifest's length */
  static async open(manifest: ManifestFile, data: BlockFile): Promise<CellDelta> {
    const { diskSizeBytes } = manifest.header;
    const dataCells = manifest.trailer.dataCellCount;
    const lastCell = cellCount(diskSizeBytes) - 1;
    let expected = dataCells * CELL_BYTES;
    if (dataCells > 0 && (await manifest.find(lastCell))?.kind === 'data') {
      expected -= CELL_BYTES - cellLength(lastCell, diskSizeBytes);
    }
    const found = await data.size();
    if (found !== expected) {
      throw new DeltaError(
        'E_DELTA_COVERAGE',
        `${dataCells} data cells make ${expected} bytes, ${data.path} has ${found}`,
        { context: { expectedBytes: expected, foundBytes: found } },
      );
    }
    return new CellDelta(manifest, data);
  }

  async *entries(): AsyncGenerator<DeltaEntry> {
    let position = 0;
    for await (const record of this.#manifest.records()) {
      if (record.kind === 'zero') {
        yield record;
      } else {
        yield { ...record, position };
        position += CELL_BYTES;
      }
    }
  }

  async read(position: number, target: Uint8Array): Promise<void> {
    await readExactly(this.#data, position, target);
  }
}

/** @throws DeltaError E_DELTA_COVERAGE when the file ends before */
export async function readExactly(
  file: BlockFile,
  position: number,
  target: Uint8Array,
): Promise<void> {
  if ((await file.read(position, target)) === target.length) return;
  throw new DeltaError(
    'E_DELTA_COVERAGE',
    `${file.path} ends before byte ${position + target.length}, which the manifest refers to`,
    { context: { path: file.path, position } },
  );
}
