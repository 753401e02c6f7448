// Lets the disks of a VM that stays here stand alone: afterwards nothing of it hangs on a point or a base,
// and they lie in a folder of the VM's own, so that the protection may be forgotten. Until the hypervisor
// was told the new files, the VM is on the old ones and both are there.

import { join } from 'node:path';
import { DrError } from '../../shared/errors.js';
import { flattenVhdx } from '../../shared/image/index.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { appendFailover } from './failover-book.js';
import { instanceDiskPaths } from './instance-files.js';
import { powerStateOf } from './instance.js';
import type { Asked } from './operations/work.js';
import { type FailoverSite, requireHost } from './site.js';

/**
 * Of a VM that is off and has no checkpoints of a user. Begun again after a crash it
 * goes on. @throws DrError E_STATE, E_CAPACITY, E_LOCKED, E_IO
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
  const folder = site.layout.machine(vmId);
  await site.seams.fs.makeFolder(folder);
  // disks that somebody added lie elsewhere, and stay there
  const paths = current.map(({ diskId, path }) =>
    vm.layout.holds(path) ? join(folder, `${diskId}.vhdx`) : path,
  );
  for (const [index, { path }] of current.entries()) {
    const own = paths[index] ?? '';
    if (path === own) continue;
    const disk = disks.find((each) => each.diskId === current[index]?.diskId);
    const protective = disk && instanceDiskPaths(vm.layout, disk).protective;
    if (path !== protective) {
      throw new DrError('E_STATE', `${vmName} uses ${path}, which is no disk of its failover`, {
        hint: 'Remove its checkpoints first, so that they are merged.',
      });
    }
    // a copy that a former attempt made may be of before the VM ran once more
    await site.seams.fs.remove(own);
    await flattenVhdx(protective, own, site.seams);
  }
  if (current.some(({ path }, index) => path !== paths[index])) {
    await host.setDiskFiles(vmId, paths);
  }
  await vm.change(async () => {
    const { failover, epoch } = vm.protection;
    if (failover.instance?.operationId !== instance.operationId) return;
    const record = { ...failover, instance: { ...failover.instance, disks: [] } };
    await appendFailover(vm, site.seams.clock, record, epoch, asked);
  });
  for (const disk of disks) {
    const { protective, materialised } = instanceDiskPaths(vm.layout, disk);
    await site.seams.fs.remove(protective);
    await site.seams.fs.remove(materialised);
  }
}
