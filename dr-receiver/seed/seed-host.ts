// A seed from the disks of a VM of the receiver's own hypervisor, such as the one that a failover left
// behind at the former primary. The VM is off; its disks are read as they are now, its user's checkpoints
// included, and nothing of it is changed.

import { type Guid, guidFromWire, parseGuid, ZERO_GUID } from '../../shared/bytes/index.js';
import type { SeedHost } from '../../shared/channel/index.js';
import type { ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import { type FailoverSite, requireHost } from '../failover/site.js';
import type { DiskGeometry } from '../store/records.js';
import { contentOfDisks, geometryOf, type SeedContent } from './seed-content.js';

/**
 * The VM keeps its name and id for itself: what is seeded is named by the request.
 * @throws DrError E_STATE (no hypervisor), E_NO_MATCH, E_SOURCE_ALIVE, E_USAGE; VhdxError
 */
export async function openSeedHost(
  site: FailoverSite,
  { vm: name, diskIds }: SeedHost,
): Promise<SeedContent> {
  const vm = await findOff(site, name);
  const wanted = diskIds.map(guidFromWire);
  if (wanted.length > 0 && wanted.length !== vm.disks.length) {
    throw new DrError('E_USAGE', `${wanted.length} disk ids came for ${vm.disks.length} disks`, {
      context: { vmId: vm.id },
      hint: 'Give one --disk-id for each disk of the VM, in their order, or none.',
    });
  }
  const disks: { geometry: DiskGeometry; disk: ReadableDisk }[] = [];
  try {
    for (const [index, { diskId, path }] of vm.disks.entries()) {
      const id = wanted.length === 0 ? diskId : wanted[index];
      // a disk that the other site does not have
      if (id === ZERO_GUID) continue;
      if (id === undefined) throw new DrError('E_PROTOCOL', 'an id of a disk has not 16 bytes');
      const disk = await openVhdx(path, site.seams);
      disks.push({ geometry: geometryOf(id, disk, path), disk });
    }
  } catch (error) {
    for (const { disk } of disks) await disk.close();
    throw error;
  }
  const identity = { vmId: undefined, vmName: undefined, sealedBy: undefined };
  return contentOfDisks({ ...identity, from: `host:${vm.id}`, disks });
}

async function findOff(site: FailoverSite, name: string): Promise<VmDefinition> {
  const host = requireHost(site);
  const id: Guid | undefined = parseGuid(name);
  const found = (await host.listVms()).filter(
    (each) => each.id === id || each.name.toLowerCase() === name.toLowerCase(),
  );
  const [vm] = found;
  if (vm === undefined) throw new DrError('E_NO_MATCH', `${host.name} has no VM ${name}`);
  if (found.length > 1) {
    throw new DrError('E_USAGE', `${found.length} VMs of ${host.name} are named ${name}`, {
      hint: 'Name the VM by its id.',
    });
  }
  if (vm.powerState !== 'off') {
    throw new DrError('E_SOURCE_ALIVE', `${vm.name} is ${vm.powerState} at ${host.name}`, {
      context: { vmId: vm.id, powerState: vm.powerState },
      done: 'nothing was staged',
      hint: 'Only the disks of a VM that is off are a seed. Make sure that nobody needs it, then turn it off.',
    });
  }
  return host.describeVm(vm.id);
}
