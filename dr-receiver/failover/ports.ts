// What the failover engine needs of the world outside of the store. The engine knows no channel and no
// hypervisor by name; what stands behind these is told by attach/ and by shared/hypervisor.

import type { Guid } from '../../shared/bytes/index.js';
import type {
  SourceHypervisor,
  TargetHypervisor,
  PowerState,
} from '../../shared/hypervisor/index.js';

/** The hypervisor of this site. */
export type TargetHost = SourceHypervisor & TargetHypervisor;

export interface SourceVm {
  readonly powerState: PowerState;
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
}

export interface SourceSites {
  /** The agent that serves this VM for its owner; undefined when none is attached. */
  find(vmId: Guid, owner: string): SourceSite | undefined;
}

/** For a receiver that no agent can attach to. */
export const NO_SOURCES: SourceSites = { find: () => undefined };
