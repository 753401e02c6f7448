// How what was planned for the network of a VM is applied to a VM that was registered and is off.

import type { Guid } from '../bytes/index.js';
import { DrError } from '../errors.js';
import type { AddressSettings, TargetHypervisor } from '../hypervisor/index.js';
import type { AddressMove } from './readdress.js';

/** One adapter of the definition, in its order. */
export interface AdapterPlan {
  readonly name: string;
  /** undefined: it stays disconnected. */
  readonly switchName: string | undefined;
  readonly vlan: number | undefined;
  /** undefined: the one that the hypervisor gave it. */
  readonly mac: string | undefined;
  /** undefined: the guest keeps what it has. */
  readonly guest: AddressSettings | undefined;
  /** Address before and at this site, as far as both are known. */
  readonly moves: readonly AddressMove[];
}

/** Applies a plan to a VM that is off; the same plan again changes nothing. @throws DrError E_REIP_GUEST */
export async function applyNetwork(
  host: TargetHypervisor,
  vmId: Guid,
  plan: readonly AdapterPlan[],
): Promise<void> {
  const { adapters } = await host.describeVm(vmId);
  for (const [index, adapter] of adapters.entries()) {
    const wanted = plan[index];
    if (wanted === undefined) continue;
    if (wanted.mac !== undefined) await host.setMacAddress(vmId, adapter.id, wanted.mac);
    if (wanted.guest !== undefined) {
      if (!host.targetCapabilities.canSetGuestAddress) throw cannotReaddress(host, adapter.name);
      await host.setGuestAddress(vmId, adapter.id, wanted.guest);
    }
    const { switchName, vlan } = wanted;
    const connection = switchName === undefined ? undefined : { switchName, vlan };
    await host.connectAdapter(vmId, adapter.id, connection);
  }
}

function cannotReaddress({ name }: TargetHypervisor, adapter: string): DrError {
  return new DrError('E_REIP_GUEST', `${name} cannot give adapter ${adapter} its new address`, {
    context: { adapter },
    hint: 'Leave `reip_rules` out, and set the address in the guest.',
  });
}
