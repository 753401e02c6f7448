// A hypervisor in a folder (docs/lab.md): real VHDX files, checkpoints that are differencing disks,
// change tracking recorded when the guest writes. Layers, lower ones ignorant of the upper:
//
//   layout fields context          paths, checked JSON, seams and locks
//   record                         vm.json, the only truth about a VM
//   tracking-file tracking         which cells the guest wrote to, by generation
//   chain leaf                     the files of a disk as a graph: what is merged, what is frozen
//   vms faults network             finding and changing VMs, scripted faults, switches
//   create-vm disks disk-files checkpoints user-checkpoints guest-disk fence     what is done to a VM
//   ranges-above                   what a chain holds above one of its files
//   pending-merge                  what is told of merges
//   lab                            both interfaces of a hypervisor, and the user's side
//
// Invariants: a change of a VM happens under its lock and is one replacement of vm.json, after all
// files that it names are durable; a guest write is marked durably before it reaches the disk; files
// that no record names are leftovers and go with the next change.

export { CALLS, FAULTS, type CallName, type Fault, type FaultName } from './faults.js';
export type { LabSeams } from './context.js';
export type { NewAdapter, NewDisk, NewVm } from './create-vm.js';
export type { GuestDisk } from './guest-disk.js';
export { Lab } from './lab.js';
export type { MergeFailure, PendingMerge } from './pending-merge.js';
export type { UserCheckpointRecord, VmRecord } from './record.js';
