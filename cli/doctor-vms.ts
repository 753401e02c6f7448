// What `hvdr doctor` says of the VMs of a host: what cannot be replicated, and what does not come along.

import type { SourceHypervisor, VmDefinition } from '../shared/hypervisor/index.js';
import { type Finding, ok, warn } from './finding.js';

/** First of the host itself. `host`: as it was given, for messages. */
export async function examineVms(
  hypervisor: Pick<SourceHypervisor, 'listVms' | 'describeVm'>,
  host: string,
): Promise<[Finding, ...Finding[]]> {
  const vms: VmDefinition[] = [];
  for (const { id } of await hypervisor.listVms()) vms.push(await hypervisor.describeVm(id));
  const unsupported = vms.flatMap(({ name, disks }) =>
    disks.flatMap((disk) =>
      disk.unsupported === undefined ? [] : [`${name}: ${disk.unsupported}`],
    ),
  );
  const sealed = vms.filter(({ hyperV }) => hyperV?.hasTpm === true).map(({ name }) => name);
  return [
    unsupported.length === 0
      ? ok('hypervisor', `${host} answers, ${vms.length} VMs`)
      : warn(
          'hypervisor',
          `disks that cannot be replicated: ${unsupported.join('; ')}`,
          'exclude these VMs, or give them VHDX disks',
        ),
    ...(sealed.length === 0
      ? []
      : [
          warn(
            'virtual TPM',
            `its keys do not travel: ${sealed.join(', ')}`,
            'have the recovery keys of their disks (BitLocker) at hand at the other site',
          ),
        ]),
  ];
}
