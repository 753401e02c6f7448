// What the acceptance of a host needs besides the two interfaces of a hypervisor: a hand at the disks of its
// own VMs, and the host's own view of disk files. Used on VMs that bear the tag of the acceptance, and on no
// others.

import type { Guid } from '../bytes/index.js';
import type { ReadableDisk } from '../disk/index.js';
import type { ByteRange } from '../hypervisor/index.js';

export interface InspectedDisk {
  readonly diskId: Guid;
  readonly sizeBytes: number;
  readonly parentPath: string | undefined;
}

export interface AcceptancePort {
  /**
   * Whether files are looked at by another program than ours; where not, nothing is learnt of what another one
   * makes of our disks.
   */
  readonly isIndependent: boolean;

  /**
   * Writes to the current disk of a VM that is off and has no recovery checkpoint. Durable on return. @throws DrError
   */
  writeOffline(vmId: Guid, diskIndex: number, offset: number, bytes: Uint8Array): Promise<void>;

  /** Makes these writes in place of a machine that was started, where the host runs none. */
  readonly playBoot?: (
    vmId: Guid,
    writes: readonly { readonly offset: number; readonly bytes: Uint8Array }[],
  ) => Promise<void>;

  /** Grows a disk of a VM that is off; undefined where disks that stand ready cannot be grown. */
  readonly growDisk?: (vmId: Guid, diskIndex: number, sizeBytes: number) => Promise<void>;

  /** A checkpoint of the user's; its id. */
  addUserCheckpoint(vmId: Guid): Promise<string>;
  applyUserCheckpoint(vmId: Guid, id: string): Promise<void>;
  removeUserCheckpoint(vmId: Guid, id: string): Promise<void>;
  listUserCheckpoints(vmId: Guid): Promise<readonly string[]>;

  /** A file as the host's own disk stack sees it. @throws DrError when it does not open */
  inspect(file: string): Promise<InspectedDisk>;
  openNative(file: string): Promise<ReadableDisk>;

  /** The changed ranges by the host's other way; undefined where there is one way only. */
  readonly otherRanges:
    | ((
        vmId: Guid,
        checkpointId: string,
        diskId: Guid,
        trackingId: string,
      ) => AsyncIterable<ByteRange>)
    | undefined;
}
