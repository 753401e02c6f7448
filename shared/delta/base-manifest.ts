// The manifest of a base disk, kept level while deltas are applied to the disk in place. Two names:
//
//   NAME            the hashes of the disk as of point P
//   NAME.applying   the hashes as they will be at point Q; there while a delta leads the disk to Q
//
// begin()     NAME.applying is written whole and durable, before the first byte of the disk changes
// (the caller changes the disk and flushes it)
// finish()    NAME.applying is renamed to NAME, folder flushed
// withdraw()  instead, when nothing of the disk was changed: NAME.applying is removed, folder flushed
//
// So whenever the disk may lie between two points, both manifests are there and say so, and each
// of its cells has the hash of the one or of the other. A crash is mended by applying the same
// delta again; another delta is refused until then.

import { dirname } from 'node:path';

import { ZERO_GUID } from '../bytes/index.js';
import type { Random } from '../clock.js';
import { type Extent, isAllZero, readAhead, type ReadableDisk } from '../disk/index.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { CELL_BYTES, cellOffset, hashCell } from './cell.js';
import { DeltaError } from './delta-error.js';
import { addCells, storedCells } from './diff.js';
import { ManifestFile, ManifestWriter } from './manifest.js';
import {
  checkKind,
  type ManifestHeader,
  type ManifestRecord,
  type ManifestTrailer,
  recordCells,
} from './manifest-format.js';
import { PIECE_BYTES } from './pcbt.js';
import { Peekable } from './peekable.js';
import { publishFile } from './publish.js';

/** One is hashed while the next ones are read. */
const PIECES_AHEAD = 3;

/** The names are this file's own, and what stands there is older. */
const REPLACING = { isReplacing: true };

/** @throws DeltaError E_DISK_MISMATCH when two manifests are not about the same disk */
export function checkSameDisk(one: ManifestHeader, other: ManifestHeader): void {
  for (const field of ['vmId', 'diskId', 'diskGeneration', 'diskSizeBytes'] as const) {
    if (one[field] === other[field]) continue;
    throw new DeltaError(
      'E_DISK_MISMATCH',
      `the manifests are about different disks: ${field} ${one[field]} and ${other[field]}`,
      { context: { field } },
    );
  }
}

/** What a delta says of its cells; a ManifestFile, or the union of several. */
export interface DeltaRecords {
  readonly header: ManifestHeader;
  /** In ascending order. */
  records(): AsyncIterable<ManifestRecord>;
}

/** What begin() found: 'resumed' after an apply of the same delta that was interrupted. */
export type Announcement = 'new' | 'resumed';

/** @throws DeltaError E_DISK_MISMATCH, E_DELTA_PARENT */
function checkFollows(base: ManifestHeader, delta: ManifestHeader): void {
  checkSameDisk(base, delta);
  const { point } = base;
  if (point === delta.parentPoint || point === delta.point) return;
  throw new DeltaError(
    'E_DELTA_PARENT',
    `the disk is at point ${point}, the delta leads from ${delta.parentPoint} to ${delta.point}`,
    { context: { diskPoint: point, parentPoint: delta.parentPoint, point: delta.point } },
  );
}

/** The same error, whatever it says of an announcement that has been taken back. */
function withdrawn(error: unknown): unknown {
  if (!(error instanceof DrError)) return error;
  const { code, message, context, hint } = error;
  return new DeltaError(code, message, { context, hint, cause: error });
}

export class BaseManifest {
  readonly path: string;
  readonly #fs: FileSystem;
  readonly #random: Random;

  constructor({ fs, random }: { fs: FileSystem; random: Random }, path: string) {
    this.#fs = fs;
    this.#random = random;
    this.path = path;
  }

  get #seams(): { fs: FileSystem; random: Random } {
    return { fs: this.#fs, random: this.#random };
  }

  get #applyingPath(): string {
    return `${this.path}.applying`;
  }

  /**
   * Writes the manifest of a disk that nobody changes meanwhile; `header.kind` must be base.
   * @throws DrError E_IO, E_CAPACITY, E_LOCKED
   */
  async create(disk: ReadableDisk, header: ManifestHeader): Promise<void> {
    await publishFile(this.#seams, this.path, REPLACING, async (sink) => {
      const writer = new ManifestWriter(header, sink);
      for await (const { offset, data } of storedData(disk)) {
        for (let at = 0; at < data.length; at += CELL_BYTES) {
          const cell = data.subarray(at, at + CELL_BYTES);
          if (!isAllZero(cell)) await addCells(writer, offset + at, cell);
        }
      }
      await writer.finish();
    });
  }

  /**
   * The point of the disk, and the point that an unfinished apply was leading to.
   * @throws DeltaError E_DELTA_COVERAGE when a file is the manifest of a delta; E_DELTA_MANIFEST
   */
  async state(): Promise<{ current: ManifestHeader; applying: ManifestHeader | undefined }> {
    return { current: await this.current(), applying: await this.#applying() };
  }

  /** The point of the disk. @throws DeltaError E_DELTA_COVERAGE, E_DELTA_MANIFEST */
  async current(): Promise<ManifestHeader> {
    return this.#withFile(this.path, (manifest) => Promise.resolve(manifest.header));
  }

  async #applying(): Promise<ManifestHeader | undefined> {
    if ((await this.#fs.status(this.#applyingPath)) === undefined) return undefined;
    return this.#withFile(this.#applyingPath, (manifest) => Promise.resolve(manifest.header));
  }

  async #withFile<T>(path: string, use: (manifest: ManifestFile) => Promise<T>): Promise<T> {
    const file = await this.#fs.open(path, { mode: 'read' });
    try {
      const manifest = await ManifestFile.open(file);
      checkKind(manifest.header, 'base');
      return await use(manifest);
    } finally {
      await file.close();
    }
  }

  /**
   * Refuses a delta that does not lead on from here. Changes nothing.
   * @throws DeltaError E_DISK_MISMATCH, E_DELTA_PARENT, E_DELTA_UNFINISHED, E_DELTA_MANIFEST,
   *   E_DELTA_COVERAGE
   */
  async checkNext({ header }: ManifestFile): Promise<void> {
    await this.#checkUnfinished(header);
    await this.#withFile(this.path, (base) => {
      checkFollows(base.header, header);
      return Promise.resolve();
    });
  }

  /** Whether an earlier apply of this delta was interrupted. @throws E_DELTA_UNFINISHED */
  async #checkUnfinished(header: ManifestHeader): Promise<boolean> {
    const applying = await this.#applying();
    if (applying === undefined) return false;
    if (applying.point === header.point) return true;
    throw new DeltaError(
      'E_DELTA_UNFINISHED',
      `applying the delta of point ${applying.point} was interrupted, and this is the delta of point ${header.point}`,
      { context: { applying: applying.point, point: header.point } },
    );
  }

  /**
   * Announces durably that the disk is about to become the point of `delta`. On an error there is no
   * announcement that was not there before.
   * @throws DeltaError E_DISK_MISMATCH, E_DELTA_PARENT, E_DELTA_UNFINISHED, E_DELTA_MANIFEST,
   *   E_DELTA_COVERAGE
   */
  async begin(delta: ManifestFile): Promise<Announcement> {
    const isResumed = await this.#checkUnfinished(delta.header);
    try {
      await this.announce(delta);
    } catch (error) {
      // What was there before says the same as before.
      if (isResumed) throw error;
      try {
        await this.withdraw();
      } catch {
        // The first error is the one to report.
        throw error;
      }
      throw withdrawn(error);
    }
    return isResumed ? 'resumed' : 'new';
  }

  /**
   * Announces durably that the disk is about to become the point of `delta`, for a caller who knows
   * by himself whether an earlier announcement counts: it is replaced.
   * @throws DeltaError E_DISK_MISMATCH, E_DELTA_PARENT, E_DELTA_MANIFEST, E_DELTA_COVERAGE
   */
  async announce(delta: DeltaRecords): Promise<ManifestTrailer> {
    const { header } = delta;
    return this.#withFile(this.path, async (base) => {
      checkFollows(base.header, header);
      return publishFile(this.#seams, this.#applyingPath, REPLACING, async (sink) => {
        const next = {
          ...header,
          kind: 'base',
          parentPoint: ZERO_GUID,
          logicalSectorBytes: base.header.logicalSectorBytes,
          physicalSectorBytes: base.header.physicalSectorBytes,
        } as const;
        const writer = new ManifestWriter(next, sink);
        for await (const record of appliedRecords(base.records(), delta.records())) {
          await writer.add(record);
        }
        return writer.finish();
      });
    });
  }

  /** Takes a new announcement back durably; only while nothing of the disk was changed. */
  async withdraw(): Promise<void> {
    await this.#fs.remove(this.#applyingPath);
    await this.#fs.flushFolder(dirname(this.path));
  }

  /** To be called when the disk is durable: it is at the new point from now on. */
  async finish(): Promise<void> {
    await this.#fs.rename(this.#applyingPath, this.path);
    await this.#fs.flushFolder(dirname(this.path));
  }

  /**
   * Reads the disk and yields each cell that has neither the hash of this manifest nor, while an
   * apply is unfinished, the one that it will have.
   * @throws DeltaError E_DISK_MISMATCH, E_DELTA_MANIFEST, E_DELTA_COVERAGE
   */
  async *verify(disk: ReadableDisk): AsyncGenerator<BaseFinding> {
    const files = [await this.#fs.open(this.path, { mode: 'read' })];
    try {
      if ((await this.#fs.status(this.#applyingPath)) !== undefined) {
        files.push(await this.#fs.open(this.#applyingPath, { mode: 'read' }));
      }
      const manifests = await Promise.all(files.map((file) => ManifestFile.open(file)));
      yield* verifyBase(disk, manifests);
    } finally {
      for (const file of files) await file.close();
    }
  }
}

export interface BaseFinding {
  readonly cell: number;
  /** Guest offset. */
  readonly offset: number;
}

/** The stored data of a disk in whole cells, up to 1 MiB each; valid until the next one. */
async function* storedData(disk: ReadableDisk): AsyncGenerator<{ offset: number; data: Buffer }> {
  const options = { extents: storedExtents(disk), pieceBytes: PIECE_BYTES, depth: PIECES_AHEAD };
  for await (const piece of readAhead(disk, options)) {
    if (piece.bytes !== undefined) yield { offset: piece.offset, data: piece.bytes };
    piece.release();
  }
}

async function* storedExtents(disk: ReadableDisk): AsyncGenerator<Extent> {
  for await (const range of storedCells(disk)) {
    const end = cellOffset(range.end, disk.sizeBytes);
    yield { start: range.start * CELL_BYTES, end, kind: 'data' };
  }
}

/** The records of a base after a delta: both in ascending order, the delta wins. */
async function* appliedRecords(
  baseRecords: AsyncIterable<ManifestRecord>,
  deltaRecords: AsyncIterable<ManifestRecord>,
): AsyncGenerator<ManifestRecord> {
  const base = new Peekable(baseRecords);
  try {
    for await (const record of deltaRecords) {
      const end = record.cell + recordCells(record);
      let old = await base.peek();
      while (old !== undefined && old.cell < end) {
        if (old.cell < record.cell) yield old;
        await base.next();
        old = await base.peek();
      }
      if (record.kind === 'data') yield record;
    }
    for (let old = await base.next(); old !== undefined; old = await base.next()) yield old;
  } finally {
    await base.close();
  }
}

/**
 * The cells of `disk` that have the hash of none of the manifests; a cell that a manifest does not
 * list has to be zeros. Reads what the disk stores, and nothing else.
 * @throws DeltaError E_DISK_MISMATCH, E_DELTA_MANIFEST, E_DELTA_COVERAGE (the manifest of a delta)
 */
export async function* verifyBase(
  disk: ReadableDisk,
  manifests: readonly ManifestFile[],
): AsyncGenerator<BaseFinding> {
  for (const { header } of manifests) {
    checkKind(header, 'base');
    if (header.diskSizeBytes === disk.sizeBytes) continue;
    throw new DeltaError(
      'E_DISK_MISMATCH',
      `the disk has ${disk.sizeBytes} bytes, its manifest says ${header.diskSizeBytes}`,
      { context: { diskSizeBytes: disk.sizeBytes, manifestSizeBytes: header.diskSizeBytes } },
    );
  }
  const expected = manifests.map((manifest) => new Peekable(manifest.records()));
  try {
    for await (const { offset, data } of storedData(disk)) {
      for (let at = 0; at < data.length; at += CELL_BYTES) {
        const cell = (offset + at) / CELL_BYTES;
        yield* missingBefore(expected, cell);
        if (!(await matches(expected, cell, data.subarray(at, at + CELL_BYTES)))) {
          yield { cell, offset: cell * CELL_BYTES };
        }
      }
    }
    yield* missingBefore(expected, Infinity);
  } finally {
    for (const records of expected) await records.close();
  }
}

/** Cells below `cell` that the disk does not store although every manifest lists them. */
async function* missingBefore(
  expected: readonly Peekable<ManifestRecord>[],
  cell: number,
): AsyncGenerator<BaseFinding> {
  for (;;) {
    const heads = await Promise.all(expected.map((records) => records.peek()));
    const first = Math.min(...heads.map((head) => head?.cell ?? Infinity));
    if (first >= cell) return;
    if (heads.every((head) => head?.cell === first)) {
      yield { cell: first, offset: first * CELL_BYTES };
    }
    for (const records of expected) {
      if ((await records.peek())?.cell === first) await records.next();
    }
  }
}

async function matches(
  expected: readonly Peekable<ManifestRecord>[],
  cell: number,
  data: Buffer,
): Promise<boolean> {
  const isEmpty = isAllZero(data);
  const hash = isEmpty ? undefined : hashCell(data);
  let isMatch = false;
  for (const records of expected) {
    const head = await records.peek();
    if (head?.cell === cell) {
      await records.next();
      if (head.kind === 'data' && hash?.equals(head.hash) === true) isMatch = true;
    } else if (isEmpty) {
      isMatch = true;
    }
  }
  return isMatch;
}
