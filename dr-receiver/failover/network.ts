// What the network of a VM at this site is to be, adapter by adapter, and how it is applied to a VM that
// was registered and is off. Which switch and which address is decided in shared/network.

import { DrError } from '../../shared/errors.js';
import type { AddressSettings } from '../../shared/hypervisor/index.js';
import type { Guid } from '../../shared/bytes/index.js';
import type { Check } from './drill/check-list.js';
import type { AddressMove } from '../../shared/network/index.js';
import type { TargetHost } from './ports.js';

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

export interface NetworkWish {
  readonly purpose: 'failover' | 'test';
  /** Names of the parameter table. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The VM has it already: whoever else claims an address now came later. */
  readonly isApplied?: boolean;
}

/** Applies a plan to a VM that is off; the same plan again changes nothing. @throws DrError E_REIP_GUEST */
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
      if (!host.targetCapabilities.canSetGuestAddress) throw cannotReaddress(host, adapter.name);
      await host.setGuestAddress(vmId, adapter.id, wanted.guest);
    }
    const { switchName, vlan } = wanted;
    const connection = switchName === undefined ? undefined : { switchName, vlan };
    await host.connectAdapter(vmId, adapter.id, connection);
  }
}

/** Who gives a guest an address looks whether it has taken it, whatever else proves that it serves. */
export function withAddressCheck(
  checks: readonly Check[],
  plan: readonly Pick<AdapterPlan, 'guest'>[],
): readonly Check[] {
  const isGiven = plan.some(({ guest }) => guest !== undefined && guest.addresses.length > 0);
  if (!isGiven || checks.some(({ kind }) => kind === 'address')) return checks;
  const at = checks.findIndex(({ kind }) => kind === 'heartbeat') + 1;
  return checks.toSpliced(at, 0, { kind: 'address' });
}

function cannotReaddress({ name }: TargetHost, adapter: string): DrError {
  return new DrError('E_REIP_GUEST', `${name} cannot give adapter ${adapter} its new address`, {
    context: { adapter },
    hint: 'Leave `reip_rules` out, and set the address in the guest.',
  });
}
