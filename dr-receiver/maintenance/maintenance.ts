// The work of a receiver that nobody asks for: points are forgotten by age, leftovers removed, space
// reclaimed. One bounded slice for one VM at a time, whenever its source does not stream; while others
// do, with pauses between the slices. Nothing that goes wrong here ends anything else: it is logged,
// told in the status, and tried again later.
//
// maintain() does one slice and needs no timer; start() calls it again and again.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { RECLAIM_LIMITS, type ReclaimLimits } from '../reclaim/plan.js';
import type { ReclaimSeams } from '../reclaim/reclaim.js';
import type { Segment } from '../store/segments.js';
import type { VmStore } from '../store/vm-store.js';
import { holdLeftBehind } from '../failover/instance-files.js';
import { Caretaker, type ReclaimStatus, type SliceResult } from './caretaker.js';

export interface MaintenanceOptions {
  /** Of all VMs of the store. */
  readonly desks: () => Promise<readonly VmDesk[]>;
  readonly seams: ReclaimSeams;
  readonly log: Log;
  readonly limits?: ReclaimLimits | undefined;
}

export interface CompactResult {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** What could not be reclaimed, and why. */
  readonly waiting: readonly string[];
}

const SLICE_BYTES = 64 * 1024 * 1024;
/** Between two looks at a store in which there is nothing to do. */
const LOOK_MS = 2000;
const AGE_MS = 60_000;
/** While a source streams, this is the share of the time that maintenance takes. */
const BUSY_SHARE = 0.2;
/** A VM that has not changed for so long is reclaimed whatever it gives back. */
const IDLE_MS = 60 * 60 * 1000;
/** After a fold or a removal had to wait for readers; twice as long after each further time. */
const WAIT_MS = 5000;
const LONGEST_WAIT_MS = 5 * 60 * 1000;
/** How long a fold waits for readers before it comes again later; new readers wait with it. */
const PATIENCE_MS = 5000;
/** Until a VM whose work ended with an error that is none of the catalogue is looked at again. */
const AFTER_BUG_MS = 60 * 60 * 1000;

export class Maintenance {
  readonly #options: MaintenanceOptions;
  readonly #caretakers = new Map<VmStore, Caretaker>();
  readonly #waits = new Map<VmStore, { readonly untilMs: number; readonly count: number }>();
  readonly #agedAt = new Map<VmStore, number>();
  readonly #looked = new WeakSet<VmStore>();
  readonly #stop = new AbortController();
  #last: VmStore | undefined;
  #loop: Promise<void> | undefined;
  /** Slices are done one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: MaintenanceOptions) {
    this.#options = options;
  }

  #of(vm: VmStore): Caretaker {
    let caretaker = this.#caretakers.get(vm);
    if (caretaker === undefined) {
      const { seams, log, limits = RECLAIM_LIMITS } = this.#options;
      const isBaseHeld = (of: VmStore, segment: Segment): boolean =>
        of.baseHolds.isHeld(segment, of.protection);
      const patience = (): Promise<void> => seams.clock.sleep(PATIENCE_MS, this.#stop.signal);
      caretaker = new Caretaker(vm, { seams, log, limits, isBaseHeld, patience });
      this.#caretakers.set(vm, caretaker);
    }
    return caretaker;
  }

  /** What can be reclaimed of a VM, and what stands in the way. */
  statusOf(vm: VmStore): ReclaimStatus {
    return this.#of(vm).status;
  }

  /** Does one slice of what is due; false when there is nothing to do now. */
  maintain(): Promise<boolean> {
    return this.#inTurn(() => this.#maintain());
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** Runs `work`, after which nothing is done for this VM any more, while no slice is under way. */
  leave(vm: VmStore, work: () => Promise<void>): Promise<void> {
    return this.#inTurn(async () => {
      await work();
      for (const known of [this.#caretakers, this.#waits, this.#agedAt]) known.delete(vm);
      if (this.#last === vm) this.#last = undefined;
    });
  }

  async #maintain(): Promise<boolean> {
    const { clock } = this.#options.seams;
    const desks = await this.#options.desks();
    const start = desks.findIndex(({ vm }) => vm === this.#last) + 1;
    for (let index = 0; index < desks.length; index++) {
      const desk = desks[(start + index) % desks.length];
      if (desk === undefined || this.#stop.signal.aborted) return false;
      const { vm } = desk;
      if (vm.halt !== undefined) continue;
      if (desk.isStreaming && !this.#of(vm).isUrgent) continue;
      const now = clock.monotonic();
      const wait = this.#waits.get(vm);
      if (wait !== undefined && now < wait.untilMs) continue;
      await this.#age(desk, now);
      // what may stand on its base is not known: nothing of it is changed, and it is asked again
      if (!(await this.#lookAtLeft(vm))) {
        this.#waits.set(vm, { untilMs: clock.monotonic() + WAIT_MS, count: 0 });
        continue;
      }
      const caretaker = this.#of(vm);
      const effort = caretaker.idleMs >= IDLE_MS ? 'all' : 'due';
      if (!caretaker.isDue(effort)) continue;
      const result = await this.#slice(vm, caretaker, effort);
      if (result === undefined) {
        this.#waits.set(vm, { untilMs: clock.monotonic() + AFTER_BUG_MS, count: 0 });
      } else if (result === 'waits') {
        const count = wait === undefined ? 0 : wait.count + 1;
        const waitMs = Math.min(LONGEST_WAIT_MS, WAIT_MS * 2 ** count);
        this.#waits.set(vm, { untilMs: clock.monotonic() + waitMs, count });
      } else {
        this.#waits.delete(vm);
      }
      if (result !== 'worked') continue;
      this.#last = vm;
      return true;
    }
    return false;
  }

  /** Before the first base is changed: which of them have files of operations that are over. */
  async #lookAtLeft(vm: VmStore): Promise<boolean> {
    if (this.#looked.has(vm)) return true;
    try {
      await holdLeftBehind(this.#options.seams.fs, vm);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      const { code, message } = error;
      this.#options.log.warn('store.reclaim-failed', { vmId: vm.vmId, code, reason: message });
      return false;
    }
    this.#looked.add(vm);
    return true;
  }

  /** undefined: a bug of ours, which must not end the work for other VMs. */
  async #slice(
    vm: VmStore,
    caretaker: Caretaker,
    effort: 'all' | 'due',
  ): Promise<SliceResult | undefined> {
    try {
      return await caretaker.slice(effort, SLICE_BYTES);
    } catch (error) {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#options.log.error('store.reclaim-stopped', { vmId: vm.vmId, reason });
      return undefined;
    }
  }

  async #age(desk: VmDesk, now: number): Promise<void> {
    const { vm } = desk;
    if (now - (this.#agedAt.get(vm) ?? -Infinity) < AGE_MS) return;
    this.#agedAt.set(vm, now);
    const { log } = this.#options;
    try {
      const pointIds = await vm.change(() => desk.applyRetention());
      if (pointIds.length === 0) return;
      log.info('point.forgotten', { vmId: vm.vmId, vmName: vm.protection.vmName, pointIds });
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      log.warn('store.reclaim-failed', { vmId: vm.vmId, code: error.code, reason: error.message });
    }
  }

  /**
   * Reclaims now whatever can be of a VM; yields its stored bytes after each slice. Failures are told
   * as what stands in the way. @throws DrError E_HALTED
   */
  async *compactNow(vm: VmStore): AsyncGenerator<number, CompactResult> {
    vm.requireSound();
    const { vmId, protection } = vm;
    const bytesBefore = protection.storedBytes;
    const caretaker = this.#of(vm);
    await this.#inTurn(async () => {
      await this.#lookAtLeft(vm);
      caretaker.hurry();
    });
    for (;;) {
      const result = await this.#inTurn(() => caretaker.slice('all', SLICE_BYTES));
      if (result !== 'worked' || this.#stop.signal.aborted) break;
      yield protection.storedBytes;
    }
    const { waiting, failure } = caretaker.status;
    return {
      ...{ vmId, vmName: protection.vmName, bytesBefore, bytesAfter: protection.storedBytes },
      waiting: failure === undefined ? waiting : [...waiting, failure],
    };
  }

  /** Goes on in the background until close(). */
  start(): void {
    this.#loop ??= this.#run(this.#stop.signal).catch((error: unknown) => {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#options.log.error('store.reclaim-stopped', { reason });
    });
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options.seams;
    while (!signal.aborted) {
      const beganAt = clock.monotonic();
      const hasWorked = await this.maintain();
      const tookMs = clock.monotonic() - beganAt;
      const isBusy = (await this.#options.desks()).some(({ isStreaming }) => isStreaming);
      const restMs = isBusy ? (tookMs * (1 - BUSY_SHARE)) / BUSY_SHARE : 0;
      await clock.sleep(hasWorked ? restMs : LOOK_MS, signal).catch(() => undefined);
    }
  }

  /** Ends at a safe point. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('the receiver ends'));
    await this.#loop;
    await this.#turn;
    for (const caretaker of this.#caretakers.values()) await caretaker.close();
  }
}
