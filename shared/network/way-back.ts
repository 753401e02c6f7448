// The way home of a VM that was moved for good: the map and the rules of the move, turned round for this
// VM, so that each adapter gets the switch and the addresses that it had. What does not lead back to one
// switch or one address is refused and named; nothing is guessed. Pure; `reprotect` asks for it.

import { DrError } from '../errors.js';
import type { AddressSettings, VmAdapter } from '../hypervisor/index.js';
import {
  formatAddress,
  formatInterface,
  type IpInterface,
  isInNetwork,
  parseAddress,
  parseInterface,
} from '../ip-address.js';
import { formatNetworkMap, type NetworkMap, parseNetworkMap } from './network-map.js';
import type { PlannedAdapter } from './plan.js';
import { type AddressMove, readdress } from './readdress.js';
import { parseReipRules } from './reip-rules.js';

const ANY_IPV6 = '*:*:*:*:*:*:*:*';

export interface WayBackRequest {
  readonly vmName: string;
  /** As they were at the primary site, by the point from which the VM came up. */
  readonly original: readonly VmAdapter[];
  /** What the move made of them, one for each, by planNetwork() of kind 'failover'. */
  readonly moved: readonly Pick<
    PlannedAdapter,
    'name' | 'switchName' | 'vlan' | 'guest' | 'moves'
  >[];
}

/**
 * `network_map` for the way back: what was given for it, or the map of the move turned round for this VM.
 * A default (`*=`) can be turned round when the VM shows what it stood for.
 * @throws DrError E_NET_UNMAPPED that names the adapters and switches; E_PARAMETER of a given map
 */
export function mapBack(request: WayBackRequest, given: string | undefined): string {
  if (given !== undefined) return formatNetworkMap(parseNetworkMap(given));
  const pairs = new Map<string, NetworkPair>();
  for (const [index, { name, switchName: home }] of request.original.entries()) {
    const there = request.moved[index]?.switchName;
    if (home === undefined) {
      if (there === undefined) continue;
      throw noWayBack(request, name, { switch: there }, `is on ${there}, and was not connected`);
    }
    if (there === undefined) {
      throw noWayBack(request, name, { switch: home }, `was on ${home}, and is not connected now`);
    }
    const key = there.trim().toLowerCase();
    const other = pairs.get(key);
    if (other !== undefined && other.target.toLowerCase() !== home.trim().toLowerCase()) {
      const why = `came from ${home} to ${there}, where another one came from ${other.target}`;
      throw noWayBack(request, name, { switch: there }, why);
    }
    if (other === undefined) pairs.set(key, { source: there, target: home });
  }
  return formatNetworkMap({ pairs, rest: undefined } satisfies NetworkMap);
}

interface NetworkPair {
  readonly source: string;
  readonly target: string;
}

function noWayBack(
  { vmName }: WayBackRequest,
  adapter: string,
  context: { readonly switch: string },
  why: string,
): DrError {
  return new DrError('E_NET_UNMAPPED', `adapter ${adapter} of ${vmName} ${why}`, {
    context: { adapter, ...context },
    done: 'no way back was derived from network_map',
    hint: 'Name the map for the way back: `network_map`.',
  });
}

/**
 * `reip_rules` for the way back: what was given for it, or rules that lead each address of this VM to the
 * one before, with its prefix, gateway, DNS servers and VLAN. undefined: no address has changed.
 * @throws DrError E_REIP_INVALID that names the adapter and what is ambiguous, or the rule and field of given rules
 */
export function rulesBack(request: WayBackRequest, given: string | undefined): string | undefined {
  if (given !== undefined) {
    parseReipRules(given);
    return given;
  }
  const rules = request.original.flatMap((adapter, index) => {
    const now = request.moved[index]?.guest;
    return now === undefined ? [] : rulesOfAdapter(request, adapter, index, now);
  });
  return rules.length === 0 ? undefined : rules.join(',');
}

function rulesOfAdapter(
  request: WayBackRequest,
  adapter: VmAdapter,
  index: number,
  now: AddressSettings,
): readonly string[] {
  const moved = request.moved[index];
  const vm = `${patternOf(request.vmName)}#${index + 1}`;
  const options = `${dnsOption(adapter, now)}${vlanOption(adapter, moved)}`;
  const leads = leadsBack(request, adapter, now, moved?.moves ?? []);
  const rules = leads.map(({ from, to }) => `${vm}:${from}>${to}${options}`);
  const place = { vmName: request.vmName, nic: index + 1, nicCount: request.original.length };
  const back = readdress(
    rules.length === 0 ? [] : parseReipRules(rules.join(',')),
    { ...adapter, guest: now },
    place,
  ).guest;
  if (isSameSettings(back ?? now, adapter.guest)) return rules;
  throw ambiguous(request, adapter, 'has settings that no rules lead back to');
}

interface Lead {
  readonly from: string;
  readonly to: string;
}

function leadsBack(
  request: WayBackRequest,
  adapter: VmAdapter,
  now: AddressSettings,
  moves: readonly AddressMove[],
): readonly Lead[] {
  const { guest } = adapter;
  if (guest.isDhcp) {
    const [first] = now.addresses.flatMap((text) => parseInterface(text) ?? []);
    return [{ from: first === undefined ? '*' : formatAddress(first.address), to: 'dhcp' }];
  }
  const own = guest.addresses.flatMap((text) => parseInterface(text) ?? []);
  if (own.length === 0) {
    throw ambiguous(request, adapter, 'told no address at the primary that it could get back');
  }
  if (now.isDhcp) return fromDhcp(request, adapter, own);
  const hasMoved = new Set(
    moves
      .filter(({ from, to }) => from !== to)
      .flatMap(({ from }) => parseInterface(from)?.address.family ?? []),
  );
  const sources = new Map<string, string>();
  return moves.flatMap(({ from, to }): Lead[] => {
    const [before, after] = [parseInterface(from), parseInterface(to)];
    if (before === undefined || after === undefined) return [];
    const source = formatAddress(after.address);
    const other = sources.get(source);
    if (other !== undefined) {
      throw ambiguous(request, adapter, `has ${to}, which stands for ${other} and for ${from}`);
    }
    sources.set(source, from);
    if (!hasMoved.has(before.address.family)) return [];
    return [{ from: source, to: targetText(before, guest) }];
  });
}

/** The address there is not known, so that only one of a family can be meant. */
function fromDhcp(
  request: WayBackRequest,
  adapter: VmAdapter,
  own: readonly IpInterface[],
): readonly Lead[] {
  return ([4, 6] as const).flatMap((family): Lead[] => {
    const [only, second] = own.filter(({ address }) => address.family === family);
    if (only === undefined) return [];
    if (second !== undefined) {
      const both = `${formatInterface(only)} and ${formatInterface(second)}`;
      throw ambiguous(request, adapter, `has its address by DHCP, which stands for ${both}`);
    }
    return [{ from: family === 4 ? '*' : ANY_IPV6, to: targetText(only, adapter.guest) }];
  });
}

/** `address/prefix/gateway`, the gateway being the one of its network. */
function targetText(own: IpInterface, { gateways }: AddressSettings): string {
  const gateway = gateways
    .flatMap((text) => parseAddress(text) ?? [])
    .find((each) => isInNetwork(each, own.address, own.prefix));
  const text = formatInterface(own);
  return gateway === undefined ? text : `${text}/${formatAddress(gateway)}`;
}

function dnsOption({ guest }: VmAdapter, now: AddressSettings): string {
  if (guest.isDhcp || guest.dnsServers.join() === now.dnsServers.join()) return '';
  return `;dns=${guest.dnsServers.join(',')}`;
}

function vlanOption(
  adapter: VmAdapter,
  moved: WayBackRequest['moved'][number] | undefined,
): string {
  if (adapter.switchName === undefined || moved?.switchName === undefined) return '';
  return adapter.vlan === moved.vlan ? '' : `;vlan=${adapter.vlan ?? 0}`;
}

/** The VM's name as a pattern of a rule; what has a meaning there may be any character. */
function patternOf(vmName: string): string {
  return vmName.replace(/[:#,;>/*?]/g, '?');
}

function isSameSettings(one: AddressSettings, other: AddressSettings): boolean {
  if (one.isDhcp || other.isDhcp) return one.isDhcp === other.isDhcp;
  const sorted = (texts: readonly string[]): string =>
    texts
      .map((text) => {
        const address = parseAddress(text.split('/')[0] ?? '');
        return address === undefined
          ? text
          : `${formatAddress(address)}/${text.split('/')[1] ?? ''}`;
      })
      .toSorted()
      .join();
  return (
    sorted(one.addresses) === sorted(other.addresses) &&
    sorted(one.gateways) === sorted(other.gateways) &&
    one.dnsServers.join() === other.dnsServers.join()
  );
}

function ambiguous({ vmName }: WayBackRequest, { name }: VmAdapter, why: string): DrError {
  return new DrError('E_REIP_INVALID', `adapter ${name} of ${vmName} ${why}`, {
    context: { adapter: name, field: 'source' },
    done: 'no way back was derived from reip_rules',
    hint: 'Name the rules for the way back: `reip_rules_back`.',
  });
}
