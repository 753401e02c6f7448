// A store folder: described by store.json, locked while somebody works on it, one folder for each VM.
// A receiver holds it exclusively; commands that only read share it, and never while a receiver runs.
//
// Opening a store reads no journal. A VM is opened when it is asked for; whoever needs all of them has
// the rest opened, a few at a time.

import { DrError } from '../../shared/errors.js';
import type { Guid } from '../../shared/bytes/index.js';
import type { Clock, Random } from '../../shared/clock.js';
import { type BlockFile, type FileSystem, removeLeftovers } from '../../shared/files/index.js';
import { forEachBounded } from './bounded.js';
import {
  createDescription,
  hasDescription,
  mendDescription,
  readDescription,
} from './description.js';
import { removeForgotten } from './forgotten.js';
import { StoreLayout } from './layout.js';
import { OpenJournals } from './open-journals.js';
import type { ProtectRecord } from './records.js';
import { vmIdOf, type VmSeams, VmStore } from './vm-store.js';

/** Enough to keep a device busy, few enough to leave room for the cycles that come in. */
const OPENED_AT_ONCE = 8;

export interface StoreSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Length from which on a journal is written anew. Default: 1 MiB. */
  readonly rewriteAboveBytes?: number | undefined;
}

/** write: one process. read: any number of them, and no writer. */
export type StoreUse = 'write' | 'read';

export class Store {
  readonly storeId: Guid;
  readonly layout: StoreLayout;
  readonly seams: StoreSeams;
  /** Files that did not say any more which store this is, and were made anew. */
  readonly mended: readonly string[];
  readonly #use: StoreUse;
  readonly #lock: BlockFile;
  /** All that have a folder. */
  readonly #vmIds: Set<Guid>;
  readonly #vms = new Map<Guid, VmStore>();
  readonly #opening = new Map<Guid, Promise<VmStore | undefined>>();
  readonly #openJournals = new OpenJournals();
  #openingRest: Promise<void> | undefined;
  /** Called for each VM that is opened, also when that is done anew. */
  onOpened: (vm: VmStore) => void = () => undefined;
  #isClosed = false;

  private constructor(
    layout: StoreLayout,
    storeId: Guid,
    seams: StoreSeams,
    use: StoreUse,
    lock: BlockFile,
    vmIds: Set<Guid>,
    mended: readonly string[],
  ) {
    this.mended = mended;
    this.layout = layout;
    this.storeId = storeId;
    this.seams = seams;
    this.#use = use;
    this.#lock = lock;
    this.#vmIds = vmIds;
  }

  /**
   * Opens a store, making it first when `use` is to write and the folder holds nothing.
   * @throws DrError E_LOCKED (in use), E_NOT_FOUND, E_FILE_VERSION, E_FILE_DAMAGED, E_EXISTS, E_IO
   */
  static async open(folder: string, use: StoreUse, seams: StoreSeams): Promise<Store> {
    const layout = new StoreLayout(folder);
    const { fs } = seams;
    if (use === 'write') await makeLockFile(layout, fs);
    const lock = await takeLock(fs, layout, use);
    try {
      if (use === 'write') {
        for (const path of layout.descriptions) await removeLeftovers(fs, path);
        await prepare(layout, seams);
      }
      const { description, unsound } = await readDescription(layout, fs);
      const { storeId } = description;
      if (use === 'write') await mendDescription(description, unsound, seams);
      const vmIds = new Set<Guid>();
      for (const name of await fs.list(layout.vms)) {
        const vmId = vmIdOf(name);
        if (vmId !== undefined) vmIds.add(vmId);
      }
      return new Store(layout, storeId, seams, use, lock, vmIds, use === 'write' ? unsound : []);
    } catch (error) {
      await lock.close();
      throw error;
    }
  }

  get #vmSeams(): VmSeams {
    const { fs, random, rewriteAboveBytes } = this.seams;
    return {
      ...{ fs, random, storeId: this.storeId, isReadOnly: this.#use === 'read' },
      ...{ openJournals: this.#openJournals, rewriteAboveBytes },
    };
  }

  get isReadOnly(): boolean {
    return this.#use === 'read';
  }

  /** Those that have been opened so far. */
  get vms(): readonly VmStore[] {
    return [...this.#vms.values()];
  }

  /**
   * A VM, opened if it is not. One whose files could not be read is tried again; why it still cannot
   * be used stands in its `halt`. Undefined: the store has none of this id.
   */
  vm(vmId: Guid): Promise<VmStore | undefined> {
    const known = this.#vms.get(vmId);
    if (known?.isWorthAnotherTry === false) return Promise.resolve(known);
    // whoever asks for ids that are not there leaves nothing behind here
    if (this.#isClosed || !this.#vmIds.has(vmId)) return Promise.resolve(known);
    const opening = this.#opening.get(vmId) ?? this.#openVm(vmId);
    this.#opening.set(vmId, opening);
    return opening;
  }

  async #openVm(vmId: Guid): Promise<VmStore | undefined> {
    try {
      const vm = await VmStore.open(vmId, this.layout.vm(vmId), this.#vmSeams, true);
      // a folder in which no protection has begun
      if (vm === undefined) this.#vmIds.delete(vmId);
      else this.#add(vm);
      return vm;
    } finally {
      this.#opening.delete(vmId);
    }
  }

  #add(vm: VmStore): void {
    this.#vmIds.add(vm.vmId);
    this.#vms.set(vm.vmId, vm);
    this.onOpened(vm);
  }

  /** Opens all VMs that are not open. Those that cannot be read now are not tried again by this. */
  openRest(): Promise<void> {
    this.#openingRest ??= forEachBounded([...this.#vmIds], OPENED_AT_ONCE, async (vmId) => {
      if (!this.#isClosed && !this.#vms.has(vmId)) await this.vm(vmId);
    });
    return this.#openingRest;
  }

  /** Begins the protection of a VM that the store does not know; durable on return. */
  async protect(first: ProtectRecord): Promise<VmStore> {
    const vm = await VmStore.create(this.layout.vm(first.vmId), first, this.#vmSeams);
    this.#add(vm);
    return vm;
  }

  /**
   * Removes what is left of a VM that was forgotten, and knows it no more. @throws DrError E_IO: some of
   * its files stay; they go at the next start, or when it is protected anew
   */
  async remove(vm: VmStore): Promise<void> {
    this.#vmIds.delete(vm.vmId);
    try {
      await removeForgotten(this.seams, vm.layout);
    } finally {
      this.#vms.delete(vm.vmId);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled([...this.#opening.values(), this.#openingRest]);
    for (const vm of this.#vms.values()) await vm.close();
    await this.#lock.close();
  }
}

/** Makes the file that is locked, in a folder that is a store or can become one. */
async function makeLockFile(layout: StoreLayout, fs: FileSystem): Promise<void> {
  await fs.makeFolder(layout.folder);
  if ((await fs.status(layout.lock)) !== undefined) return;
  if (!(await hasDescription(layout, fs))) {
    const foreign = (await fs.list(layout.folder)).filter(
      (name) => !['lock', 'vms', 'lost+found'].includes(name) && !name.startsWith('.'),
    );
    if (foreign.length > 0) {
      throw new DrError('E_EXISTS', `${layout.folder} is no store, and holds ${foreign[0] ?? ''}`, {
        hint: 'Name an empty folder, or one that does not exist.',
      });
    }
  }
  try {
    await (await fs.open(layout.lock, { mode: 'create', lock: 'none' })).close();
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_EXISTS') throw error;
  }
}

/** Makes what a new store needs; what is there stays. */
async function prepare(layout: StoreLayout, seams: StoreSeams): Promise<void> {
  const { fs } = seams;
  if (await hasDescription(layout, fs)) {
    // An earlier process may have died before it flushed the folder: the name has to be there for
    // as long as anything below it is.
    await fs.flushFolder(layout.folder);
    return;
  }
  if ((await fs.status(layout.vms)) !== undefined && (await fs.list(layout.vms)).length > 0) {
    throw new DrError('E_FILE_DAMAGED', `${layout.description} is missing, and VMs are there`, {
      hint: 'Restore store.json from a copy of the store.',
    });
  }
  await fs.makeFolder(layout.vms);
  await createDescription(layout, seams);
}

async function takeLock(fs: FileSystem, layout: StoreLayout, use: StoreUse): Promise<BlockFile> {
  try {
    return await fs.open(layout.lock, {
      mode: 'read',
      lock: use === 'write' ? 'exclusive' : 'shared',
    });
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    if (error.code === 'E_NOT_FOUND') {
      throw new DrError('E_NOT_FOUND', `${layout.folder} is no store`, {
        context: { path: layout.folder },
        hint: 'Name the folder that `hvdr receiver --store` works on.',
        cause: error,
      });
    }
    if (error.code !== 'E_LOCKED') throw error;
    throw new DrError('E_LOCKED', `the store ${layout.folder} is in use by another process`, {
      context: { path: layout.folder },
      hint: 'Ask the receiver that runs on it (--dr-host), or stop it first.',
      cause: error,
    });
  }
}
