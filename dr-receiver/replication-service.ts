// ReplicationService as handlers: bytes in, checked values to the receiver, its values out as bytes.

import { type Guid, guidToWire } from '../shared/bytes/index.js';
import type {
  CallContext,
  Caller,
  Handlers,
  HashesRequest,
  HashesResponse,
  PushResponse,
  ReplicationService,
} from '../shared/channel/index.js';
import {
  encodeManifestRecord,
  MANIFEST_RECORD_BYTES,
  type ManifestRecord,
  parseBatch,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import { RETURN_CYCLE } from './failover/machine.js';
import type { Acknowledgement } from './ingest/incoming-cycle.js';
import { parseOpenRequest, requireGuid } from './ingest/open-request.js';
import { stagedParts, unionRecords } from './ingest/staged-union.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import { repair, wanted } from './repair-calls.js';
import { toldHashes } from './store/point-hashes.js';
import { answerToWire, describeToWire } from './wire.js';

const HASHES_PER_MESSAGE = 1600;

/** The handlers of `receiver` for sources. */
export function replicationHandlers(receiver: Receiver): Handlers<ReplicationService> {
  const storeId = guidToWire(receiver.store.storeId);
  const describe = async (
    vmId: Guid,
    caller: Caller,
  ): Promise<ReturnType<typeof describeToWire>> => {
    const desk = await receiver.findDesk(vmId, caller);
    const unfinished = desk === undefined ? [] : await desk.vm.change(() => desk.unfinished());
    return describeToWire(storeId, desk, unfinished);
  };
  return {
    describe: (request, { caller }) => describe(requireGuid(request.vmId, 'the VM id'), caller),

    open: async (request, { caller }) => {
      const parsed = parseOpenRequest(request);
      if (parsed.seededFrom !== '') {
        throw new DrError('E_PROTOCOL', 'the request says of itself that it is a seed');
      }
      if (parsed.kind === RETURN_CYCLE) {
        throw new DrError(
          'E_PROTOCOL',
          'only the receiver itself takes over what a failback brings',
        );
      }
      const outcome = await receiver.open(parsed, caller);
      switch (outcome.kind) {
        case 'accepted': {
          const positions = outcome.positions.map(({ nextCell, isComplete }) => ({
            nextCell: BigInt(nextCell),
            isComplete,
          }));
          return { outcome: { $case: 'accepted', value: { positions } } };
        }
        case 'committed':
          return { outcome: { $case: 'committed', value: answerToWire(outcome.answer) } };
        case 'parentRefused': {
          const value = await describe(parsed.vmId, caller);
          return { outcome: { $case: 'parentRefused', value } };
        }
      }
    },

    push: (messages, context) => push(receiver, messages, context),

    commit: async (request, { caller }) =>
      answerToWire(
        await receiver.commit(
          requireGuid(request.vmId, 'the VM id'),
          requireGuid(request.cycleId, 'the cycle id'),
          request.roots,
          caller,
        ),
      ),

    hashes: (request, { caller }) => hashes(receiver, request, caller),

    abandon: async (request, { caller }) => {
      const desk = await receiver.requireDesk(requireGuid(request.vmId, 'the VM id'), caller);
      const cycleId = requireGuid(request.cycleId, 'the cycle id');
      await desk.vm.change(() => desk.abandon(cycleId));
      return {};
    },

    wanted: (request, { caller }) => wanted(receiver, request, caller),

    repair: (messages, { caller }) => repair(receiver, messages, caller),
  };
}

/** Feeds the stream to its cycle and yields what has become durable meanwhile. */
async function* push(
  receiver: Receiver,
  messages: AsyncIterable<Buffer>,
  { caller }: CallContext,
): AsyncGenerator<PushResponse> {
  const iterator = messages[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  const begin = parseBatch(first.value);
  if (begin.kind !== 'begin') {
    throw new DrError('E_PROTOCOL', 'the first message of a push stream names no cycle');
  }
  const desk = await receiver.requireDesk(begin.vmId, caller);
  const queue: Acknowledgement[] = [];
  let wake: () => void = () => undefined;
  let end: { readonly error?: unknown } | undefined;
  const pushing = desk
    .push(begin.cycleId, iterator, (acknowledgement) => {
      queue.push(acknowledgement);
      wake();
    })
    .then(
      () => {
        end = {};
      },
      (error: unknown) => {
        end = { error };
      },
    )
    .then(() => {
      wake();
    });
  try {
    for (;;) {
      const next = queue.shift();
      if (next !== undefined) {
        const { diskIndex, durableCell, isComplete } = next;
        yield { diskIndex, durableCell: BigInt(durableCell), isComplete };
      } else if (end !== undefined) {
        if ('error' in end) throw end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    // Whoever stops listening for acknowledgements stops the stream. It is not waited for: a message
    // that never comes would be waited for as well.
    if (end === undefined) void iterator.return?.().catch(() => undefined);
    void pushing;
  }
}

/** Of an older point, whose cells are of use and never needed: what is damaged of it is left out. */
async function* asFarAsSound(
  desk: VmDesk,
  pointId: Guid,
  records: AsyncIterable<ManifestRecord>,
): AsyncGenerator<ManifestRecord> {
  try {
    yield* records;
  } catch (error) {
    if (!(error instanceof DrError) || error.code === 'E_NO_POINT') throw error;
    desk.earlier.noteUnsound(pointId);
  }
}

async function* hashes(
  receiver: Receiver,
  request: HashesRequest,
  caller: Caller,
): AsyncGenerator<HashesResponse> {
  const desk = await receiver.requireDesk(requireGuid(request.vmId, 'the VM id'), caller);
  const disk = {
    diskId: requireGuid(request.diskId, 'the disk id'),
    generation: request.generation,
  };
  const { of } = request;
  if (of === undefined) throw new DrError('E_PROTOCOL', 'neither a point nor a cycle is named');
  const { vm } = desk;
  const { fs } = receiver.seams;
  let records: AsyncIterable<ManifestRecord>;
  if (of.$case === 'pointId') {
    vm.requireSound();
    const pointId = requireGuid(of.value, 'the point id');
    records = toldHashes(receiver.seams, vm, pointId, disk);
    if (pointId !== vm.protection.head?.pointId) records = asFarAsSound(desk, pointId, records);
  } else {
    const cycleId = requireGuid(of.value, 'the cycle id');
    const cycles = await vm.change(() => desk.unfinished());
    if (!cycles.some((each) => each.request.cycleId === cycleId)) return;
    records = unionRecords(fs, stagedParts(vm.layout, cycles, disk));
  }
  let bytes = Buffer.alloc(HASHES_PER_MESSAGE * MANIFEST_RECORD_BYTES);
  let filled = 0;
  for await (const record of records) {
    encodeManifestRecord(record, bytes, filled);
    filled += MANIFEST_RECORD_BYTES;
    if (filled < bytes.length) continue;
    yield { records: bytes };
    bytes = Buffer.alloc(bytes.length);
    filled = 0;
  }
  if (filled > 0) yield { records: bytes.subarray(0, filled) };
}
