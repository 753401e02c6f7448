// Disks come, go and change their size. Each is one replacement of vm.json; files that it no longer
// names are removed afterwards, or by the next change of the VM.

import path from 'node:path';
import { randomGuid, type Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import { readAhead, zeroRuns, type ReadableDisk } from '../../disk/index.js';
import { openVhdx, SealedVhdxWriter } from '../../vhdx/index.js';
import { removeStrayFiles, withDisk } from './chain.js';
import type { LabContext } from './context.js';
import { diskInPlace, DISKS_MAX, newDisk, refuseDisksInUse, type NewDisk } from './create-vm.js';
import { diskPath, ownDiskName } from './layout.js';
import { saveVm, type DiskRecord, type VmRecord } from './record.js';
import { contentIdOf, endEpoch } from './tracking.js';
import { allVms, changingVm, diskAt, tidyTracking } from './vms.js';

const PIECE_BYTES = 1024 * 1024;
const DEPTH = 8;

/** Adds a disk at the first free place; returns its id. */
export function addDisk(context: LabContext, vmId: Guid, request: NewDisk): Promise<Guid> {
  return changingVm(context, vmId, (vm) =>
    putDisk(context, vm, (location) => newDisk(context, vm.id, request, location)),
  );
}

/** Adds the disk of a VHDX where it stands, with the id that it has; it stays there when it goes. */
export async function attachDisk(context: LabContext, vmId: Guid, file: string): Promise<Guid> {
  refuseDisksInUse(context, await allVms(context), [file]);
  return changingVm(context, vmId, (vm) =>
    putDisk(context, vm, async (controllerLocation) => {
      const disk = await diskInPlace(context, vmId, path.resolve(file));
      if (vm.disks.every(({ diskId }) => diskId !== disk.diskId)) {
        return { ...disk, controllerLocation };
      }
      throw new DrError('E_HYPERVISOR', `the VM ${vm.name} has a disk ${disk.diskId} already`, {
        context: { vmId, diskId: disk.diskId },
      });
    }),
  );
}

async function putDisk(
  context: LabContext,
  vm: VmRecord,
  make: (location: number) => Promise<DiskRecord>,
): Promise<Guid> {
  if (vm.disks.length >= DISKS_MAX) {
    throw new DrError('E_HYPERVISOR', `the VM ${vm.name} has ${DISKS_MAX} disks already`);
  }
  const taken = new Set(vm.disks.map(({ controllerLocation }) => controllerLocation));
  let location = 0;
  while (taken.has(location)) location++;
  const disk = await make(location);
  const disks = [...vm.disks, disk].sort(
    (a, b) =>
      a.controllerNumber - b.controllerNumber || a.controllerLocation - b.controllerLocation,
  );
  await saveVm(context, { ...vm, disks });
  return disk.diskId;
}

/** Takes a disk away; its file goes when it is the VM's own. */
export function removeDisk(context: LabContext, vmId: Guid, index: number): Promise<Guid> {
  return changingVm(context, vmId, async (vm) => {
    const disk = diskAt(vm, index);
    refuseHeld(vm, disk, 'removed');
    const next = { ...vm, disks: vm.disks.filter((other) => other !== disk) };
    await saveVm(context, next);
    await removeStrayFiles(context, next);
    await tidyTracking(context, next);
    return disk.diskId;
  });
}

function refuseHeld(vm: VmRecord, disk: DiskRecord, action: string): void {
  const holders = [...vm.checkpoints, ...vm.userCheckpoints].filter((mark) =>
    mark.disks.some(({ diskId }) => diskId === disk.diskId),
  );
  if (holders.length === 0 && disk.files.length === 1) return;
  throw new DrError(
    'E_HYPERVISOR',
    `disk ${disk.diskId} of the VM ${vm.name} has checkpoints, so it is not ${action}`,
    {
      context: { vmId: vm.id, diskId: disk.diskId, checkpoints: holders.length },
      hint: 'Remove the checkpoints first, and let the merge end.',
    },
  );
}

/**
 * Gives a disk another size: a new file with the same identity takes the place of the old one. What
 * lies behind the new end is lost. Change tracking begins anew.
 */
export function resizeDisk(
  context: LabContext,
  vmId: Guid,
  index: number,
  sizeBytes: number,
): Promise<Guid> {
  return changingVm(context, vmId, async (vm) => {
    const disk = diskAt(vm, index);
    refuseHeld(vm, disk, 'resized');
    if (sizeBytes === disk.sizeBytes) return disk.diskId;
    if (!disk.isOwn) {
      throw new DrError('E_HYPERVISOR', `disk ${index} of the VM ${vm.name} is not the lab's own`, {
        context: { vmId, diskId: disk.diskId },
        hint: 'Only disks that the lab made can be resized.',
      });
    }
    const name = ownDiskName(`${randomGuid(context.random)}.vhdx`);
    const target = diskPath(context.folder, vmId, name);
    await copyResized(context, diskPath(context.folder, vmId, disk.leaf), target, sizeBytes);
    const files = [{ file: name, parent: undefined }];
    const resized = { ...disk, sizeBytes, home: name, leaf: name, files };
    const tracking = await endEpoch(
      context,
      vmId,
      resized,
      `the disk was resized from ${disk.sizeBytes} to ${sizeBytes} bytes`,
      await contentIdOf(context, target),
    );
    const next = withDisk(vm, { ...resized, tracking });
    await saveVm(context, next);
    await removeStrayFiles(context, next);
    await tidyTracking(context, next);
    return disk.diskId;
  });
}

async function copyResized(
  { fs, random }: LabContext,
  from: string,
  to: string,
  sizeBytes: number,
): Promise<void> {
  const disk = await openVhdx(from, { fs, random });
  try {
    const { disk: facts, geometry } = disk.top.structures;
    const writer = await SealedVhdxWriter.create({
      fs,
      random,
      path: to,
      type: geometry.type === 'fixed' ? 'fixed' : 'dynamic',
      sizeBytes,
      blockSizeBytes: geometry.blockSizeBytes,
      logicalSectorBytes: disk.logicalSectorBytes,
      physicalSectorBytes: disk.physicalSectorBytes,
      diskId: facts.diskId,
    });
    try {
      await copyUpTo(disk, writer, Math.min(sizeBytes, disk.sizeBytes));
      await writer.finish();
    } catch (error) {
      await writer.abort();
      throw error;
    }
  } finally {
    await disk.close();
  }
}

async function copyUpTo(disk: ReadableDisk, writer: SealedVhdxWriter, end: number): Promise<void> {
  for await (const piece of readAhead(disk, { pieceBytes: PIECE_BYTES, depth: DEPTH })) {
    if (piece.offset >= end) break;
    if (piece.bytes === undefined) continue;
    const bytes = piece.bytes.subarray(0, end - piece.offset);
    for (const run of zeroRuns(bytes, piece.offset)) {
      if (run.isZero) continue;
      await writer.write(piece.offset + run.start, bytes.subarray(run.start, run.end));
    }
    piece.release();
  }
}
