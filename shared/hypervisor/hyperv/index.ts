// Hyper-V behind the interfaces of a hypervisor (hyperv.md). Layers:
//
//   hyperv                               both interfaces, method by method
//   checkpoints merges reference-points changes frozen-map   a pass over a VM's disks
//   machines power fence register unfinished network guest cluster   the VM itself
//   memory naming                        what is remembered, and how our objects are known again
//   jobs status                          waiting for vmms
//   operations/ powershell/              what vmms is asked, and through what
//   native/                              virtdisk.dll
//   replica/                             the replication that Hyper-V has of its own
//   acceptance-disks                     the hand of `hvdr doctor --deep` at disks
//
// Invariants: every object of ours is announced durably before it is made; nothing of others is touched; a refusal or
// an odd answer about changes means that nothing is known.

export { acceptanceOf } from './acceptance-disks.js';
export type { HyperVSeams } from './context.js';
export { HyperV } from './hyperv.js';
export { NativeVirtualDisks } from './native/index.js';
export { openHyperV } from './open.js';
