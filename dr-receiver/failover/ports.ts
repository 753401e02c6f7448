// What the failover engine needs of the world outside of the store. The engine knows no channel and no
// hypervisor by name; what stands behind these is told by attach/ and by shared/hypervisor.

import type { Guid } from '../../shared/bytes/index.js';
import type {
  Heartbeat,
  SourceHypervisor,
  TargetHypervisor,
  PowerState,
} from '../../shared/hypervisor/index.js';

/** The hypervisor of this site. */
export type TargetHost = SourceHypervisor & TargetHypervisor;

export interface SourceVm {
  readonly powerState: PowerState;
  /** As the agent of the primary sees the guest; undefined: it did not say. */
  readonly heartbeat: Heartbeat | undefined;
  readonly isFenced: boolean;
  /** The last epoch that the source was told for this store. */
  readonly epoch: bigint;
  /** What the source lets the DR site do with this VM (`remote_actions`). */
  readonly allowed: readonly RemoteAction[];
}

export type RemoteAction = 'shutdown' | 'start' | 'failback';

/** Names an operation at the source; the same call with the same order is done once. */
export interface SourceOrder {
  readonly operationId: Guid;
  /** The epoch of which the order is; a source that knows a later one refuses it with E_STALE_EPOCH. */
  readonly epoch: bigint;
}

export interface FinalPoint {
  /** The head afterwards. */
  readonly pointId: Guid;
  /** The guest's bytes of all disks were compared with the head by their roots. */
  readonly isCompared: boolean;
}

/**
 * The agent of the primary site, as far as it serves one VM. Each call throws E_SOURCE_UNREACHABLE when
 * the agent is not there or goes away, and E_REMOTE_ACTION when the source does not allow it.
 */
export interface SourceSite {
  describe(vmId: Guid): Promise<SourceVm>;
  /** Cycles until the rest is small, while the guest runs. @throws what a cycle throws */
  presync(vmId: Guid, order: SourceOrder): Promise<void>;
  /** @throws DrError E_SHUTDOWN_TIMEOUT; nothing was changed then */
  shutDown(
    vmId: Guid,
    order: SourceOrder,
    how: { readonly timeoutMs: number; readonly mayTurnOff: boolean },
  ): Promise<void>;
  start(vmId: Guid, order: SourceOrder): Promise<void>;
  /** The VM, which is off, cannot be started any more, and its adapters are disconnected. */
  fence(vmId: Guid, order: SourceOrder): Promise<void>;
  /** Only this, or an operator at the source, lifts a fence. */
  unfence(vmId: Guid, order: SourceOrder): Promise<void>;
  /** The last delta of a VM that is off; both ends compare roots. */
  finalCycle(vmId: Guid, order: SourceOrder): Promise<FinalPoint>;
  /** The active site is another one now, durable at the source on return. */
  tellEpoch(
    vmId: Guid,
    order: SourceOrder & { readonly isSourceActive: boolean; readonly isRetired: boolean },
  ): Promise<void>;
  /**
   * F1, F2: a protective disk over each of the VM's old disks gets what the serving site has; the agent
   * fetches the cells by FailbackCells meanwhile. Returns the number of cells that came.
   * @throws DrError E_SOURCE_ALIVE, E_DISK_MISMATCH, E_DIFFERENT
   */
  failbackSync(vmId: Guid, order: SourceOrder, round: FailbackRound): Promise<number>;
  /** F4: the VM starts on its protective disks with its own network, once a last round was level. */
  failbackStart(vmId: Guid, order: SourceOrder): Promise<void>;
  /**
   * The ledger goes on from this point, which equals the disks as the VM started with them.
   * @throws DrError E_STATE when another failback than the one that is meant is open
   */
  failbackCommit(
    vmId: Guid,
    order: SourceOrder & MeantFailback,
    point: { readonly pointId: Guid; readonly consistentAtMs: number },
  ): Promise<void>;
  /**
   * The VM is off, fenced and on its old disks afterwards; done as well when nothing was begun.
   * @throws DrError E_STATE when another failback than the one that is meant is open, or its VM may have
   *   written something that nobody gave up
   */
  failbackUndo(
    vmId: Guid,
    order: SourceOrder & MeantFailback & { readonly dropsWrites: boolean },
  ): Promise<void>;
}

/** Which failback a commit or an undo, an operation of its own, is to end. */
export interface MeantFailback {
  /** Its operation; undefined: the record is of a release that did not keep it. */
  readonly failbackId: Guid | undefined;
}

/** One round of a failback. */
export interface FailbackRound {
  /** Of this attempt alone: whoever still works at an earlier one gets no cells any more. */
  readonly roundId: Guid;
  /** The point that the serving VM was started from. */
  readonly pointId: Guid;
  readonly headPointId: Guid;
  readonly compare: 'changed' | 'full';
  /** The serving VM is off: afterwards both sites are compared to the byte. */
  readonly isLast: boolean;
  /** The bandwidth that the primary keeps to does not hold for it. */
  readonly isUrgent: boolean;
}

export interface SourceSites {
  /** The agent that serves this VM for its owner; undefined when none is attached. */
  find(vmId: Guid, owner: string): SourceSite | undefined;
}

/** For a receiver that no agent can attach to. */
export const NO_SOURCES: SourceSites = { find: () => undefined };
