// The network of a VM at this site: its host's switches, the parameters, and who has which address there
// already. What follows from these is decided in shared/network.

import { defined } from '../../shared/assert.js';
import { DrError } from '../../shared/errors.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import { planNetwork, type TakenAddress } from '../../shared/network/index.js';
import type { AdapterPlan, NetworkWish } from './network.js';
import { valuesOf } from './operations/values.js';
import type { TargetHost } from './ports.js';

/** @throws DrError E_NET_UNMAPPED, E_NOT_ISOLATED, E_REIP_…: the first of all that is wrong, the others named */
export async function planAdapters(
  host: TargetHost,
  definition: VmDefinition,
  { purpose, parameters }: NetworkWish,
): Promise<AdapterPlan[]> {
  const values = valuesOf(parameters);
  const plan = planNetwork({
    vmName: definition.name,
    adapters: definition.adapters,
    switches: await host.listSwitches(),
    parameters: values,
    kind: purpose,
    // a test is in a network of its own; without rules nobody gets a new address
    others:
      purpose === 'test' || values.reip_rules === undefined
        ? []
        : await addressesAt(host, definition.name),
  });
  if (plan.kind === 'planned') return [...plan.adapters];
  const first = defined(plan.refusals[0], 'who refuses says why');
  if (plan.refusals.length === 1) throw first;
  throw new DrError(first.code, plan.refusals.map(({ message }) => message).join('; '), {
    context: first.context,
    hint: first.hint,
  });
}

/** Of all VMs of the host but those of this name, which may be this very VM. */
async function addressesAt(host: TargetHost, vmName: string): Promise<TakenAddress[]> {
  const taken: TakenAddress[] = [];
  for (const { id, name } of await host.listVms()) {
    if (name.toLowerCase() === vmName.toLowerCase()) continue;
    const vm = await host.describeVm(id).catch((error: unknown) => {
      // it went away meanwhile
      if (error instanceof DrError && error.code === 'E_NOT_FOUND') return undefined;
      throw error;
    });
    for (const { guest } of vm?.adapters ?? []) {
      for (const address of guest.addresses) taken.push({ holder: name, address });
    }
  }
  return taken;
}
