// What the receivers of a simulated world have promised, as it was said on the wire: which moment a
// point is of, which points were acknowledged, which cells are durable. Whatever was promised must be
// there after any crash; checker.ts holds the world to it.

import { type Guid, guidFromWire } from '../../shared/bytes/index.js';
import type {
  CommitRequest,
  CommitResponse,
  OpenRequest,
  OpenResponse,
  PushResponse,
} from '../../shared/channel/index.js';
import { parseBatch } from '../../shared/delta/index.js';
import type { Exchange } from './network.js';

/** A point that a source offered to a receiver, or that is brought by another road. */
export interface Offer {
  readonly vmId: Guid;
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid | undefined;
  readonly checkpointId: string;
}

export class Broken extends Error {
  override readonly name = 'Broken';
}

function idOf(bytes: Uint8Array): Guid {
  const found = guidFromWire(bytes);
  if (found === undefined) throw new Broken(`a GUID of ${bytes.length} bytes travelled`);
  return found;
}

/** Promises of one receiver. */
export class Promises {
  /** By point. */
  readonly offers = new Map<Guid, Offer>();
  /** By VM, in the order of their commits. */
  readonly acknowledged = new Map<Guid, Guid[]>();
  /** By point: how many points were listed after its commit. */
  readonly pointCounts = new Map<Guid, number>();
  /** Points whose commit may be answered with a count of before others were forgotten. */
  readonly #uncounted = new Set<Guid>();
  /** By cycle: the answer to its commit. */
  readonly #answers = new Map<Guid, string>();
  /** By cycle and disk index: all cells before it are durable. */
  readonly #positions = new Map<Guid, number[]>();
  readonly #cycleOfCall = new WeakMap<object, Guid>();
  /** The device has lost or changed what was durable: positions may be taken back. */
  isExcused = false;

  /** Points are being forgotten for their age: how many are left is told to nobody. */
  forgetCounts(heads: readonly Guid[]): void {
    this.pointCounts.clear();
    for (const pointId of heads) this.#uncounted.add(pointId);
  }

  /** What was acknowledged so far, to come back to. */
  snapshot(): ReadonlyMap<Guid, readonly Guid[]> {
    return new Map([...this.acknowledged].map(([vmId, points]) => [vmId, [...points]]));
  }

  /** The device failed: what an unfinished cycle holds may not be readable, and then counts for nothing. */
  forgetPositions(): void {
    this.#positions.clear();
  }

  /** The store went back to an older copy: what it promised since is lost, and nobody's fault. */
  goBackTo(snapshot: ReadonlyMap<Guid, readonly Guid[]>): void {
    this.acknowledged.clear();
    for (const [vmId, points] of snapshot) this.acknowledged.set(vmId, [...points]);
    this.#positions.clear();
    this.#answers.clear();
  }

  /** Whether `pointId` is `head` or lies before it. */
  leadsTo(pointId: Guid, head: Guid | undefined): boolean {
    let at = head;
    while (at !== undefined && at !== pointId) at = this.offers.get(at)?.parentPointId;
    return at === pointId;
  }

  /** A point that is to come by another road; nothing of it is promised yet. */
  bring(offer: Offer): void {
    this.offers.set(offer.pointId, offer);
  }

  /** A point is listed that came by another road. */
  acknowledge(vmId: Guid, pointId: Guid): void {
    const list = this.acknowledged.get(vmId) ?? [];
    list.push(pointId);
    this.acknowledged.set(vmId, list);
  }

  onRequest({ call, method, request }: Omit<Exchange, 'response'>): void {
    if (method === 'open') this.#offer(request as OpenRequest);
    if (method !== 'push') return;
    const message = parseBatch(Buffer.from(request as Buffer));
    if (message.kind === 'begin') this.#cycleOfCall.set(call, message.cycleId);
  }

  onAnswer({ call, isRepeated, method, request, response }: Exchange): void {
    if (method === 'open')
      this.#opened(request as OpenRequest, response as OpenResponse, isRepeated);
    if (method === 'commit') {
      this.#committed(idOf((request as CommitRequest).cycleId), response as CommitResponse);
    }
    if (method !== 'push') return;
    const { diskIndex, durableCell } = response as PushResponse;
    const cycleId = this.#cycleOfCall.get(call);
    if (cycleId !== undefined) this.#promise(cycleId, diskIndex, Number(durableCell));
  }

  #offer(request: OpenRequest): void {
    const pointId = idOf(request.pointId);
    const { checkpointId } = request;
    const known = this.offers.get(pointId);
    if (known !== undefined && known.checkpointId !== checkpointId) {
      throw new Broken(`point ${pointId} is offered of two moments`);
    }
    this.offers.set(pointId, {
      vmId: idOf(request.vmId),
      cycleId: idOf(request.cycleId),
      pointId,
      parentPointId: guidFromWire(request.parentPointId),
      checkpointId,
    });
  }

  #opened(request: OpenRequest, { outcome }: OpenResponse, isRepeated: boolean): void {
    const cycleId = idOf(request.cycleId);
    if (outcome?.$case === 'committed') this.#committed(cycleId, outcome.value);
    if (outcome?.$case !== 'accepted') return;
    const told = outcome.value.positions.map(({ nextCell }) => Number(nextCell));
    const before = this.#positions.get(cycleId);
    // A request that comes again later may find its cycle removed.
    if (before !== undefined && !isRepeated && !this.isExcused) {
      for (const [disk, cell] of before.entries()) {
        if ((told[disk] ?? 0) >= cell) continue;
        throw new Broken(
          `cycle ${cycleId}, disk ${disk}: cells before ${cell} were acknowledged, now ${told[disk] ?? 0}`,
        );
      }
    }
    this.#positions.set(cycleId, told);
  }

  #promise(cycleId: Guid, diskIndex: number, cell: number): void {
    const positions = this.#positions.get(cycleId) ?? [];
    // a later disk may be acknowledged before an earlier one
    for (let disk = 0; disk < diskIndex; disk++) positions[disk] ??= 0;
    positions[diskIndex] = Math.max(positions[diskIndex] ?? 0, cell);
    this.#positions.set(cycleId, positions);
  }

  #committed(cycleId: Guid, answer: CommitResponse): void {
    const pointId = idOf(answer.pointId);
    const text = `${pointId} ${answer.committedAtMs} ${answer.pointCount} ${answer.warnings.join()}`;
    const before = this.#answers.get(cycleId);
    if (before !== undefined && before !== text) {
      throw new Broken(`cycle ${cycleId} was answered "${before}", now "${text}"`);
    }
    if (before !== undefined) return;
    this.#answers.set(cycleId, text);
    if (!this.#uncounted.has(pointId)) this.pointCounts.set(pointId, answer.pointCount);
    const offer = this.offers.get(pointId);
    if (offer?.cycleId !== cycleId) throw new Broken(`point ${pointId} is not of cycle ${cycleId}`);
    this.acknowledge(offer.vmId, pointId);
  }
}
