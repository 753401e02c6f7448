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
import type { VmDesk } from '../../ingest/vm-desk.js';
import type { VmStore } from '../../store/vm-store.js';
import { instanceDiskPaths, removeInstanceDisks } from '../instance-files.js';
import { powerStateOf } from '../instance.js';
import { keepDisks } from '../keep-disks.js';
import type { Instance } from '../model.js';
import type { TargetHost } from '../ports.js';
import { type FailoverSite, requireHost } from '../site.js';
import type { TestBook } from '../test-book.js';

/** Of the kept disks: NAME.0.vhdx and so on. */
function keptName({ operationId }: Instance): string {
  return `adopted-${operationId}`;
}

/** The files that the VM stands on afterwards, in the order of its disks. */
function keptPaths({ layout }: VmStore, instance: Instance): string[] {
  const name = keptName(instance);
  return instance.disks.map((_disk, index) => join(layout.kept, `${name}.${index}.vhdx`));
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
    // of an adoption that did not come so far, after which the VM may have run on
    for (const path of keptPaths(vm, session.instance)) await fs.remove(path);
    const paths = session.instance.disks.map((disk) => instanceDiskPaths(vm.layout, disk));
    await keepDisks(
      site.seams,
      vm,
      paths.map(({ protective }) => protective),
      keptName(session.instance),
    );
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
}

/** Each of these can be done again. */
async function giveAway(site: FailoverSite, { vm }: VmDesk, book: TestBook): Promise<void> {
  const host = requireHost(site);
  const { instance, operationId } = book.session;
  const vmId = vmIdOf(instance);
  // its new owner may have taken it away already, or started it
  if ((await powerStateOf(host, vmId)) !== undefined && (await host.tagOf(vmId)) !== undefined) {
    await host.setDiskFiles(vmId, keptPaths(vm, instance));
    await host.dropTag(vmId);
  }
  await removeInstanceDisks(site.seams.fs, vm, operationId);
  await book.end();
}

function vmIdOf({ vmId, vmName }: Instance): Guid {
  if (vmId !== undefined) return vmId;
  throw new DrError('E_STATE', `${vmName} was not registered`);
}
