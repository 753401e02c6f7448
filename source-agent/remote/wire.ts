// Orders and answers as messages. What comes from the receiver is checked here.

import { type Guid, guidFromWire, guidToWire } from '../../shared/bytes/index.js';
import type { AttachedVm, Order, OrderDone, OrderFailed } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { PowerState } from '../../shared/hypervisor/index.js';
import { protocolError } from '../receiver-view.js';

export type { AttachedVm } from '../../shared/channel/index.js';
export type OrderAction = NonNullable<Order['action']>;

export interface ReceivedOrder {
  readonly vmId: Guid;
  /** undefined: it only asks. */
  readonly operationId: Guid | undefined;
  readonly epoch: bigint;
  readonly action: OrderAction;
}

/** @throws DrError E_PROTOCOL */
export function receivedOrder({ vmId, operationId, epoch, action }: Order): ReceivedOrder {
  const vm = guidFromWire(vmId);
  if (vm === undefined) throw protocolError('an order names no VM');
  if (action === undefined) {
    throw new DrError('E_VERSION', 'the DR site asks for something that this agent does not know', {
      hint: 'Bring the primary site to the release of the DR site.',
    });
  }
  const operation = guidFromWire(operationId);
  if (operation === undefined && action.$case !== 'describe') {
    throw protocolError('an order names no operation');
  }
  return { vmId: vm, operationId: operation, epoch, action };
}

export function guidToWireVm(
  vm: Omit<AttachedVm, 'vmId' | 'powerState'> & {
    readonly vmId: Guid;
    readonly powerState: PowerState;
  },
): AttachedVm {
  return { ...vm, vmId: guidToWire(vm.vmId) };
}

/** Of an order that has nothing to tell. */
export const DONE: OrderDone = {
  vm: undefined,
  pointId: Buffer.alloc(0),
  isCompared: false,
  cellCount: 0n,
};

/** What is no DrError is a bug of ours, and says only that. */
export function failedOrder(error: unknown): OrderFailed {
  if (!(error instanceof DrError)) {
    return { code: 'E_INTERNAL', message: 'the agent met an error of its own', done: '', hint: '' };
  }
  const { code, message, done, hint } = error;
  return { code, message, done, hint };
}
