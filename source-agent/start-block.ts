// A source that learns that its VM was taken over by the other site (failover.md § 4): a VM that is off
// cannot be started here any more; one that runs is left alone, whatever anybody says, and people are
// told.

import type { Guid } from '../shared/bytes/index.js';
import type {
  OwnerTag,
  PowerState,
  SourceHypervisor,
  VmSummary,
} from '../shared/hypervisor/index.js';
import type { Log } from '../shared/log.js';

export interface StartBlock {
  readonly epoch: bigint;
  readonly operationId: Guid;
}

/**
 * Keeps the VM from being started, unless it is not off. Returns whether it is fenced afterwards.
 * @throws what the hypervisor throws
 */
export async function blockStart(
  vm: Pick<VmSummary, 'id' | 'name'>,
  { epoch, operationId }: StartBlock,
  hypervisor: SourceHypervisor,
  log: Log,
): Promise<boolean> {
  const { id: vmId, name: vmName } = vm;
  const powerState = await powerOf(vmId, hypervisor);
  if (powerState !== 'off') {
    log.error('fence.missing', { vmId, vmName, powerState, epoch });
    return false;
  }
  const present = await hypervisor.fenceOf(vmId);
  if (present !== undefined && present.epoch >= epoch) return true;
  const tag: OwnerTag = { protectionId: vmId, operationId };
  await hypervisor.fenceVm(vmId, { tag, epoch });
  log.warn('fence.set', { vmId, vmName, epoch });
  return true;
}

/** As it is now; undefined: the host has no such VM. */
export async function powerOf(
  vmId: Guid,
  hypervisor: SourceHypervisor,
): Promise<PowerState | undefined> {
  const vms = await hypervisor.listVms();
  return vms.find(({ id }) => id === vmId)?.powerState;
}
