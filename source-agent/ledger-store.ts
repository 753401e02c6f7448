// Keeps ledgers on disk. For one VM, in the state folder:
//
//   <VM-GUID>.json             the ledger; names the file of its sets with length and SHA-256
//   <VM-GUID>.<number>.cells   the sets; never changed, replaced by one with the next number
//   <VM-GUID>.lock             the lease (vm-lease.ts)
//
// One atomic unit: the sets are durable under their name before the JSON that names them takes its
// place, and the former sets are removed after that. So at every moment there is one ledger, the old
// or the new; sets and reference point that do not belong together cannot be read as one.
//
// Only the holder of the VM's lease reads and writes here.

import path from 'node:path';
import type { Guid } from '../shared/bytes/index.js';
import type { Random } from '../shared/clock.js';
import type { CellSet } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import {
  type FileSystem,
  readJson,
  removeLeftovers,
  writeJsonDurably,
} from '../shared/files/index.js';
import { readCellsFile, writeCellsFile } from './cells-file.js';
import { emptyLedger, type Ledger } from './ledger.js';
import {
  allToldIn,
  type CellsReference,
  cellsReferenceIn,
  checkedFields,
  encodeLedger,
  LEDGER_FORMAT,
  type LedgerNames,
  namesIn,
  newestConfirmedIn,
  parseLedger,
  type ToldEpoch,
  withChecksum,
} from './ledger-json.js';

export interface LedgerSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Milliseconds since 1970, for the names of files that are set aside. */
  readonly now: () => number;
}

/** Why a ledger that was there could not be used. */
export interface SetAside {
  readonly path: string;
  readonly error: DrError;
}

export class LedgerStore {
  readonly #seams: LedgerSeams;
  readonly #folder: string;
  readonly #vmId: Guid;
  #cells: CellsReference | undefined;
  #written: readonly CellSet[] = [];
  #nextNumber = 1;

  private constructor(folder: string, vmId: Guid, seams: LedgerSeams) {
    this.#seams = seams;
    this.#folder = folder;
    this.#vmId = vmId;
  }

  /**
   * The VM's ledger. One that cannot be used - damaged, of another VM, of another version - is
   * renamed aside and an empty one returned, with the reason; so is the ledger of nobody: then
   * every disk is compared by hashes.
   * @throws DrError E_IO when the folder cannot be read or written
   */
  static async open(
    folder: string,
    vmId: Guid,
    vmName: string,
    seams: LedgerSeams,
  ): Promise<{ store: LedgerStore; ledger: Ledger; setAside: SetAside | undefined }> {
    const store = new LedgerStore(folder, vmId, seams);
    let ledger = emptyLedger(vmId, vmName);
    let setAside: SetAside | undefined;
    try {
      ledger = (await store.#read()) ?? ledger;
    } catch (error) {
      if (!isUnusable(error)) throw error;
      setAside = { path: await store.#setAside(), error };
      store.#cells = undefined;
      store.#written = [];
    }
    await store.#removeStrays();
    return { store, ledger: { ...ledger, vmName }, setAside };
  }

  /**
   * The VM's ledger for somebody who only looks: nothing is changed, and one that cannot be used stays
   * for the next cycle to tell. Undefined: there is none that says anything. @throws DrError E_IO
   */
  static async look(folder: string, vmId: Guid, seams: LedgerSeams): Promise<Ledger | undefined> {
    try {
      return await new LedgerStore(folder, vmId, seams).#read();
    } catch (error) {
      if (isUnusable(error)) return undefined;
      throw error;
    }
  }

  /** Durable on return. @throws DrError E_IO, E_CAPACITY: the ledger on disk is the one before */
  async save(ledger: Ledger): Promise<void> {
    const { fs, random } = this.#seams;
    const sets: CellSet[] = [];
    encodeLedger(ledger, undefined, sets);
    const former = this.#cells;
    const isSame =
      sets.length === this.#written.length && sets.every((set, i) => set === this.#written[i]);
    let cells = former;
    if (!isSame) cells = sets.length === 0 ? undefined : await this.#writeSets(sets);
    const fields = withChecksum(encodeLedger(ledger, cells));
    await writeJsonDurably(fs, this.#jsonPath, LEDGER_FORMAT, fields, random);
    this.#cells = cells;
    this.#written = sets;
    if (former !== undefined && former.name !== cells?.name) {
      // A name that comes back after a power cut is a stray, removed at the next open.
      await fs.remove(path.join(this.#folder, former.name));
    }
  }

  get #jsonPath(): string {
    return path.join(this.#folder, `${this.#vmId}.json`);
  }

  async #writeSets(sets: readonly CellSet[]): Promise<CellsReference> {
    const { fs } = this.#seams;
    const name = `${this.#vmId}.${this.#nextNumber++}.cells`;
    const facts = await writeCellsFile(fs, path.join(this.#folder, name), sets);
    await fs.flushFolder(this.#folder);
    return { name, ...facts };
  }

  async #read(): Promise<Ledger | undefined> {
    const { fs } = this.#seams;
    const found = await readJson(fs, this.#jsonPath, LEDGER_FORMAT);
    if (found === undefined) return undefined;
    const fields = checkedFields(found, this.#jsonPath);
    const cells = cellsReferenceIn(fields, this.#jsonPath);
    const sets =
      cells === undefined
        ? []
        : await readCellsFile(fs, path.join(this.#folder, cells.name), cells);
    const ledger = parseLedger(fields, sets, this.#jsonPath);
    if (ledger.vmId !== this.#vmId) {
      throw new DrError(
        'E_FILE_DAMAGED',
        `${this.#jsonPath} is the ledger of the VM ${ledger.vmId}, not of ${this.#vmId}`,
        { context: { path: this.#jsonPath, vmId: ledger.vmId } },
      );
    }
    this.#cells = cells;
    const order: CellSet[] = [];
    encodeLedger(ledger, cells, order);
    this.#written = order;
    return ledger;
  }

  async #setAside(): Promise<string> {
    const { fs, now } = this.#seams;
    const stamp = new Date(now()).toISOString().replace(/[:.]/g, '-');
    const aside = path.join(this.#folder, `${this.#vmId}.unusable-${stamp}.json`);
    await fs.rename(this.#jsonPath, aside);
    await fs.flushFolder(this.#folder);
    return aside;
  }

  /** Removes sets that no ledger names and files of writes that never finished. */
  async #removeStrays(): Promise<void> {
    const { fs } = this.#seams;
    let last = 0;
    const strays: string[] = [];
    for (const name of await fs.list(this.#folder)) {
      if (!name.startsWith(`${this.#vmId}.`) || !name.endsWith('.cells')) continue;
      const number = Number(name.slice(this.#vmId.length + 1, -'.cells'.length));
      if (!Number.isSafeInteger(number)) continue;
      last = Math.max(last, number);
      if (name !== this.#cells?.name) strays.push(name);
    }
    this.#nextNumber = last + 1;
    // The ledger that was read may have taken its name a moment before a kill, and reference points
    // that only the former one names are removed next: its name first.
    await fs.flushFolder(this.#folder);
    for (const name of strays) await fs.remove(path.join(this.#folder, name));
    await removeLeftovers(fs, this.#jsonPath);
  }
}

/**
 * When the newest confirmed point of the VM was frozen, over all chains, by its ledger as it is now;
 * undefined when nobody knows. Needs no lease.
 */
export async function newestConfirmedMs(
  fs: FileSystem,
  folder: string,
  vmId: Guid,
): Promise<number | undefined> {
  const file = path.join(folder, `${vmId}.json`);
  try {
    const fields = await readJson(fs, file, LEDGER_FORMAT);
    return fields === undefined ? undefined : newestConfirmedIn(fields, file);
  } catch (error) {
    if (isUnusable(error)) return undefined;
    throw error;
  }
}

/**
 * What the source was told by the store of that chain, read without a lease. Undefined: nothing, or the
 * ledger cannot be used.
 */
export async function toldEpoch(
  fs: FileSystem,
  folder: string,
  vmId: Guid,
  key: string,
): Promise<ToldEpoch | undefined> {
  return (await allTold(fs, folder, vmId)).get(key);
}

/** The same of every chain. A ledger that cannot be used says nothing. */
export async function allTold(
  fs: FileSystem,
  folder: string,
  vmId: Guid,
): Promise<ReadonlyMap<string, ToldEpoch>> {
  const file = path.join(folder, `${vmId}.json`);
  try {
    const found = await readJson(fs, file, LEDGER_FORMAT);
    return found === undefined ? new Map() : allToldIn(checkedFields(found, file), file);
  } catch (error) {
    if (isUnusable(error)) return new Map();
    throw error;
  }
}

/** What the ledger of a VM names, read without a lease; nothing is changed. */
export async function ledgerNames(
  fs: FileSystem,
  folder: string,
  vmId: Guid,
): Promise<LedgerNames | 'none' | 'unusable'> {
  const file = path.join(folder, `${vmId}.json`);
  try {
    const found = await readJson(fs, file, LEDGER_FORMAT);
    return found === undefined ? 'none' : namesIn(checkedFields(found, file), file);
  } catch (error) {
    if (isUnusable(error)) return 'unusable';
    throw error;
  }
}

function isUnusable(error: unknown): error is DrError {
  if (!(error instanceof DrError)) return false;
  return ['E_FILE_DAMAGED', 'E_FILE_VERSION', 'E_NOT_FOUND'].includes(error.code);
}
