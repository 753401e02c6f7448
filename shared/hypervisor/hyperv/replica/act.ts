// What an order to Hyper-V Replica is made of.

import type { Guid } from '../../../bytes/index.js';
import type { ReplicaOrder, ReplicaStep, ReplicaView } from '../../replica.js';

/** What a step makes the host do. */
export type Act =
  | { readonly do: 'enable'; readonly order: Extract<ReplicaOrder, { verb: 'enable' }> }
  | { readonly do: 'start-initial'; readonly folder: string; readonly usesBackup: boolean }
  | { readonly do: 'import-initial'; readonly folder: string }
  | { readonly do: 'shut-down'; readonly timeoutMs: number; readonly mayTurnOff: boolean }
  | { readonly do: 'failover' | 'test'; readonly pointId: Guid | undefined }
  | { readonly do: 'resume'; readonly resynchronizes: boolean }
  | {
      readonly do:
        | 'accept'
        | 'stop-initial'
        | 'prepare'
        | 'stop-failover'
        | 'complete'
        | 'reverse'
        | 'start-vm'
        | 'start-test-vm'
        | 'suspend'
        | 'remove';
    };

export interface Step extends ReplicaStep {
  readonly isDone: (view: ReplicaView) => boolean;
  readonly act: Act;
}
