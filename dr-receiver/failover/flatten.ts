// Lets the disks of a VM that stays here stand alone: afterwards nothing of it hangs on a point or a base.

import { DrError } from '../../shared/errors.js';
import { flattenVhdx } from '../../shared/image/index.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { appendFailover } from './failover-book.js';
import { instanceDiskPaths } from './instance-files.js';
import { powerStateOf } from './instance.js';
import type { Asked } from './operations/work.js';
import { type FailoverSite, requireHost } from './site.js';

/**
 * Of a VM that is off and has no checkpoints of a user. Each disk in its own place, one after the other;
 * begun again after a crash it goes on. @throws DrError E_STATE, E_CAPACITY, E_LOCKED, E_IO
 */
export async function flattenInstance(
  site: FailoverSite,
  { vm }: VmDesk,
  asked: Asked,
): Promise<void> {
  const host = requireHost(site);
  const { instance } = vm.protection.failover;
  if (instance?.vmId === undefined || instance.disks.length === 0) return;
  const { vmId, vmName, disks } = instance;
  const state = await powerStateOf(host, vmId);
  if (state !== 'off') {
    const words = state ?? 'not to be found here';
    throw new DrError('E_STATE', `${vmName} is ${words}: its disks may be in use`, {
      hint: 'Shut it down first.',
    });
  }
  const current = (await host.describeVm(vmId)).disks;
  for (const disk of disks) {
    const { protective } = instanceDiskPaths(vm.layout, disk);
    const top =
      current.find(({ diskId }) => diskId === disk.diskId)?.path ?? 'it has not this disk';
    if (top !== protective) {
      throw new DrError('E_STATE', `${vmName} has checkpoints: ${top}`, {
        hint: 'Remove its checkpoints first, so that they are merged.',
      });
    }
    await flattenVhdx(protective, protective, site.seams);
  }
  await vm.change(async () => {
    const { failover, epoch } = vm.protection;
    if (failover.instance?.operationId !== instance.operationId) return;
    const record = { ...failover, instance: { ...failover.instance, disks: [] } };
    await appendFailover(vm, site.seams.clock, record, epoch, asked);
  });
  for (const disk of disks) {
    await site.seams.fs.remove(instanceDiskPaths(vm.layout, disk).materialised);
  }
}
