// One VM in the store: its journal, what the journal says, and the snapshot for people. All changes
// of a VM go through change(), one after the other.

import { basename } from 'node:path';
import { DrError } from '../../shared/errors.js';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import {
  type FileSystem,
  isLeftoverOf,
  type JsonFields,
  readJson,
  removeLeftovers,
  writeJsonDurably,
} from '../../shared/files/index.js';
import { BaseHolds } from './base-holds.js';
import { type Forgotten, isMarkedForgotten, markForgotten, removeForgotten } from './forgotten.js';
import { Journal } from './journal.js';
import type { JournalMark } from './journal-read.js';
import type { VmLayout } from './layout.js';
import { Leases } from './leases.js';
import { Protection } from './protection.js';
import type { OpenJournals } from './open-journals.js';
import { type JournalRecord, parseRecord, type ProtectRecord } from './records.js';
import { ScrubState } from './scrub-state.js';
import { encodeState, parseStateRecord } from './state-record.js';

const SNAPSHOT = { name: 'protection snapshot', version: 1, limitBytes: 64 * 1024 * 1024 };

/** A journal that is longer, and more than twice as long as the state in it, is written anew. */
const REWRITE_ABOVE_BYTES = 1024 * 1024;

/** What a device or its system may say for a while, and which tells nothing about the files. */
const PASSING: ReadonlySet<string> = new Set(['E_IO', 'E_LOCKED', 'E_CAPACITY', 'E_NOT_FOUND']);

export interface VmSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  readonly storeId: Guid;
  readonly isReadOnly: boolean;
  readonly openJournals?: OpenJournals | undefined;
  /** Default: 1 MiB. */
  readonly rewriteAboveBytes?: number | undefined;
}

export class VmStore {
  readonly vmId: Guid;
  readonly layout: VmLayout;
  /** Who reads or changes which segment. */
  readonly leases = new Leases();
  /** Which bases have to stay as they are for disks that run. */
  readonly baseHolds = new BaseHolds();
  /** Cycle folders that are being made, or whose record may be in the journal or not: nobody's leftovers. */
  readonly claimedCycleIds = new Set<Guid>();
  /** Cycles with content that no record names, as they were when somebody last looked. */
  unknownCycleIds: readonly Guid[] = [];
  readonly #seams: VmSeams;
  #protection: Protection;
  #journal: Journal | undefined;
  #halt: DrError | undefined;
  #isWorthAnotherTry = false;
  #turn: Promise<unknown> = Promise.resolve();
  #snapshot: Promise<void> | undefined;
  #isSnapshotDue = false;
  /** What is known about rot in the files. */
  readonly scrub: ScrubState;
  /** The last record that the snapshot is known to know. */
  #snapshotSequence = 0;
  /** When the last record was made. */
  #lastAtMs = 0;
  /** Length of the journal at which its state is looked at again. */
  #rewriteAtBytes: number;
  #isRewriteDue = false;

  private constructor(vmId: Guid, layout: VmLayout, seams: VmSeams) {
    this.vmId = vmId;
    this.layout = layout;
    this.#seams = seams;
    this.scrub = new ScrubState(seams.fs, seams.random, layout.scrub);
    this.#protection = new Protection(vmId);
    this.#rewriteAtBytes = seams.rewriteAboveBytes ?? REWRITE_ABOVE_BYTES;
  }

  /** Begins a protection; durable on return. @throws DrError E_IO, E_CAPACITY */
  static async create(layout: VmLayout, first: ProtectRecord, seams: VmSeams): Promise<VmStore> {
    const { fs, random, storeId } = seams;
    await removeForgotten({ fs, random }, layout);
    await fs.makeFolder(layout.cycles);
    await Journal.create({ fs, random }, layout.journal, { vmId: first.vmId, storeId }, first);
    return VmStore.open(first.vmId, layout, seams);
  }

  /**
   * Opens the VM of a folder. What is wrong with it stands in `halt`; other VMs are not concerned.
   * Undefined: a folder in which no protection had begun when the power went, or of one that was forgotten.
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
    const { fs } = seams;
    const vm = new VmStore(vmId, layout, seams);
    let mark: Snapshot | undefined;
    try {
      const names = await fs.list(layout.folder);
      if (isMarkedForgotten(layout, names)) {
        // whoever protects it anew tries again
        if (!seams.isReadOnly) await removeForgotten(seams, layout).catch(() => undefined);
        if (isOptional) return undefined;
      }
      if (!seams.isReadOnly) await removeUnfinished(fs, layout, names);
      const has = (path: string): boolean => names.includes(basename(path));
      mark = has(layout.snapshot) ? await readSnapshot(fs, layout.snapshot) : undefined;
      if (isOptional && !has(layout.journal) && mark === undefined) return undefined;
      if (has(layout.scrub)) await vm.scrub.load();
      vm.#journal = await Journal.open({
        fs,
        path: layout.journal,
        expected: { vmId, storeId: seams.storeId },
        mark,
        isReadOnly: seams.isReadOnly,
        onRecord: (value) => vm.#take(value),
        onEnd: () => vm.#protection.unfinished(),
        openJournals: seams.openJournals,
      });
      vm.#snapshotSequence = mark?.sequence ?? 0;
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      vm.#halt = error.code === 'E_HALTED' ? error : asHalt(error, layout.journal);
      vm.#isWorthAnotherTry = PASSING.has(error.code);
      if (vm.#protection.owner === '') {
        vm.#protection.owner = mark?.owner ?? '';
        vm.#protection.vmName = mark?.vmName ?? '';
      }
    }
    if (vm.#journal !== undefined && vm.#protection.haltReason !== undefined) {
      vm.#halt = haltOf(vm.#protection.vmName, vm.#protection.haltReason);
    }
    vm.#rewriteWhenLong();
    return vm;
  }

  #take(value: unknown): string | undefined {
    const record = parseStateRecord(value) ?? parseRecord(value);
    if ('wrong' in record) return record.wrong;
    this.#lastAtMs = record.atMs;
    return this.#protection.apply(record);
  }

  /**
   * Its files could not be read, which may pass: opened anew, it may be well. Nothing of this object
   * is of use then.
   */
  get isWorthAnotherTry(): boolean {
    return this.#isWorthAnotherTry;
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
    // it ends a halt that stands in the journal; one for a damaged journal it does not
    if (record.kind !== 'unhalt' || this.#protection.haltReason === undefined) this.requireSound();
    this.requireReadable();
    if (this.#journal === undefined || this.#seams.isReadOnly) {
      throw new DrError('E_STATE', `${this.layout.folder} is open for reading only`);
    }
    await this.#journal.append(record);
    const wrong = this.#protection.apply(record);
    if (wrong !== undefined) throw new Error(`a record of ours contradicts the journal: ${wrong}`);
    if (record.kind === 'halt') this.#halt = haltOf(this.#protection.vmName, record.reason);
    if (record.kind === 'unhalt') this.#halt = undefined;
    this.#lastAtMs = record.atMs;
    this.#snapshotLater();
    this.#rewriteWhenLong();
  }

  #snapshotLater(): void {
    this.#isSnapshotDue = true;
    this.#snapshot ??= Promise.resolve().then(() => this.#writeSnapshots());
  }

  /** In the background: the journal has it all, so a failure here costs nothing. */
  async #writeSnapshots(): Promise<void> {
    while (this.#isSnapshotDue) {
      this.#isSnapshotDue = false;
      await this.#writeSnapshot().catch(() => undefined);
    }
    this.#snapshot = undefined;
  }

  async #writeSnapshot(): Promise<void> {
    const { fs, random } = this.#seams;
    const mark = this.#journal?.mark;
    const fields = snapshotOf(this.#protection, mark);
    await writeJsonDurably(fs, this.layout.snapshot, SNAPSHOT, fields, random);
    this.#snapshotSequence = mark?.sequence ?? 0;
  }

  /** As a change of its own, so that no cycle waits for it unless it comes meanwhile. */
  #rewriteWhenLong(): void {
    const journal = this.#journal;
    if (journal === undefined || journal.lengthBytes < this.#rewriteAtBytes) return;
    if (this.#isRewriteDue || this.#seams.isReadOnly || this.halt !== undefined) return;
    this.#isRewriteDue = true;
    void this.change(() => this.#rewrite(journal))
      // the journal goes on as it is; after some more records it is tried again
      .catch(() => {
        this.#rewriteAtBytes = Math.ceil(1.25 * journal.lengthBytes);
      })
      .finally(() => {
        this.#isRewriteDue = false;
      });
  }

  /**
   * Replaces the journal by the state it leads to, when that is less than half of it. The next look is
   * taken when the journal is twice as long as its state was: the work is a constant share of what is
   * appended.
   */
  async #rewrite(journal: Journal): Promise<void> {
    if (this.halt !== undefined) return;
    const { state } = this.#protection;
    const records = (before: JournalMark): object[] => encodeState(state, this.#lastAtMs, before);
    let stateBytes = 0;
    for (const record of records(journal.mark)) stateBytes += JSON.stringify(record).length;
    this.#rewriteAtBytes = Math.max(
      this.#seams.rewriteAboveBytes ?? REWRITE_ABOVE_BYTES,
      2 * stateBytes,
    );
    if (journal.lengthBytes < this.#rewriteAtBytes) return;
    await this.#snapshot;
    // whatever file a power cut leaves, it must be known how far the journal had come
    if (this.#snapshotSequence !== journal.mark.sequence) await this.#writeSnapshot();
    await journal.rewrite(this.#seams.random, records);
    this.#snapshotLater();
  }

  /**
   * Gives the protection up: durable on return, from then on nothing can be done with it. What is left of
   * its files goes with removeForgotten(). To be called inside change(). @throws DrError E_IO, E_CAPACITY
   */
  async forget(forgotten: Forgotten): Promise<void> {
    this.requireSound();
    await markForgotten(this.#seams, this.layout, forgotten);
    this.#halt = new DrError('E_NOT_PROTECTED', `${forgotten.vmName} was forgotten`);
    await this.#snapshot;
    await this.#journal?.close();
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#snapshot;
    await this.#journal?.close();
  }
}

/** What writes that a crash cut off have left beside journal and snapshot. */
async function removeUnfinished(
  fs: FileSystem,
  { journal, snapshot, scrub }: VmLayout,
  names: readonly string[],
): Promise<void> {
  for (const path of [journal, snapshot, scrub]) {
    if (names.some((name) => isLeftoverOf(basename(path), name))) await removeLeftovers(fs, path);
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
  const { operation } = protection.failover;
  return {
    sequence: mark?.sequence ?? 0,
    chain: mark?.chain ?? '',
    vmId,
    vmName,
    owner,
    epoch: epoch.toString(),
    isPaused,
    failover: protection.failover.phase,
    ...(operation === undefined ? {} : { operation: `${operation.kind}, step ${operation.step}` }),
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
