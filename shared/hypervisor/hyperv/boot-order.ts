// What a VM starts from, in our words and in those of the host. Of generation 2 each device has its place; of
// generation 1 there are kinds of devices only. Media and what a guest has entered in its firmware do not travel.

import { parseGuid, type Guid } from '../../bytes/index.js';
import {
  BOOT_CLASSES,
  type BootDevice,
  type VmAdapter,
  type VmDefinition,
  type VmDisk,
} from '../vm.js';
import type { HyperVContext } from './context.js';
import {
  bootPlaceOf,
  setBootOrder,
  setStartupOrder,
  type MachineBootDevice,
} from './operations/hardware.js';

interface Parts {
  readonly disks: readonly VmDisk[];
  readonly adapters: readonly Pick<VmAdapter, 'id'>[];
}

/** Devices that the definition does not have are left out. */
export function bootOrderOf(
  order: readonly MachineBootDevice[],
  { disks, adapters }: Parts,
): readonly BootDevice[] {
  return order.flatMap(({ kind, device }): readonly BootDevice[] => {
    switch (kind) {
      case 'class': {
        const deviceClass = BOOT_CLASSES.find((each) => each === device);
        return deviceClass === undefined ? [] : [{ kind, deviceClass }];
      }
      case 'disk': {
        const found = disks.find((disk) => bootPlaceOf(disk) === device);
        return found === undefined ? [] : [{ kind, diskId: found.diskId }];
      }
      case 'adapter': {
        const found = adapters.find(({ id }) => id === parseGuid(device));
        return found === undefined ? [] : [{ kind, adapterId: found.id }];
      }
    }
  });
}

/** `newAdapterIds`: of the VM at this host, in the order of the definition's adapters. */
export async function applyBootOrder(
  { runner }: Pick<HyperVContext, 'runner'>,
  vmId: Guid,
  { generation, disks, adapters, hyperV }: VmDefinition,
  newAdapterIds: readonly Guid[],
): Promise<void> {
  const order = hyperV?.bootOrder ?? [];
  if (generation === 1) {
    const named = order.flatMap((each) => (each.kind === 'class' ? [each.deviceClass] : []));
    // the host wants each of them once
    const classes = [...new Set([...named, ...BOOT_CLASSES])];
    if (named.length > 0) await runner.run(setStartupOrder, { vmId, classes });
    return;
  }
  const named = order.flatMap((each): readonly (string | undefined)[] => {
    if (each.kind === 'class') return [];
    if (each.kind === 'adapter') {
      return [newAdapterIds[adapters.findIndex(({ id }) => id === each.adapterId)]];
    }
    const disk = disks.find(({ diskId }) => diskId === each.diskId);
    return [disk && bootPlaceOf(disk)];
  });
  const devices = [...new Set(named.filter((device) => device !== undefined))];
  if (devices.length > 0) await runner.run(setBootOrder, { vmId, devices });
}
