// What the network of a VM at this site is to be, adapter by adapter, and how it is applied to a VM that
// was registered and is off. Which switch and which address is decided in shared/network.

import { DrError } from '../../shared/errors.js';
import type { AddressSettings } from '../../shared/hypervisor/index.js';
import type { Guid } from '../../shared/bytes/index.js';
import type { TargetHost } from './ports.js';

/** One adapter of the definition, in its order. */
export interface AdapterPlan {
  /** undefined: it stays disconnected. */
  readonly switchName: string | undefined;
  readonly vlan: number | undefined;
  /** undefined: the one that the hypervisor gave it. */
  readonly mac: string | undefined;
  /** undefined: the guest keeps what it has. */
  readonly guest: AddressSettings | undefined;
}

export interface NetworkWish {
  readonly purpose: 'failover' | 'test';
  /** Names of the parameter table. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Applies a plan to a VM that is off; the same plan again changes nothing. */
export async function applyNetwork(
  host: TargetHost,
  vmId: Guid,
  plan: readonly AdapterPlan[],
): Promise<void> {
  const { adapters } = await host.describeVm(vmId);
  for (const [index, adapter] of adapters.entries()) {
    const wanted = plan[index];
    if (wanted === undefined) continue;
    if (wanted.mac !== undefined) await host.setMacAddress(vmId, adapter.id, wanted.mac);
    if (wanted.guest !== undefined) {
      requireGuestAddress(host, adapter.name);
      await host.setGuestAddress(vmId, adapter.id, wanted.guest);
    }
    const { switchName, vlan } = wanted;
    const connection = switchName === undefined ? undefined : { switchName, vlan };
    await host.connectAdapter(vmId, adapter.id, connection);
  }
}

/** @throws DrError E_REIP_GUEST */
function requireGuestAddress({ targetCapabilities, name }: TargetHost, adapterName: string): void {
  if (targetCapabilities.canSetGuestAddress) return;
  throw new DrError('E_REIP_GUEST', `${name} cannot give the guest of ${adapterName} an address`, {
    hint: 'Leave `reip_rules` out, and set the address in the guest.',
  });
}
