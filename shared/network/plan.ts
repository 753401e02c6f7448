// What the network of a VM is to be at the site where it comes up, adapter by adapter, with the reasons;
// or all that speaks against it. Pure: the failover engine applies it.

import type { Guid } from '../bytes/index.js';
import { DrError } from '../errors.js';
import type { AddressSettings, SwitchInfo, VmAdapter } from '../hypervisor/index.js';
import type { ParameterValues } from '../params/index.js';
import { isSameAddress, parseAddress } from './address.js';
import { type NetworkMap, NO_MAP, parseNetworkMap, targetOf } from './network-map.js';
import { readdress } from './readdress.js';
import { parseReipRules, type ReipRule } from './reip-rules.js';

export interface NetworkRequest {
  readonly vmName: string;
  /** Of the definition at the primary site. */
  readonly adapters: readonly VmAdapter[];
  /** Of the host where the VM comes up. */
  readonly switches: readonly SwitchInfo[];
  readonly parameters: Pick<
    ParameterValues,
    'network_map' | 'unmapped' | 'test_network' | 'mac_policy' | 'reip_rules'
  >;
  /** failback: at the primary, with its own switches and addresses. */
  readonly kind: 'failover' | 'test' | 'failback';
  /** Addresses that others have, or will have by their rules. */
  readonly others: readonly TakenAddress[];
}

export interface TakenAddress {
  /** For messages: the VM's name. */
  readonly holder: string;
  /** Without or with a prefix. */
  readonly address: string;
}

export interface PlannedAdapter {
  readonly adapterId: Guid;
  readonly name: string;
  readonly macPolicy: 'keep' | 'new';
  /** undefined: the one that the hypervisor gives it. */
  readonly mac: string | undefined;
  /** undefined: not connected. */
  readonly switchName: string | undefined;
  readonly vlan: number | undefined;
  /** undefined: the guest keeps what it has. */
  readonly guest: AddressSettings | undefined;
  /** Which rule holds and why others do not; for people. */
  readonly because: readonly string[];
}

export type NetworkPlan =
  | { readonly kind: 'planned'; readonly adapters: readonly PlannedAdapter[] }
  | { readonly kind: 'refused'; readonly refusals: readonly DrError[] };

export function planNetwork(request: NetworkRequest): NetworkPlan {
  const refusals: DrError[] = [];
  /** The value, or the fallback when it is refused. */
  const tried = <T>(make: () => T, fallback: T): T => {
    try {
      return make();
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      refusals.push(error);
      return fallback;
    }
  };
  const { kind, parameters, adapters, vmName } = request;
  const { network_map: mapText, reip_rules: rulesText } = parameters;
  const map = tried(() => (mapText === undefined ? NO_MAP : parseNetworkMap(mapText)), NO_MAP);
  const noRules: readonly ReipRule[] = [];
  const usesRules = kind !== 'failback' && rulesText !== undefined;
  const rules = tried(() => (usesRules ? parseReipRules(rulesText) : noRules), noRules);
  const bubble = tried(() => testSwitch(request, map), undefined);
  const macPolicy = parameters.mac_policy ?? (kind === 'test' ? 'new' : 'keep');
  const planned = adapters.map((adapter, index): PlannedAdapter => {
    const nothing = { switchName: undefined, because: [] };
    const connection =
      kind === 'test'
        ? { switchName: bubble, because: [bubbleReason(bubble)] }
        : tried(() => connectionOf(request, map, adapter), nothing);
    const place = { vmName, nic: index + 1, nicCount: adapters.length };
    const unchanged = { guest: undefined, vlan: undefined, because: [] };
    const addressing = tried(() => readdress(rules, adapter, place), unchanged);
    const isKept = kind === 'failback' || macPolicy === 'keep';
    return {
      adapterId: adapter.id,
      name: adapter.name,
      macPolicy: isKept ? 'keep' : 'new',
      mac: isKept ? adapter.mac : undefined,
      switchName: connection.switchName,
      vlan: connection.switchName === undefined ? undefined : (addressing.vlan ?? adapter.vlan),
      guest: addressing.guest,
      because: [...connection.because, ...addressing.because],
    };
  });
  refusals.push(...conflictsOf(request, planned));
  return refusals.length > 0
    ? { kind: 'refused', refusals }
    : { kind: 'planned', adapters: planned };
}

interface Connection {
  readonly switchName: string | undefined;
  readonly because: readonly string[];
}

/** @throws DrError E_NET_UNMAPPED */
function connectionOf(request: NetworkRequest, map: NetworkMap, adapter: VmAdapter): Connection {
  const source = adapter.switchName;
  if (source === undefined) return { switchName: undefined, because: ['it was not connected'] };
  if (request.kind === 'failback') {
    const switchName = existing(request, source, adapter);
    return { switchName, because: [`it goes back to ${switchName}`] };
  }
  const found = targetOf(map, source);
  if (found !== 'unmapped') {
    if (found.target === undefined) {
      return { switchName: undefined, because: [`network_map ${found.by} disconnects it`] };
    }
    const switchName = existing(request, found.target, adapter);
    return { switchName, because: [`network_map ${found.by}`] };
  }
  const notNamed = `network_map does not name ${source}`;
  switch (request.parameters.unmapped) {
    case 'disconnect':
      return { switchName: undefined, because: [`${notNamed}, unmapped=disconnect`] };
    case 'same-name': {
      const switchName = existing(request, source, adapter);
      return { switchName, because: [`${notNamed}, unmapped=same-name`] };
    }
    case 'refuse':
      throw new DrError(
        'E_NET_UNMAPPED',
        `adapter ${adapter.name} of ${request.vmName} is on the switch ${source}, which network_map does not name`,
        { context: { adapter: adapter.name, switch: source } },
      );
  }
}

/** The switch as the host spells it. @throws DrError E_NET_UNMAPPED */
function existing(
  { switches, vmName }: NetworkRequest,
  wanted: string,
  adapter?: VmAdapter,
): string {
  const found = switches.find(({ name }) => name.toLowerCase() === wanted.toLowerCase());
  if (found !== undefined) return found.name;
  const names = switches.map(({ name }) => name).join(', ');
  const who =
    adapter === undefined ? `the test of ${vmName}` : `adapter ${adapter.name} of ${vmName}`;
  throw new DrError(
    'E_NET_UNMAPPED',
    `${who} is to be on the switch ${wanted}, which is not there`,
    {
      context: { switch: wanted, ...(adapter === undefined ? {} : { adapter: adapter.name }) },
      hint: names === '' ? 'The host has no switch at all.' : `The host has: ${names}.`,
    },
  );
}

/** @throws DrError E_NET_UNMAPPED, E_NOT_ISOLATED */
function testSwitch(request: NetworkRequest, map: NetworkMap): string | undefined {
  const wanted = request.parameters.test_network?.trim();
  if (request.kind !== 'test' || wanted === undefined) return undefined;
  const switchName = existing(request, wanted);
  const isNamed = (name: string | undefined): boolean =>
    name?.toLowerCase() === switchName.toLowerCase();
  const isMapped =
    isNamed(map.rest?.target) ||
    [...map.pairs.values()].some(({ source, target }) => isNamed(source) || isNamed(target));
  if (isMapped) throw notIsolated(switchName, 'stands in network_map');
  const isPrivate = request.switches.some(({ name, ...each }) => isNamed(name) && each.isPrivate);
  if (!isPrivate) throw notIsolated(switchName, 'is not private');
  return switchName;
}

function notIsolated(switchName: string, why: string): DrError {
  return new DrError('E_NOT_ISOLATED', `the switch ${switchName} of the test ${why}`, {
    context: { switch: switchName },
  });
}

function bubbleReason(bubble: string | undefined): string {
  return bubble === undefined ? 'a test without test_network' : `test_network ${bubble}`;
}

/** Addresses that rules give and somebody else has: another VM, or another adapter of this one. */
function conflictsOf(
  { vmName, others }: NetworkRequest,
  planned: readonly PlannedAdapter[],
): DrError[] {
  const conflicts: DrError[] = [];
  const seen: TakenAddress[] = [...others];
  for (const { name, guest } of planned) {
    const own = (guest?.addresses ?? []).map((address) => ({
      holder: `adapter ${name} of ${vmName}`,
      address,
    }));
    for (const { holder, address } of own) {
      const other = seen.find((each) => isOneAddress(each.address, address));
      if (other === undefined) continue;
      conflicts.push(
        new DrError(
          'E_REIP_CONFLICT',
          `${holder} is to have ${address}, which ${other.holder} has`,
          { context: { address, other: other.holder } },
        ),
      );
    }
    seen.push(...own);
  }
  return conflicts;
}

function isOneAddress(one: string, other: string): boolean {
  const [left, right] = [one, other].map((text) => parseAddress(text.split('/')[0] ?? ''));
  return left !== undefined && right !== undefined && isSameAddress(left, right);
}
