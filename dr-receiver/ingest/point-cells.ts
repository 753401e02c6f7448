// The cells of a disk as of a point, for a cycle that brings the disk as a new base and names what is
// the same. Read in ascending order, once; every cell is hashed before it is handed out.

import {
  cellLength,
  type DataEntry,
  type DeltaSource,
  readVerified,
  unionOf,
} from '../../shared/delta/index.js';
import type { EarlierDisk } from '../store/earlier-disks.js';
import type { Lease } from '../store/leases.js';
import {
  closeLayers,
  layersOf,
  listedPoint,
  openLayers,
  type OpenLayer,
  type ReadSeams,
  segmentOf,
} from '../store/point-sources.js';
import type { VmStore } from '../store/vm-store.js';

export class PointCells {
  readonly #layers: readonly OpenLayer[];
  readonly #entries: ReturnType<typeof unionOf>;
  #head: { readonly entry: DataEntry; readonly source: DeltaSource } | undefined;
  #isAtEnd = false;

  readonly #lease: Lease;

  private constructor(layers: readonly OpenLayer[], lease: Lease) {
    this.#layers = layers;
    this.#lease = lease;
    this.#entries = unionOf(layers.map(({ source }) => source));
  }

  /** Its files stay as they are until close(). @throws DrError E_NO_POINT, E_POINT_CORRUPT, E_IO, … */
  static async open(
    seams: ReadSeams,
    vm: VmStore,
    { point: { pointId }, disk }: EarlierDisk,
  ): Promise<PointCells> {
    const lease = await vm.leases.read([segmentOf(vm, listedPoint(vm, pointId), disk)]);
    try {
      // the point may have been forgotten meanwhile
      const layers = layersOf(vm, listedPoint(vm, pointId), disk);
      return new PointCells(await openLayers(seams, layers), lease);
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  /** The bytes of a cell when the point has it with this hash. Cells are asked for in ascending order. */
  async find(cell: number, hash: Buffer): Promise<Buffer | undefined> {
    while (!this.#isAtEnd && (this.#head === undefined || this.#head.entry.cell < cell)) {
      await this.#advance();
    }
    const head = this.#head;
    if (head?.entry.cell !== cell || !head.entry.hash.equals(hash)) return undefined;
    const { diskSizeBytes } = head.source.header;
    const bytes = Buffer.allocUnsafeSlow(cellLength(cell, diskSizeBytes));
    await readVerified(head.source, [head.entry], bytes);
    return bytes;
  }

  async #advance(): Promise<void> {
    const next = await this.#entries.next();
    this.#head = undefined;
    if (next.done === true) {
      this.#isAtEnd = true;
      return;
    }
    const { entry, source: index } = next.value;
    const source = this.#layers[index]?.source;
    if (entry.kind === 'data' && source !== undefined) this.#head = { entry, source };
  }

  async close(): Promise<void> {
    await this.#entries.return(undefined);
    await closeLayers(this.#layers);
    this.#lease.release();
  }
}
