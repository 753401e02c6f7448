import type { Guid } from '../../shared/bytes/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { type InspectSeams, withVmLease } from '../inspect.js';
import { chainKey } from '../ledger.js';
import { allTold } from '../ledger-store.js';
import { staleEpoch } from '../start-block.js';

/** A cycle that is under way when the order comes is refused by its receiver soon. */
const WAIT_MS = 5 * 60_000;

/** Of whose order a step is. */
export interface OrderedStep {
  readonly vm: VmSummary;
  readonly epoch: bigint;
  readonly storeId: Guid;
}

/**
 * A step of a failback, with nobody else at the VM. What was so when the order came may have changed while
 * the lease was waited for. @throws DrError E_STALE_EPOCH (its epoch has ended), as withVmLease()
 */
export function underLease<T>(
  { vm, epoch, storeId }: OrderedStep,
  seams: InspectSeams,
  step: (operationId: Guid) => Promise<T>,
): Promise<T> {
  const inEpoch = async (operationId: Guid): Promise<T> => {
    const told = (await allTold(seams.fs, seams.stateFolder, vm.id)).get(chainKey(storeId));
    if (told !== undefined && epoch < told.epoch) throw staleEpoch(vm, epoch, told.epoch);
    return step(operationId);
  };
  return withVmLease(vm, seams, inEpoch, WAIT_MS);
}
