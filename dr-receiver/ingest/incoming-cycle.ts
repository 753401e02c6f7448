// A cycle on its way in: its folder, its disks, and how far it is durable. Invisible until commit.ts
// lists its point. One process, one cycle per VM at a time; a cycle that broke off is opened again
// from its folder, from nothing else.
//
//   take ─▶ settle: data ∥ manifests ∥ progress written ─▶ the same ∥ folders flushed ─▶ acknowledged
//
// So a power cut may leave a progress that is ahead of its data, which is found out when it is read.
// Where a disk ends it is written when all the rest was flushed, and always true (progress-file.ts).
//
// A settle begins when SETTLE_BYTES of a disk wait and none is under way; a disk waits when as much
// again has come meanwhile. So at most twice of that is sent again after a kill.

import type { Clock, Random } from '../../shared/clock.js';
import { cellCount, DeltaError, parseBatch } from '../../shared/delta/index.js';
import { OpenRequest } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { defined } from '../../shared/assert.js';
import { type Guid, releaseMemory } from '../../shared/bytes/index.js';
import type { VmLayout } from '../store/layout.js';
import type { DiskRecord } from '../store/records.js';
import { markRemoving } from '../store/removing-mark.js';
import type { CellStatistics } from '../warning/cell-statistics.js';
import { type SoundProgress, soundProgress } from './ahead-check.js';
import { allDone } from './all-done.js';
import { isDamaged } from './damage.js';
import { DiskIntake, type DiskSettle } from './disk-intake.js';
import {
  type CycleDisk,
  type CycleRequest,
  manifestHeaderOf,
  parseOpenRequest,
} from './open-request.js';
import {
  beginsAnew,
  type DiskProgress,
  ProgressFile,
  type ProgressRecord,
} from './progress-file.js';
import { StagedCells, type StagedDisk } from './staged-cells.js';

const SETTLE_BYTES = 4 * 1024 * 1024;
const IN_FLIGHT_BYTES = 8 * 1024 * 1024;
/** Acknowledgements between the ends of disks: so seldom that they cost nothing. */
const ACKNOWLEDGE_BYTES = 32 * 1024 * 1024;
const ACKNOWLEDGE_MS = 1000;

export interface IngestSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Of a disk, before a settle begins. Default 4 MiB; less for tests with small disks. */
  readonly settleBytes?: number;
}

/** What is told to the source: all cells of the disk before `durableCell` survive a power cut. */
export interface Acknowledgement {
  readonly diskIndex: number;
  readonly durableCell: number;
  readonly isComplete: boolean;
}

/** What a folder holds of a cycle that was not committed. */
export interface UnfinishedCycle {
  readonly request: CycleRequest;
  readonly progress: ReadonlyMap<number, SoundProgress>;
}

/**
 * Reads what a cycle folder says, and whether it holds that; undefined when it says nothing that
 * counts. What is found need not be durable, after a process that was killed. @throws DrError E_IO
 */
export async function readUnfinished(
  fs: FileSystem,
  layout: VmLayout,
  cycleId: Guid,
): Promise<UnfinishedCycle | undefined> {
  const path = layout.progress(cycleId);
  if ((await fs.status(path)) === undefined) return undefined;
  const file = await fs.open(path, { mode: 'read', lock: 'none' });
  try {
    const found = await ProgressFile.open(file, false);
    if (found === undefined) return undefined;
    const request = parseOpenRequest(OpenRequest.decode(found.request));
    const progress = new Map<number, SoundProgress>();
    for (const [index, records] of found.disks) {
      const disk = request.disks[index];
      if (disk === undefined) continue;
      const header = manifestHeaderOf(request, disk);
      const files = layout.files(disk, request.cycleId, disk.transfer);
      const sound = await soundProgress(fs, { header, files }, records);
      if (sound !== undefined) progress.set(index, sound);
    }
    return { request, progress };
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_PROTOCOL') return undefined;
    throw error;
  } finally {
    await file.close();
  }
}

/**
 * The durable part of a disk in an unfinished cycle, of whatever generation: its cells are compared, and
 * a seed knows no generation. Undefined when it has none.
 */
export function stagedDisk(
  layout: VmLayout,
  { request, progress }: UnfinishedCycle,
  { diskId }: { readonly diskId: Guid },
): StagedDisk | undefined {
  const index = request.disks.findIndex((each) => each.diskId === diskId);
  const found = request.disks[index];
  const position = progress.get(index);
  if (found === undefined || position === undefined) return undefined;
  return {
    header: manifestHeaderOf(request, found),
    files: layout.files(found, request.cycleId, found.transfer),
    progress: position,
  };
}

/** Cells that a source may name instead of sending them. */
export interface ReusableCells {
  /** The bytes of a cell that have this hash; cells are asked for in ascending order. */
  find(cell: number, hash: Buffer): Promise<Buffer | undefined>;
  close(): Promise<void>;
}

/** The cells of an older point, for a disk that is to be a base. Never throws for damage. */
export type OpenEarlier = (disk: CycleDisk) => Promise<ReusableCells | undefined>;

/** The result, or undefined when the unfinished cycle that it comes from is of no use. */
async function unlessDamaged<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result;
  } catch (error) {
    if (isDamaged(error)) return undefined;
    throw error;
  }
}

export class IncomingCycle {
  readonly request: CycleRequest;
  readonly #layout: VmLayout;
  readonly #seams: IngestSeams;
  readonly #intakes: DiskIntake[];
  readonly #progress: ProgressFile;
  /** Other cycles whose cells may be used again. */
  readonly #others: readonly UnfinishedCycle[];
  readonly #openEarlier: OpenEarlier | undefined;
  readonly #reusable = new Map<number, ReusableCells[]>();
  #areNamesDurable = false;
  #settling: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  /** Per disk, what was acknowledged last. */
  readonly #acknowledged = new Map<number, { dataBytes: number; atMs: number }>();
  /** Called with what has become durable. */
  onDurable: (acknowledgement: Acknowledgement) => void = () => undefined;
  /** Called before bytes are taken; throws when there is no room for them. */
  onBytes: (lengthBytes: number) => void = () => undefined;
  /** By the monotonic clock: when the last message came. */
  lastMessageAt = 0;

  private constructor(
    request: CycleRequest,
    layout: VmLayout,
    seams: IngestSeams,
    intakes: DiskIntake[],
    progress: ProgressFile,
    others: readonly UnfinishedCycle[],
    openEarlier: OpenEarlier | undefined,
  ) {
    this.request = request;
    this.#layout = layout;
    this.#seams = seams;
    this.#intakes = intakes;
    this.#progress = progress;
    this.#others = others;
    this.#openEarlier = openEarlier;
  }

  /** Begins a cycle, or goes on with what `found` tells. @throws DrError E_IO, E_CAPACITY, … */
  static async open(
    request: CycleRequest,
    layout: VmLayout,
    seams: IngestSeams,
    found: UnfinishedCycle | undefined,
    others: readonly UnfinishedCycle[],
    openEarlier?: OpenEarlier,
  ): Promise<IncomingCycle> {
    const { fs } = seams;
    const path = layout.progress(request.cycleId);
    const intakes: DiskIntake[] = [];
    let progress: ProgressFile | undefined;
    try {
      await fs.makeFolder(layout.cycle(request.cycleId));
      if (found === undefined) {
        if ((await fs.status(path)) !== undefined) {
          await markRemoving(fs, layout, request.cycleId);
          // durably, so that it never comes back and tells of the files that are begun now
          await fs.remove(path);
          await fs.flushFolder(layout.cycle(request.cycleId));
        }
        const file = await fs.open(path, { mode: 'create' });
        progress = await ProgressFile.create(file, request.encoded);
        // before there is any other file: a folder with content and without a progress is not ours
        await progress.flush();
        await fs.flushFolder(layout.cycle(request.cycleId));
        // goes for good with the names that the first settle flushes, before anything is acknowledged
        await fs.remove(layout.removing(request.cycleId));
      } else {
        const file = await fs.open(path, { mode: 'write' });
        progress = (await ProgressFile.open(file, true))?.file;
        if (progress === undefined) {
          await file.close();
          throw new DrError('E_IO', `${path} cannot be read a second time`);
        }
      }
      for (const [diskIndex, disk] of request.disks.entries()) {
        const files = layout.files(disk, request.cycleId, disk.transfer);
        const header = manifestHeaderOf(request, disk);
        const options = { ...seams, diskIndex, header, files };
        const position = found?.progress.get(diskIndex);
        if (position === undefined) await fs.makeFolder(files.folder);
        intakes.push(
          position === undefined
            ? await DiskIntake.create(options)
            : await DiskIntake.resume(options, position),
        );
      }
      const cycle = new IncomingCycle(
        ...([request, layout, seams, intakes, progress, others, openEarlier] as const),
      );
      if (found !== undefined) await cycle.#confirm(found.progress);
      return cycle;
    } catch (error) {
      for (const intake of intakes) await intake.close();
      await progress?.close();
      throw error;
    }
  }

  /** Where each disk goes on. */
  get positions(): { nextCell: number; isComplete: boolean }[] {
    return this.#intakes.map(({ nextCell, isComplete }) => ({ nextCell, isComplete }));
  }

  /** Bytes of the cells that came so far. */
  get namedBytes(): number {
    return this.#intakes.reduce((sum, { namedBytes }) => sum + namedBytes, 0);
  }

  get isComplete(): boolean {
    return this.#intakes.every((intake) => intake.isComplete);
  }

  #intake(index: number): DiskIntake {
    const intake = this.#intakes[index];
    if (intake !== undefined) return intake;
    throw new DeltaError('E_PROTOCOL', `the cycle has no disk ${index}`, {
      done: 'the cycle was stopped, what was durable before stays so',
    });
  }

  /**
   * Makes durable what was found, which a process that was killed may have left in memory only, and
   * puts it down once more, so that no record that was ahead of its data stands before the next one.
   */
  async #confirm(positions: ReadonlyMap<number, DiskProgress>): Promise<void> {
    const resumed = this.#intakes.filter((_, index) => positions.has(index));
    const records = this.#intakes.map((_, index): ProgressRecord => {
      const position = positions.get(index);
      if (position === undefined) return beginsAnew(index);
      return { ...position, standing: { kind: 'durable' } };
    });
    await this.#orRetract(() =>
      allDone([
        ...resumed.map((intake) => intake.flush()),
        this.#progress.flush(),
        this.#flushNames(),
      ]),
    );
    await this.#orRetract(async () => {
      await this.#progress.write(records);
      await this.#progress.flush();
    });
  }

  /**
   * Takes the next message of the stream, whose memory is given back when it is written.
   * @throws DeltaError E_PROTOCOL, E_DELTA_HASH; DrError */
  async take(bytes: Buffer): Promise<void> {
    this.#throwFailure();
    this.lastMessageAt = this.#seams.clock.monotonic();
    const message = parseBatch(bytes);
    if (message.kind === 'begin') {
      throw new DeltaError('E_PROTOCOL', 'a second begin came in a stream');
    }
    const intake = this.#intake(message.diskIndex);
    if (message.kind === 'end') {
      await this.#settling;
      this.#throwFailure();
      await intake.end();
      this.#beginSettle();
      return;
    }
    this.onBytes(message.payload.length);
    const { diskIndex } = message;
    const reuse = (cell: number, hash: Buffer): Promise<Buffer | undefined> =>
      this.#reuse(diskIndex, cell, hash);
    await intake.take(message.entries, message.payload, reuse, () => {
      releaseMemory(bytes);
    });
    if (intake.unsettledBytes >= (this.#seams.settleBytes ?? SETTLE_BYTES)) {
      await this.#settling;
      this.#beginSettle();
    }
    while (intake.underWayBytes > IN_FLIGHT_BYTES) await intake.oneWrite();
    this.#throwFailure();
  }

  async #reuse(diskIndex: number, cell: number, hash: Buffer): Promise<Buffer | undefined> {
    const { fs } = this.#seams;
    let sources = this.#reusable.get(diskIndex);
    if (sources === undefined) {
      sources = [];
      this.#reusable.set(diskIndex, sources);
      const disk = defined(this.request.disks[diskIndex], 'the disk was looked up before');
      for (const other of this.#others) {
        const staged = stagedDisk(this.#layout, other, disk);
        const cells = staged && (await unlessDamaged(StagedCells.open(fs, staged)));
        if (cells !== undefined) sources.push(cells);
      }
      const earlier = disk.transfer === 'base' ? await this.#openEarlier?.(disk) : undefined;
      if (earlier !== undefined) sources.push(earlier);
    }
    for (const source of sources) {
      const bytes = await unlessDamaged(source.find(cell, hash));
      if (bytes === undefined) continue;
      this.onBytes(bytes.length);
      return bytes;
    }
    return undefined;
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #beginSettle(): void {
    this.#settling ??= this.#settle()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .then(() => {
        this.#settling = undefined;
      });
  }

  async #settle(): Promise<void> {
    const open = this.#intakes.filter((intake) => intake.hasNews);
    if (open.length === 0) return;
    for (const intake of open) intake.throwFailure();
    const parts = open.map((intake) => intake.beginSettle());
    await this.#orRetract(() => this.#makeDurable(open, parts));
    const now = this.#seams.clock.monotonic();
    for (const { progress } of parts) {
      const { diskIndex, nextCell, isComplete, dataBytes } = progress;
      if (isComplete) this.#intake(diskIndex).markComplete();
      const last = this.#acknowledged.get(diskIndex) ?? { dataBytes: 0, atMs: 0 };
      const isDue = dataBytes - last.dataBytes >= ACKNOWLEDGE_BYTES;
      if (!isComplete && !isDue && now - last.atMs < ACKNOWLEDGE_MS) continue;
      this.#acknowledged.set(diskIndex, { dataBytes, atMs: now });
      this.onDurable({ diskIndex, durableCell: nextCell, isComplete });
    }
  }

  /** Does what makes the progress true and durable, or takes it back. @throws what `work` does */
  async #orRetract(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.#progress.retract(error);
      throw error;
    }
    this.#progress.accept();
  }

  async #makeDurable(intakes: readonly DiskIntake[], parts: readonly DiskSettle[]): Promise<void> {
    const written = parts.map((part) => part.written);
    const flush = (): Promise<void>[] => [
      ...intakes.map((intake) => intake.flush()),
      this.#flushNames(),
    ];
    if (parts.some(({ progress }) => progress.isComplete)) {
      await allDone(written);
      await allDone(flush());
      await this.#progress.write(
        parts.map(({ progress }) => ({ ...progress, standing: { kind: 'durable' } })),
      );
      await this.#progress.flush();
      return;
    }
    const records = parts.map(({ progress, manifestCrc }): ProgressRecord => ({
      ...progress,
      standing: { kind: 'ahead', manifestCrc },
    }));
    await allDone([...written, this.#progress.write(records)]);
    await allDone([...flush(), this.#progress.flush()]);
  }

  async #flushNames(): Promise<void> {
    if (this.#areNamesDurable) return;
    const { cycleId, disks } = this.request;
    const folders = new Set([this.#layout.cycle(cycleId)]);
    for (const disk of disks) folders.add(this.#layout.files(disk, cycleId, disk.transfer).folder);
    await Promise.all([...folders].map((folder) => this.#seams.fs.flushFolder(folder)));
    this.#areNamesDurable = true;
  }

  /** Makes durable whatever was taken. @throws the first failure */
  async settleAll(): Promise<void> {
    await this.#settling;
    this.#throwFailure();
    this.#beginSettle();
    await this.#settling;
    this.#throwFailure();
  }

  /** What a commit records of each disk; all of them are complete. @throws DrError E_STATE */
  diskRecords(): DiskRecord[] {
    return this.request.disks.map((disk: CycleDisk, index) => {
      const intake = this.#intake(index);
      const { trailer } = intake;
      if (!intake.isComplete || trailer === undefined) {
        throw new DrError(
          'E_STATE',
          `disk ${disk.diskId} is not complete: ${intake.nextCell} of ${cellCount(disk.sizeBytes)} cells came`,
          { hint: 'Send the rest of the disk and its end, then commit.' },
        );
      }
      const { cellCount: cells, dataCellCount, root } = trailer;
      const dataBytes = intake.dataBytes;
      return { ...disk, root: root.toString('hex'), cellCount: cells, dataCellCount, dataBytes };
    });
  }

  /** What the cells of each disk looked like, as far as this process took them. */
  get statistics(): CellStatistics[] {
    return this.#intakes.map((intake) => intake.statistics);
  }

  /** Releases all files; what was not settled does not count. */
  async close(): Promise<void> {
    await this.#settling;
    for (const sources of this.#reusable.values()) {
      for (const source of sources) await source.close();
    }
    for (const intake of this.#intakes) await intake.close();
    await this.#progress.close();
  }
}
