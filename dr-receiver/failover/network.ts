// What is asked of the network of a VM at this site, and what proves that the guest took it. Which switch
// and which address is decided in shared/network.

import type { AdapterPlan } from '../../shared/network/index.js';
import type { Check } from './drill/check-list.js';

export interface NetworkWish {
  readonly purpose: 'failover' | 'test';
  /** Names of the parameter table. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The VM has it already: whoever else claims an address now came later. */
  readonly isApplied?: boolean;
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
