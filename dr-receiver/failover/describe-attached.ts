// What the primary site says of a VM, for a command that cannot go without its agent.

import type { VmDesk } from '../ingest/vm-desk.js';
import type { Collector } from './collector.js';
import type { SourceVm } from './ports.js';
import type { FailoverSite } from './site.js';

/** undefined: it is a refusal that no agent is attached, or what it answered. */
export async function describeAttached(
  { sources }: Pick<FailoverSite, 'sources'>,
  { vm }: Pick<VmDesk, 'vm'>,
  found: Collector,
): Promise<SourceVm | undefined> {
  const { owner, vmName } = vm.protection;
  const source = sources.find(vm.vmId, owner);
  if (source !== undefined) return found.ask(() => source.describe(vm.vmId));
  found.refuse({
    code: 'E_SOURCE_UNREACHABLE',
    message: `no agent of the primary site that serves ${vmName} is attached`,
  });
  return undefined;
}
