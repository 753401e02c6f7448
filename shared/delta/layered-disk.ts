// A disk as of a restore point, without a copy: the base, and over it the union of the deltas up to
// the point. Read-only. The index of the union is kept in memory, 18 bytes for each run of cells
// that lie in a row in one delta: at most 18 bytes per changed cell (0.03 % of the deltas' data),
// independent of the size of the base. Cells are not verified here: scrub and verify do that.

import { defined } from '../assert.js';
import type { Extent, ReadableDisk } from '../disk/index.js';
import { CELL_BYTES, cellOffset } from './cell.js';
import { DeltaError } from './delta-error.js';
import type { DeltaSource } from './delta-source.js';
import { checkAdjacent, unionOf } from './union.js';

const ZERO_SOURCE = 0xffff;

interface Run {
  readonly start: number;
  readonly end: number;
  /** undefined: zeros */
  readonly source: DeltaSource | undefined;
  /** Of the first byte, in the source. */
  readonly position: number;
}

/** Growing columns, so that a run costs its bytes and no object. */
class RunTable {
  count = 0;
  #cells = new Uint32Array(64);
  #lengths = new Uint32Array(64);
  #sources = new Uint16Array(64);
  #positions = new Float64Array(64);

  add(cell: number, count: number, source: number, position: number): void {
    const last = this.count - 1;
    const lastLength = this.#lengths[last] ?? 0;
    const isNext =
      last >= 0 &&
      (this.#cells[last] ?? 0) + lastLength === cell &&
      this.#sources[last] === source &&
      (source === ZERO_SOURCE ||
        (this.#positions[last] ?? 0) + lastLength * CELL_BYTES === position);
    if (isNext) {
      this.#lengths[last] = lastLength + count;
      return;
    }
    if (this.count === this.#cells.length) this.#resize(this.count * 2);
    this.#cells[this.count] = cell;
    this.#lengths[this.count] = count;
    this.#sources[this.count] = source;
    this.#positions[this.count] = position;
    this.count++;
  }

  /** Gives back what growing has taken too much. */
  seal(): void {
    this.#resize(this.count);
  }

  #resize(length: number): void {
    const grown = <T extends Uint32Array | Uint16Array | Float64Array>(to: T, from: T): T => {
      to.set(from.subarray(0, this.count));
      return to;
    };
    this.#cells = grown(new Uint32Array(length), this.#cells);
    this.#lengths = grown(new Uint32Array(length), this.#lengths);
    this.#sources = grown(new Uint16Array(length), this.#sources);
    this.#positions = grown(new Float64Array(length), this.#positions);
  }

  get(index: number): { cell: number; count: number; source: number; position: number } {
    return {
      cell: this.#cells[index] ?? 0,
      count: this.#lengths[index] ?? 0,
      source: this.#sources[index] ?? ZERO_SOURCE,
      position: this.#positions[index] ?? 0,
    };
  }

  /** Index of the first run that ends after `cell`. */
  find(cell: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const end = (this.#cells[middle] ?? 0) + (this.#lengths[middle] ?? 0);
      if (end > cell) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

export class LayeredDisk implements ReadableDisk {
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly #base: ReadableDisk;
  readonly #sources: readonly DeltaSource[];
  readonly #runs: RunTable;

  private constructor(base: ReadableDisk, sources: readonly DeltaSource[], runs: RunTable) {
    this.sizeBytes = base.sizeBytes;
    this.logicalSectorBytes = base.logicalSectorBytes;
    this.physicalSectorBytes = base.physicalSectorBytes;
    this.#base = base;
    this.#sources = sources;
    this.#runs = runs;
  }

  /**
   * The disk that `base` becomes with adjacent deltas, the oldest first. The base is closed with
   * this disk; the sources' files stay the caller's.
   * @throws DeltaError E_DISK_MISMATCH, E_DELTA_PARENT, E_DELTA_MANIFEST, E_DELTA_COVERAGE
   */
  static async open(base: ReadableDisk, sources: readonly DeltaSource[]): Promise<LayeredDisk> {
    checkAdjacent(sources.map((source) => source.header));
    for (const { header } of sources) {
      if (header.diskSizeBytes === base.sizeBytes) continue;
      throw new DeltaError(
        'E_DISK_MISMATCH',
        `the delta of point ${header.point} is for a disk of ${header.diskSizeBytes} bytes, the base has ${base.sizeBytes}`,
        { context: { deltaSizeBytes: header.diskSizeBytes, baseSizeBytes: base.sizeBytes } },
      );
    }
    if (sources.length >= ZERO_SOURCE) {
      throw new DeltaError('E_DELTA_PARENT', `${sources.length} deltas are too many for one disk`);
    }
    const runs = new RunTable();
    for await (const { entry, source } of unionOf(sources)) {
      if (entry.kind === 'data') runs.add(entry.cell, 1, source, entry.position);
      else runs.add(entry.cell, entry.count, ZERO_SOURCE, 0);
    }
    runs.seal();
    return new LayeredDisk(base, sources, runs);
  }

  #run(index: number): Run {
    const { cell, count, source, position } = this.#runs.get(index);
    return {
      start: cell * CELL_BYTES,
      end: cellOffset(cell + count, this.sizeBytes),
      source:
        source === ZERO_SOURCE
          ? undefined
          : defined(this.#sources[source], 'a run names one of the sources'),
      position,
    };
  }

  /** The runs that touch [start, end), in order. */
  *#runsIn(start: number, end: number): Generator<Run> {
    let index = this.#runs.find(Math.floor(start / CELL_BYTES));
    for (; index < this.#runs.count; index++) {
      const run = this.#run(index);
      if (run.start >= end) return;
      yield run;
    }
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const end = offset + target.length;
    const part = (from: number, to: number): Uint8Array =>
      target.subarray(from - offset, to - offset);
    let at = offset;
    for (const run of this.#runsIn(offset, end)) {
      if (at < run.start) await this.#base.read(at, part(at, run.start));
      const from = Math.max(at, run.start);
      at = Math.min(end, run.end);
      if (run.source === undefined) part(from, at).fill(0);
      else await run.source.read(run.position + (from - run.start), part(from, at));
    }
    if (at < end) await this.#base.read(at, part(at, end));
  }

  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    let open: Extent | undefined;
    for await (const extent of this.#unjoined(start, end)) {
      if (open?.kind === extent.kind) {
        open = { ...open, end: extent.end };
      } else {
        if (open !== undefined) yield open;
        open = extent;
      }
    }
    if (open !== undefined) yield open;
  }

  async *#unjoined(start: number, end: number): AsyncGenerator<Extent> {
    let at = start;
    for (const run of this.#runsIn(start, end)) {
      if (at < run.start) yield* this.#base.extents(at, run.start);
      const from = Math.max(at, run.start);
      at = Math.min(end, run.end);
      yield { start: from, end: at, kind: run.source === undefined ? 'zero' : 'data' };
    }
    if (at < end) yield* this.#base.extents(at, end);
  }

  async close(): Promise<void> {
    await this.#base.close();
  }
}
