// The addresses of a network plan on the wire: whoever brings up several VMs at once compares them.

import type { PlannedAddress } from '../../shared/channel/index.js';
import type { AdapterPlan } from '../../shared/network/index.js';

/** Those that stay as well; what DHCP gives is not known. */
export function addressesToWire(adapters: readonly AdapterPlan[]): PlannedAddress[] {
  return adapters.flatMap(({ name: adapter, switchName = '', guest, moves }) => {
    const known = moves.map(({ from, to }) => ({ from, to }));
    const given = (guest?.addresses ?? [])
      .filter((address) => !known.some(({ to }) => to === address))
      .map((to) => ({ from: '', to }));
    return [...known, ...given].map(({ from, to }) => ({
      ...{ adapter, switchName, from, to },
      isByRule: guest !== undefined && from !== to,
    }));
  });
}
