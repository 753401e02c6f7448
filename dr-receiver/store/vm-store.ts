// One VM in the store: its journal, what the journal says, and the snapshot for people. All changes
// of a VM go through change(), one after the other.

import { DrError } from '../../shared/errors.js';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import {
  type FileSystem,
  type JsonFields,
  readJson,
  removeLeftovers,
  writeJsonDurably,
} from '../../shared/files/index.js';
import { Journal, type JournalMark } from './journal.js';
import type { VmLayout } from './layout.js';
import { Protection } from './protection.js';
import { type JournalRecord, parseRecord, type ProtectRecord } from './records.js';
import { ScrubState } from './scrub-state.js';

const SNAPSHOT = { name: 'protection snapshot', version: 1, limitBytes: 64 * 1024 * 1024 };

export interface VmSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  readonly storeId: Guid;
  readonly isReadOnly: boolean;
}

export class VmStore {
  readonly vmId: Guid;
  readonly layout: VmLayout;
  readonly #seams: VmSeams;
  #protection: Protection;
  #journal: Journal | undefined;
  #halt: DrError | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #snapshot: Promise<void> | undefined;
  #isSnapshotDue = false;
  /** What is known about rot in the files. */
  readonly scrub: ScrubState;

  private constructor(vmId: Guid, layout: VmLayout, seams: VmSeams, scrub: ScrubState) {
    this.vmId = vmId;
    this.layout = layout;
    this.#seams = seams;
    this.scrub = scrub;
    this.#protection = new Protection(vmId);
  }

  /** Begins a protection; durable on return. @throws DrError E_IO, E_CAPACITY */
  static async create(layout: VmLayout, first: ProtectRecord, seams: VmSeams): Promise<VmStore> {
    const { fs, random, storeId } = seams;
    await fs.makeFolder(layout.cycles);
    await Journal.create({ fs, random }, layout.journal, { vmId: first.vmId, storeId }, first);
    return VmStore.open(first.vmId, layout, seams);
  }

  /**
   * Opens the VM of a folder. What is wrong with it stands in `halt`; other VMs are not concerned.
   * Undefined: a folder in which no protection had begun when the power went.
   */
  static async open(vmId: Guid, layout: VmLayout, seams: VmSeams): Promise<VmStore>;
  static async open(
    vmId: Guid,
    layout: VmLayout,
    seams: VmSeams,
    isOptional: true,
  ): Promise<VmStore | undefined>;
  static async open(
    vmId: Guid,
    layout: VmLayout,
    seams: VmSeams,
    isOptional = false,
  ): Promise<VmStore | undefined> {
    const { fs, random } = seams;
    const scrub = await ScrubState.open(fs, random, layout.scrub);
    const vm = new VmStore(vmId, layout, seams, scrub);
    let mark: Snapshot | undefined;
    try {
      if (!seams.isReadOnly) {
        await removeLeftovers(fs, layout.journal);
        await removeLeftovers(fs, layout.snapshot);
        await removeLeftovers(fs, layout.scrub);
      }
      mark = await readSnapshot(fs, layout.snapshot);
      const hasJournal = (await fs.status(layout.journal)) !== undefined;
      if (isOptional && !hasJournal && mark === undefined) return undefined;
      vm.#journal = await Journal.open({
        fs,
        path: layout.journal,
        expected: { vmId, storeId: seams.storeId },
        mark,
        isReadOnly: seams.isReadOnly,
        onRecord: (value) => vm.#take(value),
      });
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      vm.#halt = error.code === 'E_HALTED' ? error : asHalt(error, layout.journal);
      if (vm.#protection.owner === '') {
        vm.#protection.owner = mark?.owner ?? '';
        vm.#protection.vmName = mark?.vmName ?? '';
      }
    }
    if (vm.#journal !== undefined && vm.#protection.haltReason !== undefined) {
      vm.#halt = haltOf(vm.#protection.vmName, vm.#protection.haltReason);
    }
    return vm;
  }

  #take(value: unknown): string | undefined {
    const record = parseRecord(value);
    return 'wrong' in record ? record.wrong : this.#protection.apply(record);
  }

  get protection(): Protection {
    return this.#protection;
  }

  /** Why nothing may be changed; undefined: all is well. */
  get halt(): DrError | undefined {
    return this.#halt ?? this.#journal?.failure;
  }

  /** @throws DrError E_HALTED */
  requireSound(): void {
    const { halt } = this;
    if (halt !== undefined) throw halt;
  }

  /**
   * Points can be read as long as the journal could be: a protection that is halted for another reason
   * keeps them, and a source that brings a halt about takes them from nobody. @throws DrError E_HALTED
   */
  requireReadable(): void {
    if (this.#journal === undefined) this.requireSound();
  }

  /** Nothing may be changed, the state of the scrub included. */
  get isReadOnly(): boolean {
    return this.#seams.isReadOnly;
  }

  /** Runs `work` when all earlier changes of this VM have ended. */
  change<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /**
   * Appends a record, durable on return; only then it counts. To be called inside change().
   * @throws DrError E_HALTED, E_IO, E_CAPACITY
   */
  async append(record: JournalRecord): Promise<void> {
    this.requireSound();
    if (this.#journal === undefined || this.#seams.isReadOnly) {
      throw new DrError('E_STATE', `${this.layout.folder} is open for reading only`);
    }
    await this.#journal.append(record);
    const wrong = this.#protection.apply(record);
    if (wrong !== undefined) throw new Error(`a record of ours contradicts the journal: ${wrong}`);
    if (record.kind === 'halt') this.#halt = haltOf(this.#protection.vmName, record.reason);
    this.#isSnapshotDue = true;
    this.#snapshot ??= Promise.resolve().then(() => this.#writeSnapshots());
  }

  /** In the background: the journal has it all, so a failure here costs nothing. */
  async #writeSnapshots(): Promise<void> {
    while (this.#isSnapshotDue) {
      this.#isSnapshotDue = false;
      const { fs, random } = this.#seams;
      const fields = snapshotOf(this.#protection, this.#journal?.mark);
      await writeJsonDurably(fs, this.layout.snapshot, SNAPSHOT, fields, random).catch(
        () => undefined,
      );
    }
    this.#snapshot = undefined;
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#snapshot;
    await this.#journal?.close();
  }
}

function asHalt(error: DrError, path: string): DrError {
  return new DrError('E_HALTED', `${path} cannot be used: ${error.message}`, {
    context: { ...error.context, file: path },
    done: 'nothing of this VM is changed; other VMs go on',
    hint: error.hint,
    cause: error,
  });
}

function haltOf(vmName: string, reason: string): DrError {
  return new DrError('E_HALTED', `${vmName}: ${reason}`, { done: 'nothing of this VM is changed' });
}

interface Snapshot extends JournalMark {
  readonly owner: string;
  readonly vmName: string;
}

/** undefined when there is none that can be read: then the journal alone decides. */
async function readSnapshot(fs: FileSystem, path: string): Promise<Snapshot | undefined> {
  let fields: JsonFields | undefined;
  try {
    fields = await readJson(fs, path, SNAPSHOT);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_FILE_DAMAGED') return undefined;
    throw error;
  }
  if (fields === undefined) return undefined;
  const { sequence, chain, owner, vmName } = fields;
  if (typeof sequence !== 'number' || typeof chain !== 'string') return undefined;
  if (typeof owner !== 'string' || typeof vmName !== 'string') return undefined;
  return { sequence, chain, owner, vmName };
}

function snapshotOf(protection: Protection, mark: JournalMark | undefined): JsonFields {
  const { vmId, vmName, owner, epoch, isPaused, haltReason, listed } = protection;
  return {
    sequence: mark?.sequence ?? 0,
    chain: mark?.chain ?? '',
    vmId,
    vmName,
    owner,
    epoch: epoch.toString(),
    isPaused,
    ...(haltReason === undefined ? {} : { haltReason }),
    head: protection.head?.pointId ?? null,
    points: listed.map((point) => ({
      pointId: point.pointId,
      committedAt: new Date(point.committedAtMs).toISOString(),
      kind: point.cycleKind,
      ...(point.pinReason === undefined ? {} : { pinned: point.pinReason }),
      ...(point.damage === undefined ? {} : { damaged: point.damage }),
    })),
  };
}

/** The VM that a folder of the store is named for. */
export function vmIdOf(name: string): Guid | undefined {
  const parsed = parseGuid(name);
  return parsed === name ? parsed : undefined;
}
