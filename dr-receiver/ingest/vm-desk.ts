// What goes on with one VM: the cycle that is open, the stream that feeds it, the unfinished cycles
// beside it. Open and commit run one after the other, as changes of the VM; a stream runs beside them
// and is told when its cycle is taken away.

import type { Guid } from '../../shared/bytes/index.js';
import { DeltaError } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { cycleRefusal, RETURN_CYCLE } from '../failover/machine.js';
import { operationWords } from '../failover/refusals.js';
import type { FileSystem } from '../../shared/files/index.js';
import { markInherited } from '../store/inherit.js';
import { isTimeTrusted, pointsToForget } from '../store/forget.js';
import type { ActiveCycle as CycleInWork } from '../forecast.js';
import type { CommitAnswer, Point } from '../store/protection.js';
import type { Donor } from '../store/repair.js';
import type { VmLayout } from '../store/layout.js';
import type { RetentionPolicy } from '../store/retention.js';
import type { Actor, DiskRecord } from '../store/records.js';
import type { VmStore } from '../store/vm-store.js';
import { addSigns } from '../warning/compare.js';
import { planCommit } from './commit.js';
import { isDamaged } from './damage.js';
import { EarlierCells } from './earlier-cells.js';
import {
  type Acknowledgement,
  IncomingCycle,
  type IngestSeams,
  readUnfinished,
  stagedDisk,
  type UnfinishedCycle,
} from './incoming-cycle.js';
import { removeOldProgress, removeUnfinished, unfinishedCycleIds } from './leftover-cycles.js';
import type { CycleRequest } from './open-request.js';
import { StagedCells } from './staged-cells.js';

/** What an unfinished cycle has of a disk, for a repair. */
function stagedDonor(fs: FileSystem, layout: VmLayout, cycle: UnfinishedCycle): Donor {
  return async function* (disk, wanted) {
    const staged = stagedDisk(layout, cycle, disk);
    if (staged === undefined) return;
    const cells = await StagedCells.open(fs, staged);
    try {
      for (const { cell, hash } of wanted) {
        const bytes = await cells.find(cell, hash);
        if (bytes !== undefined) yield { cell, bytes };
      }
    } finally {
      await cells.close();
    }
  };
}

/** A stream without a message for so long is taken for dead when another one wants its place. */
const SILENCE_MS = 30_000;
/** Unfinished cycles kept beside the one that is open. */
const UNFINISHED_MAX = 4;
/** Cycles that failed on the volume which are remembered, more than can be unfinished. */
const FAILED_MAX = 64;

export type OpenOutcome =
  | {
      readonly kind: 'accepted';
      readonly positions: readonly { readonly nextCell: number; readonly isComplete: boolean }[];
    }
  | { readonly kind: 'committed'; readonly answer: CommitAnswer }
  | { readonly kind: 'parentRefused' };

interface Stream {
  isDead: boolean;
  /** The message that is being taken. */
  current: Promise<void>;
}

interface ActiveCycle {
  readonly cycle: IncomingCycle;
  readonly by: string;
  /** By the monotonic clock, and what the cycle had named then. */
  readonly openedAtMs: number;
  readonly openedBytes: number;
  stream: Stream | undefined;
  /** What lookBack() has found. */
  signed?: { readonly disks: readonly DiskRecord[]; readonly warnings: readonly string[] };
}

export interface DeskOptions {
  readonly seams: IngestSeams;
  readonly policy: RetentionPolicy;
  /** False after a jump of the clock. */
  readonly isClockTrusted: () => boolean;
  /** Throws when the owner may not store so many bytes more. */
  readonly requireRoom: (owner: string, moreBytes: number) => void;
}

/** A seed is an act of the operator, and goes away with the first point: it counts for no quota. */
function quotaBytesOf(cycle: UnfinishedCycle): number {
  return cycle.request.seededFrom === '' ? dataBytesOf(cycle) : 0;
}

function dataBytesOf({ progress }: UnfinishedCycle): number {
  let sum = 0;
  for (const { dataBytes } of progress.values()) sum += dataBytes;
  return sum;
}

function locked(vmName: string, active: ActiveCycle): DrError {
  const { cycleId } = active.cycle.request;
  return new DrError('E_LOCKED', `cycle ${cycleId} of ${vmName} by ${active.by} is under way`, {
    context: { cycleId },
  });
}

export class VmDesk {
  readonly vm: VmStore;
  readonly earlier: EarlierCells;
  readonly #options: DeskOptions;
  #active: ActiveCycle | undefined;
  #unfinished: Map<Guid, UnfinishedCycle> | undefined;
  /** Cycles of which a write or flush failed: they are not gone on with in this process. */
  readonly #failed = new Set<Guid>();
  #stagedBytes = 0;
  #lyingBytes = 0;
  /** Nothing is left of commits whose clean-up did not come to its end. */
  #isTidy = false;

  constructor(vm: VmStore, options: DeskOptions) {
    this.vm = vm;
    this.#options = options;
    this.earlier = new EarlierCells(vm, options.seams);
  }

  /** The cycle that is open now. */
  get activeRequest(): CycleRequest | undefined {
    return this.#active?.cycle.request;
  }

  /** How far the open cycle is. */
  get activeWork(): CycleInWork | undefined {
    if (this.#active === undefined) return undefined;
    const { cycle, openedAtMs, openedBytes } = this.#active;
    const { namedBytes, request } = cycle;
    return {
      elapsedMs: this.#options.seams.clock.monotonic() - openedAtMs,
      cameBytes: namedBytes - openedBytes,
      namedBytes,
      expectedBytes: request.expectedBytes,
    };
  }

  /** Whether a cycle was begun here and not committed; waits for nothing that is under way. */
  async hasUnfinished(): Promise<boolean> {
    if (this.#unfinished !== undefined) return this.#unfinished.size > 0;
    return (await unfinishedCycleIds(this.#options.seams.fs, this.vm)).length > 0;
  }

  get isStreaming(): boolean {
    return this.#active?.stream !== undefined;
  }

  /** Bytes of the cycle that is coming in, and of the unfinished ones beside it. */
  get stagedBytes(): number {
    return this.#stagedBytes + this.#lyingBytes;
  }

  async #known(): Promise<Map<Guid, UnfinishedCycle>> {
    if (this.#unfinished !== undefined) return this.#unfinished;
    const { fs } = this.#options.seams;
    const { layout } = this.vm;
    const known = new Map<Guid, UnfinishedCycle>();
    for (const id of await unfinishedCycleIds(fs, this.vm)) {
      const found = await readUnfinished(fs, layout, id);
      if (found !== undefined) known.set(id, found);
    }
    this.#unfinished = known;
    this.#count(known.values());
    return known;
  }

  #count(lying: Iterable<UnfinishedCycle>): void {
    this.#lyingBytes = 0;
    for (const cycle of lying) this.#lyingBytes += quotaBytesOf(cycle);
  }

  /** All unfinished cycles, the one with most staged data first. */
  async unfinished(): Promise<UnfinishedCycle[]> {
    return [...(await this.#known()).values()].sort((a, b) => dataBytesOf(b) - dataBytesOf(a));
  }

  /** What lies in the folders has changed: it is looked at anew. Inside a change of the VM. */
  forgetUnfinished(): void {
    this.#unfinished = undefined;
    this.#lyingBytes = 0;
  }

  /** Opens a cycle. To be called inside a change of the VM. */
  async open(request: CycleRequest, by: string): Promise<OpenOutcome> {
    const { protection } = this.vm;
    const { cycleId, vmName } = request;
    const answer = protection.answer(cycleId);
    if (answer !== undefined) return { kind: 'committed', answer };
    this.vm.requireSound();
    if (protection.segments.cycleIds.has(cycleId)) {
      throw new DrError('E_STATE', `cycle ${cycleId} of ${vmName} was committed long ago`);
    }
    await this.#checkEpoch(request);
    this.#requireReplicating(request);
    // nothing comes from the source that was paused
    if (protection.isPaused && request.kind !== RETURN_CYCLE) {
      throw new DrError('E_STATE', `${vmName} is paused`, { hint: 'Run `hvdr unpause VM` first.' });
    }
    const active = this.#active;
    if (active !== undefined) {
      // Whoever opens the very same cycle is the source that began it, after its line broke.
      const isSame = active.cycle.request.encoded.equals(request.encoded);
      if (!isSame && this.#isAlive(active)) throw locked(vmName, active);
      await this.#drop(active);
    }
    if (request.parentPointId !== protection.head?.pointId) return { kind: 'parentRefused' };
    this.#requireComparison(request);
    if (protection.point(request.pointId) !== undefined) {
      throw new DrError('E_STATE', `point ${request.pointId} of ${vmName} is there already`);
    }
    this.#checkDisks(request);
    if (this.#failed.has(cycleId)) {
      throw new DrError('E_IO', `cycle ${cycleId} of ${vmName} failed on the receiver's volume`, {
        hint: 'Begin a new cycle; its cells are used again where they are the same.',
      });
    }
    this.#options.requireRoom(protection.owner, 0);
    const cycle = await this.#openCycle(request);
    this.#active = this.#activeOf(cycle, by);
    return { kind: 'accepted', positions: cycle.positions };
  }

  #activeOf(cycle: IncomingCycle, by: string): ActiveCycle {
    const openedAtMs = this.#options.seams.clock.monotonic();
    return { cycle, by, openedAtMs, openedBytes: cycle.namedBytes, stream: undefined };
  }

  async #checkEpoch({ epoch, vmName }: CycleRequest): Promise<void> {
    const ours = this.vm.protection.epoch;
    if (epoch === ours) return;
    if (epoch < ours) {
      throw new DrError(
        'E_STALE_EPOCH',
        `${vmName}: the source has epoch ${epoch}, here is ${ours}`,
      );
    }
    const reason = `the store is older than its source: epoch ${ours} here, ${epoch} there`;
    const atMs = this.#options.seams.clock.now();
    await this.vm.append({ kind: 'halt', atMs, reason, sourceEpoch: epoch.toString() });
    this.vm.requireSound();
  }

  /** While the VM serves elsewhere, or comes and goes, its source adds nothing (failover.md § 3). */
  #requireReplicating({ kind, vmName }: CycleRequest): void {
    const { failover } = this.vm.protection;
    const code = cycleRefusal(failover, kind);
    if (code === undefined) return;
    const { operation } = failover;
    const what =
      operation === undefined
        ? `its state is ${failover.phase}`
        : `${operationWords(operation)} is under way`;
    throw new DrError(code, `${vmName} takes no cycle now: ${what}`, {
      context: {
        phase: failover.phase,
        ...(operation === undefined ? {} : { operationId: operation.operationId }),
      },
      done: 'nothing was changed',
    });
  }

  /** Takes a cycle out of the hands of whoever sends it; what is durable of it stays. In a change of the VM. */
  async setAside(): Promise<void> {
    if (this.#active !== undefined) await this.#drop(this.#active);
  }

  /** After a halt nobody knows what a delta would stand on. */
  #requireComparison({ kind, disks, vmName }: CycleRequest): void {
    if (!this.vm.protection.isCompareDue || kind === 'resync') return;
    // made of what stands here
    if (kind === RETURN_CYCLE) return;
    if (disks.every(({ transfer }) => transfer === 'base')) return;
    throw new DrError('E_STATE', `${vmName} was halted: its next cycle has to compare every disk`, {
      hint: 'The next cycle of an agent of this release does; an older agent has to be replaced.',
    });
  }

  /** Gives the VM to another principal. To be called inside a change of the VM. */
  async rebind(owner: string, actor: Actor): Promise<void> {
    this.vm.requireSound();
    const { protection } = this.vm;
    if (protection.owner === owner) return;
    // what the former owner is sending is not the new one's
    if (this.#active !== undefined) await this.#drop(this.#active);
    await this.vm.append({
      ...{ kind: 'rebind', atMs: this.#options.seams.clock.now(), owner },
      ...actor,
    });
  }

  /** A delta stands on a disk of the parent point, in the same size. */
  #checkDisks(request: CycleRequest): void {
    const parents = this.vm.protection.head?.disks ?? [];
    for (const disk of request.disks) {
      if (disk.transfer === 'base') continue;
      const parent = parents.find((each) => each.diskId === disk.diskId);
      if (parent?.generation !== disk.generation) {
        throw new DrError(
          'E_BASE_LOST',
          `disk ${disk.diskId}.${disk.generation} has no base in the parent point`,
          { context: { diskId: disk.diskId }, hint: 'Send this disk whole, as a base.' },
        );
      }
      for (const field of ['sizeBytes', 'logicalSectorBytes', 'physicalSectorBytes'] as const) {
        if (parent[field] === disk[field]) continue;
        throw new DrError(
          'E_DISK_MISMATCH',
          `disk ${disk.diskId}: ${field} is ${disk[field]}, in the parent point ${parent[field]}`,
          { hint: 'A disk that was resized is a new generation, sent whole as a base.' },
        );
      }
    }
  }

  async #openCycle(request: CycleRequest): Promise<IncomingCycle> {
    const { seams, requireRoom } = this.#options;
    const { layout, protection } = this.vm;
    const known = await this.#known();
    const found = known.get(request.cycleId);
    if (found !== undefined && !found.request.encoded.equals(request.encoded)) {
      const what =
        found.request.checkpointId === request.checkpointId ? 'another request' : 'a checkpoint';
      throw new DrError('E_STATE', `cycle ${request.cycleId} was opened with ${what} before`, {
        hint: 'A new checkpoint is a new cycle; its cells are used again where they are the same.',
      });
    }
    const others = (await this.unfinished()).filter((other) => other !== found);
    if (others.length > UNFINISHED_MAX) {
      const kept = new Set([request.cycleId, ...this.vm.claimedCycleIds]);
      for (const other of others.splice(0, UNFINISHED_MAX)) kept.add(other.request.cycleId);
      await removeUnfinished(seams.fs, this.vm, kept);
      for (const id of known.keys()) if (!kept.has(id)) known.delete(id);
    }
    const reusable = (await this.unfinished()).filter((other) => other !== found);
    const open = (from: UnfinishedCycle | undefined): Promise<IncomingCycle> =>
      IncomingCycle.open(request, layout, seams, from, reusable, (disk) => this.earlier.open(disk));
    let start = found;
    const cycle = await open(found).catch((error: unknown) => {
      if (found !== undefined) this.#noteFailure(request.cycleId, error);
      // what it had brought is damaged or gone: it begins anew, from its first cell
      if (found === undefined || !isDamaged(error)) throw error;
      start = undefined;
      return open(undefined);
    });
    this.#stagedBytes = start === undefined ? 0 : quotaBytesOf(start);
    this.#count(reusable);
    cycle.lastMessageAt = seams.clock.monotonic();
    if (request.seededFrom !== '') return cycle;
    cycle.onBytes = (lengthBytes) => {
      requireRoom(protection.owner, lengthBytes);
      this.#stagedBytes += lengthBytes;
    };
    return cycle;
  }

  #isAlive({ stream, cycle }: ActiveCycle): boolean {
    if (stream === undefined || stream.isDead) return false;
    return this.#options.seams.clock.monotonic() - cycle.lastMessageAt < SILENCE_MS;
  }

  /** Closes the open cycle; what it has durable is found again. */
  async #drop(active: ActiveCycle): Promise<void> {
    if (this.#active !== active) return;
    this.#active = undefined;
    const { cycle, stream } = active;
    if (stream !== undefined) {
      stream.isDead = true;
      await stream.current.catch(() => undefined);
    }
    await cycle.settleAll().catch((error: unknown) => {
      this.#noteFailure(cycle.request.cycleId, error);
    });
    await cycle.close();
    await this.#refresh(cycle.request.cycleId);
    this.#stagedBytes = 0;
  }

  async #refresh(cycleId: Guid): Promise<void> {
    const found = await readUnfinished(this.#options.seams.fs, this.vm.layout, cycleId);
    if (found === undefined) this.#unfinished?.delete(cycleId);
    else this.#unfinished?.set(cycleId, found);
    this.#count(this.#unfinished?.values() ?? []);
  }

  /** Only the last ones: a source that keeps to the protocol opens none of the older ones again. */
  #markFailed(cycleId: Guid): void {
    this.#failed.delete(cycleId);
    this.#failed.add(cycleId);
    for (const oldest of this.#failed) {
      if (this.#failed.size <= FAILED_MAX) break;
      this.#failed.delete(oldest);
    }
  }

  #noteFailure(cycleId: Guid, error: unknown): void {
    if (error instanceof DrError && error.code === 'E_IO') this.#markFailed(cycleId);
  }

  /**
   * Takes the messages behind the first one, until the stream ends. What was durable when it broke
   * off stays so. @throws DrError, DeltaError
   */
  async push(
    cycleId: Guid,
    messages: AsyncIterator<Buffer>,
    onDurable: (acknowledgement: Acknowledgement) => void,
  ): Promise<void> {
    const active = this.#active;
    if (active?.cycle.request.cycleId !== cycleId) {
      throw new DrError('E_STATE', `cycle ${cycleId} is not open`, { hint: 'Open it again.' });
    }
    if (active.stream !== undefined) throw locked(this.vm.protection.vmName, active);
    const stream: Stream = { isDead: false, current: Promise.resolve() };
    active.stream = stream;
    const { cycle } = active;
    cycle.onDurable = onDurable;
    cycle.lastMessageAt = this.#options.seams.clock.monotonic();
    try {
      for (;;) {
        const next = await messages.next();
        if (stream.isDead) {
          throw new DrError('E_LOCKED', `cycle ${cycleId} was taken over by another stream`);
        }
        if (next.done === true) break;
        stream.current = cycle.take(next.value);
        await stream.current;
      }
      stream.current = cycle.settleAll();
      await stream.current;
      active.stream = undefined;
    } catch (error) {
      this.#noteFailure(cycleId, error);
      if (!stream.isDead) {
        active.stream = undefined;
        await this.vm.change(() => this.#drop(active));
      }
      throw error;
    }
  }

  /**
   * Looks up what stood where the cells of a cycle look random, ahead of its commit and outside of any
   * change of the VM: it may have to wait for whoever changes the base.
   */
  async lookBack(cycleId: Guid): Promise<void> {
    const active = this.#active;
    if (active?.cycle.request.cycleId !== cycleId || !active.cycle.isComplete) return;
    const { cycle } = active;
    active.signed = await addSigns(
      this.#options.seams,
      this.vm,
      cycle.diskRecords(),
      cycle.statistics,
    );
  }

  /** Lists the point of a cycle. To be called inside a change of the VM. */
  async commit(cycleId: Guid, roots: readonly Buffer[], actor: Actor): Promise<CommitAnswer> {
    const { protection } = this.vm;
    const known = protection.answer(cycleId);
    if (known !== undefined) return known;
    this.vm.requireSound();
    const active = await this.#activeFor(cycleId, actor.by);
    const { cycle } = active;
    const { request } = cycle;
    if (request.epoch !== protection.epoch) await this.#checkEpoch(request);
    this.#requireReplicating(request);
    if (request.parentPointId !== protection.head?.pointId) {
      throw new DrError(
        'E_STATE',
        `cycle ${cycleId} does not follow the head of ${request.vmName}`,
      );
    }
    if (active.stream !== undefined) throw locked(request.vmName, active);
    const disks = cycle.diskRecords();
    if (roots.length !== disks.length) {
      throw new DrError('E_PROTOCOL', `${roots.length} roots came for ${disks.length} disks`);
    }
    for (const [index, disk] of disks.entries()) {
      const root = roots[index];
      if (root?.toString('hex') === disk.root) continue;
      this.#markFailed(cycleId);
      await this.#drop(active);
      throw new DeltaError(
        'E_DELTA_MANIFEST',
        `disk ${disk.diskId}: the manifest roots of the two sides differ`,
        {
          context: { diskId: disk.diskId, root: disk.root },
          hint: 'Begin a new cycle; its cells are used again where they are the same.',
        },
      );
    }
    const { seams, policy, isClockTrusted } = this.#options;
    const nowMs = seams.clock.now();
    const signed = active.signed ?? { disks, warnings: [] };
    const record = planCommit({
      protection,
      request,
      disks: signed.disks,
      notes: signed.warnings,
      actor,
      nowMs,
      isClockTrusted: isTimeTrusted(protection, { nowMs, isClockTrusted: isClockTrusted() }),
      policy,
    });
    await this.vm.append(record);
    this.#active = undefined;
    // it is listed: whoever reads it next must not meet our own locks
    await cycle.close().catch(() => undefined);
    this.#stagedBytes = 0;
    this.#unfinished?.delete(cycleId);
    void this.vm.change(() => this.#cleanUp(cycleId));
    const answer = protection.answer(cycleId);
    if (answer === undefined) throw new Error('a commit has an answer');
    return answer;
  }

  /**
   * Marks the new head when it shows damage of those before it; `before`: the head before the commit.
   * Outside of changes of the VM.
   */
  markInherited(before: Point | undefined): Promise<void> {
    const { seams } = this.#options;
    return markInherited(seams, this.vm, before, seams.clock.now());
  }

  /** Unfinished cycles as donors for a repair. Inside a change of the VM. */
  async donors(): Promise<Donor[]> {
    const { fs } = this.#options.seams;
    const cycles = await this.unfinished();
    const { layout } = this.vm;
    const active = this.#active?.cycle.request.cycleId;
    return cycles
      .filter(({ request }) => request.cycleId !== active)
      .map((cycle) => stagedDonor(fs, layout, cycle));
  }

  /** The cycle to commit: the open one, or one that an earlier process or stream completed. */
  async #activeFor(cycleId: Guid, by: string): Promise<ActiveCycle> {
    const active = this.#active;
    if (active?.cycle.request.cycleId === cycleId && active.cycle.request.seededFrom === '') {
      return active;
    }
    const found = (await this.#known()).get(cycleId);
    // a staged seed is nobody's point, whoever knows its id
    if (found?.request.seededFrom !== '' || this.#failed.has(cycleId)) {
      throw new DrError('E_STATE', `there is no open cycle ${cycleId}`, {
        hint: 'Open a cycle and send its cells first.',
      });
    }
    if (active !== undefined) {
      if (this.#isAlive(active)) throw locked(found.request.vmName, active);
      await this.#drop(active);
    }
    this.#checkDisks(found.request);
    const cycle = await this.#openCycle(found.request);
    const opened = this.#activeOf(cycle, by);
    this.#active = opened;
    return opened;
  }

  /** After a commit: older unfinished cycles are of no use any more. Failures wait for the next. */
  async #cleanUp(cycleId: Guid): Promise<void> {
    const { fs } = this.#options.seams;
    const { layout } = this.vm;
    const kept = new Set<Guid>(this.vm.claimedCycleIds);
    if (this.#active !== undefined) kept.add(this.#active.cycle.request.cycleId);
    try {
      if (this.#isTidy) await fs.remove(layout.progress(cycleId));
      else await removeOldProgress(fs, this.vm);
      this.#isTidy = true;
      await removeUnfinished(fs, this.vm, kept);
    } catch {
      // what is left is found and removed after the next commit
      this.#isTidy = false;
    }
    this.forgetUnfinished();
  }

  /**
   * Decides retention anew without a commit, and enters what is forgotten. To be called inside a change
   * of the VM. @throws DrError E_HALTED, E_IO, E_CAPACITY
   */
  async applyRetention(): Promise<readonly Guid[]> {
    const { seams, policy, isClockTrusted } = this.#options;
    const nowMs = seams.clock.now();
    const time = { policy, nowMs, isClockTrusted: isClockTrusted() };
    const pointIds = pointsToForget(this.vm.protection, time);
    if (pointIds.length > 0) {
      await this.vm.append({ kind: 'delist', atMs: nowMs, pointIds, by: 'retention' });
    }
    return pointIds;
  }

  /** Gives up a cycle; its cells stay until a later one was committed. Inside a change of the VM. */
  async abandon(cycleId: Guid): Promise<void> {
    const active = this.#active;
    if (active?.cycle.request.cycleId === cycleId) await this.#drop(active);
  }

  /** Gives up a cycle and removes what it brought. Inside a change of the VM. @throws DrError E_IO */
  async discard(cycleId: Guid): Promise<void> {
    await this.abandon(cycleId);
    const { fs } = this.#options.seams;
    const kept = new Set(await unfinishedCycleIds(fs, this.vm));
    kept.delete(cycleId);
    await removeUnfinished(fs, this.vm, kept);
    this.#unfinished = undefined;
    await this.#known();
  }

  /** Ends at a safe point. */
  async close(): Promise<void> {
    await this.vm.change(async () => {
      if (this.#active !== undefined) await this.#drop(this.#active);
    });
  }
}
