// Looks after one VM of a store: takes away leftovers, forgets points by age, plans what to reclaim and
// does it, one bounded slice at a time. What was begun is gone on with by the next slice.

import { DrError } from '../../shared/errors.js';
import type { Guid } from '../../shared/bytes/index.js';
import type { Log } from '../../shared/log.js';
import { compact } from '../reclaim/compact.js';
import { markDamage } from '../reclaim/damage.js';
import { drop } from '../reclaim/drop.js';
import { fold } from '../reclaim/fold.js';
import { sweep } from '../reclaim/leftovers.js';
import { MergeGains } from '../reclaim/merge-gain.js';
import {
  type Action,
  type Candidate,
  isUrgent,
  nextOf,
  type Plan,
  planReclaim,
  type ReclaimLimits,
} from '../reclaim/plan.js';
import { LayersChanged, type ReclaimSeams, type Step } from '../reclaim/reclaim.js';
import { isDamage } from '../store/damage.js';
import type { Segment } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';

export interface CaretakerOptions {
  readonly seams: ReclaimSeams;
  readonly log: Log;
  readonly limits: ReclaimLimits;
  /** Whether disks of somebody else hang on the base of a segment. */
  readonly isBaseHeld: (vm: VmStore, segment: Segment) => boolean;
  /** Settles when a fold has waited for readers for long enough. */
  readonly patience: () => Promise<unknown>;
}

/** due: what is worth its cost. all: whatever can be regained. */
export type Effort = 'due' | 'all';

/** worked: there may be more. waits: for somebody who uses the files. */
export type SliceResult = 'worked' | 'waits' | 'idle';

export interface ReclaimStatus {
  /** An upper bound. */
  readonly reclaimableBytes: number;
  /** What is under way; empty: nothing. */
  readonly running: string;
  /** What cannot be reclaimed now, and why. */
  readonly waiting: readonly string[];
  /** Of the last try; undefined: it was done. */
  readonly failure: string | undefined;
}

interface Job {
  readonly steps: AsyncGenerator<Step>;
  readonly action: Action | undefined;
}

const NOTHING_LIMITS = { share: 0, minBytes: 0 };
const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 60 * 60 * 1000;

export class Caretaker {
  readonly vm: VmStore;
  readonly #options: CaretakerOptions;
  readonly #gains = new MergeGains();
  #job: Job | undefined;
  #isSwept = false;
  #readersWaitedFor = 0;
  #failureCount = 0;
  #failure: string | undefined;
  /** By the monotonic clock: nothing is tried before. */
  #notBefore = 0;
  /** What the VM looked like when there was nothing to do. */
  #idleAt:
    { readonly state: string; readonly sinceMs: number; readonly effort: Effort } | undefined;

  constructor(vm: VmStore, options: CaretakerOptions) {
    this.vm = vm;
    this.#options = options;
  }

  /** Whether a slice may find something to do. */
  isDue(effort: Effort): boolean {
    if (this.vm.halt !== undefined) return false;
    if (this.#options.seams.clock.monotonic() < this.#notBefore) return false;
    if (this.#job !== undefined || !this.#isSwept) return true;
    return this.#idleAt?.state !== this.#state() || this.#idleAt.effort !== effort;
  }

  /** For how long nothing of the VM has changed. */
  get idleMs(): number {
    if (this.#idleAt?.state !== this.#state()) return 0;
    return this.#options.seams.clock.monotonic() - this.#idleAt.sinceMs;
  }

  /** Whether so much can be regained that a source that streams is no reason to wait. */
  get isUrgent(): boolean {
    return isUrgent(this.#plan(this.#options.limits), this.#options.limits);
  }

  #state(): string {
    const { head, listed, segments } = this.vm.protection;
    const damaged = listed.filter(({ damage }) => damage !== undefined).length;
    const held = segments.all.filter((segment) => this.#options.isBaseHeld(this.vm, segment));
    const counts = [listed.length, damaged, segments.all.length, held.length];
    return [head?.pointId, segments.storedBytes, ...counts].join(' ');
  }

  /** Goes on for about `budgetBytes`. Failures are told by status(), and end in a pause. */
  async slice(effort: Effort, budgetBytes: number): Promise<SliceResult> {
    let bytes = 0;
    try {
      this.#job ??= await this.#nextJob(effort);
      if (this.#job === undefined) {
        this.#noteIdle(effort);
        return 'idle';
      }
      this.#readersWaitedFor = 0;
      while (bytes < budgetBytes) {
        const next = await this.#job.steps.next();
        if (next.done === true) {
          this.#ended(this.#job);
          return 'worked';
        }
        if (next.value.kind === 'waits') {
          this.#readersWaitedFor = next.value.readerCount;
          return 'waits';
        }
        bytes += next.value.bytes;
      }
      return 'worked';
    } catch (error) {
      await this.#failed(error);
      return this.#failure === undefined ? 'worked' : 'idle';
    }
  }

  #noteIdle(effort: Effort): void {
    const state = this.#state();
    const sinceMs =
      this.#idleAt?.state === state ? this.#idleAt.sinceMs : this.#options.seams.clock.monotonic();
    this.#idleAt = { state, sinceMs, effort };
    this.#failure = undefined;
    this.#failureCount = 0;
  }

  #ended({ action }: Job): void {
    this.#job = undefined;
    this.#failure = undefined;
    this.#failureCount = 0;
    if (action === undefined) {
      this.#isSwept = true;
      return;
    }
    const { vmId, protection } = this.vm;
    this.#options.log.info('store.reclaimed', {
      ...{ vmId, vmName: protection.vmName, kind: action.kind, diskId: action.segment.diskId },
      storedBytes: protection.storedBytes,
    });
  }

  async #failed(error: unknown): Promise<void> {
    const action = this.#job?.action;
    this.#job = undefined;
    // files that no record names may be there
    this.#isSwept = false;
    // it is planned anew
    if (error instanceof LayersChanged) return;
    if (!(error instanceof DrError)) throw error;
    const { vmId, protection } = this.vm;
    const { log, seams } = this.#options;
    this.#failure = error.message;
    this.#failureCount++;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failureCount - 1));
    this.#notBefore = seams.clock.monotonic() + pauseMs;
    const facts = { vmId, vmName: protection.vmName, code: error.code, reason: error.message };
    log.warn('store.reclaim-failed', { ...facts, pauseMs });
    if (action === undefined || !isDamage(error) || this.vm.halt !== undefined) return;
    const last = lastLayerOf(action);
    if (last === undefined) return;
    await markDamage(seams, this.vm, action.segment, last, error).catch((cause: unknown) => {
      if (!(cause instanceof DrError)) throw cause;
    });
  }

  async #nextJob(effort: Effort): Promise<Job | undefined> {
    const { vm } = this;
    const { seams, patience } = this.#options;
    if (vm.halt !== undefined) return undefined;
    if (!this.#isSwept) return { steps: sweep(seams.fs, vm), action: undefined };
    const action = (await this.#choose(effort))?.action;
    switch (action?.kind) {
      case undefined:
        return undefined;
      case 'drop':
        return { steps: drop(seams, vm, action.segment), action };
      case 'compact':
        return { steps: compact(seams, vm, action.segment, action.parts), action };
      case 'fold': {
        const { segment, pointId } = action;
        const isBaseHeld = (): boolean => this.#options.isBaseHeld(vm, segment);
        const steps = fold({ ...seams, patience, isBaseHeld }, vm, segment, pointId);
        return { steps, action };
      }
    }
  }

  /** The next thing that is worth it; merges are measured before they are begun for their gain. */
  async #choose(effort: Effort): Promise<Candidate | undefined> {
    const limits = this.#limits(effort);
    for (;;) {
      const plan = this.#plan(limits);
      const rows = plan.candidates.flatMap(({ action }) =>
        action.kind === 'compact' ? [action] : [],
      );
      this.#gains.retain(rows);
      const next = nextOf(plan, limits);
      if (next?.action.kind !== 'compact' || next.isExact || next.because !== 'gain') return next;
      const { segment, parts } = next.action;
      try {
        await this.#gains.measure(this.#options.seams.fs, this.vm, segment, parts);
      } catch (error) {
        // to be told as the failure of this merge
        this.#job = { steps: emptySteps(), action: next.action };
        throw error;
      }
    }
  }

  #limits(effort: Effort): ReclaimLimits {
    const { limits } = this.#options;
    return effort === 'due' ? limits : { ...limits, ...NOTHING_LIMITS };
  }

  #plan(limits: ReclaimLimits): Plan {
    const { protection } = this.vm;
    const { segments } = protection;
    const point = (pointId: Guid): ReturnType<typeof protection.point> => protection.point(pointId);
    const enoughBytes = Math.max(limits.minBytes, segments.storedBytes * limits.share) / 4;
    return planReclaim(
      {
        segments: segments.all,
        storedBytes: segments.storedBytes,
        isListed: (pointId) => point(pointId) !== undefined,
        isDamaged: (pointId) => point(pointId)?.damage !== undefined,
        isBaseHeld: (segment) => this.#options.isBaseHeld(this.vm, segment),
        mergeGain: (segment, parts) => this.#gains.of(segment, parts, enoughBytes),
      },
      limits,
    );
  }

  get status(): ReclaimStatus {
    const plan = this.#plan(this.#options.limits);
    const waiting = plan.held.map(({ segment, because }) =>
      because === 'damage'
        ? `disk ${segment.diskId}: a point is damaged, so its deltas stay as they are`
        : `disk ${segment.diskId}: a disk that runs hangs on its base`,
    );
    const running = this.#job?.action;
    if (this.#readersWaitedFor > 0 && running !== undefined) {
      const count = this.#readersWaitedFor;
      waiting.push(`disk ${running.segment.diskId}: ${running.kind} waits for ${count} reader(s)`);
    }
    return {
      reclaimableBytes: plan.reclaimableBytes,
      running: running === undefined ? '' : `${running.kind} of disk ${running.segment.diskId}`,
      waiting,
      failure: this.#failure,
    };
  }

  /** An operator asks: pauses after failures end. */
  hurry(): void {
    this.#notBefore = 0;
    this.#isSwept = false;
  }

  /** Leaves off at a safe point. */
  async close(): Promise<void> {
    const job = this.#job;
    this.#job = undefined;
    this.#isSwept = false;
    await job?.steps.return(undefined).catch(() => undefined);
  }
}

async function* emptySteps(): AsyncGenerator<Step> {
  await Promise.resolve();
}

function lastLayerOf(action: Action): Segment['layers'][number] | undefined {
  switch (action.kind) {
    case 'drop':
      return undefined;
    case 'compact':
      return action.parts.at(-1);
    case 'fold':
      return action.segment.layers.find(({ pointId }) => pointId === action.pointId);
  }
}
