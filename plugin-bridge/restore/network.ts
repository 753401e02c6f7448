// The network of a restored VM (docs/bacula-restore.md "Its network"). Its disks are checked and whole by
// then, so no switch that is not there makes the restore fail: the adapter stays disconnected, and the job
// says so. Pure.

import type { SwitchInfo, VmAdapter } from '../../shared/hypervisor/index.js';
import { type AdapterPlan, parseNetworkMap, targetOf } from '../../shared/network/index.js';
import type { ParameterValues } from '../../shared/params/index.js';

export type NetworkWish = Pick<ParameterValues, 'network_map' | 'unmapped' | 'mac_policy'>;

export interface RestoredNetwork {
  /** One for each adapter, in their order. */
  readonly plan: readonly AdapterPlan[];
  /** What the operator has to know of it; none when all is as it was. */
  readonly said: readonly { readonly kind: 'info' | 'warning'; readonly text: string }[];
}

export interface NetworkAtHost {
  readonly vmName: string;
  /** Of the VM that was backed up. */
  readonly adapters: readonly VmAdapter[];
  /** Of the host where it is registered. */
  readonly switches: readonly Pick<SwitchInfo, 'name'>[];
  readonly wish: NetworkWish;
}

/** @throws DrError E_PARAMETER: `network_map` is none */
export function networkOf({ vmName, adapters, switches, wish }: NetworkAtHost): RestoredNetwork {
  const said: RestoredNetwork['said'][number][] = [];
  const plan = adapters.map((adapter): AdapterPlan => {
    const { switchName, kind, why } = connectionOf(adapter, switches, wish);
    if (why !== undefined) said.push({ kind, text: `${adapter.name} of ${vmName} ${why}` });
    return {
      name: adapter.name,
      switchName,
      vlan: adapter.vlan,
      mac: undefined,
      guest: undefined,
      moves: [],
    };
  });
  return { plan, said };
}

interface Connection {
  /** As the host spells it; undefined: disconnected. */
  readonly switchName: string | undefined;
  readonly kind: 'info' | 'warning';
  readonly why?: string;
}

function connectionOf(
  { switchName: former }: VmAdapter,
  switches: readonly Pick<SwitchInfo, 'name'>[],
  wish: NetworkWish,
): Connection {
  if (former === undefined) return { switchName: undefined, kind: 'info' };
  const map = wish.network_map === undefined ? undefined : parseNetworkMap(wish.network_map);
  const mapped = map === undefined ? 'unmapped' : targetOf(map, former);
  if (mapped === 'unmapped' && wish.unmapped === 'disconnect') {
    const why = `is not connected: network_map does not name ${former}, and unmapped=disconnect`;
    return { switchName: undefined, kind: 'warning', why };
  }
  const wanted = mapped === 'unmapped' ? former : mapped.target;
  const by = mapped === 'unmapped' ? undefined : `network_map ${mapped.by}`;
  if (wanted === undefined) {
    const why = `is not connected: ${by ?? ''} says so`;
    return { switchName: undefined, kind: 'info', why };
  }
  const found = switches.find(({ name }) => name.toLowerCase() === wanted.toLowerCase());
  if (found === undefined) return disconnected(wanted, by, switches);
  if (by === undefined) return { switchName: found.name, kind: 'info' };
  return { switchName: found.name, kind: 'info', why: `is on ${found.name}: ${by}` };
}

function disconnected(
  wanted: string,
  by: string | undefined,
  switches: readonly Pick<SwitchInfo, 'name'>[],
): Connection {
  const names = switches.map(({ name }) => name).join(', ');
  const there = names === '' ? 'the host has none' : `the host has ${names}`;
  const because = by === undefined ? '' : ` (${by})`;
  const why =
    `is not connected: there is no switch ${wanted}${because}, ${there}; ` +
    'connect it, or give the pair in `network_map` and restore again';
  return { switchName: undefined, kind: 'warning', why };
}
