// One agent that holds a call open: what it says of its VMs, and the orders that it was given. An order
// has a number of its own on its call and one answer. An agent that says nothing for too long, or whose
// call ends before the answer, may have done the order: whoever asked asks again under the same
// operation, and the agent does it once.

import { type Guid, guidFromWire, guidToWire } from '../../shared/bytes/index.js';
import {
  type AttachResponse,
  type Caller,
  type Order,
  type OrderAnswer,
  type OrderDone,
  Outbox,
} from '../../shared/channel/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type {
  FailbackRound,
  FinalPoint,
  MeantFailback,
  SourceOrder,
  SourceSite,
  SourceVm,
} from '../failover/ports.js';
import { attachedVm, type AttachedVm, illegal, orderError } from './attached-vm.js';

type Action = NonNullable<Order['action']>;

/** How long an agent may say nothing about an order. */
export interface Patience {
  /** Questions, which others wait for: from beginning to end, whatever the agent says meanwhile. */
  readonly questionMs: number;
  /** Orders that are done at once. */
  readonly quickMs: number;
  /** Cycles, and the start of a VM. */
  readonly longMs: number;
}

export const DEFAULT_PATIENCE: Patience = {
  questionMs: 30_000,
  quickMs: 10 * 60_000,
  longMs: 60 * 60_000,
};

interface Pending {
  readonly resolve: (done: OrderDone) => void;
  readonly reject: (error: DrError) => void;
  saidAtMs: number;
  /** Whether what the agent says gives it more time. */
  readonly isExtended: boolean;
}

const NO_OPERATION = Buffer.alloc(0);

export class Attachment implements SourceSite {
  readonly caller: Caller;
  /** What goes to the agent. */
  readonly outbox = new Outbox<AttachResponse>();
  vms: ReadonlyMap<Guid, AttachedVm> = new Map();
  readonly #clock: Clock;
  readonly #patience: Patience;
  readonly #pending = new Map<bigint, Pending>();
  readonly #over = new AbortController();
  #lastNumber = 0n;

  constructor(caller: Caller, clock: Clock, patience: Patience) {
    this.caller = caller;
    this.#clock = clock;
    this.#patience = patience;
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** May answer for the VMs of this owner. */
  isFor(owner: string): boolean {
    return this.caller.role === 'operator' || this.caller.principal === owner;
  }

  /** The call has ended, or ends now: what was not answered may have been done. */
  end(): void {
    if (this.isOver) return;
    this.#over.abort();
    this.outbox.close();
    for (const { reject } of this.#pending.values()) {
      reject(unreachable('its connection ended before it had answered'));
    }
    this.#pending.clear();
  }

  /** Answers to orders that nobody waits for any more are no fault. @throws DrError E_PROTOCOL */
  take({ number, outcome }: OrderAnswer): void {
    if (number > this.#lastNumber) throw illegal('an answer to an order that was not given');
    if (outcome === undefined) throw illegal('an answer without an outcome');
    const pending = this.#pending.get(number);
    if (pending === undefined) return;
    if (outcome.$case === 'progress') {
      if (pending.isExtended) pending.saidAtMs = this.#clock.monotonic();
      return;
    }
    this.#pending.delete(number);
    if (outcome.$case === 'done') pending.resolve(outcome.value);
    else pending.reject(orderError(outcome.value));
  }

  async describe(vmId: Guid): Promise<SourceVm> {
    const action: Action = { $case: 'describe', value: {} };
    const { vm } = await this.#send(vmId, undefined, action, this.#patience.questionMs);
    const described = vm && attachedVm(vm);
    if (described?.vmId !== vmId) throw illegal('it describes another VM than was asked for');
    return described;
  }

  async presync(vmId: Guid, order: SourceOrder): Promise<void> {
    await this.#send(vmId, order, { $case: 'presync', value: {} }, this.#patience.longMs);
  }

  async shutDown(
    vmId: Guid,
    order: SourceOrder,
    { timeoutMs, mayTurnOff }: { readonly timeoutMs: number; readonly mayTurnOff: boolean },
  ): Promise<void> {
    const value = { timeoutMs: BigInt(Math.max(0, Math.round(timeoutMs))), mayTurnOff };
    const patienceMs = timeoutMs + this.#patience.quickMs;
    await this.#send(vmId, order, { $case: 'shutDown', value }, patienceMs);
  }

  async start(vmId: Guid, order: SourceOrder): Promise<void> {
    await this.#send(vmId, order, { $case: 'start', value: {} }, this.#patience.longMs);
  }

  async fence(vmId: Guid, order: SourceOrder): Promise<void> {
    await this.#send(vmId, order, { $case: 'fence', value: {} });
  }

  async unfence(vmId: Guid, order: SourceOrder): Promise<void> {
    await this.#send(vmId, order, { $case: 'unfence', value: {} });
  }

  async finalCycle(vmId: Guid, order: SourceOrder): Promise<FinalPoint> {
    const action: Action = { $case: 'finalCycle', value: {} };
    const done = await this.#send(vmId, order, action, this.#patience.longMs);
    const pointId = guidFromWire(done.pointId);
    if (pointId === undefined) throw illegal('a final cycle without a point');
    return { pointId, isCompared: done.isCompared };
  }

  async tellEpoch(
    vmId: Guid,
    order: SourceOrder & { readonly isSourceActive: boolean; readonly isRetired: boolean },
  ): Promise<void> {
    const { isSourceActive, isRetired } = order;
    await this.#send(vmId, order, { $case: 'tellEpoch', value: { isSourceActive, isRetired } });
  }

  async failbackSync(
    vmId: Guid,
    order: SourceOrder,
    { pointId, headPointId, roundId, ...round }: FailbackRound,
  ): Promise<number> {
    const ids = {
      pointId: guidToWire(pointId),
      headPointId: guidToWire(headPointId),
      roundId: guidToWire(roundId),
    };
    const action: Action = { $case: 'failbackSync', value: { ...ids, ...round } };
    const { cellCount } = await this.#send(vmId, order, action, this.#patience.longMs);
    return Number(cellCount);
  }

  async failbackStart(vmId: Guid, order: SourceOrder): Promise<void> {
    await this.#send(vmId, order, { $case: 'failbackStart', value: {} }, this.#patience.longMs);
  }

  async failbackCommit(
    vmId: Guid,
    order: SourceOrder & MeantFailback,
    { pointId, consistentAtMs }: { readonly pointId: Guid; readonly consistentAtMs: number },
  ): Promise<void> {
    const value = {
      pointId: guidToWire(pointId),
      consistentAtMs: BigInt(consistentAtMs),
      failbackId: failbackToWire(order),
    };
    await this.#send(vmId, order, { $case: 'failbackCommit', value }, this.#patience.longMs);
  }

  async failbackUndo(
    vmId: Guid,
    order: SourceOrder & MeantFailback & { readonly dropsWrites: boolean },
  ): Promise<void> {
    const { dropsWrites } = order;
    const value = { failbackId: failbackToWire(order), dropsWrites };
    await this.#send(vmId, order, { $case: 'failbackUndo', value }, this.#patience.longMs);
  }

  async #send(
    vmId: Guid,
    order: SourceOrder | undefined,
    action: Action,
    patienceMs = this.#patience.quickMs,
  ): Promise<OrderDone> {
    if (this.isOver) throw unreachable('its connection has ended');
    const number = ++this.#lastNumber;
    const answer = new Promise<OrderDone>((resolve, reject) => {
      const saidAtMs = this.#clock.monotonic();
      this.#pending.set(number, { resolve, reject, saidAtMs, isExtended: order !== undefined });
    });
    this.outbox.put({
      part: {
        $case: 'order',
        value: {
          number,
          vmId: guidToWire(vmId),
          operationId: order === undefined ? NO_OPERATION : guidToWire(order.operationId),
          epoch: order?.epoch ?? 0n,
          action,
        },
      },
    });
    const answered = new AbortController();
    const watching = this.#watch(number, patienceMs, answered.signal);
    try {
      return await answer;
    } finally {
      answered.abort();
      await watching;
    }
  }

  /** Gives an order up about which nothing was said for so long. */
  async #watch(number: bigint, patienceMs: number, answered: AbortSignal): Promise<void> {
    for (;;) {
      const pending = this.#pending.get(number);
      if (pending === undefined) return;
      const leftMs = pending.saidAtMs + patienceMs - this.#clock.monotonic();
      if (leftMs <= 0) {
        this.#pending.delete(number);
        const seconds = Math.round(patienceMs / 1000);
        const what = pending.isExtended
          ? `it said nothing about an order for ${seconds} s`
          : `it did not answer a question within ${seconds} s`;
        pending.reject(unreachable(what));
        return;
      }
      try {
        await this.#clock.sleep(leftMs, answered);
      } catch {
        return;
      }
    }
  }
}

function unreachable(why: string): DrError {
  return new DrError('E_SOURCE_UNREACHABLE', `the agent of the primary site is not there: ${why}`, {
    done: 'what it was asked for may have been done',
    hint: 'It attaches again by itself while `hvdr daemon` runs there; then go on with `hvdr resume VM`.',
  });
}

function failbackToWire({ failbackId }: MeantFailback): Buffer {
  return failbackId === undefined ? Buffer.alloc(0) : guidToWire(failbackId);
}
