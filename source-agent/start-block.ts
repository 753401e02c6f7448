// A source that learns that its VM was taken over by the other site (failover.md § 4): a VM that is off
// cannot be started here any more; one that runs is left alone, whatever anybody says, and people are
// told.

import type { Guid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
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

/**
 * Lifts the fence of the VM's own protection, unless it is of a later epoch. Returns whether there was
 * one. @throws DrError E_STALE_EPOCH, E_STATE (somebody else set it); the fence stands then
 */
export async function liftFence(
  vm: Pick<VmSummary, 'id' | 'name'>,
  epoch: bigint,
  hypervisor: SourceHypervisor,
  log: Log,
): Promise<boolean> {
  const present = await hypervisor.fenceOf(vm.id);
  if (present === undefined) return false;
  if (present.epoch > epoch) throw staleEpoch(vm, epoch, present.epoch);
  if (present.tag.protectionId !== vm.id) throw strangeFence(vm, present.tag.protectionId);
  await hypervisor.unfenceVm(vm.id);
  log.info('fence.lifted', { vmId: vm.id, vmName: vm.name, epoch });
  return true;
}

export function strangeFence({ id, name }: Pick<VmSummary, 'id' | 'name'>, owner: Guid): DrError {
  return new DrError('E_STATE', `the fence of ${name} was not set by its own protection`, {
    context: { vmId: id, protectionId: owner },
    done: 'the fence stands',
  });
}

export function staleEpoch(
  vm: Pick<VmSummary, 'id' | 'name'>,
  given: bigint,
  known: bigint,
): DrError {
  return new DrError(
    'E_STALE_EPOCH',
    `an order for ${vm.name} is of epoch ${given}, this source knows ${known}`,
    {
      context: { vmId: vm.id, epoch: given, known },
      done: 'nothing was changed at the primary site',
      hint: 'Whoever asks is behind: look at the store of that receiver, it may be an older copy.',
    },
  );
}

/** As it is now; undefined: the host has no such VM. */
export async function powerOf(
  vmId: Guid,
  hypervisor: SourceHypervisor,
): Promise<PowerState | undefined> {
  const vms = await hypervisor.listVms();
  return vms.find(({ id }) => id === vmId)?.powerState;
}
