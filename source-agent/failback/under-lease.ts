import type { Guid } from '../../shared/bytes/index.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { type InspectSeams, withVmLease } from '../inspect.js';

/** A cycle that is under way when the order comes is refused by its receiver soon. */
const WAIT_MS = 5 * 60_000;

/** A step of a failback, with nobody else at the VM. @throws as withVmLease() */
export function underLease<T>(
  vm: VmSummary,
  seams: InspectSeams,
  step: (operationId: Guid) => Promise<T>,
): Promise<T> {
  return withVmLease(vm, seams, step, WAIT_MS);
}
