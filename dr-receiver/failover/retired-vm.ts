// The VM that an earlier failover left at this site, when a VM of its name comes home (reprotect, then a
// planned failover): off, and kept from starting by a fence of ours. Only that one is ever replaced.

import { DrError } from '../../shared/errors.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import type { VmStore } from '../store/vm-store.js';
import type { TargetHost } from './ports.js';

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

/**
 * Returns a note when the name becomes free by replacing the retired VM that has it.
 * @throws DrError E_EXISTS
 */
export async function requireNameFree(
  host: TargetHost,
  { protection }: VmStore,
  isReplacing: boolean,
): Promise<string | undefined> {
  const { vmName, failover } = protection;
  const holder = await holderOf(host, vmName);
  if (holder === undefined || holder.id === failover.instance?.vmId) return undefined;
  const retired = await findRetired(host, vmName);
  const files = 'its disk files stay';
  if (retired !== undefined && isReplacing) {
    return `the retired VM ${retired.name}, ${retired.id}, is removed from the hypervisor; ${files}`;
  }
  const why =
    retired !== undefined
      ? `it is off and fenced by us: --replace-retired removes it from the hypervisor, ${files}`
      : holder.powerState === 'off'
        ? 'it is off, and not fenced by us: when it is the retired one, let the agent of this site attach once'
        : `it is ${holder.powerState}`;
  throw new DrError('E_EXISTS', `a VM named ${holder.name} is at this site already; ${why}`, {
    context: { vmId: holder.id, isRetired: retired !== undefined },
  });
}
