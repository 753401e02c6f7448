// What is known about rot in the files of one VM, and how far the scrub came: one small file,
// scrub.json. It is derived: the journal says which points are damaged, and without this file the next
// round of the scrub, or a verification, finds the cells again.
//
//   damage      per layer, named by its data file: the cells that do not read back, or all of it
//   repaired    points that are marked damaged although every bad cell of theirs was mended: they are
//               cleared when all of them was read once more
//   round       the layers that this round has read to their end, and the position in the next one
//
// Bounded: a layer with more bad cells than CELLS_MAX counts as lost, and so does the worst one when
// there are too many in all.

import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import {
  type FileSystem,
  type JsonFields,
  readJson,
  writeJsonDurably,
} from '../../shared/files/index.js';
import type { Random } from '../../shared/clock.js';

/** Bad cells of one layer that are known one by one. */
export const CELLS_MAX = 4096;
const CELLS_IN_ALL = 4 * CELLS_MAX;
const LAYERS_MAX = 1024;
/** Layers of a round that are remembered; points of more are not told as verified by the scrub. */
const DONE_MAX = 20_000;
const FORMAT = { name: 'scrub state', version: 1, limitBytes: 16 * 1024 * 1024 };
const ROOT = /^[0-9a-f]{64}$/;
const KEY = /^(disks|cycles)\/[0-9a-z./-]{1,200}$/;

/** How far a layer was checked. */
export interface LayerPosition {
  /** Records of the manifest before are checked. */
  readonly record: number;
  /** Data cells among them. */
  readonly dataCells: number;
  /** The cell behind the last one that was checked. */
  readonly nextCell: number;
}

export const LAYER_START: LayerPosition = { record: 0, dataCells: 0, nextCell: 0 };

export interface LayerDamage {
  /** In ascending order. 'all': the layer cannot be used at all. */
  readonly cells: readonly number[] | 'all';
  /** For people. */
  readonly because: string;
}

export interface ScrubRound {
  readonly startedAtMs: number;
  readonly done: readonly string[];
  /** The layer that is being read, and how far. */
  readonly layer: string | undefined;
  /** Of the manifest to which the position belongs, hex: a fold gives a base another one. */
  readonly root: string | undefined;
  readonly position: LayerPosition;
}

export class ScrubState {
  readonly #fs: FileSystem;
  readonly #random: Random;
  readonly #path: string;
  #damage = new Map<string, LayerDamage>();
  repaired: ReadonlySet<Guid> = new Set();
  /**
   * Bad cells of older points that a source was told already: it is not asked for them in every cycle.
   * Not kept over a restart, and begun anew with each round.
   */
  readonly told = new Set<string>();
  round: ScrubRound | undefined;
  /** When the last round ended; 0: never. */
  scrubbedAtMs = 0;

  /** Nothing is known before load(). */
  constructor(fs: FileSystem, random: Random, path: string) {
    this.#fs = fs;
    this.#random = random;
    this.#path = path;
  }

  /** A file that cannot be used is as good as none. @throws DrError E_IO */
  async load(): Promise<void> {
    try {
      const fields = await readJson(this.#fs, this.#path, FORMAT);
      if (fields !== undefined) this.#take(fields);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      if (!['E_FILE_DAMAGED', 'E_FILE_VERSION'].includes(error.code)) throw error;
    }
  }

  #take(fields: JsonFields): void {
    const { scrubbedAtMs, repaired, damage, round } = fields;
    if (isCount(scrubbedAtMs)) this.scrubbedAtMs = scrubbedAtMs;
    if (Array.isArray(repaired)) {
      const ids = repaired.map((id) => (typeof id === 'string' ? parseGuid(id) : undefined));
      this.repaired = new Set(ids.filter((id) => id !== undefined));
    }
    if (Array.isArray(damage)) {
      for (const item of damage.slice(0, LAYERS_MAX)) {
        const found = asDamage(item);
        if (found !== undefined) this.#damage.set(found.layer, found);
      }
    }
    this.round = asRound(round);
  }

  /** Layers in which something is known to be bad, by key. */
  get damage(): ReadonlyMap<string, LayerDamage> {
    return this.#damage;
  }

  /** Known bad cells; a layer that is lost counts as one. */
  get damagedCellCount(): number {
    let count = 0;
    for (const { cells } of this.#damage.values()) count += cells === 'all' ? 1 : cells.length;
    return count;
  }

  /** What a check of the whole layer found takes the place of what was known. */
  setDamage(layer: string, found: LayerDamage | undefined): void {
    this.#damage.delete(layer);
    if (found === undefined || found.cells.length === 0) return;
    this.#damage.set(layer, bounded(found));
    this.#shrink();
  }

  /** What a check of a part found comes to what was known. */
  addDamage(layer: string, cells: readonly number[], because: string): void {
    const known = this.#damage.get(layer);
    if (known?.cells === 'all' || cells.length === 0) return;
    const all = new Set([...(known?.cells ?? []), ...cells]);
    this.setDamage(layer, { cells: [...all].sort((a, b) => a - b), because });
  }

  /** These cells read back again. */
  removeDamage(layer: string, cells: ReadonlySet<number>): void {
    const known = this.#damage.get(layer);
    if (known === undefined || known.cells === 'all') return;
    const left = known.cells.filter((cell) => !cells.has(cell));
    this.setDamage(layer, { ...known, cells: left });
  }

  /** The round under way reads this layer once more. */
  readAgain(layer: string): void {
    const { round } = this;
    if (round?.done.includes(layer) !== true) return;
    this.round = { ...round, done: round.done.filter((key) => key !== layer) };
  }

  /** Forgets layers that are gone. */
  keepOnly(layers: ReadonlySet<string>): void {
    for (const layer of this.#damage.keys()) if (!layers.has(layer)) this.#damage.delete(layer);
  }

  #shrink(): void {
    while (this.#damage.size > LAYERS_MAX) {
      const oldest = [...this.#damage.keys()][0];
      if (oldest !== undefined) this.#damage.delete(oldest);
    }
    while (this.damagedCellCount > CELLS_IN_ALL) {
      const [worst] = [...this.#damage].sort(([, a], [, b]) => sizeOf(b) - sizeOf(a));
      if (worst === undefined || worst[1].cells === 'all') return;
      const because = `too many cells of this VM are damaged; ${worst[1].because}`;
      this.#damage.set(worst[0], { cells: 'all', because });
    }
  }

  /** Durable on return. @throws DrError E_IO, E_CAPACITY */
  async save(): Promise<void> {
    const { round } = this;
    const fields = {
      scrubbedAtMs: this.scrubbedAtMs,
      repaired: [...this.repaired],
      damage: [...this.#damage].map(([layer, { cells, because }]) => ({ layer, cells, because })),
      ...(round === undefined ? {} : { round: { ...round, done: round.done.slice(0, DONE_MAX) } }),
    };
    await writeJsonDurably(this.#fs, this.#path, FORMAT, fields, this.#random);
  }
}

function bounded(found: LayerDamage): LayerDamage {
  const because = found.because.slice(0, 300);
  if (found.cells === 'all' || found.cells.length <= CELLS_MAX) return { ...found, because };
  return { cells: 'all', because: `more than ${CELLS_MAX} cells are damaged; ${because}` };
}

function sizeOf({ cells }: LayerDamage): number {
  return cells === 'all' ? 0 : cells.length;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isKey(value: unknown): value is string {
  return typeof value === 'string' && KEY.test(value);
}

function asDamage(value: unknown): (LayerDamage & { readonly layer: string }) | undefined {
  if (!isObject(value)) return undefined;
  const { layer, cells, because } = value;
  if (!isKey(layer) || typeof because !== 'string') return undefined;
  if (cells === 'all') return { layer, cells, because };
  if (!Array.isArray(cells) || !cells.every(isCount) || cells.length === 0) return undefined;
  const sorted = [...new Set(cells)].sort((a, b) => a - b);
  return { layer, ...bounded({ cells: sorted, because }) };
}

function asRound(value: unknown): ScrubRound | undefined {
  if (!isObject(value)) return undefined;
  const { startedAtMs, done, layer, root, position } = value;
  if (!isCount(startedAtMs) || !Array.isArray(done) || !done.every(isKey)) return undefined;
  if (!isObject(position)) return undefined;
  const { record, dataCells, nextCell } = position;
  if (!isCount(record) || !isCount(dataCells) || !isCount(nextCell)) return undefined;
  // as an earlier release wrote it: the layer is begun anew
  if (!isKey(layer) || typeof root !== 'string' || !ROOT.test(root)) {
    return { startedAtMs, done, layer: undefined, root: undefined, position: LAYER_START };
  }
  return { startedAtMs, done, layer, root, position: { record, dataCells, nextCell } };
}
