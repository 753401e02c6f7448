// Other files for the disks of a VM: a failback puts it on protective disks, and back. Which file a
// disk stands on is the VM's record alone, so this is one replacement of it.

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { settle } from './chain.js';
import type { LabContext } from './context.js';
import { diskFileOf, refuseDisksInUse } from './create-vm.js';
import { diskPath, recordedName } from './layout.js';
import { saveVm, type DiskRecord, type VmRecord } from './record.js';
import { endEpoch } from './tracking.js';
import { allVms, changingVm, tidyTracking } from './vms.js';

/** See TargetHypervisor.setDiskFiles. Change tracking begins anew for a disk that gets another file. */
export async function setDiskFiles(
  context: LabContext,
  vmId: Guid,
  files: readonly string[],
): Promise<void> {
  refuseDisksInUse(context, await allVms(context), files, vmId);
  await changingVm(context, vmId, async (given) => {
    refuseUnready(given);
    const vm = await settle(context, given, 'all');
    if (files.length !== vm.disks.length) {
      throw new DrError(
        'E_DISK_MISMATCH',
        `the VM ${vm.name} has ${vm.disks.length} disks, but ${files.length} files are given`,
        { context: { vmId } },
      );
    }
    const disks: DiskRecord[] = [];
    for (const [index, disk] of vm.disks.entries()) {
      disks.push(await onFile(context, vm, disk, path.resolve(files[index] ?? '')));
    }
    const next = { ...vm, disks };
    await saveVm(context, next);
    await tidyTracking(context, next);
  });
}

function refuseUnready(vm: VmRecord): void {
  const refuse = (what: string, hint: string): never => {
    throw new DrError('E_STATE', `the VM ${vm.name} ${what}, so its disks stay on their files`, {
      context: { vmId: vm.id },
      hint,
    });
  };
  if (vm.powerState !== 'off') refuse(`is ${vm.powerState}`, 'Shut it down first.');
  if (vm.checkpoints.length + vm.userCheckpoints.length > 0) {
    refuse('has checkpoints', 'Remove them first.');
  }
}

async function onFile(
  context: LabContext,
  vm: VmRecord,
  disk: DiskRecord,
  file: string,
): Promise<DiskRecord> {
  if (diskPath(context.folder, vm.id, disk.leaf) === file) return disk;
  const { diskId, contentId, ...geometry } = await diskFileOf(context, file);
  if (diskId !== disk.diskId) {
    throw new DrError('E_DISK_MISMATCH', `${file} is the disk ${diskId}, not ${disk.diskId}`, {
      context: { vmId: vm.id, file, diskId },
      done: 'the VM stands on the files that it had',
    });
  }
  const name = recordedName(context.folder, vm.id, file);
  const former = [...disk.files.map((each) => each.file), ...disk.former];
  const placed: DiskRecord = {
    ...disk,
    ...geometry,
    isOwn: !path.isAbsolute(name),
    home: name,
    files: [{ file: name, parent: undefined }],
    leaf: name,
    former: [...new Set(former)].filter((each) => each !== name),
  };
  const reason = 'the disk was put on another file';
  return { ...placed, tracking: await endEpoch(context, vm.id, placed, reason, contentId) };
}
