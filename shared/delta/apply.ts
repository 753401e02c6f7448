// Applies a PCBT delta to a disk. Who calls it: `hvdr pcbt apply`, restore, the lab host.
//
// - A delta in a file is checked whole before the first byte of the target changes: structure,
//   bounds, and with a manifest every cell's hash. Bad input leaves the target as it was.
// - A delta from a stream is checked as it comes: each block before its bytes are written, each
//   cell's hash before that cell is written.
// - Applying is idempotent. After a crash, a full disk or a bad stream the target is between two
//   points, and applying the same delta again makes it right. With a base manifest that state is
//   durable knowledge (base-manifest.ts).
// - On return everything is durable.

import { crc32 } from 'node:zlib';

import { assert } from '../assert.js';
import { type ReadableDisk, type WritableDisk, zeroRuns } from '../disk/index.js';
import { DrError } from '../errors.js';
import type { BlockFile } from '../files/index.js';
import type { Announcement, BaseManifest } from './base-manifest.js';
import { type Chunks, fileChunks } from './byte-source.js';
import { CELL_BYTES, checkDiskSize } from './cell.js';
import { DeltaError, TARGET_INCOMPLETE } from './delta-error.js';
import { type Progress, storedCells } from './diff.js';
import { GroupedWriter } from './grouped-writer.js';
import type { ManifestFile } from './manifest.js';
import { checkKind } from './manifest-format.js';
import { indexPcbt, PcbtReader, PIECE_BYTES } from './pcbt.js';
import { Peekable } from './peekable.js';
import { type Segment, segmentsOf } from './segments.js';
import { CellVerifier } from './verifier.js';

/** A delta in a file that can be read twice, or one that comes once. */
export type DeltaInput =
  | { readonly kind: 'file'; readonly file: BlockFile }
  | { readonly kind: 'stream'; readonly chunks: Chunks };

export interface ApplyOptions {
  readonly manifest?: ManifestFile | undefined;
  /** Kept level with the target; needs `manifest`. */
  readonly base?: BaseManifest | undefined;
  /** The target is flushed each time so many bytes were written. Default 256 MiB. */
  readonly flushEveryBytes?: number | undefined;
  readonly progress?: Progress | undefined;
}

export interface ApplyResult {
  readonly blockCount: number;
  /** Bytes of all blocks. */
  readonly deltaBytes: number;
  /** Bytes of whole cells of zeros among them, which were zeroed instead of written. */
  readonly zeroBytes: number;
}

/** Takes guest bytes in ascending order, without overlap; what it is not given reads as zeros. */
export interface DeltaTarget {
  write(offset: number, source: Uint8Array): Promise<void>;
  zero(offset: number, lengthBytes: number): Promise<void>;
}

const FLUSH_EVERY_BYTES = 256 * 1024 * 1024;

/**
 * Brings `target` to the delta's point; durable on return.
 * @throws DeltaError E_PCBT_…, E_DELTA_…, E_DISK_MISMATCH; DrError of the target
 */
export async function applyDelta(
  delta: DeltaInput,
  target: WritableDisk,
  options: ApplyOptions = {},
): Promise<ApplyResult> {
  const { manifest, base } = options;
  assert(base === undefined || manifest !== undefined, 'a base manifest needs a delta manifest');
  const checked = await checkBeforehand(delta, target.sizeBytes, options);
  // A base that this delta does not fit is refused before a stream is waited for; the announcement
  // itself is made when bytes that passed every check are about to be written.
  if (base !== undefined && manifest !== undefined) await base.checkNext(manifest);
  let announcement: Announcement | undefined;
  const announce = async (): Promise<void> => {
    if (base !== undefined && manifest !== undefined) announcement = await base.begin(manifest);
  };
  const flushEveryBytes = options.flushEveryBytes ?? FLUSH_EVERY_BYTES;
  const writer = new GroupedWriter(target, flushEveryBytes, announce);
  try {
    const result = await consume(delta, target.sizeBytes, checked, options, (segment) =>
      writer.add(segment),
    );
    await writer.finish();
    await base?.finish();
    return { ...result, zeroBytes: writer.zeroBytes };
  } catch (error) {
    if (writer.hasWritten) throw asIncomplete(error);
    // The first error is the one to report; an announcement that stays is true nevertheless.
    if (announcement === 'new') await base?.withdraw().catch(() => undefined);
    throw error;
  } finally {
    await writer.settled();
  }
}

/** The same error, saying that the target has been changed in part. */
function asIncomplete(error: unknown): unknown {
  if (!(error instanceof DrError)) return error;
  const { code, message, context, hint } = error;
  return new DeltaError(code, message, { context, hint, done: TARGET_INCOMPLETE, cause: error });
}

/**
 * Writes `base` with the delta applied to a new, empty target, in ascending order; the base stays as
 * it is. Nothing is flushed: the caller publishes what the target has become.
 * @throws DeltaError E_PCBT_…, E_DELTA_…, E_DISK_MISMATCH; DrError of base and target
 */
export async function applyToCopy(
  base: ReadableDisk,
  delta: DeltaInput,
  target: Pick<DeltaTarget, 'write'>,
  options: Pick<ApplyOptions, 'manifest' | 'progress'> = {},
): Promise<ApplyResult> {
  const checked = await checkBeforehand(delta, base.sizeBytes, options);
  const composer = new Composer(base, target);
  let zeroBytes = 0;
  try {
    const result = await consume(delta, base.sizeBytes, checked, options, async (segment) => {
      for (const run of segment.isWhole ? zeroRuns(segment.data, segment.offset) : []) {
        if (run.isZero) zeroBytes += run.end - run.start;
      }
      await composer.add(segment);
    });
    await composer.finish();
    return { ...result, zeroBytes };
  } finally {
    await composer.close();
  }
}

interface Checked {
  /** CRC-32 of all data, when it was read beforehand. */
  readonly checksum: number | undefined;
  readonly totalBytes: number;
}

async function checkBeforehand(
  delta: DeltaInput,
  diskSizeBytes: number,
  options: ApplyOptions,
): Promise<Checked> {
  checkDiskSize(diskSizeBytes, 'the target');
  const { manifest } = options;
  if (manifest !== undefined) {
    checkFits(manifest, diskSizeBytes);
    await manifest.verify();
  }
  let totalBytes = 0;
  if (delta.kind === 'stream') return { checksum: undefined, totalBytes };
  for await (const block of indexPcbt(delta.file, { diskSizeBytes }))
    totalBytes += block.lengthBytes;
  if (manifest === undefined) return { checksum: undefined, totalBytes };
  const verifier = strictVerifier(manifest);
  const reader = await PcbtReader.open(fileChunks(delta.file), { diskSizeBytes });
  let checksum = 0;
  try {
    for await (const segment of segmentsOf(reader.pieces(), diskSizeBytes)) {
      await verifier.check(segment);
      checksum = crc32(segment.data, checksum);
    }
    await verifier.finish();
  } finally {
    await verifier.close();
  }
  return { checksum, totalBytes };
}

function checkFits(manifest: ManifestFile, diskSizeBytes: number): void {
  const { header } = manifest;
  checkKind(header, 'delta');
  if (header.diskSizeBytes !== diskSizeBytes) {
    throw new DeltaError(
      'E_DISK_MISMATCH',
      `the delta is for a disk of ${header.diskSizeBytes} bytes, the target has ${diskSizeBytes}`,
      { context: { deltaSizeBytes: header.diskSizeBytes, targetSizeBytes: diskSizeBytes } },
    );
  }
}

function strictVerifier(manifest: ManifestFile): CellVerifier {
  return new CellVerifier(manifest, ({ code, offset, message }) => {
    throw new DeltaError(code, `${message} (guest offset ${offset})`, { context: { offset } });
  });
}

/** Reads the delta once and hands on what has been checked. */
async function consume(
  delta: DeltaInput,
  diskSizeBytes: number,
  checked: Checked,
  options: ApplyOptions,
  take: (segment: Segment) => Promise<void>,
): Promise<Omit<ApplyResult, 'zeroBytes'>> {
  const chunks = delta.kind === 'file' ? fileChunks(delta.file) : delta.chunks;
  // What was verified beforehand is only compared by checksum: the file is ours, and locked.
  const verifier =
    options.manifest !== undefined && checked.checksum === undefined
      ? strictVerifier(options.manifest)
      : undefined;
  let checksum = 0;
  let deltaBytes = 0;
  try {
    const reader = await PcbtReader.open(chunks, { diskSizeBytes });
    for await (const segment of segmentsOf(reader.pieces(), diskSizeBytes)) {
      await verifier?.check(segment);
      if (checked.checksum !== undefined) checksum = crc32(segment.data, checksum);
      await take(segment);
      deltaBytes += segment.data.length;
      options.progress?.(deltaBytes, Math.max(deltaBytes, checked.totalBytes));
    }
    await verifier?.finish();
    if (checked.checksum !== undefined && checked.checksum !== checksum) {
      throw new DeltaError('E_DELTA_UNSTABLE', 'the delta changed while it was being applied');
    }
    return { blockCount: reader.blockCount, deltaBytes };
  } finally {
    await verifier?.close();
  }
}

/**
 * Lays segments over a disk and writes the sum in ascending windows of whole cells, so that the
 * target never sees a part of a cell twice, whatever the alignment of the delta.
 */
class Composer {
  readonly #base: ReadableDisk;
  readonly #target: Pick<DeltaTarget, 'write'>;
  readonly #stored: Peekable<{ start: number; end: number }>;
  readonly #buffer = Buffer.alloc(PIECE_BYTES);
  /** The window [start, end) in guest bytes that the buffer holds; empty: none. */
  #start = 0;
  #end = 0;

  constructor(base: ReadableDisk, target: Pick<DeltaTarget, 'write'>) {
    this.#base = base;
    this.#target = target;
    this.#stored = new Peekable(storedCells(base));
  }

  async add(segment: Segment): Promise<void> {
    let { offset, data } = segment;
    while (data.length > 0) {
      if (offset >= this.#end) await this.#moveTo(offset);
      const part = data.subarray(0, this.#end - offset);
      this.#buffer.set(part, offset - this.#start);
      offset += part.length;
      data = data.subarray(part.length);
    }
  }

  async finish(): Promise<void> {
    await this.#moveTo(this.#base.sizeBytes);
  }

  async close(): Promise<void> {
    await this.#stored.close();
  }

  /** Writes the window, then all of the base before `offset`, and loads the window there. */
  async #moveTo(offset: number): Promise<void> {
    await this.#write();
    const sizeBytes = this.#base.sizeBytes;
    const stop = offset - (offset % CELL_BYTES);
    for (;;) {
      const range = await this.#stored.peek();
      if (range === undefined) break;
      const start = Math.max(range.start * CELL_BYTES, this.#end);
      const rangeEnd = Math.min(range.end * CELL_BYTES, sizeBytes);
      if (start >= rangeEnd) {
        await this.#stored.next();
        continue;
      }
      if (start >= stop && offset < sizeBytes) break;
      const limit = offset < sizeBytes ? stop : sizeBytes;
      this.#start = start;
      this.#end = Math.min(start + PIECE_BYTES, rangeEnd, limit);
      await this.#base.read(start, this.#buffer.subarray(0, this.#end - start));
      await this.#write();
    }
    if (offset >= sizeBytes) return;
    this.#start = stop;
    this.#end = Math.min(stop + PIECE_BYTES, sizeBytes);
    await this.#base.read(stop, this.#buffer.subarray(0, this.#end - stop));
  }

  async #write(): Promise<void> {
    const data = this.#buffer.subarray(0, this.#end - this.#start);
    for (const run of zeroRuns(data, this.#start)) {
      if (!run.isZero) {
        await this.#target.write(this.#start + run.start, data.subarray(run.start, run.end));
      }
    }
  }
}
