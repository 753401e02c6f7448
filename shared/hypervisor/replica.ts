// Replication that a hypervisor does by itself (Hyper-V Replica), as this product drives it: what stands
// where, and orders that are carried out step by step. A host that has none of it has no `replica`.
//
// Each order is of one side: the host that it is given to. Nothing is kept in memory or on a disk between
// two orders: the hypervisor's own state says which steps are done, so an order that was cut off is given
// again and goes on (failover.md § 4 async-hvr, hyperv.md § 4).

import type { Guid } from '../bytes/index.js';
import { DrError } from '../errors.js';
import type { PowerState, VmInventory } from './vm.js';

/** States of failover.md § 2; HALTED is a state of the hypervisor that has no counterpart. */
export type ReplicaPhase =
  | 'UNPROTECTED'
  | 'SEEDING'
  | 'PROTECTED'
  | 'RESYNC'
  | 'FAILING_OVER'
  | 'FAILED_OVER'
  | 'COMMITTED'
  | 'HALTED';

export type ReplicaHealth = 'none' | 'ok' | 'warn' | 'critical';

/** Which side of a relation this host is; `unknown(…)` keeps what the host said. */
export type ReplicaMode =
  'primary' | 'replica' | 'test-replica' | 'extended-replica' | `unknown(${string})`;

/** 'Extended': the second relation of a VM, from its replica on to a third host. */
export type ReplicaRelationship = 'Simple' | 'Extended';

export interface ReplicaRelation {
  readonly relationship: ReplicaRelationship;
  readonly phase: ReplicaPhase;
  /** The hypervisor's own word; `unknown(<n>)` for one that this release does not know. */
  readonly state: string;
  readonly isPaused: boolean;
  readonly health: ReplicaHealth;
  readonly mode: ReplicaMode;
  readonly primaryServer: string;
  readonly replicaServer: string;
  /** How often changes are sent. */
  readonly intervalSeconds: number;
  /** By the host's clock, milliseconds since 1970; undefined: never. */
  readonly lastReplicationAtMs: number | undefined;
  /** Whether what was sent last ends a planned failover. */
  readonly isLastPlanned: boolean;
  readonly pendingBytes: bigint;
  readonly errorCount: number;
  readonly missedCount: number;
  /** What the host says about its health, in its language. */
  readonly healthDetails: readonly string[];
  readonly test: { readonly vmId: Guid; readonly powerState: PowerState } | undefined;
}

export interface ReplicaView {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly powerState: PowerState;
  /** undefined: Hyper-V does not replicate this VM. */
  readonly relation: ReplicaRelation | undefined;
  /** At the host of the replica: the second relation, to a third host. Shown, and no order is about it. */
  readonly extension: ReplicaRelation | undefined;
}

export interface ReplicaPoint {
  readonly id: Guid;
  readonly name: string;
  readonly createdAtMs: number;
  readonly isApplicationConsistent: boolean;
}

export interface ReplicaSettings {
  readonly replicaServer: string;
  readonly port: number;
  readonly authentication: 'Kerberos' | 'Certificate';
  /** Of the certificate, for 'Certificate'. */
  readonly certificateThumbprint: string | undefined;
  readonly intervalSeconds: 30 | 300 | 900;
  /** Recovery points besides the newest, 0 to 24. */
  readonly recoveryPoints: number;
  /** Hours between application-consistent points, 0 for none. */
  readonly vssHours: number;
  readonly excludedDiskPaths: readonly string[];
}

/** How the first copy gets to the other side. */
export type InitialReplication =
  | { readonly by: 'network' }
  /** Written to a folder, carried, and imported there. */
  | { readonly by: 'media'; readonly folder: string }
  /** The other side has a restored copy, and takes it as the replica. */
  | { readonly by: 'backup' };

export type ReplicaOrder =
  | {
      readonly verb: 'enable';
      readonly settings: ReplicaSettings;
      readonly initial: InitialReplication;
    }
  | { readonly verb: 'accept' }
  | { readonly verb: 'import'; readonly folder: string }
  | { readonly verb: 'prepare'; readonly shutdownMs: number; readonly mayTurnOff: boolean }
  | { readonly verb: 'planned' }
  | { readonly verb: 'unplanned'; readonly pointId: Guid | undefined }
  | { readonly verb: 'test'; readonly pointId: Guid | undefined }
  | { readonly verb: 'test-stop' }
  | { readonly verb: 'undo' }
  | { readonly verb: 'complete' }
  | { readonly verb: 'reverse' }
  | { readonly verb: 'cancel'; readonly startsVm: boolean }
  | { readonly verb: 'pause' }
  | { readonly verb: 'resume' }
  | { readonly verb: 'resync' }
  | { readonly verb: 'remove' };

export type ReplicaVerb = ReplicaOrder['verb'];

export interface ReplicaStep {
  readonly name: string;
  readonly what: string;
}

export interface ReplicaPlan {
  readonly view: ReplicaView;
  readonly verb: ReplicaVerb;
  /** Those that are not done yet. */
  readonly steps: readonly ReplicaStep[];
  /** Why nothing would be done. */
  readonly refusal: DrError | undefined;
  /** Destroys or decides something: wants a confirmation. */
  readonly isDestructive: boolean;
  /** What happened after this moment is lost. */
  readonly losesAfterMs: number | undefined;
  /** Of everything that the plan is made of; 64 digits. */
  readonly hash: string;
}

export interface ReplicaWatch {
  /** Before each step. */
  readonly onStep: (step: ReplicaStep) => void;
  readonly signal: AbortSignal;
}

export interface ReplicaHost {
  /** @throws DrError E_NOT_FOUND (no such VM), E_HYPERVISOR, E_STALLED */
  view(vmId: Guid): Promise<ReplicaView>;

  /** At the side of the replica; oldest first. */
  points(vmId: Guid): Promise<readonly ReplicaPoint[]>;

  /** What an order would do now. Changes nothing. */
  plan(vmId: Guid, order: ReplicaOrder): Promise<ReplicaPlan>;

  /**
   * Does the steps that are not done yet, each seen in the state before the next one begins.
   * @throws DrError E_STATE and its special cases (state, valid orders), E_HALTED (a state that nobody here
   *   knows: nothing is done), E_NO_POINT, E_NOT_ISOLATED, E_SHUTDOWN_TIMEOUT, E_HYPERVISOR, E_STALLED; the signal's
   *   reason, between two steps
   */
  carryOut(vmId: Guid, order: ReplicaOrder, watch: ReplicaWatch): Promise<ReplicaView>;
}

/** @throws DrError E_HYPERVISOR when the host has no replication of its own */
export function replicaOf(host: VmInventory & ReplicatingHost): ReplicaHost {
  if (host.replica !== undefined) return host.replica;
  throw new DrError('E_HYPERVISOR', `${host.name} has no replication of its own`, {
    context: { host: host.name },
    hint: 'Hyper-V Replica is driven with `--host hyperv`, on a host of Hyper-V; `hvdr push` replicates from any host.',
  });
}

export interface ReplicatingHost {
  readonly name: string;
  readonly replica?: ReplicaHost | undefined;
}
