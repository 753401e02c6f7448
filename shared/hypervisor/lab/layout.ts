// Every path of a lab folder (docs/lab.md draws it).

import path from 'node:path';
import type { Guid } from '../../bytes/index.js';

export function labFile(folder: string): string {
  return path.join(folder, 'lab.json');
}

export function hostLockFile(folder: string): string {
  return path.join(folder, 'lab.lock');
}

export function switchesFile(folder: string): string {
  return path.join(folder, 'switches.json');
}

export function faultsFile(folder: string): string {
  return path.join(folder, 'faults.json');
}

export function vmsFolder(folder: string): string {
  return path.join(folder, 'vms');
}

/** Where VMs stand whose disks somebody else brings: the user's, and never looked into. */
export function defaultVmFolder(folder: string): string {
  return path.join(folder, 'restored');
}

export function vmFolder(folder: string, vmId: Guid): string {
  return path.join(vmsFolder(folder), vmId);
}

export function vmFile(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'vm.json');
}

/** Stands while the VM is being made. With it and without vm.json, the folder is a leftover. */
export function creatingFile(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'creating');
}

/** What vm.json is renamed to when the VM is removed with its disks. */
export function removingFile(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'removing.json');
}

/** Why the last merge in the background failed, for people. */
export function mergeFailureFile(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'merge-failure.json');
}

export function vmLockFile(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'lock');
}

export function disksFolder(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'disks');
}

export function trackingFolder(folder: string, vmId: Guid): string {
  return path.join(vmFolder(folder, vmId), 'tracking');
}

export function trackingFileName(diskId: Guid, sequence: number): string {
  return `${diskId}.${sequence}.track`;
}

export function trackingFile(folder: string, vmId: Guid, diskId: Guid, sequence: number): string {
  return path.join(trackingFolder(folder, vmId), trackingFileName(diskId, sequence));
}

/** The name in vm.json of a file of the VM's own. */
export function ownDiskName(name: string): string {
  return `disks/${name}`;
}

/** Where a file that vm.json names stands. */
export function diskPath(folder: string, vmId: Guid, file: string): string {
  return path.resolve(vmFolder(folder, vmId), file);
}

/** The name that a file has in vm.json: short in the VM's own folder, else absolute. */
export function recordedName(folder: string, vmId: Guid, file: string): string {
  const isOwn = path.dirname(file) === path.resolve(disksFolder(folder, vmId));
  return isOwn ? ownDiskName(path.basename(file)) : file;
}

/** True for the name of a disk that the lab made in a VM's own folder, finished or not. */
export function isOwnDiskName(name: string): boolean {
  return /^\.?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.vhdx(\.[0-9a-f]{8}\.unfinished)?$/.test(
    name,
  );
}

/**
 * The name, in vm.json, of a new file on top of `parent`: beside it, bearing the VM's id, so that a
 * leftover of a crash is known for ours even in a folder that is not.
 */
export function childName(parent: string, vmId: Guid, tag: string): string {
  const { dir, name } = path.parse(parent);
  const stem = name.replace(/_[0-9a-f-]{36}\.[0-9a-f]{8}$/, '');
  return path.join(dir, `${stem}_${vmId}.${tag}.avhdx`);
}

/** True for a name that childName() made for this VM, finished or not. */
export function isChildName(name: string, vmId: Guid): boolean {
  return name.includes(`_${vmId}.`) && /\.avhdx(\.[0-9a-f]{8}\.unfinished)?$/.test(name);
}
