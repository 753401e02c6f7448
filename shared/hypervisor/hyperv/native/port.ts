// What the provider needs of virtdisk.dll: the files of a VM's disks, looked at and read as the guest sees them, and
// what changed in them. Implementation: virtual-disks.ts. All offsets are guest bytes; all paths are those of this
// host, absolute.
//
// Every open here is short: a handle on a frozen disk keeps its file in use, and then the merge of the checkpoint
// fails (hyperv.md § 1.6). Whoever opens a disk closes it before the checkpoint is converted or removed; the range
// iterator of changedRanges() holds a handle until it has ended or was returned.

import type { Guid } from '../../../bytes/index.js';
import type { ReadableDisk, WritableDisk } from '../../../disk/index.js';
import { DrError, type DrErrorOptions, type ErrorCode } from '../../../errors.js';
import type { ByteRange } from '../../source.js';

/** What Windows said, sorted by what the caller can do about it. */
export type VirtualDiskFault =
  /** this Windows has no such function, or no such library */
  | 'not-available'
  | 'not-found'
  /** somebody else has the file open: wait and try again */
  | 'in-use'
  /** the account lacks rights or a privilege */
  | 'access-denied'
  | 'exists'
  | 'full'
  /** no virtual disk, or a damaged one */
  | 'not-a-disk'
  /** the parent is missing, changed, or not the right one */
  | 'parent'
  /** ERROR_VHD_INVALID_CHANGE_TRACKING_ID: nobody knows this id */
  | 'tracking-unknown-id'
  /** ERROR_VHD_CHANGE_TRACKING_DISABLED */
  | 'tracking-off'
  /** ERROR_VHD_MISSING_CHANGE_TRACKING_INFORMATION: the id was good once */
  | 'tracking-lost'
  /** ERROR_VHD_UNEXPECTED_ID: another disk stands under this path */
  | 'unexpected-id'
  /** an answer of Windows that contradicts itself: no progress, ranges out of order or too many */
  | 'bad-answer'
  /** no answer in time */
  | 'stalled'
  /** anything else; `win32` says what */
  | 'refused';

/** A call of virtdisk.dll or kernel32.dll that failed. context: call, path, win32 (number), win32Name. */
export class VirtualDiskError extends DrError {
  override readonly name: string = 'VirtualDiskError';
  readonly fault: VirtualDiskFault;

  constructor(
    code: ErrorCode,
    message: string,
    fault: VirtualDiskFault,
    options: DrErrorOptions = {},
  ) {
    super(code, message, options);
    this.fault = fault;
  }
}

export type VirtualDiskKind = 'fixed' | 'dynamic' | 'differencing' | 'unknown';

export interface VirtualDiskFacts {
  /** Guest-visible size. */
  readonly sizeBytes: number;
  /** Bytes that the file takes. */
  readonly fileBytes: number;
  readonly blockBytes: number;
  /** 512 or 4096, as are the physical ones. */
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** VirtualDiskId (page 83): the same for all files of a chain, and what a disk is known by. */
  readonly diskId: Guid;
  readonly kind: VirtualDiskKind;
  /** Where the parent was found; undefined for a disk without one. */
  readonly parentPath: string | undefined;
  /** undefined where this Windows cannot tell. */
  readonly tracking: ChangeTracking | undefined;
}

export interface ChangeTracking {
  readonly isEnabled: boolean;
  readonly hasNewerChanges: boolean;
  /** '' when there is none. */
  readonly latestId: string;
}

/** Differences between Windows versions, as values: a function that is not there is no crash. */
export interface VirtualDiskCapabilities {
  /** virtdisk.dll could be loaded, and has what opening and reading take. */
  readonly canRead: boolean;
  readonly canQueryChanges: boolean;
  readonly canCreate: boolean;
  readonly canMerge: boolean;
  readonly canResize: boolean;
}

export interface NewVirtualDisk {
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: 512 | 4096;
  readonly physicalSectorBytes: 512 | 4096;
  readonly diskId: Guid;
  /** Default: Windows chooses. */
  readonly blockBytes?: number | undefined;
}

export interface OpenFrozenOptions {
  /**
   * Opens what answers for extents(), by our own VHDX engine: virtdisk.dll has no map of what is allocated. Without one,
   * also when this answers with undefined, everything is data. Bytes are never read from it. Whether Windows has written
   * its tables down is for whoever opens it to tell (frozen-map.ts).
   */
  readonly openMap?: ((path: string) => Promise<ReadableDisk | undefined>) | undefined;
  /** Opens the disk where this Windows has no virtdisk.dll that can; for nothing else that may be wrong. */
  readonly openInstead?: ((path: string) => Promise<ReadableDisk>) | undefined;
}

/** All methods throw VirtualDiskError; its code is named where it is another one than E_HYPERVISOR. */
export interface VirtualDisks {
  capabilities(): Promise<VirtualDiskCapabilities>;

  /** Looks at a file without attaching it. @throws E_NOT_FOUND, E_LOCKED */
  inspect(path: string): Promise<VirtualDiskFacts>;

  /**
   * A frozen disk with all its parents, read-only and invisible to the host. @throws E_NOT_FOUND, E_LOCKED
   */
  openFrozen(path: string, options?: OpenFrozenOptions): Promise<ReadableDisk>;

  /** A disk to write to, invisible to the host. @throws E_NOT_FOUND, E_LOCKED */
  openWritable(path: string): Promise<WritableDisk>;

  /**
   * What may have changed between the moment of `trackingId` and the disk at `path`, which is the checkpoint's frozen
   * file: ascending, disjoint, joined, inside the disk.
   * @throws E_TRACKING_INVALID (fault: why) when every byte may have changed; E_NOT_FOUND and E_LOCKED about the file;
   *   E_HYPERVISOR for 'access-denied', and for 'not-available' when this Windows has no such function
   */
  changedRanges(path: string, trackingId: string): AsyncIterable<ByteRange>;

  /** A new dynamic VHDX that reads as zeros, with its content id. @throws E_EXISTS, E_CAPACITY */
  createDisk(disk: NewVirtualDisk): Promise<void>;

  /** A differencing disk over `parentPath`, of its size and content id. @throws E_EXISTS, E_NOT_FOUND, E_CAPACITY */
  createChild(path: string, parentPath: string): Promise<void>;

  /** The disk must not be attached. */
  setDiskId(path: string, diskId: Guid): Promise<void>;

  /**
   * Writes what `path` and the `levels - 1` files under it hold into the next file under them. Never for a disk of a
   * registered VM (hyperv.md § 1.6). The merged files stay, and are of no more use.
   */
  merge(path: string, levels: number): Promise<void>;

  /** The new bytes read as zeros. The disk must not be attached. @throws E_CAPACITY */
  grow(path: string, sizeBytes: number): Promise<void>;
}
