// What stood in the cells before that a cycle brought: the sampled ones are looked up in the parent
// point and compared. Done when a cycle is committed, and only when it brought cells that look random.
//
// The cost is bounded: the newest layers of a disk are searched, then its base. What neither has may
// stand in a layer between, and is not compared. Bytes are checked against their hashes on the way.

import { CELL_BYTES, type DataEntry, cellLength, readVerified } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import {
  type Layer,
  layersOf,
  openLayer,
  type OpenLayer,
  type ReadSeams,
  segmentOf,
} from '../store/point-sources.js';
import type { DiskRecord, DiskSigns } from '../store/records.js';
import type { VmStore } from '../store/vm-store.js';
import { type CellStatistics, hasTurned, lookAt, type RandomSample } from './cell-statistics.js';

/** Fewer random-looking cells than this are not worth a look at the store. */
const COMPARED_FROM = 4;
/** Of a chain, besides its base. */
const LAYERS_SEARCHED = 16;
/** Records of manifests that are read for one disk, those of the base not counted. */
const RECORDS_READ = 64 * 1024;

/**
 * The disks of a cycle with their signs; `statistics[n]` is of disk n. To be called before the commit,
 * while the head is still the parent, and outside of any change of the VM. What cannot be read back is told, and costs no commit.
 */
export async function addSigns(
  seams: ReadSeams,
  vm: VmStore,
  disks: readonly DiskRecord[],
  statistics: readonly CellStatistics[],
): Promise<{ disks: DiskRecord[]; warnings: string[] }> {
  const { head } = vm.protection;
  const warnings: string[] = [];
  const signed: DiskRecord[] = [];
  for (const [index, disk] of disks.entries()) {
    const seen = statistics[index];
    if (seen === undefined || seen.screenedCount === 0) {
      signed.push(disk);
      continue;
    }
    let signs = signsAlone(seen, disk.dataCellCount);
    if (head !== undefined && disk.transfer === 'delta') {
      try {
        const lease = await vm.leases.read([segmentOf(vm, head, disk)]);
        try {
          signs = await compareCells(seams, layersOf(vm, head, disk), seen, disk.dataCellCount);
        } finally {
          lease.release();
        }
      } catch (error) {
        if (!(error instanceof DrError)) throw error;
        warnings.push(
          `the cells before could not be read to look for encryption: ${error.message}`,
        );
      }
    }
    signed.push({ ...disk, signs });
  }
  return { disks: signed, warnings };
}

/** Signs without a look at what was before. */
function signsAlone(statistics: CellStatistics, dataCellCount: number): DiskSigns {
  return {
    screened: statistics.screenedCount,
    random: Math.round(statistics.randomShare * dataCellCount),
    compared: 0,
    turned: 0,
    fresh: 0,
    others: 0,
    rewritten: 0,
  };
}

/**
 * The signs of a delta. `layers`: those of the disk as of the parent point, the base first.
 * @throws DrError, DeltaError when the layers cannot be read
 */
async function compareCells(
  seams: ReadSeams,
  layers: readonly Layer[],
  statistics: CellStatistics,
  dataCellCount: number,
): Promise<DiskSigns> {
  const alone = signsAlone(statistics, dataCellCount);
  const { randomSample, otherSample } = statistics;
  if (randomSample.length < COMPARED_FROM) return alone;
  const samples = new Map(randomSample.map((sample) => [sample.cell, sample]));
  const search = new Search(samples, otherSample);
  await search.run(seams, layers);
  return { ...alone, ...search.result };
}

class Search {
  readonly #samples: ReadonlyMap<number, RandomSample>;
  /** Cells of which it is not known yet what stood there. */
  readonly #wanted: Set<number>;
  #compared = 0;
  #turned = 0;
  #fresh = 0;
  #others = 0;
  #rewritten = 0;

  constructor(samples: ReadonlyMap<number, RandomSample>, others: readonly number[]) {
    this.#samples = samples;
    this.#wanted = new Set([...samples.keys(), ...others]);
  }

  get result(): Pick<DiskSigns, 'compared' | 'turned' | 'fresh' | 'others' | 'rewritten'> {
    return {
      compared: this.#compared,
      turned: this.#turned,
      fresh: this.#fresh,
      others: this.#others,
      rewritten: this.#rewritten,
    };
  }

  async run(seams: ReadSeams, layers: readonly Layer[]): Promise<void> {
    const [base, ...deltas] = layers;
    if (base === undefined) return;
    let records = 0;
    let hasSkipped = deltas.length > LAYERS_SEARCHED;
    for (const layer of deltas.slice(-LAYERS_SEARCHED).reverse()) {
      if (this.#wanted.size === 0) return;
      records += layer.disk.dataCellCount;
      if (records > RECORDS_READ) {
        hasSkipped = true;
        break;
      }
      await this.#look(seams, layer);
    }
    // while deltas are being folded into a base, the newer layers hide what is in between
    if (this.#wanted.size === 0 || (hasSkipped && base.folding !== undefined)) return;
    await this.#look(seams, base);
    if (hasSkipped) return;
    for (const cell of this.#wanted) this.#nothingAt(cell);
  }

  async #look(seams: ReadSeams, layer: Layer): Promise<void> {
    const open = await openLayer(seams, layer);
    try {
      for await (const entry of open.base === undefined
        ? this.#inDelta(open)
        : this.#inBase(open)) {
        if (entry.kind === 'nothing') this.#nothingAt(entry.cell);
        else await this.#dataAt(open, entry);
      }
    } finally {
      await open.close();
    }
  }

  /** A delta tells the places of its cells only to those who read it from its beginning. */
  async *#inDelta({ source }: OpenLayer): AsyncGenerator<Found> {
    const wanted = [...this.#wanted].sort((a, b) => a - b);
    let index = 0;
    for await (const entry of source.entries()) {
      const end = entry.cell + (entry.kind === 'data' ? 1 : entry.count);
      while (index < wanted.length && (wanted[index] ?? 0) < entry.cell) index++;
      for (; index < wanted.length && (wanted[index] ?? 0) < end; index++) {
        const cell = wanted[index] ?? 0;
        yield entry.kind === 'data' ? entry : { kind: 'nothing', cell };
      }
      if (index === wanted.length) return;
    }
  }

  async *#inBase({ manifest }: OpenLayer): AsyncGenerator<Found> {
    for (const cell of [...this.#wanted]) {
      const record = await manifest.find(cell);
      if (record?.kind === 'data') yield { ...record, position: cell * CELL_BYTES };
    }
  }

  async #dataAt({ source }: OpenLayer, entry: DataEntry): Promise<void> {
    this.#wanted.delete(entry.cell);
    const sample = this.#samples.get(entry.cell);
    if (sample === undefined) {
      this.#others++;
      this.#rewritten++;
      return;
    }
    const bytes = Buffer.allocUnsafe(cellLength(entry.cell, source.header.diskSizeBytes));
    await readVerified(source, [entry], bytes);
    this.#compared++;
    if (hasTurned(lookAt(bytes), sample.look)) this.#turned++;
  }

  #nothingAt(cell: number): void {
    this.#wanted.delete(cell);
    if (this.#samples.has(cell)) {
      this.#compared++;
      this.#fresh++;
    } else {
      this.#others++;
    }
  }
}

type Found = DataEntry | { readonly kind: 'nothing'; readonly cell: number };
