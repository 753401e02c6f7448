// What a run needs of the world: one command for one VM, and signs of life.

import type { Guid } from '../bytes/index.js';
import type { PlanKind } from './model.js';

export type VmCommand = PlanKind | 'resume' | 'abort';

/** A VM as the receiver's record has it. */
export interface VmLook {
  readonly vmId: Guid;
  readonly vmName: string;
  /** Name of its state in the failover state machine. */
  readonly state: string;
  /** Kind and step of the operation under way; empty when none is. */
  readonly operation: string;
  /** When a test passed or failed for the last time; 0: never. */
  readonly provenAtMs: number;
  readonly isProofPassed: boolean;
  /** The VM that serves at the DR site; empty when none does. */
  readonly instanceName: string;
  /** Tests that stand beside it. */
  readonly testOperationIds: readonly string[];
}

export interface VmRefusal {
  readonly code: string;
  readonly message: string;
}

/** An address that a VM would have. */
export interface VmAddress {
  /** Name of the adapter. */
  readonly adapter: string;
  /** Empty: it is not connected. */
  readonly switchName: string;
  /** With its prefix; empty: the guest told none. */
  readonly from: string;
  /** With its prefix. */
  readonly to: string;
  /** A rule gave it; otherwise the guest keeps it. */
  readonly isByRule: boolean;
}

/** What a command would do with a VM. */
export interface VmPlan {
  readonly fromState: string;
  readonly toState: string;
  readonly refusals: readonly VmRefusal[];
  readonly notes: readonly string[];
  readonly lostSeconds: number;
  readonly isDestructive: boolean;
  /** Another one means that the world has changed. */
  readonly hash: string;
  /** Of the VM that would come up, as far as they are known. */
  readonly addresses: readonly VmAddress[];
}

export interface VmOrder {
  readonly vm: string;
  readonly command: VmCommand;
  /** Names of the parameter table with their values as text. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Of a plan that was confirmed; destructive commands want it. */
  readonly confirmedHash: string | undefined;
  /** Leaves the call; what the receiver began goes on. */
  readonly signal: AbortSignal;
  /** Told with each step that begins: `P5`, `U4`. */
  readonly onStep: (step: string, operationId: string) => void;
}

export interface VmOutcome {
  readonly operationId: string;
  readonly state: string;
  readonly pointId: string;
  readonly warnings: readonly string[];
  /** Of a test: the verdict. */
  readonly isPassed: boolean;
  /** Address before → address afterwards, as far as it is told. */
  readonly ipMap: Readonly<Record<string, string>>;
}

/** The commands of the failover state machine. Each call throws the DrError that the command ends with. */
export interface VmCommands {
  look(vm: string): Promise<VmLook>;
  plan(
    vm: string,
    command: PlanKind,
    parameters: Readonly<Record<string, string>>,
  ): Promise<VmPlan>;
  run(order: VmOrder): Promise<VmOutcome>;
}

/** Whether a guest gives its sign of life to the hypervisor at which it came up. */
export type HeartbeatOf = (vmName: string) => Promise<boolean>;
