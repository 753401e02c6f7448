// What goes on with one VM: the cycle that is open, the stream that feeds it, the unfinished cycles
// beside it. Open and commit run one after the other, as changes of the VM; a stream runs beside them
// and is told when its cycle is taken away.

import type { Guid } from '../../shared/bytes/index.js';
import { DeltaError } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { isTimeTrusted, pointsToForget } from '../store/forget.js';
import type { ActiveCycle as CycleInWork } from '../forecast.js';
import type { CommitAnswer } from '../store/protection.js';
import type { RetentionPolicy } from '../store/retention.js';
import type { VmStore } from '../store/vm-store.js';
import { planCommit } from './commit.js';
import { isDamaged } from './damage.js';
import {
  type Acknowledgement,
  IncomingCycle,
  type IngestSeams,
  readUnfinished,
  type UnfinishedCycle,
} from './incoming-cycle.js';
import { removeOldProgress, removeUnfinished, unfinishedCycleIds } from './leftover-cycles.js';
import type { CycleRequest } from './open-request.js';

/** A stream without a message for so long is taken for dead when another one wants its place. */
const SILENCE_MS = 30_000;
/** Unfinished cycles kept beside the one that is open. */
const UNFINISHED_MAX = 4;

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
}

export interface DeskOptions {
  readonly seams: IngestSeams;
  readonly policy: RetentionPolicy;
  /** False after a jump of the clock. */
  readonly isClockTrusted: () => boolean;
  /** Throws when the owner may not store so many bytes more. */
  readonly requireRoom: (owner: string, moreBytes: number) => void;
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
    const { layout, protection } = this.vm;
    return (await unfinishedCycleIds(this.#options.seams.fs, layout, protection)).length > 0;
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
    const { layout, protection } = this.vm;
    const known = new Map<Guid, UnfinishedCycle>();
    for (const id of await unfinishedCycleIds(fs, layout, protection)) {
      const found = await readUnfinished(fs, layout, id);
      if (found !== undefined) known.set(id, found);
    }
    this.#unfinished = known;
    this.#count(known.values());
    return known;
  }

  #count(lying: Iterable<UnfinishedCycle>): void {
    this.#lyingBytes = 0;
    for (const cycle of lying) this.#lyingBytes += dataBytesOf(cycle);
  }

  /** All unfinished cycles, the one with most staged data first. */
  async unfinished(): Promise<UnfinishedCycle[]> {
    return [...(await this.#known()).values()].sort((a, b) => dataBytesOf(b) - dataBytesOf(a));
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
    if (protection.isPaused) {
      throw new DrError('E_STATE', `${vmName} is paused`, { hint: 'Run `hvdr unpause VM` first.' });
    }
    const active = this.#active;
    if (active !== undefined) {
      // Whoever opens the very same cycle is the source that began it, after its line broke.
      const isSame = active.cycle.request.cycleId === cycleId;
      if (!isSame && this.#isAlive(active)) throw locked(vmName, active);
      await this.#drop(active);
    }
    if (request.parentPointId !== protection.head?.pointId) return { kind: 'parentRefused' };
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
    await this.vm.append({ kind: 'halt', atMs: this.#options.seams.clock.now(), reason });
    this.vm.requireSound();
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
      await removeUnfinished(seams.fs, layout, protection, kept);
      for (const id of known.keys()) if (!kept.has(id)) known.delete(id);
    }
    const reusable = (await this.unfinished()).filter((other) => other !== found);
    const open = (from: UnfinishedCycle | undefined): Promise<IncomingCycle> =>
      IncomingCycle.open(request, layout, seams, from, reusable);
    let start = found;
    const cycle = await open(found).catch((error: unknown) => {
      if (found !== undefined) this.#noteFailure(request.cycleId, error);
      // what it had brought is damaged or gone: it begins anew, from its first cell
      if (found === undefined || !isDamaged(error)) throw error;
      start = undefined;
      return open(undefined);
    });
    this.#stagedBytes = start === undefined ? 0 : dataBytesOf(start);
    this.#count(reusable);
    cycle.lastMessageAt = seams.clock.monotonic();
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

  #noteFailure(cycleId: Guid, error: unknown): void {
    if (error instanceof DrError && error.code === 'E_IO') this.#failed.add(cycleId);
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

  /** Lists the point of a cycle. To be called inside a change of the VM. */
  async commit(cycleId: Guid, roots: readonly Buffer[], by: string): Promise<CommitAnswer> {
    const { protection } = this.vm;
    const known = protection.answer(cycleId);
    if (known !== undefined) return known;
    this.vm.requireSound();
    const active = await this.#activeFor(cycleId, by);
    const { cycle } = active;
    const { request } = cycle;
    if (request.epoch !== protection.epoch) await this.#checkEpoch(request);
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
      this.#failed.add(cycleId);
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
    const record = planCommit({
      protection,
      request,
      disks,
      by,
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
   * Forgets what retention does not keep any more, though no cycle came. Returns the points. To be
   * called inside a change of the VM. @throws DrError E_HALTED, E_IO, E_CAPACITY
   */
  async applyRetention(): Promise<readonly Guid[]> {
    const { seams, policy, isClockTrusted } = this.#options;
    if (this.vm.halt !== undefined) return [];
    const atMs = seams.clock.now();
    const time = { policy, nowMs: atMs, isClockTrusted: isClockTrusted() };
    const pointIds = pointsToForget(this.vm.protection, time);
    if (pointIds.length > 0) {
      await this.vm.append({ kind: 'delist', atMs, pointIds, by: 'retention' });
    }
    return pointIds;
  }

  /** The cycle to commit: the open one, or one that an earlier process or stream completed. */
  async #activeFor(cycleId: Guid, by: string): Promise<ActiveCycle> {
    const active = this.#active;
    if (active?.cycle.request.cycleId === cycleId) return active;
    const found = (await this.#known()).get(cycleId);
    if (found === undefined || this.#failed.has(cycleId)) {
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
    const { layout, protection } = this.vm;
    const kept = new Set<Guid>(this.vm.claimedCycleIds);
    if (this.#active !== undefined) kept.add(this.#active.cycle.request.cycleId);
    try {
      if (this.#isTidy) await fs.remove(layout.progress(cycleId));
      else await removeOldProgress(fs, layout, protection);
      this.#isTidy = true;
      await removeUnfinished(fs, layout, protection, kept);
    } catch {
      // what is left is found and removed after the next commit
      this.#isTidy = false;
    }
    this.#unfinished = undefined;
    this.#lyingBytes = 0;
  }

  /** Gives up a cycle; its cells stay until a later one was committed. Inside a change of the VM. */
  async abandon(cycleId: Guid): Promise<void> {
    const active = this.#active;
    if (active?.cycle.request.cycleId === cycleId) await this.#drop(active);
  }

  /** Ends at a safe point. */
  async close(): Promise<void> {
    await this.vm.change(async () => {
      if (this.#active !== undefined) await this.#drop(this.#active);
    });
  }
}
