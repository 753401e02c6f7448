// One disk of a cycle on its way in: cells are checked against the hash that came with them, written
// once at their final place, and entered in the manifest. A delta's cells go one behind the other into
// a file; those of a new base go straight into a VHDX (design.md § 7).
//
// Invariants:
// - Nothing is written whose hash was not checked, and nothing out of order.
// - A settle is about everything that was taken before beginSettle(), whose answer tells how far that
//   is. It is durable when `written` has settled and flush() has returned. Cells taken meanwhile are
//   not part of it.
// - After any failure the disk takes nothing more.

import { assert } from '../../shared/assert.js';
import type { Random } from '../../shared/clock.js';
import {
  type BatchEntry,
  CELL_BYTES,
  cellCount,
  cellLength,
  DeltaError,
  encodeManifestHeader,
  hashCell,
  ManifestAppender,
  manifestEnd,
  ManifestFile,
  type ManifestHeader,
  type ManifestTrailer,
} from '../../shared/delta/index.js';
import type { ErrorCode } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import { type SealedPlaces, SealedVhdxWriter } from '../../shared/vhdx/index.js';
import type { DiskFiles } from '../store/layout.js';
import type { SoundProgress } from './ahead-check.js';
import { allDone } from './all-done.js';
import type { DiskProgress } from './progress-file.js';
import { placesOf } from './staged-cells.js';
import { writeAgain } from './write-again.js';

/** Of the file of a base, which passes the page cache by. */
const BASE_WRITES_UNDER_WAY = 4;
/** One message may name a thousand cells to be copied: 64 MiB that nobody had to send. */
const REUSE_UNDER_WAY_BYTES = 4 * 1024 * 1024;

/** Where the cells go. Several writes may be under way. */
interface CellSink {
  /** Cells that lie in a row, behind all earlier ones. The bytes are in use until it settles. */
  write(cell: number, bytes: Buffer): Promise<void>;
  /** All is written; completes the form of the file. Not flushed for a delta. */
  finish(): Promise<void>;
  /** Blocks of a base that hold one of the cells written so far. */
  readonly blockCount: number;
  /** Waits for what is under way. */
  settled(): Promise<void>;
}

class DeltaSink implements CellSink {
  readonly blockCount = 0;
  readonly #file: BlockFile;
  #end: number;

  constructor(file: BlockFile, end: number) {
    this.#file = file;
    this.#end = end;
  }

  async write(_cell: number, bytes: Buffer): Promise<void> {
    const position = this.#end;
    this.#end += bytes.length;
    await this.#file.write(position, bytes);
  }

  async finish(): Promise<void> {
    // the bytes of the cells are all there is
  }

  async settled(): Promise<void> {
    // each write is awaited by whoever began it
  }
}

class BaseSink implements CellSink {
  readonly #writer: SealedVhdxWriter;
  readonly #places: SealedPlaces;

  constructor(writer: SealedVhdxWriter, places: SealedPlaces) {
    this.#writer = writer;
    this.#places = places;
  }

  get blockCount(): number {
    return this.#places.blockCount;
  }

  write(cell: number, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; at += CELL_BYTES) this.#places.of(cell * CELL_BYTES + at);
    return this.#writer.write(cell * CELL_BYTES, bytes);
  }

  async finish(): Promise<void> {
    await this.#writer.finish();
  }

  settled(): Promise<void> {
    return this.#writer.abort();
  }
}

export interface IntakeOptions {
  readonly fs: FileSystem;
  readonly random: Random;
  readonly diskIndex: number;
  readonly header: ManifestHeader;
  readonly files: DiskFiles;
}

/** What is made durable at once of a disk. */
export interface DiskSettle {
  readonly progress: DiskProgress;
  /** CRC-32C of the manifest's bytes that belong to it. */
  readonly manifestCrc: number;
  /** Settles when all of it is written, and can be flushed. @throws DrError E_IO, E_CAPACITY */
  readonly written: Promise<void>;
}

/** The bytes of a cell that an earlier, unfinished cycle brought; undefined when there are none. */
export type ReuseCell = (cell: number, hash: Buffer) => Promise<Buffer | undefined>;

export class DiskIntake {
  readonly #header: ManifestHeader;
  readonly #diskIndex: number;
  readonly #data: BlockFile;
  readonly #manifestFile: BlockFile;
  readonly #manifest: ManifestAppender;
  readonly #sink: CellSink;
  readonly #underWay = new Set<Promise<void>>();
  #underWayBytes = 0;
  #nextCell: number;
  #dataBytes: number;
  #namedBytes: number;
  #unsettledBytes = 0;
  #isEnded = false;
  #isComplete = false;
  #hasNews = false;
  #trailer: ManifestTrailer | undefined;
  #failure: { readonly error: unknown } | undefined;

  private constructor(
    { header, diskIndex }: IntakeOptions,
    files: { data: BlockFile; manifest: BlockFile },
    manifest: ManifestAppender,
    sink: CellSink,
    progress: DiskProgress | undefined,
  ) {
    this.#header = header;
    this.#diskIndex = diskIndex;
    this.#data = files.data;
    this.#manifestFile = files.manifest;
    this.#manifest = manifest;
    this.#sink = sink;
    this.#nextCell = progress?.nextCell ?? 0;
    this.#dataBytes = progress?.dataBytes ?? 0;
    this.#namedBytes = this.#dataBytes;
  }

  /** Begins with two empty files, whose names are durable on return when the folder is flushed. */
  static async create(options: IntakeOptions): Promise<DiskIntake> {
    const { fs, files, header } = options;
    // what an earlier attempt left under these names counts for nothing
    await fs.remove(files.data);
    await fs.remove(files.manifest);
    const data = await fs.open(files.data, { mode: 'create', isDirect: true });
    try {
      const manifest = await fs.open(files.manifest, { mode: 'create' });
      const appender = ManifestAppender.create(header, manifest);
      const sink = header.kind === 'base' ? baseSink(data, options) : new DeltaSink(data, 0);
      return new DiskIntake(options, { data, manifest }, appender, sink, undefined);
    } catch (error) {
      await data.close();
      throw error;
    }
  }

  /**
   * Goes on where `progress` says, which is durable after the next flush(). What is behind that in the
   * files is cut off.
   * @throws DeltaError E_DELTA_MANIFEST when the files do not hold it; DrError
   */
  static async resume(options: IntakeOptions, progress: SoundProgress): Promise<DiskIntake> {
    if (progress.isComplete) return DiskIntake.#reopen(options, progress);
    const { fs, files, header } = options;
    const data = await fs.open(files.data, { mode: 'write', isDirect: true });
    let manifest: BlockFile | undefined;
    try {
      manifest = await fs.open(files.manifest, { mode: 'write' });
      let dataEnd = 0;
      const writer = header.kind === 'base' ? vhdxWriter(data, options) : undefined;
      const places = placesOf(header);
      const { durableRecords } = progress;
      let recordCount = 0;
      const appender = await ManifestAppender.resume(header, manifest, progress, async (record) => {
        recordCount++;
        if (record.kind === 'zero') return;
        const lengthBytes = cellLength(record.cell, header.diskSizeBytes);
        if (writer === undefined) {
          dataEnd += lengthBytes;
        } else {
          dataEnd = await writer.skip(record.cell * CELL_BYTES, lengthBytes);
          places.of(record.cell * CELL_BYTES);
        }
        if (recordCount > (durableRecords ?? 0)) {
          await writeAgain(data, dataEnd - lengthBytes, dataEnd);
        }
      });
      const durableEnd = durableRecords === undefined ? 0 : manifestEnd(durableRecords);
      await writeAgain(manifest, durableEnd, manifestEnd(progress.recordCount));
      if ((await data.size()) < dataEnd) {
        throw new DeltaError('E_DELTA_COVERAGE', `${files.data} ends before its durable position`, {
          context: { file: files.data, expectedBytes: dataEnd },
        });
      }
      await data.truncate(dataEnd);
      const sink =
        writer === undefined ? new DeltaSink(data, dataEnd) : new BaseSink(writer, places);
      return new DiskIntake(options, { data, manifest }, appender, sink, progress);
    } catch (error) {
      await data.close();
      await manifest?.close();
      throw error;
    }
  }

  /** A disk of which everything is there; nothing of it is touched any more. */
  static async #reopen(options: IntakeOptions, progress: DiskProgress): Promise<DiskIntake> {
    const { fs, files, header } = options;
    const data = await fs.open(files.data, { mode: 'read' });
    let manifest: BlockFile | undefined;
    try {
      manifest = await fs.open(files.manifest, { mode: 'read' });
      const { header: found, trailer } = await ManifestFile.open(manifest);
      if (!encodeManifestHeader(found).equals(encodeManifestHeader(header))) {
        throw new DeltaError('E_DELTA_MANIFEST', `${files.manifest} is not of this cycle`, {
          context: { file: files.manifest },
        });
      }
      const unused = ManifestAppender.create(header, manifest);
      const sink = new DeltaSink(data, progress.dataBytes);
      const intake = new DiskIntake(options, { data, manifest }, unused, sink, progress);
      intake.#trailer = trailer;
      intake.#isEnded = true;
      intake.#isComplete = true;
      return intake;
    } catch (error) {
      await data.close();
      await manifest?.close();
      throw error;
    }
  }

  get header(): ManifestHeader {
    return this.#header;
  }

  get nextCell(): number {
    return this.#nextCell;
  }

  /** The end of the disk has come, and all of it is durable. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Known when the end of the disk has come. */
  get trailer(): ManifestTrailer | undefined {
    return this.#trailer;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** Bytes of the cells that came, zero ones included; of an earlier process the data only. */
  get namedBytes(): number {
    return this.#namedBytes;
  }

  /** Something came since the last settle began. */
  get hasNews(): boolean {
    return this.#hasNews;
  }

  /** Bytes taken since the last settle began, those of the manifest included. */
  get unsettledBytes(): number {
    return this.#unsettledBytes + this.#manifest.pendingBytes;
  }

  get underWayBytes(): number {
    return this.#underWayBytes;
  }

  #refuse(code: ErrorCode, message: string, cell: number): never {
    const { diskId, point } = this.#header;
    const offset = cell * CELL_BYTES;
    throw new DeltaError(code, `disk ${diskId}: ${message} (guest offset ${offset})`, {
      context: { diskId, point, offset },
      done: 'the cycle was stopped, what was durable before stays so',
    });
  }

  /**
   * Takes the cells of one message. `payload` is in use until `onWritten` is called, which does not
   * happen after an error. @throws DeltaError E_PROTOCOL, E_DELTA_HASH; DrError E_IO, E_CAPACITY
   */
  async take(
    entries: readonly BatchEntry[],
    payload: Buffer,
    reuse: ReuseCell,
    onWritten: () => void,
  ): Promise<void> {
    this.throwFailure();
    this.#hasNews = true;
    try {
      const writes = await this.#take(entries, payload, reuse);
      if (writes.length === 1) void writes[0]?.then(onWritten);
      else void Promise.all(writes).then(onWritten);
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  /** Returns the writes under way. */
  async #take(
    entries: readonly BatchEntry[],
    payload: Buffer,
    reuse: ReuseCell,
  ): Promise<Promise<void>[]> {
    const writes: Promise<void>[] = [];
    const { diskSizeBytes, kind } = this.#header;
    const lastCell = cellCount(diskSizeBytes) - 1;
    let at = 0;
    // cells in a row that one write takes: [runStart, at) of the payload
    let runStart = 0;
    let runCell = 0;
    const endRun = (): void => {
      if (at > runStart) writes.push(this.#write(runCell, payload.subarray(runStart, at)));
      runStart = at;
    };
    for (const entry of entries) {
      const { cell } = entry;
      const count = entry.kind === 'zero' ? entry.count : 1;
      if (this.#isEnded) this.#refuse('E_PROTOCOL', 'a cell comes behind the end', cell);
      if (cell < this.#nextCell) {
        this.#refuse('E_PROTOCOL', `cell ${cell} is not in ascending order`, cell);
      }
      if (cell + count - 1 > lastCell) {
        this.#refuse('E_PROTOCOL', `cell ${cell} and ${count} in a row leave the disk`, cell);
      }
      if (entry.kind === 'zero') {
        if (kind === 'delta') this.#enter(entry, cell);
      } else {
        const lengthBytes = cellLength(cell, diskSizeBytes);
        let bytes: Buffer;
        if (entry.kind === 'reuse') {
          const found = await reuse(cell, entry.hash);
          // a cycle of the same generation and another size may have another last cell
          if (found?.length !== lengthBytes) {
            this.#refuse('E_DELTA_HASH', `no unfinished cycle has the bytes of cell ${cell}`, cell);
          }
          endRun();
          bytes = found;
        } else {
          if (at + lengthBytes > payload.length) {
            this.#refuse('E_PROTOCOL', `the payload ends inside cell ${cell}`, cell);
          }
          bytes = payload.subarray(at, at + lengthBytes);
          if (!hashCell(bytes).equals(entry.hash)) {
            this.#refuse('E_DELTA_HASH', `the bytes of cell ${cell} do not have its hash`, cell);
          }
        }
        this.#enter({ kind: 'data', cell, hash: entry.hash }, cell);
        if (entry.kind === 'reuse') {
          writes.push(this.#write(cell, bytes));
          while (this.#underWayBytes > REUSE_UNDER_WAY_BYTES) await this.oneWrite();
        } else {
          const inRow = runCell + (at - runStart) / CELL_BYTES;
          if (kind === 'base' && at > runStart && cell !== inRow) endRun();
          if (at === runStart) runCell = cell;
          at += lengthBytes;
        }
      }
      this.#nextCell = cell + count;
      this.#namedBytes += count * CELL_BYTES;
    }
    endRun();
    if (at !== payload.length) {
      this.#refuse('E_PROTOCOL', `${payload.length - at} bytes belong to no cell`, this.#nextCell);
    }
    return writes;
  }

  #enter(record: Parameters<ManifestAppender['add']>[0], cell: number): void {
    const wrong = this.#manifest.add(record);
    if (wrong !== undefined) this.#refuse('E_PROTOCOL', wrong, cell);
  }

  /** Settles when the bytes are not in use any more; never rejects. */
  #write(cell: number, bytes: Buffer): Promise<void> {
    this.#dataBytes += bytes.length;
    this.#unsettledBytes += bytes.length;
    this.#underWayBytes += bytes.length;
    const done: Promise<void> = this.#sink
      .write(cell, bytes)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .then(() => {
        this.#underWayBytes -= bytes.length;
        this.#underWay.delete(done);
      });
    this.#underWay.add(done);
    return done;
  }

  /** Waits until one of the writes under way has ended. */
  async oneWrite(): Promise<void> {
    if (this.#underWay.size > 0) await Promise.race(this.#underWay);
    this.throwFailure();
  }

  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** The source says that the disk ends here. */
  async end(): Promise<void> {
    this.throwFailure();
    if (this.#isEnded) return;
    await Promise.all(this.#underWay);
    this.throwFailure();
    this.#hasNews = true;
    try {
      await this.#complete();
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  /** Writes what both files end with. */
  async #complete(): Promise<void> {
    this.#nextCell = cellCount(this.#header.diskSizeBytes);
    this.#trailer = await this.#manifest.finish();
    await this.#sink.finish();
    this.#isEnded = true;
  }

  /**
   * Takes stock of what was taken so far, at once, and begins to write what is not written yet. The
   * next one begins when this one is durable. @throws DrError, DeltaError of an earlier failure
   */
  beginSettle(): DiskSettle {
    this.throwFailure();
    const progress: DiskProgress = {
      diskIndex: this.#diskIndex,
      isComplete: this.#isEnded,
      nextCell: this.#nextCell,
      dataBytes: this.#dataBytes,
      blockCount: this.#sink.blockCount,
      ...this.#manifest.position,
    };
    this.#unsettledBytes = 0;
    this.#hasNews = false;
    const data = [...this.#underWay];
    const manifest = this.#manifest.beginWrite();
    return { progress, manifestCrc: manifest.crc, written: this.#written(data, manifest.written) };
  }

  async #written(data: readonly Promise<void>[], manifest: Promise<void>): Promise<void> {
    await this.#guard(async () => {
      // those of the data never reject
      await Promise.all([...data, manifest]);
      this.throwFailure();
    });
  }

  /** Flushes both files, but not their names. @throws DrError E_IO */
  async flush(): Promise<void> {
    if (this.#isComplete) return;
    await this.#guard(() => allDone([this.#data.flush(), this.#manifestFile.flush()]));
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  /** To be called when a progress that says so is durable. */
  markComplete(): void {
    assert(this.#isEnded, 'a disk is complete after its end');
    this.#isComplete = true;
  }

  async close(): Promise<void> {
    await Promise.all(this.#underWay);
    await this.#sink.settled();
    await this.#data.close();
    await this.#manifestFile.close();
  }
}

function vhdxWriter(file: BlockFile, { header, random }: IntakeOptions): SealedVhdxWriter {
  return SealedVhdxWriter.into(file, {
    random,
    concurrency: BASE_WRITES_UNDER_WAY,
    type: 'dynamic',
    sizeBytes: header.diskSizeBytes,
    logicalSectorBytes: header.logicalSectorBytes,
    physicalSectorBytes: header.physicalSectorBytes,
    diskId: header.diskId,
  });
}

function baseSink(file: BlockFile, options: IntakeOptions): BaseSink {
  return new BaseSink(vhdxWriter(file, options), placesOf(options.header));
}
