// Switches and adapters. Names of switches may repeat at a host; they are connected by their ids.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { SwitchInfo } from '../target.js';
import type { HyperVContext } from './context.js';
import { loadMachine } from './machines.js';
import type { MachineAdapter, MachineFacts } from './operations/machines.js';
import * as operations from './operations/network.js';

const VLAN_MAX = 4094;

export interface Connection {
  readonly switchName: string;
  readonly vlan: number | undefined;
}

export async function listSwitches({ runner }: HyperVContext): Promise<readonly SwitchInfo[]> {
  const switches = await runner.run(operations.listSwitches, {});
  return switches.map(({ name, type }) => ({ name, isPrivate: type === 'Private' }));
}

export async function connectAdapter(
  context: HyperVContext,
  vmId: Guid,
  adapterId: Guid,
  connection: Connection | undefined,
): Promise<void> {
  const { runner } = context;
  const adapter = requireAdapter(await loadMachine(context, vmId), adapterId);
  if (connection === undefined) {
    await runner.run(operations.disconnectAdapter, { vmId, adapterId });
    return;
  }
  const { vlan, switchName } = connection;
  if (vlan !== undefined && !(Number.isInteger(vlan) && vlan >= 1 && vlan <= VLAN_MAX)) {
    throw new DrError('E_PARAMETER', `${vlan} is no VLAN; 1 to ${VLAN_MAX} are`);
  }
  const switchId = await switchNamed(context, switchName);
  // first the VLAN: not for a moment is the VM on another one
  if (adapter.vlanId !== vlan) {
    await runner.run(operations.setAdapterVlan, { vmId, adapterId, vlanId: vlan ?? null });
  }
  await runner.run(operations.connectAdapter, { vmId, adapterId, switchId });
}

async function switchNamed({ runner }: HyperVContext, name: string): Promise<string> {
  const switches = await runner.run(operations.listSwitches, {});
  const [found, second] = switches.filter((each) => each.name === name);
  if (found === undefined) {
    throw new DrError('E_NOT_FOUND', `this host has no switch ${name}`, {
      context: { switchName: name },
      hint: 'Its switches: `Get-VMSwitch`.',
    });
  }
  if (second === undefined) return found.id;
  throw new DrError('E_HYPERVISOR', `this host has several switches of the name ${name}`, {
    context: { switchName: name },
    hint: 'Give each another name: which one is meant cannot be told.',
  });
}

export async function setMacAddress(
  context: HyperVContext,
  vmId: Guid,
  adapterId: Guid,
  mac: string,
): Promise<void> {
  if (!/^[0-9A-Fa-f]{12}$/.test(mac)) {
    throw new DrError('E_PARAMETER', `${JSON.stringify(mac)} is no MAC address`, {
      hint: 'Twelve hexadecimal digits, for example 00155D0A0B0C.',
    });
  }
  requireAdapter(await loadMachine(context, vmId), adapterId);
  const wish = { vmId, adapterId, mac: mac.toUpperCase() };
  await context.runner.run(operations.setAdapterMac, wish);
}

/** @throws DrError E_NOT_FOUND */
export function requireAdapter(machine: MachineFacts, adapterId: Guid): MachineAdapter {
  const adapter = machine.adapters.find(({ id }) => id === adapterId);
  if (adapter !== undefined) return adapter;
  throw new DrError('E_NOT_FOUND', `the VM ${machine.name} has no adapter ${adapterId}`, {
    context: { vmId: machine.id, adapterId },
  });
}
