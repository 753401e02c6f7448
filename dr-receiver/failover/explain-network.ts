// ControlService.ExplainNetwork: what would become of the network of a VM, by the same plan that a
// failover, a test or a way back uses, with its reasons. Nothing is changed.

import { guidToWire } from '../../shared/bytes/index.js';
import {
  type AdapterNetwork,
  type ExplainedAdapter,
  type ExplainNetworkRequest,
  type ExplainNetworkResponse,
  type NetworkRefusal,
} from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { AddressSettings, VmAdapter, VmDefinition } from '../../shared/hypervisor/index.js';
import {
  mapBack,
  type NetworkPlan,
  type PlannedAdapter,
  planNetwork,
  rulesBack,
} from '../../shared/network/index.js';
import { findVm } from '../find-vm.js';
import type { Receiver } from '../receiver.js';
import { definitionOf } from './definition.js';
import { valuesOf } from './operations/values.js';
import { addressesToWire } from './planned-addresses.js';
import { usablePoint } from './preconditions.js';
import { requireHost } from './site.js';

const PURPOSES = ['failover', 'test', 'failback', 'reprotect'] as const;
type Purpose = (typeof PURPOSES)[number];

const NETWORK_PARAMETERS = [
  'network_map',
  'unmapped',
  'mac_policy',
  'reip_rules',
  'reip_rules_back',
  'test_network',
];

/** A plan of the network of a VM, and of what it is one. */
interface Explained {
  /** As the adapters are before. */
  readonly before: readonly VmAdapter[];
  readonly plan: NetworkPlan;
  readonly notes: readonly string[];
  readonly networkMap?: string;
  readonly reipRules?: string | undefined;
}

/** @throws DrError E_NOT_PROTECTED, E_NO_POINT, E_POINT_CORRUPT, E_STATE (no hypervisor), E_PARAMETER */
export async function explainNetwork(
  receiver: Receiver,
  request: ExplainNetworkRequest,
): Promise<ExplainNetworkResponse> {
  const purpose = purposeOf(request.purpose);
  const parameters = networkParameters(request.parameters);
  const { site } = receiver.failovers;
  const desk = await findVm(receiver, request.vm);
  desk.vm.requireSound();
  const { instance } = desk.vm.protection.failover;
  const isBack = purpose === 'failback' || purpose === 'reprotect';
  const wanted = request.point === '' ? (isBack ? instance?.pointId : undefined) : request.point;
  const point = usablePoint(desk, wanted ?? 'latest');
  const definition = definitionOf(desk.vm, point);
  const asked: Asked = {
    definition,
    parameters: purpose === 'reprotect' ? { ...instance?.network, ...parameters } : parameters,
    planFor: (kind, values) =>
      site.explainNetwork(definition, { purpose: kind, parameters: values, isApplied: isBack }),
  };
  const explained = await explain(purpose, asked);
  const { before, plan, notes, networkMap = '', reipRules = '' } = explained;
  return {
    vmName: definition.name,
    pointId: guidToWire(point.pointId),
    host: requireHost(site).name,
    adapters: plan.adapters.map((adapter, index) => adapterToWire(adapter, before[index])),
    refusals: plan.kind === 'refused' ? plan.refusals.map(refusalToWire) : [],
    notes: [...notes, ...plan.notes],
    ...{ networkMap, reipRules },
  };
}

interface Asked {
  readonly definition: VmDefinition;
  readonly parameters: Readonly<Record<string, string>>;
  /** At this site. */
  readonly planFor: (
    kind: 'failover' | 'test',
    parameters: Readonly<Record<string, string>>,
  ) => Promise<NetworkPlan>;
}

async function explain(purpose: Purpose, asked: Asked): Promise<Explained> {
  const { definition, parameters, planFor } = asked;
  const before = definition.adapters;
  switch (purpose) {
    case 'failover':
    case 'test':
      return { before, plan: await planFor(purpose, parameters), notes: [] };
    case 'failback':
      return {
        before,
        plan: planAtPrimary(asked, before, 'failback', {}),
        notes: [NOT_KNOWN_HERE],
      };
    case 'reprotect':
      return wayBack(asked, await planFor('failover', parameters));
  }
}

const NOT_KNOWN_HERE =
  'the switches of the primary are not known here, and taken to be as they were';

/** The VM as the move left it, and what the map and rules of the way back make of it. */
function wayBack(asked: Asked, there: NetworkPlan): Explained {
  const { definition, parameters } = asked;
  const before = definition.adapters.map((adapter, index) => moved(adapter, there.adapters[index]));
  const request = {
    vmName: definition.name,
    original: definition.adapters,
    moved: there.adapters,
  };
  const refusals = there.kind === 'refused' ? [...there.refusals] : [];
  const tried = (make: () => string | undefined): string | undefined => {
    try {
      return make();
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      refusals.push(error);
      return undefined;
    }
  };
  const networkMap = tried(() => mapBack(request, undefined));
  const reipRules = tried(() => rulesBack(request, parameters['reip_rules_back']));
  const back: Record<string, string> = { unmapped: 'disconnect' };
  if (networkMap !== undefined && networkMap !== '') back['network_map'] = networkMap;
  if (reipRules !== undefined) back['reip_rules'] = reipRules;
  const plan = planAtPrimary(asked, before, 'failover', back);
  const all = [...refusals, ...(plan.kind === 'refused' ? plan.refusals : [])];
  return {
    before,
    plan: all.length === 0 ? plan : { ...plan, kind: 'refused', refusals: all },
    notes: [NOT_KNOWN_HERE],
    networkMap: networkMap ?? '',
    reipRules,
  };
}

function moved(adapter: VmAdapter, there: PlannedAdapter | undefined): VmAdapter {
  if (there === undefined) return adapter;
  const { switchName, vlan, mac = adapter.mac, guest = adapter.guest } = there;
  return { ...adapter, switchName, vlan, mac, guest };
}

/** With the switches that the VM was on, as far as this side can know them. */
function planAtPrimary(
  { definition: { name: vmName, adapters: original } }: Asked,
  adapters: readonly VmAdapter[],
  kind: 'failback' | 'failover',
  parameters: Readonly<Record<string, string>>,
): NetworkPlan {
  const names = new Set(original.flatMap(({ switchName }) => switchName ?? []));
  const switches = [...names].map((name) => ({ name, isPrivate: false }));
  const request = { vmName, adapters, switches, kind, others: [] };
  return planNetwork({ ...request, parameters: valuesOf(parameters) });
}

function purposeOf(text: string): Purpose {
  const found = PURPOSES.find((purpose) => purpose === text);
  if (found !== undefined) return found;
  throw new DrError('E_USAGE', `there is no purpose "${text.slice(0, 64)}"`, {
    hint: `Purposes: ${PURPOSES.join(', ')}.`,
  });
}

/** @throws DrError E_PARAMETER for what has nothing to do with a network */
function networkParameters(given: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(given);
  const other = entries.find(([name]) => !NETWORK_PARAMETERS.includes(name));
  if (other === undefined) return Object.fromEntries(entries);
  throw new DrError('E_PARAMETER', `${other[0].slice(0, 64)} is no parameter of a network`, {
    hint: `Parameters of a network: ${NETWORK_PARAMETERS.join(', ')}.`,
  });
}

function adapterToWire(plan: PlannedAdapter, before: VmAdapter | undefined): ExplainedAdapter {
  const { name, mac, switchName, vlan, guest, macPolicy, because } = plan;
  return {
    name,
    before: before === undefined ? undefined : networkToWire(before, before.guest, false),
    after: networkToWire({ mac, switchName, vlan }, guest ?? before?.guest, guest === undefined),
    macPolicy,
    because: [...because],
    addresses: addressesToWire([plan]),
  };
}

function networkToWire(
  { mac, switchName, vlan }: Pick<PlannedAdapter, 'mac' | 'switchName' | 'vlan'>,
  guest: AddressSettings | undefined,
  isUnchanged: boolean,
): AdapterNetwork {
  return {
    ...{ mac: mac ?? '', switchName: switchName ?? '', vlan: vlan ?? 0, isUnchanged },
    isDhcp: guest?.isDhcp ?? false,
    addresses: [...(guest?.addresses ?? [])],
    gateways: [...(guest?.gateways ?? [])],
    dnsServers: [...(guest?.dnsServers ?? [])],
  };
}

function refusalToWire({ code, message, hint, context }: DrError): NetworkRefusal {
  const details = Object.entries(context).map(([name, value]) => [name, String(value)] as const);
  return { code, message, hint, details: Object.fromEntries(details) };
}
