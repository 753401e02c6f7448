// The VM that an earlier failover left at this site, when a VM of its name comes home (reprotect, then a
// planned failover): off, and kept from starting by a fence of ours. Only that one is ever replaced, and
// only as the one that the plan has named.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import type { VmStore } from '../store/vm-store.js';
import type { TargetHost } from './ports.js';

const FILES = 'its disk files stay';

/** undefined: no VM has the name, or the one that has it runs, or is not fenced by us. */
export async function findRetired(host: TargetHost, name: string): Promise<VmSummary | undefined> {
  const holder = await holderOf(host, name);
  if (holder?.powerState !== 'off') return undefined;
  // a fence of its own protection; one of another VM's is none of ours
  const fence = await host.fenceOf(holder.id);
  return fence?.tag.protectionId === holder.id ? holder : undefined;
}

async function holderOf(host: TargetHost, name: string): Promise<VmSummary | undefined> {
  const wanted = name.toLowerCase();
  return (await host.listVms()).find((each) => each.name.toLowerCase() === wanted);
}

/** For the plan, whose hash it makes another one. */
export function replacementNote({ name, id }: VmSummary): string {
  return `the retired VM ${name}, ${id}, is removed from the hypervisor; ${FILES}`;
}

/**
 * Returns the retired VM that has the name, when replacing it is what makes the name free.
 * @throws DrError E_EXISTS
 */
export async function requireNameFree(
  host: TargetHost,
  { protection }: VmStore,
  isReplacing: boolean,
): Promise<VmSummary | undefined> {
  const { vmName, failover } = protection;
  const holder = await holderOf(host, vmName);
  if (holder === undefined || holder.id === failover.instance?.vmId) return undefined;
  const retired = await findRetired(host, vmName);
  if (retired !== undefined && isReplacing) return retired;
  const why =
    retired !== undefined
      ? `it is off and fenced by us: --replace-retired removes it from the hypervisor, ${FILES}`
      : holder.powerState === 'off'
        ? 'it is off, and not fenced by us: when it is the retired one, let the agent of this site attach once'
        : `it is ${holder.powerState}`;
  throw new DrError('E_EXISTS', `a VM named ${holder.name} is at this site already; ${why}`, {
    context: { vmId: holder.id, isRetired: retired !== undefined },
  });
}

/**
 * Removes the retired VM that the operation was begun with; one that is gone by now is done.
 * @throws DrError E_EXISTS: another VM has the name by now, or that one runs or is not fenced any more
 */
export async function removeRetired(
  host: TargetHost,
  name: string,
  planned: Guid | undefined,
): Promise<void> {
  const holder = await holderOf(host, name);
  if (holder === undefined) return;
  const retired = await findRetired(host, name);
  if (retired !== undefined && retired.id === planned) {
    await host.removeVm(retired.id);
    return;
  }
  const why =
    holder.id === planned
      ? 'it is not as it was planned: off, and fenced by us'
      : `not the one that the operation replaces${planned === undefined ? '' : `, ${planned}`}`;
  throw new DrError(
    'E_EXISTS',
    `a VM named ${holder.name}, ${holder.id}, is at this site; ${why}`,
    {
      context: { vmId: holder.id, plannedVmId: planned ?? '' },
      done: 'it was not removed',
      hint: 'Rename it or remove it, then `hvdr resume VM`.',
    },
  );
}
