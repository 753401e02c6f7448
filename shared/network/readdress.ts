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
} from '../ip-address.js';
import { applyRule, misfitOf, type ReipAsk, type ReipRule } from './reip-rules.js';

/** An address of the guest, and the one that it has at the other site, both with their prefix. */
export interface AddressMove {
  readonly from: string;
  readonly to: string;
}

export interface Readdressed {
  /** undefined: no rule fits, the guest keeps what it has. */
  readonly guest: AddressSettings | undefined;
  /** Of the first rule that fits and names one; 0: untagged. */
  readonly vlan: number | undefined;
  /** Of the addresses that are known before and after; those that stay lead to themselves. */
  readonly moves: readonly AddressMove[];
  /** The rules that fit. */
  readonly used: readonly ReipRule[];
  /** Why it is so, for people. */
  readonly because: readonly string[];
}

export const UNCHANGED: Omit<Readdressed, 'because'> = {
  guest: undefined,
  vlan: undefined,
  moves: [],
  used: [],
};

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
  const moves: AddressMove[] = [];
  const fitting = new Set<ReipRule>();
  let isDhcp = false;
  for (const ask of asksOf(interfaces, place)) {
    const name =
      ask.address === undefined ? `no IPv${ask.family} address` : formatAddress(ask.address);
    const rule = firstFit(rules, ask, name, because);
    if (rule === undefined) {
      const staying = interfaces.filter(({ address }) => address === ask.address);
      kept.push(...staying);
      if (!guest.isDhcp) moves.push(...staying.map(stays));
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
    const before = interfaces.find(({ address }) => address === ask.address);
    if (before !== undefined) {
      moves.push({ from: formatInterface(before), to: formatInterface(result.address) });
    }
    if (!taken.some(({ address }) => isSameAddress(address, result.address.address))) {
      taken.push(result.address);
    }
    const { gateway } = result;
    if (gateway !== undefined && !gateways.some((other) => isSameAddress(other, gateway))) {
      gateways.push(gateway);
    }
  }
  const used = [...fitting];
  if (used.length === 0) return { ...UNCHANGED, moves, because };
  const vlan = used.find((rule) => rule.vlan !== undefined)?.vlan;
  if (vlan !== undefined)
    because.push(vlan === 0 ? 'untagged by its rule' : `VLAN ${vlan} by its rule`);
  const named = [...new Set(used.flatMap(({ dnsServers }) => dnsServers ?? []))];
  const isDnsNamed = used.some(({ dnsServers }) => dnsServers !== undefined);
  if (isDhcp) {
    const settings = { isDhcp, addresses: [], gateways: [], dnsServers: named };
    return { guest: settings, vlan, moves: [], used, because };
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
      dnsServers: isDnsNamed ? named : guest.dnsServers,
    },
    vlan,
    moves,
    used,
    because,
  };
}

function stays(address: IpInterface): AddressMove {
  const text = formatInterface(address);
  return { from: text, to: text };
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
