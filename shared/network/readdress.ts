// What the re-IP rules make of the addresses of one adapter. Every address asks for the first rule that
// fits it; an adapter without an address of a family asks once for that family.

import type { AddressSettings, VmAdapter } from '../hypervisor/index.js';
import {
  formatAddress,
  formatInterface,
  type IpAddress,
  type IpInterface,
  isSameAddress,
  parseAddress,
  parseInterface,
} from './address.js';
import { applyRule, misfitOf, type ReipAsk, type ReipRule } from './reip-rules.js';

export interface Readdressed {
  /** undefined: no rule fits, the guest keeps what it has. */
  readonly guest: AddressSettings | undefined;
  /** Of the first rule that fits and names one. */
  readonly vlan: number | undefined;
  /** Why it is so, for people. */
  readonly because: readonly string[];
}

/** @throws DrError E_REIP_INVALID when a rule that fits gives what no host can have */
export function readdress(
  rules: readonly ReipRule[],
  adapter: VmAdapter,
  place: { readonly vmName: string; readonly nic: number; readonly nicCount: number },
): Readdressed {
  const { guest } = adapter;
  const because: string[] = [];
  const interfaces = guest.addresses.flatMap((text) => parseInterface(text) ?? []);
  const taken: IpInterface[] = [];
  const kept: IpInterface[] = [];
  const gateways: IpAddress[] = [];
  const fitting = new Set<ReipRule>();
  let isDhcp = false;
  for (const ask of asksOf(interfaces, place)) {
    const name =
      ask.address === undefined ? `no IPv${ask.family} address` : formatAddress(ask.address);
    const rule = firstFit(rules, ask, name, because);
    if (rule === undefined) {
      kept.push(...interfaces.filter(({ address }) => address === ask.address));
      continue;
    }
    fitting.add(rule);
    const result = applyRule(rule, ask);
    if (result.kind === 'dhcp') {
      isDhcp = true;
      because.push(`${name}: rule ${rule.number} (${rule.text}) fits: DHCP`);
      continue;
    }
    because.push(
      `${name}: rule ${rule.number} (${rule.text}) fits: ${formatInterface(result.address)}`,
    );
    if (!taken.some(({ address }) => isSameAddress(address, result.address.address))) {
      taken.push(result.address);
    }
    const { gateway } = result;
    if (gateway !== undefined && !gateways.some((other) => isSameAddress(other, gateway))) {
      gateways.push(gateway);
    }
  }
  const used = [...fitting];
  if (used.length === 0) return { guest: undefined, vlan: undefined, because };
  const vlan = used.find((rule) => rule.vlan !== undefined)?.vlan;
  const named = [...new Set(used.flatMap(({ dnsServers }) => dnsServers ?? []))];
  if (isDhcp) {
    const settings = { isDhcp, addresses: [], gateways: [], dnsServers: named };
    return { guest: settings, vlan, because };
  }
  // What the guest had by DHCP is no address of its own at another site.
  const staying = guest.isDhcp ? [] : kept;
  const untouched = new Set(
    [4, 6].filter((f) => taken.every(({ address }) => address.family !== f)),
  );
  const oldGateways = guest.gateways.flatMap((text) => parseAddress(text) ?? []);
  return {
    guest: {
      isDhcp: false,
      addresses: [...taken, ...staying].map(formatInterface),
      gateways: [
        ...gateways,
        ...(guest.isDhcp ? [] : oldGateways.filter(({ family }) => untouched.has(family))),
      ].map(formatAddress),
      dnsServers: named.length > 0 ? named : guest.dnsServers,
    },
    vlan,
    because,
  };
}

function asksOf(
  interfaces: readonly IpInterface[],
  place: Pick<ReipAsk, 'vmName' | 'nic' | 'nicCount'>,
): ReipAsk[] {
  const families = [4, 6] as const;
  return families.flatMap((family) => {
    const own = interfaces.filter(({ address }) => address.family === family);
    const addresses = own.length === 0 ? [undefined] : own.map(({ address }) => address);
    return addresses.map((address) => ({ ...place, family, address }));
  });
}

/** The first rule that fits; those before it are told with what keeps them from it. */
function firstFit(
  rules: readonly ReipRule[],
  ask: ReipAsk,
  name: string,
  because: string[],
): ReipRule | undefined {
  for (const rule of rules) {
    const misfit = misfitOf(rule, ask);
    if (misfit === undefined) return rule;
    because.push(`${name}: rule ${rule.number} ${misfit}`);
  }
  return undefined;
}
