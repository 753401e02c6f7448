// Who has which address at this site, or will have it: what the VMs of the hypervisor tell, and what the
// rules give to VMs of the store that serve or come up here. A VM that is off or has not booted yet tells
// nothing, so the rules with which it was brought up count as well.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { SwitchInfo, VmAdapter } from '../../shared/hypervisor/index.js';
import { planNetwork, type TakenAddress } from '../../shared/network/index.js';
import type { Point } from '../store/point.js';
import type { VmStore } from '../store/vm-store.js';
import { definitionOf } from './definition.js';
import { valuesOf } from './operations/values.js';
import type { TargetHost } from './ports.js';

/** Of all VMs of the host but those of this name, which may be this very VM. */
export async function addressesAtHost(host: TargetHost, vmName: string): Promise<TakenAddress[]> {
  const taken: TakenAddress[] = [];
  const switches = await host.listSwitches();
  for (const { id, name } of await host.listVms()) {
    if (name.toLowerCase() === vmName.toLowerCase()) continue;
    const vm = await host.describeVm(id).catch((error: unknown) => {
      // it went away meanwhile
      if (error instanceof DrError && error.code === 'E_NOT_FOUND') return undefined;
      throw error;
    });
    for (const adapter of vm?.adapters ?? []) {
      const privateSwitch = privateSwitchOf(adapter, switches);
      for (const address of adapter.guest.addresses) {
        taken.push({ holder: name, address, privateSwitch });
      }
    }
  }
  return taken;
}

function privateSwitchOf(
  { switchName }: Pick<VmAdapter, 'switchName'>,
  switches: readonly SwitchInfo[],
): string | undefined {
  return switches.find(({ name, isPrivate }) => name === switchName && isPrivate)?.name;
}

/** Of the VMs of the store but this one, as far as they serve here or are on their way. */
export function addressesOfStore(
  vms: readonly VmStore[],
  vmId: Guid,
  switches: readonly SwitchInfo[],
): TakenAddress[] {
  return vms.flatMap((vm) => (vm.vmId === vmId ? [] : addressesOf(vm, switches)));
}

function addressesOf(vm: VmStore, switches: readonly SwitchInfo[]): TakenAddress[] {
  const { failover, vmName, head } = vm.protection;
  const { instance, operation } = failover;
  const parameters = instance?.network ?? parametersOf(operation);
  if (parameters === undefined) return [];
  const pointId = instance?.pointId ?? operation?.pointId ?? head?.pointId;
  const point = pointId === undefined ? undefined : vm.protection.point(pointId);
  if (point === undefined) return [];
  const adapters = adaptersOf(vm, point);
  const plan = planNetwork({
    ...{ vmName, adapters, switches, parameters: valuesOf(parameters) },
    ...{ kind: 'failover', others: [] },
  });
  return plan.adapters.flatMap(({ guest }, index): TakenAddress[] => {
    const was = adapters[index]?.guest;
    const own = guest ?? (was?.isDhcp === true ? undefined : was);
    return (own?.addresses ?? []).map((address) => ({ holder: vmName, address }));
  });
}

/** One VM's trouble is not the others': the hypervisor tells what it knows of it. */
function adaptersOf(vm: VmStore, point: Point): readonly VmAdapter[] {
  try {
    return definitionOf(vm, point).adapters;
  } catch (error) {
    if (error instanceof DrError) return [];
    throw error;
  }
}

function parametersOf(
  operation: VmStore['protection']['failover']['operation'],
): Readonly<Record<string, string>> | undefined {
  const isComing = operation?.kind === 'planned' || operation?.kind === 'unplanned';
  return isComing ? operation.parameters : undefined;
}
