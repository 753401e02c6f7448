// Sends the disks of one cycle and asks for its commit. While the checkpoint lives, a broken stream
// goes on: the same cycle is opened again and the receiver's durable positions decide where. A
// position beyond what was sent in this very cycle is refused: bytes of another moment must never
// become part of a point.

import { type Guid, guidToWire } from '../shared/bytes/index.js';
import type {
  CommitResponse,
  DiskPosition,
  OpenRequest,
  PushResponse,
  ReplicationService,
  ServiceClient,
} from '../shared/channel/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { encodeBegin } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { Backoff, isBroken, type ReceiverLink } from './receiver-link.js';
import type { Bandwidth } from './bandwidth.js';
import type { CompressionChoice } from './compression-choice.js';
import type { DiskStream, RemoteSides } from './disk-stream.js';
import type { DiskPlan } from './plan.js';
import type { ProgressWatch } from './progress-watch.js';
import { protocolError } from './receiver-view.js';
import { RemoteHashes } from './remote-hashes.js';

type Client = ServiceClient<ReplicationService>;

export interface PushSeams {
  readonly link: ReceiverLink;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly bandwidth: Bandwidth;
  readonly watch: ProgressWatch;
  readonly signal: AbortSignal;
}

export interface PushDisk {
  readonly plan: DiskPlan;
  readonly stream: DiskStream;
}

export interface PushWork {
  readonly vmId: Guid;
  readonly cycleId: Guid;
  readonly request: OpenRequest;
  readonly disks: readonly PushDisk[];
  /** Told how long messages wait to be taken. */
  readonly compression: CompressionChoice;
  /** Told after every message. */
  readonly onSent: (bytes: number) => void;
}

/** Outcome of a push: the stream is durable at the receiver, or the cycle was committed before. */
export type PushOutcome =
  { readonly kind: 'sent' } | { readonly kind: 'committed'; readonly answer: CommitResponse };

/**
 * Returns when every disk is durable at the receiver.
 * @throws DrError E_STALLED, E_BASE_LOST, E_PROTOCOL; the receiver's refusals; the disks' errors
 */
export async function pushDisks(work: PushWork, seams: PushSeams): Promise<PushOutcome> {
  return repeatedly(seams, async (client, signal) => {
    const { outcome } = await client.open(work.request, { signal });
    if (outcome === undefined) throw protocolError('an open without an outcome');
    switch (outcome.$case) {
      case 'committed':
        return { kind: 'committed', answer: outcome.value };
      case 'parentRefused':
        throw new DrError('E_BASE_LOST', 'the head of the receiver changed while the cycle began', {
          done: 'nothing was sent; what changed stays owed to the receiver',
          hint: 'Nothing to do: the next cycle takes the new head into account.',
        });
      case 'accepted': {
        const starts = checkPositions(outcome.value.positions, work.disks);
        await streamOnce(client, work, starts, seams, signal);
        return { kind: 'sent' };
      }
    }
  });
}

/** Asks for the commit until there is an answer. The same cycle gets the same answer. */
export function commitCycle(
  work: Pick<PushWork, 'request' | 'disks'>,
  seams: PushSeams,
): Promise<CommitResponse> {
  const { vmId, cycleId } = work.request;
  const roots = work.disks.map(({ stream }) => stream.root());
  return repeatedly(seams, (client, signal) => client.commit({ vmId, cycleId, roots }, { signal }));
}

/** Tries again over new connections until it succeeds, is refused, or makes no progress. */
export async function repeatedly<T>(
  seams: PushSeams,
  attempt: (client: Client, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { link, clock, random, log, watch, signal } = seams;
  const backoff = new Backoff(clock, random);
  for (;;) {
    let client: Client | undefined;
    try {
      return await watch.guard(signal, async (inner) => {
        client = await link.client();
        return attempt(client, inner);
      });
    } catch (error) {
      if (!isBroken(error)) throw error;
      await link.drop(client);
      if (watch.isOver) throw watch.stalled(error);
      log.info('cycle.resumed', { because: error.message });
      await backoff.pause(signal);
    }
  }
}

function checkPositions(
  positions: readonly DiskPosition[],
  disks: readonly PushDisk[],
): readonly (number | 'complete')[] {
  if (positions.length !== disks.length) throw protocolError(`${positions.length} positions`);
  return positions.map(({ nextCell, isComplete }, index) => {
    const stream = disks[index]?.stream;
    if (stream === undefined) throw protocolError('positions of no disk');
    if (isComplete && !stream.isRead) throw protocolError('a disk is complete that was never sent');
    if (nextCell > BigInt(stream.sentCells)) {
      throw protocolError(`it claims cells up to ${nextCell.toString()} that were never sent`);
    }
    return isComplete ? 'complete' : Number(nextCell);
  });
}

async function streamOnce(
  client: Client,
  work: PushWork,
  starts: readonly (number | 'complete')[],
  seams: PushSeams,
  signal: AbortSignal,
): Promise<void> {
  const source = new RequestSource(client, work, starts, seams, signal);
  const complete = new Set(starts.flatMap((start, index) => (start === 'complete' ? [index] : [])));
  if (complete.size === work.disks.length) return;
  const requests = source.messages();
  try {
    for await (const response of client.push(requests, { signal })) {
      seams.watch.touch();
      if (checkResponse(response, work.disks).isComplete) complete.add(response.diskIndex);
    }
  } catch (error) {
    // What went wrong here is told rather than how the transport put it.
    throw source.failure ?? error;
  } finally {
    await requests.return(undefined);
  }
  if (complete.size !== work.disks.length) {
    throw protocolError('the push ended before every disk was complete');
  }
}

function checkResponse(response: PushResponse, disks: readonly PushDisk[]): PushResponse {
  const { diskIndex, durableCell } = response;
  const stream = disks[diskIndex]?.stream;
  if (stream === undefined) throw protocolError(`an answer about disk ${diskIndex}`);
  if (durableCell > BigInt(stream.sentCells)) {
    throw protocolError(`it acknowledges cell ${durableCell.toString()} that was never sent`);
  }
  return response;
}

/** The messages of all disks in order, at the pace of the bandwidth. */
class RequestSource {
  failure: unknown;
  readonly #client: Client;
  readonly #work: PushWork;
  readonly #starts: readonly (number | 'complete')[];
  readonly #seams: PushSeams;
  readonly #signal: AbortSignal;

  constructor(
    client: Client,
    work: PushWork,
    starts: readonly (number | 'complete')[],
    seams: PushSeams,
    signal: AbortSignal,
  ) {
    this.#client = client;
    this.#work = work;
    this.#starts = starts;
    this.#seams = seams;
    this.#signal = signal;
  }

  async *messages(): AsyncGenerator<Buffer, void, undefined> {
    const { bandwidth, clock, watch } = this.#seams;
    const { vmId, cycleId, disks, compression } = this.#work;
    try {
      yield encodeBegin(vmId, cycleId);
      let takenAt = clock.monotonic();
      for (const [index, disk] of disks.entries()) {
        const start = this.#starts[index] ?? 0;
        if (start === 'complete') continue;
        const remote = this.#openRemote(disk.plan);
        try {
          for await (const message of disk.stream.messages(start, remote)) {
            this.#signal.throwIfAborted();
            const readyAt = clock.monotonic();
            await bandwidth.take(message.length, this.#signal);
            watch.touch();
            yield message;
            const workedMs = readyAt - takenAt;
            takenAt = clock.monotonic();
            compression.note(takenAt - readyAt, workedMs);
            this.#work.onSent(message.length);
          }
        } finally {
          await remote.compare?.close();
          for (const hashes of remote.reuse) await hashes.close();
        }
      }
    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }

  #openRemote(plan: DiskPlan): RemoteSides {
    const { request } = this.#work;
    const { diskId, generation, geometry, send, reuseCycleId, reusePoint } = plan;
    const open = (
      of: Parameters<typeof RemoteHashes.open>[1]['of'],
      wanted: number,
    ): RemoteHashes =>
      RemoteHashes.open(
        this.#client,
        {
          vmId: request.vmId,
          diskId,
          generation: wanted,
          diskSizeBytes: geometry.sizeBytes,
          of,
        },
        this.#signal,
      );
    return {
      compare:
        send.how === 'compare' ? open({ pointId: send.pointId }, send.generation) : undefined,
      reuse: [
        ...(reuseCycleId === undefined ? [] : [open({ cycleId: reuseCycleId }, generation)]),
        ...(reusePoint === undefined
          ? []
          : [open({ pointId: reusePoint.pointId }, reusePoint.generation)]),
      ],
    };
  }
}

/** The wire form of a GUID that may be missing. */
export function wireOrEmpty(value: Guid | undefined): Buffer {
  return value === undefined ? Buffer.alloc(0) : guidToWire(value);
}
