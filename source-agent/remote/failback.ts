// Orders of a failback.

import type { OrderDone } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { ReceivedOrder } from './wire.js';

/** @throws DrError E_STATE */
export function failbackOrder({ vmId }: ReceivedOrder): Promise<OrderDone> {
  return Promise.reject(
    new DrError('E_STATE', 'this agent takes no orders of a failback', {
      context: { vmId },
      done: 'nothing was changed',
    }),
  );
}
