// virtdisk.dll by koffi, behind one port (hyperv.md § 2):
//
//   port                         what the provider sees
//   virtual-disks                the port over the calls
//   handle attached-disk         one open disk: its calls, its bytes
//   transfer change-query        overlapped reads and writes; the query loop (pure)
//   library layouts win32        functions, structures, numbers
//
// Invariants: no handle outlives its call except in a disk that somebody opened; a function that this Windows lacks
// is a capability, not a crash; whatever Windows answers is checked before it is believed.

export {
  VirtualDiskError,
  type ChangeTracking,
  type NewVirtualDisk,
  type OpenFrozenOptions,
  type VirtualDiskCapabilities,
  type VirtualDiskFacts,
  type VirtualDiskFault,
  type VirtualDiskKind,
  type VirtualDisks,
} from './port.js';
export { changesOf, type ChangePage, type ChangeQuery } from './change-query.js';
export { WINDOWS_LIBRARIES, type LibraryNames } from './library.js';
export { NativeVirtualDisks, type NativeVirtualDisksOptions } from './virtual-disks.js';
