// The converted VM at its hypervisor: registered over its disks, its adapters connected as `network_map`
// says. It is its owner's from then on.

import { type Guid, randomGuid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import { applyNetwork, planNetwork, type PlannedAdapter } from '../../shared/network/index.js';
import type { ParameterValues } from '../../shared/params/index.js';
import { isSameName, type RestoreHost } from '../restore/index.js';

export type NetworkParameters = Pick<
  ParameterValues,
  'network_map' | 'unmapped' | 'test_network' | 'mac_policy' | 'reip_rules'
>;

/**
 * What becomes of the adapters, before anything is made.
 * @throws DrError E_NET_UNMAPPED, E_PARAMETER, E_EXISTS when a VM has the name already
 */
export async function planRegistration(
  host: RestoreHost,
  definition: VmDefinition,
  parameters: NetworkParameters,
): Promise<readonly PlannedAdapter[]> {
  const { name, adapters } = definition;
  if ((await host.listVms()).some((vm) => isSameName(vm.name, name))) {
    throw new DrError('E_EXISTS', `${host.name} has a VM ${name} already`, {
      hint: 'Give another name: --new-vm-name.',
    });
  }
  const plan = planNetwork({
    vmName: name,
    adapters,
    switches: await host.listSwitches(),
    parameters,
    kind: 'failover',
    others: [],
  });
  if (plan.kind === 'planned') return plan.adapters;
  const [first] = plan.refusals;
  throw first ?? new Error('a plan is refused for a reason');
}

/** @throws DrError E_EXISTS, E_NOT_FOUND, E_HYPERVISOR: no VM stays, its disks do */
export async function registerConverted(
  host: RestoreHost,
  definition: VmDefinition,
  adapters: readonly PlannedAdapter[],
  { random }: { readonly random: Random },
): Promise<Guid> {
  const tag = { protectionId: definition.id, operationId: randomGuid(random) };
  const diskPaths = definition.disks.map(({ path }) => path);
  let vmId: Guid | undefined;
  try {
    vmId = await host.registerVm({ definition, name: definition.name, diskPaths, tag });
    await applyNetwork(host, vmId, adapters);
    await host.dropTag(vmId);
    return vmId;
  } catch (error) {
    if (vmId !== undefined) await host.removeVm(vmId).catch(() => undefined);
    if (!(error instanceof DrError)) throw error;
    const { code, message, context, hint } = error;
    const done = `no VM was registered; its disks are complete: ${diskPaths.join(', ')}`;
    throw new DrError(code, message, { context, done, hint, cause: error });
  }
}
