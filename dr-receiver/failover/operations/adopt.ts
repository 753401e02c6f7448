// What becomes of a test VM that is kept for good: its disks are written anew to a place where nothing of
// them hangs on a base, the VM is put on them, and then it is its owner's alone.
//
//   running ──▶ disks stand alone ──▶ 'adopting' ──▶ VM on them, our tag gone ──▶ files of the test gone, end
//
// Before 'adopting' the session is a test like any other. From then on it is brought to its end, also after
// a crash: nothing may take the VM away any more.

import { join } from 'node:path';
import type { Guid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import { flattenVhdx } from '../../../shared/image/index.js';
import type { VmDesk } from '../../ingest/vm-desk.js';
import type { VmStore } from '../../store/vm-store.js';
import { instanceDiskPaths, removeInstanceDisks } from '../instance-files.js';
import { powerStateOf } from '../instance.js';
import type { Instance } from '../model.js';
import type { TargetHost } from '../ports.js';
import { type FailoverSite, requireHost } from '../site.js';
import type { TestBook } from '../test-book.js';

/** Where a disk stands alone: in the folder of the VM's own, whatever is forgotten. */
function ownPath({ layout }: FailoverSite, vmId: Guid, diskId: Guid): string {
  return join(layout.machine(vmId), `${diskId}.vhdx`);
}

/**
 * Gives a test VM that is off away, with disks that stand alone.
 * @throws DrError E_STATE (it does not stand still, it runs, or it has checkpoints), E_CAPACITY, E_IO,
 *   E_HYPERVISOR
 */
export async function adopt(site: FailoverSite, desk: VmDesk, book: TestBook): Promise<void> {
  const { vm } = desk;
  const { fs } = site.seams;
  const { session } = book;
  if (session.phase === 'running') {
    await requireStill(requireHost(site), vm, session.instance);
    const vmId = vmIdOf(session.instance);
    await fs.makeFolder(site.layout.machine(vmId));
    for (const disk of session.instance.disks) {
      const own = ownPath(site, vmId, disk.diskId);
      // of an adoption that did not come so far, after which the VM may have run on
      await fs.remove(own);
      await flattenVhdx(instanceDiskPaths(vm.layout, disk).protective, own, site.seams);
    }
    await requireStill(requireHost(site), vm, session.instance);
    await book.enter('T7', [{ phase: 'adopting', cause: undefined }]);
  }
  await giveAway(site, desk, book);
}

/** @throws DrError E_STATE */
async function requireStill(host: TargetHost, vm: VmStore, instance: Instance): Promise<void> {
  const { vmName } = instance;
  const vmId = vmIdOf(instance);
  const state = await powerStateOf(host, vmId);
  if (state !== 'off') {
    throw new DrError('E_STATE', `${vmName} is ${state ?? 'not to be found here'}`, {
      hint: 'A test VM is adopted when it is off: shut it down at the hypervisor first.',
    });
  }
  const { disks } = await host.describeVm(vmId);
  for (const disk of instance.disks) {
    const { protective } = instanceDiskPaths(vm.layout, disk);
    const top = disks.find(({ diskId }) => diskId === disk.diskId)?.path ?? 'it has not this disk';
    if (top === protective) continue;
    throw new DrError('E_STATE', `${vmName} has checkpoints: ${top}`, {
      hint: 'Remove its checkpoints first, so that they are merged.',
    });
  }
  if (disks.length === instance.disks.length) return;
  throw new DrError('E_STATE', `${vmName} has ${disks.length} disks, its point had fewer`, {
    context: { disks: disks.length, disksOfPoint: instance.disks.length },
    hint: 'Detach what was added, adopt the VM, and attach it again.',
  });
}

/** Each of these can be done again. */
async function giveAway(site: FailoverSite, { vm }: VmDesk, book: TestBook): Promise<void> {
  const host = requireHost(site);
  const { instance, operationId } = book.session;
  const vmId = vmIdOf(instance);
  if ((await powerStateOf(host, vmId)) === undefined) {
    throw new DrError('E_STATE', `${instance.vmName} is not to be found here`, {
      context: { vmId },
      done: 'its disks were not touched',
      hint: 'It may be on another host. When it is gone for good: `hvdr failover test VM --stop OPERATION --force --reason TEXT`.',
    });
  }
  // its new owner may have started it already
  if ((await host.tagOf(vmId)) !== undefined) {
    const { disks } = await host.describeVm(vmId);
    // what was added meanwhile lies elsewhere, and stays there
    const paths = disks.map(({ diskId, path }) =>
      vm.layout.holds(path) ? ownPath(site, vmId, diskId) : path,
    );
    await host.setDiskFiles(vmId, paths);
    await host.dropTag(vmId);
  }
  await removeInstanceDisks(site.seams.fs, vm, operationId);
  await book.end();
}

function vmIdOf({ vmId, vmName }: Instance): Guid {
  if (vmId !== undefined) return vmId;
  throw new DrError('E_STATE', `${vmName} was not registered`);
}
