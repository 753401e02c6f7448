// Mends bad cells. A cell is only ever written when the bytes at hand have the very SHA-256 that its
// manifest lists, at the place where it stands, and it is read back before it counts. So a repair
// changes no point: it makes the files what they were. A power cut in the middle leaves a cell that is
// still bad, and still known as such, or a good one.
//
// A point that was marked is not good because its known cells were mended: it is cleared when all of
// it was read once more (scrub, verify).

import { type Guid } from '../../shared/bytes/index.js';
import {
  CELL_BYTES,
  cellLength,
  type DeltaSource,
  hashCell,
  type ManifestRecord,
} from '../../shared/delta/index.js';
import { isAllZero } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import { VhdxFile } from '../../shared/vhdx/index.js';
import { isDamage } from './damage.js';
import { exposed, knownFindings } from './exposure.js';
import { exposedPoints } from './inherit.js';
import type { DiskKey } from './layout.js';
import {
  type Layer,
  layersOf,
  openLayer,
  type OpenLayer,
  type ReadSeams,
} from './point-sources.js';
import type { VmStore } from './vm-store.js';

export interface WantedCell extends DiskKey {
  readonly cell: number;
  /** undefined: zeros. */
  readonly hash: Buffer | undefined;
  /** The newest point shows it. */
  readonly isInHead: boolean;
}

interface Wanted extends WantedCell {
  readonly key: string;
  readonly layer: Layer;
  /** In the file of a delta. */
  readonly place: number;
}

/**
 * Somebody who may have bytes of a disk: yields those of the wanted cells that it has, in any order.
 * They are checked before they are used.
 */
export type Donor = (
  disk: DiskKey,
  wanted: readonly { readonly cell: number; readonly hash: Buffer }[],
) => AsyncIterable<{ readonly cell: number; readonly bytes: Buffer }>;

/** All layers of listed points, by key. */
export function listedLayers(vm: VmStore): Map<string, Layer> {
  const layers = new Map<string, Layer>();
  const walked = new Set<string>();
  for (const point of vm.protection.listed.toReversed()) {
    for (const disk of point.disks) {
      // what an older point stands on is a part of what a newer one does
      if (walked.has(`${point.pointId} ${diskOf(disk)}`)) continue;
      for (const layer of layersOf(vm, point, disk)) {
        walked.add(`${layer.pointId} ${diskOf(disk)}`);
        layers.set(vm.layout.keyOf(layer.files), layer);
      }
    }
  }
  return layers;
}

/** Disks of the head of which a layer cannot be used at all: no delta can stand on them. */
export function lostDisks(vm: VmStore): Guid[] {
  const { head } = vm.protection;
  if (head === undefined || vm.scrub.damage.size === 0) return [];
  return head.disks
    .filter((disk) =>
      layersOf(vm, head, disk).some(
        ({ files }) => vm.scrub.damage.get(vm.layout.keyOf(files))?.cells === 'all',
      ),
    )
    .map(({ diskId }) => diskId);
}

/** How many cells Wanted would tell at most; `which`: those that are news to the source. */
export function wantedCount(vm: VmStore, which: 'all' | 'untold'): number {
  const { damage, told } = vm.scrub;
  if (damage.size === 0) return 0;
  const layers = listedLayers(vm);
  let count = 0;
  for (const [key, { cells }] of damage) {
    if (cells === 'all' || !layers.has(key)) continue;
    const isNews = (cell: number): boolean => !told.has(`${key} ${cell}`);
    count += which === 'all' ? cells.length : cells.filter(isNews).length;
  }
  return count;
}

/**
 * The work of mending one VM. Each step is to be called inside a change of the VM, with its points held
 * (exposure.ts).
 */
export class Repair {
  readonly #seams: ReadSeams;
  readonly #vm: VmStore;
  readonly #layers: ReadonlyMap<string, Layer>;
  readonly #exposedBefore: ReadonlySet<Guid>;
  /** By disk and cell; two layers may want the same cell. */
  readonly #wanted = new Map<string, Wanted[]>();
  repairedCount = 0;
  readonly #mended = new Map<string, Set<number>>();

  private constructor(
    seams: ReadSeams,
    vm: VmStore,
    layers: ReadonlyMap<string, Layer>,
    exposedBefore: ReadonlySet<Guid>,
    wanted: Wanted[],
  ) {
    this.#seams = seams;
    this.#vm = vm;
    this.#layers = layers;
    this.#exposedBefore = exposedBefore;
    for (const one of wanted) {
      const name = nameOf(one, one.cell);
      this.#wanted.set(name, [...(this.#wanted.get(name) ?? []), one]);
    }
  }

  /** @throws DrError E_HALTED, E_IO */
  static async open(seams: ReadSeams, vm: VmStore): Promise<Repair> {
    vm.requireSound();
    const layers = listedLayers(vm);
    const before = await exposedPoints(seams, vm);
    return new Repair(seams, vm, layers, before, await findWanted(seams, vm, layers));
  }

  get wanted(): readonly WantedCell[] {
    return this.#all;
  }

  /** The source has been told all of them: those of older points are no news any more. */
  noteTold(): void {
    for (const { key, cell, isInHead } of this.#all) {
      if (!isInHead) this.#vm.scrub.told.add(`${key} ${cell}`);
    }
  }

  get #all(): Wanted[] {
    return [...this.#wanted.values()].flat();
  }

  /**
   * Writes the bytes of a cell to every place where they are wanted. False when they are wanted
   * nowhere. Durable on return. @throws DrError E_IO
   */
  async take(disk: DiskKey, cell: number, bytes: Buffer): Promise<boolean> {
    const name = nameOf(disk, cell);
    const asked = this.#wanted.get(name) ?? [];
    let hash: Buffer | undefined;
    const left: Wanted[] = [];
    for (const wanted of asked) {
      if (bytes.length === cellLength(cell, wanted.layer.disk.sizeBytes)) {
        const isZero = isAllZero(bytes);
        if (!isZero) hash ??= hashCell(bytes);
        const isIt = wanted.hash === undefined ? isZero : hash?.equals(wanted.hash) === true;
        if (isIt && (await this.#mend(wanted, bytes))) continue;
      }
      left.push(wanted);
    }
    if (left.length > 0) this.#wanted.set(name, left);
    else this.#wanted.delete(name);
    return left.length < asked.length;
  }

  /** Mends what the store itself, or a donor, still has. */
  async fromNear(donors: readonly Donor[]): Promise<void> {
    for (const { layer, cell, hash, ...disk } of this.#all) {
      if (hash !== undefined) continue;
      await this.take(disk, cell, Buffer.alloc(cellLength(cell, layer.disk.sizeBytes)));
    }
    const disks = new Map(this.#all.map((wanted) => [diskOf(wanted), wanted]));
    for (const disk of disks.values()) {
      const near = [...this.#layers].filter(([, layer]) => diskOf(layer.disk) === diskOf(disk));
      const all = [...near.map(([, layer]) => donorOf(this.#seams, layer)), ...donors];
      for (const donor of all) {
        const wanted = this.#all.flatMap(({ cell, hash, ...of }) =>
          hash === undefined || diskOf(of) !== diskOf(disk) ? [] : [{ cell, hash }],
        );
        if (wanted.length === 0) break;
        wanted.sort((a, b) => a.cell - b.cell);
        try {
          for await (const { cell, bytes } of donor(disk, wanted)) {
            await this.take(disk, cell, bytes);
          }
        } catch (error) {
          // what cannot be read gives nothing
          if (!isDamage(error)) throw error;
        }
      }
    }
  }

  /** Whether the layer is still what it was when the cell was wanted: folds and merges go on meanwhile. */
  #isCurrent({ layer, key, cell }: Wanted): boolean {
    const { protection, scrub } = this.#vm;
    const { diskId, generation, root, transfer } = layer.disk;
    const segment = protection.segments.holding(layer.pointId, diskId, generation);
    if (segment === undefined || segment.folding !== undefined) return false;
    const isThere = segment.layers.some(
      (stored) =>
        stored.pointId === layer.pointId && stored.root === root && stored.transfer === transfer,
    );
    const bad = scrub.damage.get(key)?.cells;
    return isThere && Array.isArray(bad) && bad.includes(cell);
  }

  /** Nothing is written unless it is certain that these bytes belong there. */
  async #mend(wanted: Wanted, bytes: Buffer): Promise<boolean> {
    if (!this.#isCurrent(wanted)) return false;
    // a base that is being changed, and files that went away meanwhile, are not mended
    const isWritten = await writeInPlace(this.#seams, wanted, bytes).catch((error: unknown) => {
      if (isDamage(error) || (error instanceof DrError && error.code === 'E_LOCKED')) return false;
      throw error;
    });
    if (!isWritten || !(await readsBack(this.#seams, wanted, bytes))) return false;
    this.repairedCount++;
    const mended = this.#mended.get(wanted.key) ?? new Set();
    mended.add(wanted.cell);
    this.#mended.set(wanted.key, mended);
    return true;
  }

  /** Puts down what was mended; durable on return. */
  async finish(): Promise<void> {
    if (this.#mended.size === 0) return;
    const { scrub } = this.#vm;
    for (const [key, cells] of this.#mended) scrub.removeDamage(key, cells);
    this.#mended.clear();
    const after = await exposedPoints(this.#seams, this.#vm);
    const repaired = [...this.#exposedBefore].filter((id) => !after.has(id));
    scrub.repaired = new Set([...scrub.repaired, ...repaired]);
    await scrub.save();
  }
}

function nameOf(disk: DiskKey, cell: number): string {
  return `${diskOf(disk)} ${cell}`;
}

function diskOf({ diskId, generation }: DiskKey): string {
  return `${diskId}.${generation}`;
}

async function findWanted(
  seams: ReadSeams,
  vm: VmStore,
  layers: ReadonlyMap<string, Layer>,
): Promise<Wanted[]> {
  const { head } = vm.protection;
  const inHead = new Set<string>();
  for await (const found of exposed(
    seams,
    vm,
    head === undefined ? [] : [head],
    knownFindings(vm),
  )) {
    if (found.finding.cell === undefined) continue;
    inHead.add(`${vm.layout.keyOf(found.layer.files)} ${found.finding.cell}`);
  }
  const wanted: Wanted[] = [];
  for (const [key, { cells }] of vm.scrub.damage) {
    const layer = layers.get(key);
    if (layer === undefined || cells === 'all' || layer.folding !== undefined) continue;
    const { diskId, generation } = layer.disk;
    let places: Map<number, Place>;
    try {
      places = await placesIn(seams, layer, cells);
    } catch (error) {
      if (!isDamage(error)) throw error;
      vm.scrub.setDamage(key, { cells: 'all', because: error.message });
      continue;
    }
    for (const cell of cells) {
      const found = places.get(cell);
      // what a delta does not list it does not hold; what a base does not list is zeros
      if (found === undefined && layer.disk.transfer === 'delta') continue;
      const { hash, place } = found ?? { hash: undefined, place: cell * CELL_BYTES };
      const isInHead = inHead.has(`${key} ${cell}`);
      wanted.push({ diskId, generation, cell, hash, isInHead, key, layer, place });
    }
  }
  return wanted;
}

interface Place {
  readonly hash: Buffer;
  readonly place: number;
}

/**
 * Hash and place of some cells of a layer. The manifest is checked whole before, because what it does
 * not list in a base is written as zeros.
 */
async function placesIn(
  seams: ReadSeams,
  layer: Layer,
  cells: readonly number[],
): Promise<Map<number, Place>> {
  const places = new Map<number, Place>();
  const open = await openLayer(seams, layer);
  try {
    await open.manifest.verify();
    if (open.base !== undefined) {
      for (const cell of cells) {
        const record: ManifestRecord | undefined = await open.manifest.find(cell);
        if (record?.kind !== 'data') continue;
        places.set(cell, { hash: record.hash, place: cell * CELL_BYTES });
      }
      return places;
    }
    const asked = new Set(cells);
    // a place follows from the number of data cells before it
    for await (const entry of open.source.entries()) {
      if (entry.kind !== 'data' || !asked.has(entry.cell)) continue;
      places.set(entry.cell, { hash: entry.hash, place: entry.position });
      if (places.size === asked.size) break;
    }
    return places;
  } finally {
    await open.close();
  }
}

/** False when the layer has no place for the cell. */
async function writeInPlace(
  { fs, random }: ReadSeams,
  { layer, cell, place }: Wanted,
  bytes: Buffer,
): Promise<boolean> {
  const { data } = layer.files;
  const pieces: { at: number; bytes: Buffer }[] = [];
  if (layer.disk.transfer === 'delta') {
    pieces.push({ at: place, bytes });
  } else {
    const offset = cell * CELL_BYTES;
    // tables are not touched: a cell whose block is not there any more is sent anew instead
    const base = await VhdxFile.open(data, { fs, random, isWritable: false });
    try {
      for (const segment of await base.resolve(offset, offset + bytes.length)) {
        if (segment.kind !== 'data') return false;
        const part = bytes.subarray(segment.start - offset, segment.end - offset);
        pieces.push({ at: segment.at, bytes: part });
      }
    } finally {
      await base.close();
    }
  }
  // Readers may have the file open. They see bytes that are bad already, or good ones.
  const file = await fs.open(data, { mode: 'write', lock: 'none' });
  try {
    for (const piece of pieces) await file.write(piece.at, piece.bytes);
    await file.flush();
  } catch (error) {
    // a place that takes no bytes any more
    if (error instanceof DrError && error.code === 'E_IO') return false;
    throw error;
  } finally {
    await file.close();
  }
  return true;
}

async function readsBack(seams: ReadSeams, wanted: Wanted, bytes: Buffer): Promise<boolean> {
  let open: OpenLayer | undefined;
  try {
    open = await openLayer(seams, wanted.layer);
    const found = Buffer.alloc(bytes.length);
    const source: Pick<DeltaSource, 'read'> = open.source;
    await source.read(open.base === undefined ? wanted.place : wanted.cell * CELL_BYTES, found);
    return found.equals(bytes);
  } catch (error) {
    if (isDamage(error) || (error instanceof DrError && error.code === 'E_IO')) return false;
    throw error;
  } finally {
    await open?.close();
  }
}

/** Another layer of the same store as a donor. */
function donorOf(seams: ReadSeams, layer: Layer): Donor {
  return async function* (_disk, wanted) {
    const open = await openLayer(seams, layer);
    try {
      const same: number[] = [];
      for (const { cell, hash } of wanted) {
        const record = await open.manifest.find(cell);
        if (record?.kind === 'data' && record.hash.equals(hash)) same.push(cell);
      }
      if (same.length === 0) return;
      const places = await placesIn(seams, layer, same);
      for (const cell of same) {
        const found = places.get(cell);
        if (found === undefined) continue;
        const bytes = Buffer.alloc(cellLength(cell, layer.disk.sizeBytes));
        await open.source.read(found.place, bytes);
        yield { cell, bytes };
      }
    } finally {
      await open.close();
    }
  };
}
