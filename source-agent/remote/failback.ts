// Orders of a failback. To write to the primary is allowed there: `failback` in remote_actions, or
// whoever runs the command at this site. Committing what was begun follows from that, and needs nothing more;
// nor does undoing it before the VM was started. Afterwards it serves here, and an undo stops it: that needs
// `failback` or `shutdown`.

import { type Guid, guidFromWire } from '../../shared/bytes/index.js';
import type { OrderDone } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import { endHere } from '../failback/end-here.js';
import { type EndSeams, commitBack, startBack, undoBack } from '../failback/failback.js';
import { requireFailbackHost } from '../failback/host.js';
import { type SyncRequest, syncBack } from '../failback/sync-back.js';
import { ReturnFile } from '../failback/return-record.js';
import { type OrderedStep, underLease } from '../failback/under-lease.js';
import { chainKey } from '../ledger.js';
import { allTold } from '../ledger-store.js';
import { protocolError } from '../receiver-view.js';
import type { AttendedVm } from './attended-vms.js';
import type { RemoteAction } from './remote-actions.js';
import type { AttachSeams } from './seams.js';
import { DONE, type OrderAction, type ReceivedOrder } from './wire.js';

export type FailbackAction = Extract<
  OrderAction,
  { readonly $case: 'failbackSync' | 'failbackStart' | 'failbackCommit' | 'failbackUndo' }
>;

export interface FailbackOrder extends ReceivedOrder {
  readonly operationId: Guid;
  readonly action: FailbackAction;
}

/**
 * `requireAllowed` throws when this site allows none of what it is given.
 * @throws DrError E_REMOTE_ACTION, E_HYPERVISOR (the host cannot), E_PROTOCOL, and of the step
 */
export async function failbackOrder(
  { operationId, epoch, action }: FailbackOrder,
  { vm, job }: AttendedVm,
  storeId: Guid,
  seams: AttachSeams & {
    readonly requireAllowed: (anyOf: readonly RemoteAction[]) => void;
    readonly onProgress: () => void;
  },
): Promise<OrderDone> {
  const { requireAllowed, onProgress, ...rest } = seams;
  const { link, stateFolder } = job;
  const hypervisor = requireFailbackHost(job.hypervisor);
  const of = { vm, operationId, epoch, storeId };
  const ending: EndSeams = { ...rest, hypervisor, stateFolder };
  switch (action.$case) {
    case 'failbackSync': {
      requireAllowed(['failback']);
      const request = syncRequest(action.value);
      const { site: client } = await link.connection();
      if (client === undefined) throw new DrError('E_STATE', 'no cells come over this connection');
      const bandwidth = action.value.isUrgent ? undefined : job.bandwidth;
      const count = await syncBack(of, request, { ...ending, client, bandwidth, onProgress });
      return { ...DONE, cellCount: BigInt(count) };
    }
    case 'failbackStart':
      requireAllowed(['failback']);
      await startBack(of, ending);
      return DONE;
    case 'failbackCommit': {
      const pointId = guidFromWire(action.value.pointId);
      if (pointId === undefined) throw protocolError('a failback ends without a point');
      const consistentAtMs = Number(action.value.consistentAtMs);
      const failbackId = meantFailback(action.value);
      await commitBack(of, failbackId, { pointId, consistentAtMs }, ending);
      return DONE;
    }
    case 'failbackUndo': {
      const wish = {
        failbackId: meantFailback(action.value),
        dropsWrites: action.value.dropsWrites,
      };
      await undoBack(of, wish, {
        ...ending,
        requireAllowed: () => {
          requireAllowed(['failback', 'shutdown']);
        },
      });
      return DONE;
    }
  }
}

/**
 * The store of the order has given the VM back, and has no failback of it any more: what one left here ends,
 * once this site was told so. @throws DrError E_STATE (it was not), E_STALE_EPOCH, E_LOCKED, E_IO
 */
export async function endGivenBack(
  of: OrderedStep,
  { hypervisor, stateFolder }: AttendedVm['job'],
  seams: AttachSeams,
): Promise<void> {
  const { vm, epoch, storeId } = of;
  const open = await new ReturnFile(stateFolder, vm.id, seams).read();
  if (open?.storeId !== storeId) return;
  const ending: EndSeams = { ...seams, hypervisor: requireFailbackHost(hypervisor), stateFolder };
  await underLease(of, ending, async () => {
    const told = (await allTold(seams.fs, stateFolder, vm.id)).get(chainKey(storeId));
    const isGivenBack = told?.epoch === epoch && told.standing.activeSite === 'source';
    // of the epoch of the failback itself it is no word about its end
    if (isGivenBack) await endHere(vm, storeId, ending);
  });
}

function meantFailback({ failbackId }: { readonly failbackId: Buffer }): Guid | undefined {
  if (failbackId.length === 0) return undefined;
  const id = guidFromWire(failbackId);
  if (id === undefined) throw protocolError('a failback is named that is none');
  return id;
}

function syncRequest({
  headPointId: head,
  roundId: round,
  compare,
  isLast,
}: Extract<FailbackAction, { $case: 'failbackSync' }>['value']): SyncRequest {
  const headPointId = guidFromWire(head);
  if (headPointId === undefined) throw protocolError('a failback names no newest point');
  const roundId = guidFromWire(round);
  if (roundId === undefined) throw protocolError('a failback names no round');
  // auto is decided where both sites are known
  if (compare !== 'changed' && compare !== 'full') {
    throw protocolError(`a failback compares by ${JSON.stringify(compare.slice(0, 32))}`);
  }
  return { headPointId, roundId, compare, isLast };
}
