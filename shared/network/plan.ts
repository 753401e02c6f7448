// What the network of a VM is to be at the site where it comes up, adapter by adapter, with the reasons;
// or all that speaks against it. Pure: the failover engine applies it.

import type { Guid } from '../bytes/index.js';
import { DrError } from '../errors.js';
import type { AddressSettings, SwitchInfo, VmAdapter } from '../hypervisor/index.js';
import type { ParameterValues } from '../params/index.js';
import { type AddressedAdapter, conflictsOf, type TakenAddress } from './conflicts.js';
import { type NetworkMap, NO_MAP, parseNetworkMap, targetOf } from './network-map.js';
import { type AddressMove, readdress, type Readdressed, UNCHANGED } from './readdress.js';
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
  /** Of the addresses that the guest is known to have; those that stay lead to themselves. */
  readonly moves: readonly AddressMove[];
  /** Which rule holds and why others do not; for people. */
  readonly because: readonly string[];
}

export type NetworkPlan = {
  /** Of a plan that is refused: as far as it could be made. */
  readonly adapters: readonly PlannedAdapter[];
  /** Rules and pairs that concern no adapter of the VM. */
  readonly notes: readonly string[];
} & (
  | { readonly kind: 'planned' }
  | {
      readonly kind: 'refused';
      /** All that speaks against it; the context names the adapter, where one is concerned. */
      readonly refusals: readonly DrError[];
    }
);

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
  const used = new Set<ReipRule>();
  const planned = adapters.map((adapter, index): PlannedAdapter => {
    const nothing = { switchName: undefined, because: [] };
    const connection =
      kind === 'test'
        ? { switchName: bubble, because: [bubbleReason(bubble)] }
        : tried(() => connectionOf(request, map, adapter), nothing);
    const place = { vmName, nic: index + 1, nicCount: adapters.length };
    const unchanged = { ...UNCHANGED, because: [] };
    const addressing = tried(
      () => withAdapter(adapter, () => readdress(rules, adapter, place)),
      unchanged,
    );
    for (const rule of addressing.used) used.add(rule);
    const isKept = kind === 'failback' || macPolicy === 'keep';
    return {
      adapterId: adapter.id,
      name: adapter.name,
      macPolicy: isKept ? 'keep' : 'new',
      mac: isKept ? adapter.mac : undefined,
      switchName: connection.switchName,
      vlan: connection.switchName === undefined ? undefined : vlanOf(addressing, adapter),
      guest: addressing.guest,
      moves: addressing.moves,
      because: [...connection.because, ...addressing.because],
    };
  });
  refusals.push(...addressConflicts(request, planned));
  const notes = [...unusedPairs(request, map), ...unusedRules(rules, used)];
  return refusals.length > 0
    ? { kind: 'refused', adapters: planned, notes, refusals }
    : { kind: 'planned', adapters: planned, notes };
}

function vlanOf(addressing: Readdressed, { vlan }: VmAdapter): number | undefined {
  if (addressing.vlan === undefined) return vlan;
  return addressing.vlan === 0 ? undefined : addressing.vlan;
}

/** What is refused names the adapter in its context. */
function withAdapter<T>({ name }: VmAdapter, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    const { code, message, hint, context, done } = error;
    throw new DrError(code, message, { hint, done, context: { ...context, adapter: name } });
  }
}

function unusedRules(rules: readonly ReipRule[], used: ReadonlySet<ReipRule>): string[] {
  return rules
    .filter((rule) => !used.has(rule))
    .map(({ number, text }) => `re-IP rule ${number} (${text}) concerns no adapter of the VM`);
}

function unusedPairs({ kind, adapters }: NetworkRequest, { pairs }: NetworkMap): string[] {
  if (kind !== 'failover') return [];
  const sources = new Set(adapters.map(({ switchName }) => switchName?.trim().toLowerCase()));
  return [...pairs]
    .filter(([key]) => !sources.has(key))
    .map(([, { source, target }]) => {
      const pair = `${source}=${target ?? ''}`;
      return `network_map ${pair} concerns no adapter of the VM`;
    });
}

function addressConflicts(
  { vmName, others, kind, switches }: NetworkRequest,
  adapters: readonly AddressedAdapter[],
): DrError[] {
  const isPrivate = (name: string): boolean =>
    switches.some((each) => each.name === name && each.isPrivate);
  return conflictsOf({ vmName, others, adapters, isPrivate, isApart: kind === 'test' });
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
