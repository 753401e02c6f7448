// Plans: many VMs failed over as one (failover.md § 8). Plain values; parse.ts makes a Plan of YAML,
// tasks.ts what a run of it has to do, orchestrator.ts does it and writes a RunRecord with each step.

import type { Guid } from '../bytes/index.js';
import type { ErrorCode } from '../errors.js';

/** What a run does with each VM of its plan. */
export type PlanKind = 'planned' | 'unplanned' | 'test' | 'permanent' | 'failback' | 'undo';

export const PLAN_KINDS: readonly PlanKind[] = [
  ...(['planned', 'unplanned', 'test', 'permanent', 'failback', 'undo'] as const),
];

/**
 * When a step fails: `ask` pauses the run until it is resumed, `continue` leaves out what depends on
 * the step, `stop` begins nothing more.
 */
export type OnError = 'ask' | 'continue' | 'stop';

/** `sequence`: each step after the one before has ended; `parallel`: none waits for another. */
export type Order = 'sequence' | 'parallel';

export interface ScriptCall {
  /** Of a file in the script folder of this side. */
  readonly name: string;
  readonly args: readonly string[];
  readonly timeoutMs: number;
  /** Step of the VM of which the script is told; undefined: of none. */
  readonly about: string | undefined;
}

export type Action =
  | {
      readonly kind: 'vm';
      /** Name or id. */
      readonly vm: string;
      /** Names of the parameter table with their values as text; those of the plan included. */
      readonly parameters: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'script'; readonly script: ScriptCall }
  | { readonly kind: 'message'; readonly text: string }
  | { readonly kind: 'delay'; readonly durationMs: number }
  | { readonly kind: 'wait-for'; readonly condition: Condition; readonly timeoutMs: number };

export type Condition =
  /** Step of a VM whose guest gives a sign of life. */
  | { readonly kind: 'heartbeat'; readonly step: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'script'; readonly script: ScriptCall };

/** A step that is no group. */
export interface PlanStep {
  readonly name: string;
  readonly action: Action;
  /** Steps that must have ended before, however they ended. */
  readonly after: ReadonlySet<string>;
  /** Steps without whose success this one is left out. */
  readonly needs: ReadonlySet<string>;
  readonly onError: OnError;
  /** The groups around it, the outermost first. */
  readonly groups: readonly string[];
}

export interface Plan {
  readonly name: string;
  readonly description: string;
  /** VMs that are worked on at a time. */
  readonly concurrency: number;
  /** Groups that allow less. */
  readonly groupConcurrency: ReadonlyMap<string, number>;
  /** A run goes on without the VMs that refuse. */
  readonly isPartial: boolean;
  /** Only points that were taken under one group cycle. */
  readonly isGroupConsistent: boolean;
  /** In an order in which they could be done one after the other. */
  readonly steps: readonly PlanStep[];
}

export type RunState =
  | 'READY'
  | 'CHECKING'
  | 'RUNNING'
  | 'PAUSED'
  | 'INTERRUPTED'
  | 'TEST_DONE'
  | 'CLEANUP'
  | 'CLEANUP_INCOMPLETE'
  | 'DONE'
  | 'DONE_WITH_ERRORS'
  | 'CANCELLED';

/**
 * 'already': its VM was where the step leads to before it began. 'skipped': left out, because of
 * something else.
 */
export type TaskStatus = 'waiting' | 'running' | 'done' | 'already' | 'failed' | 'skipped';

/** How far a run came with one task (tasks.ts). */
export interface TaskRecord {
  readonly status: TaskStatus;
  readonly startedAtMs?: number;
  readonly endedAtMs?: number;
  /** Why it failed or was left out, or what it found. */
  readonly words?: string;
  readonly code?: ErrorCode;
  /** At the receiver. */
  readonly operationId?: string;
  readonly pointId?: string;
  /** Address before → address afterwards, as far as it was told. */
  readonly ipMap?: Readonly<Record<string, string>>;
  /** Of a planned failover: the VM at the primary site is off, the last delta may be under way. */
  readonly isOff?: boolean;
  /** Of a test: the clone runs, and has to be taken away. */
  readonly isKept?: boolean;
}

/** A VM of a run, as it was found when the run began. */
export interface RunVm {
  readonly step: string;
  readonly vmId: Guid;
  readonly vmName: string;
  /** State in the failover state machine from which, and to which, the run leads. */
  readonly fromState: string;
  readonly toState: string;
  /** Of what its command would do, when that had to be confirmed. */
  readonly confirmedHash?: string;
  /** Tests that stood beside it before the run; any other one is the run's. */
  readonly testsBefore: readonly string[];
}

export interface Pause {
  readonly because: 'message' | 'error';
  readonly step: string;
  readonly text: string;
}

/** All that is known of a run; written as a whole with each step of it. */
export interface RunRecord {
  readonly runId: Guid;
  readonly planName: string;
  /** Of the text of the plan. */
  readonly planHash: string;
  readonly kind: PlanKind;
  readonly state: RunState;
  /** Of a finished run. */
  readonly outcome: 'done' | 'with-errors' | 'cancelled' | undefined;
  readonly startedAtMs: number;
  readonly changedAtMs: number;
  readonly vms: readonly RunVm[];
  readonly pause: Pause | undefined;
  /** By the key of the task. */
  readonly tasks: Readonly<Record<string, TaskRecord>>;
}

/** True when nothing of the run is left to be done, and its VMs are free for another one. */
export function isFinished({ outcome }: Pick<RunRecord, 'outcome'>): boolean {
  return outcome !== undefined;
}
