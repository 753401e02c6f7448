// What an unfinished cycle has durable of a disk, for a later cycle that reads the same bytes again:
// the hashes to compare with, and the bytes themselves. Read in ascending order, once.

import {
  CELL_BYTES,
  cellLength,
  hashCell,
  type ManifestHeader,
  type ManifestRecord,
  readManifestRecords,
} from '../../shared/delta/index.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import { SealedPlaces } from '../../shared/vhdx/index.js';
import type { DiskFiles } from '../store/layout.js';
import type { DiskProgress } from './progress-file.js';

export interface StagedDisk {
  readonly header: ManifestHeader;
  readonly files: DiskFiles;
  readonly progress: DiskProgress;
}

/** Where the cells of a base stand in its file, behind the ones that it has already. */
export function placesOf(
  header: ManifestHeader,
  after?: { readonly blockCount: number; readonly lastCell: number },
): SealedPlaces {
  const { diskSizeBytes: sizeBytes, logicalSectorBytes } = header;
  const given = after && { blockCount: after.blockCount, offset: after.lastCell * CELL_BYTES };
  return new SealedPlaces({ sizeBytes, logicalSectorBytes }, given);
}

/** Where data cells stand in their file, told in their order: all of them, or those behind `after`. */
export function cellPlaces(
  header: ManifestHeader,
  after?: { readonly dataBytes: number; readonly blockCount: number; readonly lastCell: number },
): (cell: number) => number {
  if (header.kind === 'base') {
    const places = placesOf(header, after);
    return (cell) => places.of(cell * CELL_BYTES);
  }
  let next = after?.dataBytes ?? 0;
  return (cell) => {
    const place = next;
    next += cellLength(cell, header.diskSizeBytes);
    return place;
  };
}

/** The durable records of a staged disk, the open run of zeros included. @throws DeltaError, DrError */
export async function* stagedRecords(
  fs: FileSystem,
  { header, files, progress }: StagedDisk,
): AsyncGenerator<ManifestRecord> {
  const file = await fs.open(files.manifest, { mode: 'read', lock: 'none' });
  try {
    yield* readManifestRecords(header, file, progress.recordCount);
    if (progress.zeroCount > 0) {
      yield { kind: 'zero', cell: progress.zeroCell, count: progress.zeroCount };
    }
  } finally {
    await file.close();
  }
}

export class StagedCells {
  readonly #staged: StagedDisk;
  readonly #records: AsyncGenerator<ManifestRecord>;
  readonly #placeOf: (cell: number) => number;
  readonly #data: BlockFile;
  #head: { cell: number; hash: Buffer; place: number } | undefined;
  #isAtEnd = false;

  private constructor(fs: FileSystem, staged: StagedDisk, data: BlockFile) {
    this.#staged = staged;
    this.#records = stagedRecords(fs, staged);
    this.#placeOf = cellPlaces(staged.header);
    this.#data = data;
  }

  static async open(fs: FileSystem, staged: StagedDisk): Promise<StagedCells> {
    const data = await fs.open(staged.files.data, { mode: 'read', lock: 'none' });
    return new StagedCells(fs, staged, data);
  }

  /**
   * The bytes of a cell when they are staged with this hash, and have it still; cells are asked for
   * in ascending order.
   */
  async find(cell: number, hash: Buffer): Promise<Buffer | undefined> {
    while (!this.#isAtEnd && (this.#head === undefined || this.#head.cell < cell)) {
      const result = await this.#records.next();
      if (result.done === true) {
        this.#isAtEnd = true;
        this.#head = undefined;
      } else if (result.value.kind === 'data') {
        this.#head = { ...result.value, place: this.#placeOf(result.value.cell) };
      }
    }
    if (this.#head?.cell !== cell || !this.#head.hash.equals(hash)) return undefined;
    const bytes = Buffer.allocUnsafeSlow(cellLength(cell, this.#staged.header.diskSizeBytes));
    if ((await this.#data.read(this.#head.place, bytes)) < bytes.length) return undefined;
    return hashCell(bytes).equals(hash) ? bytes : undefined;
  }

  async close(): Promise<void> {
    await this.#records.return(undefined);
    await this.#data.close();
  }
}
