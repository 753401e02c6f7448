// SiteService as handlers: an agent of the primary site attaches, and fetches the cells of a failback.

import { type Guid, guidFromWire, guidToWire } from '../../shared/bytes/index.js';
import type {
  AttachRequest,
  AttachResponse,
  CallContext,
  Caller,
  FailbackCellsRequest,
  FailbackCellsResponse,
  Handlers,
  SiteService,
} from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import { failbackCells } from '../failover/failback/cells-call.js';
import { requireGuid } from '../ingest/open-request.js';
import type { Receiver } from '../receiver.js';
import { type AttachedVm, attachedVms, illegal } from './attached-vm.js';
import { Attachment, DEFAULT_PATIENCE, type Patience } from './attachment.js';

/** The handlers of `receiver` for agents of the primary site. */
export function siteHandlers(
  receiver: Receiver,
  patience: Patience = DEFAULT_PATIENCE,
): Handlers<SiteService> {
  return {
    attach: (requests, context) => attach(receiver, requests, context, patience),
    failbackCells: (request, { caller }) => cells(receiver, request, caller),
  };
}

async function* attach(
  receiver: Receiver,
  requests: AsyncIterable<AttachRequest>,
  { caller }: CallContext,
  patience: Patience,
): AsyncGenerator<AttachResponse> {
  receiver.requireRole(caller, ['source', 'operator']);
  const { sources, log } = receiver;
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  const { part } = first.value;
  if (part?.$case !== 'vms') throw illegal('its first message names no VMs');
  const attachment = new Attachment(caller, receiver.seams.clock, patience);
  const vms = attachedVms(part.value);
  const who = { principal: caller.principal, keyId: caller.keyId, address: caller.address };
  let failure: { readonly error: unknown } | undefined;
  try {
    const value = {
      storeId: guidToWire(receiver.store.storeId),
      takenOver: await takenOver(receiver, [...vms.keys()], caller),
    };
    attachment.outbox.put({ part: { $case: 'accepted', value } });
    attachment.vms = vms;
    sources.add(attachment);
    log.info('attach.began', { ...who, vms: vms.size, isAtCommand: part.value.isAtCommand });
    // beside the orders: an answer must be heard while an order is on its way
    void listen(receiver, attachment, iterator)
      .catch((error: unknown) => {
        failure = { error };
      })
      .finally(() => {
        attachment.end();
      });
    yield* attachment.outbox;
    if (failure !== undefined) throw failure.error;
  } finally {
    sources.remove(attachment);
    log.info('attach.ended', who);
    void iterator.return?.().catch(() => undefined);
  }
}

/** Takes what the agent says until it says no more. */
async function listen(
  receiver: Receiver,
  attachment: Attachment,
  messages: AsyncIterator<AttachRequest>,
): Promise<void> {
  await claim(receiver, attachment, attachment.vms);
  for (;;) {
    const next = await messages.next();
    if (next.done === true) return;
    const { part } = next.value;
    if (part?.$case === 'answer') attachment.take(part.value);
    else if (part?.$case === 'vms') {
      const before = attachment.vms;
      attachment.vms = attachedVms(part.value);
      const news = [...attachment.vms].filter(([vmId, vm]) => isNews(before.get(vmId), vm));
      await claim(receiver, attachment, new Map(news));
    } else throw illegal('a message that says nothing');
  }
}

function isNews(before: AttachedVm | undefined, now: AttachedVm): boolean {
  return (
    before?.powerState !== now.powerState ||
    before.isFenced !== now.isFenced ||
    before.epoch !== now.epoch
  );
}

/** Tells what is said of VMs that the agent may answer for. */
async function claim(
  receiver: Receiver,
  { caller }: Attachment,
  vms: ReadonlyMap<Guid, AttachedVm>,
): Promise<void> {
  const { sources } = receiver;
  for (const [vmId, vm] of vms) {
    if ((await receiver.findDesk(vmId, caller)) === undefined) continue;
    sources.onClaim?.(vmId, vm);
  }
}

/** Those of the VMs, as far as they are the caller's, that the source must not start. */
async function takenOver(
  receiver: Receiver,
  vmIds: readonly Guid[],
  caller: Caller,
): Promise<{ vmId: Buffer; epoch: bigint }[]> {
  const found: { vmId: Buffer; epoch: bigint }[] = [];
  for (const vmId of vmIds) {
    const desk = await receiver.findDesk(vmId, caller);
    if (desk?.vm.protection.failover.activeSite !== 'target') continue;
    found.push({ vmId: guidToWire(vmId), epoch: desk.vm.protection.epoch });
  }
  return found;
}

/** Only of the operation that the VM, which is the caller's, is in. */
async function* cells(
  receiver: Receiver,
  request: FailbackCellsRequest,
  caller: Caller,
): AsyncGenerator<FailbackCellsResponse> {
  const desk = await receiver.requireDesk(requireGuid(request.vmId, 'the VM id'), caller);
  const { operation } = desk.vm.protection.failover;
  if (operation === undefined || operation.operationId !== guidFromWire(request.operationId)) {
    throw new DrError('E_STATE', 'no failback of this operation asks for cells now', {
      hint: 'The receiver asks again when it goes on.',
    });
  }
  yield* failbackCells(receiver.servingRounds, request);
}
