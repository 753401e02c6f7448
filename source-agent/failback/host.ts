// What a failback needs of the primary's hypervisor beyond what cycles need: it has to put a VM on other
// disk files, as only a host does that can take VMs.

import { DrError } from '../../shared/errors.js';
import type { SourceHypervisor, TargetHypervisor } from '../../shared/hypervisor/index.js';

export type FailbackHost = SourceHypervisor & Pick<TargetHypervisor, 'setDiskFiles' | 'heartbeat'>;

export function isFailbackHost(hypervisor: SourceHypervisor): hypervisor is FailbackHost {
  return 'setDiskFiles' in hypervisor && 'heartbeat' in hypervisor;
}

/** @throws DrError E_HYPERVISOR */
export function requireFailbackHost(hypervisor: SourceHypervisor): FailbackHost {
  if (isFailbackHost(hypervisor)) return hypervisor;
  throw new DrError(
    'E_HYPERVISOR',
    `${hypervisor.name} cannot put a VM on other disk files, which a failback needs`,
    {
      done: 'nothing was changed at the primary site',
      hint: 'Make the failover permanent, then protect the VM the other way round.',
    },
  );
}
