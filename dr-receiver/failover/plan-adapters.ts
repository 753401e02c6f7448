// The network of a VM at this site: its host's switches, the parameters, and who has which address there
// already. What follows from these is decided in shared/network.

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import {
  type AdapterPlan,
  type NetworkPlan,
  planNetwork,
  type TakenAddress,
} from '../../shared/network/index.js';
import type { NetworkWish } from './network.js';
import { valuesOf } from './operations/values.js';
import type { TargetHost } from './ports.js';
import { addressesAtHost } from './taken-addresses.js';

/** What a plan of a network looks at. */
export interface NetworkSurroundings {
  readonly host: TargetHost;
  /** Of the other VMs of the store, as they serve or come up at this site. */
  readonly othersOf: (vmId: Guid) => Promise<readonly TakenAddress[]>;
}

/** @throws DrError E_NET_UNMAPPED, E_NOT_ISOLATED, E_REIP_…: the first of all that is wrong, the others named */
export async function planAdapters(
  site: NetworkSurroundings,
  definition: VmDefinition,
  wish: NetworkWish,
): Promise<readonly AdapterPlan[]> {
  const plan = await networkPlan(site, definition, wish);
  if (plan.kind === 'planned') return plan.adapters;
  const first = defined(plan.refusals[0], 'who refuses says why');
  if (plan.refusals.length === 1) throw first;
  throw new DrError(first.code, plan.refusals.map(({ message }) => message).join('; '), {
    context: first.context,
    hint: first.hint,
  });
}

/** The whole plan, with its reasons and all that speaks against it. */
export async function networkPlan(
  site: NetworkSurroundings,
  definition: VmDefinition,
  wish: NetworkWish,
): Promise<NetworkPlan> {
  const values = valuesOf(wish.parameters);
  return planNetwork({
    vmName: definition.name,
    adapters: definition.adapters,
    switches: await site.host.listSwitches(),
    parameters: values,
    kind: wish.purpose,
    // without rules nobody gets a new address
    others:
      values.reip_rules === undefined || wish.isApplied === true
        ? []
        : await othersOf(site, definition),
  });
}

async function othersOf(
  { host, othersOf: ofStore }: NetworkSurroundings,
  { id, name }: VmDefinition,
): Promise<TakenAddress[]> {
  return [...(await addressesAtHost(host, name)), ...(await ofStore(id))];
}
