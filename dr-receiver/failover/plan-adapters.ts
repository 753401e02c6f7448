// The network of a VM at this site by its host's switches and the parameters.

import { DrError } from '../../shared/errors.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import type { AdapterPlan, NetworkWish } from './network.js';
import type { TargetHost } from './ports.js';

export async function planAdapters(
  host: TargetHost,
  definition: VmDefinition,
  { purpose, parameters }: NetworkWish,
): Promise<AdapterPlan[]> {
  const switches = await host.listSwitches();
  const nothing = { switchName: undefined, vlan: undefined, mac: undefined, guest: undefined };
  return definition.adapters.map((adapter): AdapterPlan => {
    if (purpose === 'test' || adapter.switchName === undefined) return nothing;
    const wanted = adapter.switchName.toLowerCase();
    const found = switches.find(({ name }) => name.toLowerCase() === wanted);
    if (found !== undefined && parameters['unmapped'] === 'same-name') {
      return { ...nothing, switchName: found.name, vlan: adapter.vlan };
    }
    if (parameters['unmapped'] === 'disconnect') return nothing;
    throw new DrError('E_NET_UNMAPPED', `adapter ${adapter.name}: ${adapter.switchName}`);
  });
}
