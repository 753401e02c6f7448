// What a protection's record says about failover (failover.md § 1, 2): plain values, written to the
// journal as a whole with each step, so that nothing is known from memory alone.

import type { Guid } from '../../shared/bytes/index.js';

export type Site = 'source' | 'target';

/**
 * 'ordinary' stands for UNPROTECTED, SEEDING, PROTECTED and RESYNC, which follow from the points and
 * the cycle under way; the others are the states of failover.md § 2.
 */
export type Phase =
  | 'ordinary'
  | 'failing-over'
  | 'failed-over'
  | 'undoing'
  | 'committed'
  | 'failing-back'
  | 'failed-back'
  | 'split-brain'
  | 'halted';

/** The names of failover.md § 2, for people and for the wire. */
export type StateName =
  | 'UNPROTECTED'
  | 'SEEDING'
  | 'PROTECTED'
  | 'RESYNC'
  | 'FAILING_OVER'
  | 'FAILED_OVER'
  | 'UNDOING'
  | 'COMMITTED'
  | 'FAILING_BACK'
  | 'FAILED_BACK'
  | 'SPLIT_BRAIN'
  | 'HALTED';

/** Commands of the state machine, the columns of failover.md § 3 and what stands below it. */
export const COMMANDS = [
  'cycle',
  'planned',
  'unplanned',
  'test',
  'undo',
  'permanent',
  'reprotect',
  'failback',
  'abort',
  'resume',
  'pause',
  'unpause',
  'resolve',
  'forget',
  'flatten',
] as const;
export type Command = (typeof COMMANDS)[number];

/** What works through steps, and therefore stands in the record while it does. */
export type OperationKind =
  | 'planned'
  | 'unplanned'
  | 'undo'
  | 'permanent'
  | 'failback'
  /** `failover-permanent` and `failover-undo` while a failback is open. */
  | 'failback-commit'
  | 'failback-undo'
  | 'resolve';

/** An operation under way. Its step was written before its effect began. */
export interface Operation {
  readonly operationId: Guid;
  readonly kind: OperationKind;
  /** `P1` … `P9`, `U1` … `U7`, `N1` … `N6`, `F1` … `F5`, as failover.md § 4 names them. */
  readonly step: string;
  readonly startedAtMs: number;
  /** Principal and key that asked for it. */
  readonly by: string;
  readonly keyId: string | undefined;
  /** Names of the parameter table with their values as text; no secret ever. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The restore point that comes up; undefined before it is chosen. */
  readonly pointId: Guid | undefined;
  /** What earlier steps found out and later ones need, by name. */
  readonly facts: Readonly<Record<string, string>>;
}

/** One disk of a VM of ours at the target site. */
export interface InstanceDisk {
  readonly diskId: Guid;
  readonly generation: number;
  /** The cycle that brought the base on which the files stand. */
  readonly baseCycleId: Guid;
  /** File name of the materialised point, beside the base; it is never written to. */
  readonly materialised: string;
  /** File name of the protective disk over it, which the VM began on. */
  readonly protective: string;
  /** Root of all its bytes as the primary started with them, in hex; undefined: it serves, or nobody knows. */
  readonly servedRoot?: string | undefined;
}

/** A VM at the target site that runs on a restore point: of a failover, or of a test. */
export interface Instance {
  /** Names the files, and the owner tag at the hypervisor. */
  readonly operationId: Guid;
  readonly pointId: Guid;
  readonly vmName: string;
  /** undefined: not registered yet, or known by its tag only. */
  readonly vmId: Guid | undefined;
  readonly disks: readonly InstanceDisk[];
  /** 0: never was. */
  readonly poweredOnAtMs: number;
  readonly checks: 'pending' | 'passed' | 'failed';
  /** It came up by a planned failover, and the primary has not run since: what differs there is known. */
  readonly isPlanned: boolean;
  /** It was shut down then, for its last bytes to go home; 0: it serves. */
  readonly servedUntilMs: number;
  /** It was seen running then, while the primary is the active site; undefined: never. */
  readonly ranBesideAtMs?: number | undefined;
  /** The failback that the primary was let in for, from its first record until its undo or commit has ended. */
  readonly failbackId?: Guid | undefined;
  /** Of a failover: the parameters of its network, by name; what a way back turns round. */
  readonly network?: Readonly<Record<string, string>>;
}

export type CommitPolicy = 'none' | 'commit' | 'rollback';

/** When a provisional state becomes final by itself. */
export interface CommitTimer {
  readonly policy: CommitPolicy;
  /** By the receiver's clock; 0: never. */
  readonly deadlineMs: number;
}

export interface HaltedStep {
  readonly phase: Phase;
  readonly step: string;
  /** Why it is safe neither to go on nor to go back. */
  readonly cause: string;
  /** Commands that are allowed next. */
  readonly allowed: readonly Command[];
}

/** All that a protection's record says about failover. */
export interface FailoverRecord {
  readonly phase: Phase;
  /** Who may run the VM and write into the pair. */
  readonly activeSite: Site;
  readonly operation: Operation | undefined;
  /** Of a failover; the VM that serves, or that is coming up or going off. */
  readonly instance: Instance | undefined;
  /** What is to take the place of `instance`, which goes on until the disks of this one are there. */
  readonly replacement: Instance | undefined;
  readonly commit: CommitTimer | undefined;
  readonly halted: HaltedStep | undefined;
  /** We stopped and fenced the VM at the source, so that an undo starts it again. */
  readonly isSourceStopped: boolean;
  /**
   * A split brain of this epoch was decided for the VM here: the primary's disks hold what it wrote since
   * the last common point, as its fence leaves them. A failback has to compare all of them.
   */
  readonly orphanEpoch: string | undefined;
  /** What a returning source has to be told at first contact. */
  readonly owed: readonly SourceDebt[];
  /** The VM that stays here is protected anew, in the other direction. */
  readonly reprotected?: Reprotected | undefined;
}

export interface Reprotected {
  readonly atMs: number;
  /** Until then the points are a safety copy, as the old disks of the primary are. */
  readonly safetyUntilMs: number;
}

/** Something that the source must learn before its next cycle. */
export interface SourceDebt {
  readonly kind: 'unfence' | 'start' | 'fence' | 'retire' | 'dropFailback' | 'commitFailback';
  readonly operationId: Guid;
  /** Of dropFailback and commitFailback: which one. Records of a release that did not keep it do not say it. */
  readonly failbackId?: Guid | undefined;
  /** Of dropFailback: the VM was to run there. What it wrote goes only with somebody's word. */
  readonly mayHaveRun?: boolean | undefined;
  /** Of `commitFailback`: what the ledger goes on from, whatever the newest point is by then. */
  readonly point?: ReturnedPoint | undefined;
}

/** What a failback listed of the VM that had served here. */
export interface ReturnedPoint {
  readonly pointId: Guid;
  readonly consistentAtMs: number;
}

export const ORDINARY: FailoverRecord = {
  phase: 'ordinary',
  activeSite: 'source',
  operation: undefined,
  instance: undefined,
  replacement: undefined,
  commit: undefined,
  halted: undefined,
  isSourceStopped: false,
  orphanEpoch: undefined,
  owed: [],
};

/** 'adopting': its VM is being given to its new owner, and is not taken away any more. */
export type TestPhase = 'starting' | 'running' | 'stopping' | 'cleanup-failed' | 'adopting';

/** A test session; several may stand beside each other. */
export interface TestSession {
  readonly operationId: Guid;
  readonly phase: TestPhase;
  /** `T1` … `T7`. */
  readonly step: string;
  readonly startedAtMs: number;
  /** The session is stopped by itself then; 0: never. */
  readonly deadlineMs: number;
  readonly by: string;
  readonly isKept: boolean;
  readonly parameters: Readonly<Record<string, string>>;
  readonly instance: Instance;
  /** Why the clean-up failed; undefined: it did not. */
  readonly cause: string | undefined;
}

/** When a VM was last proven, and how it went. */
export interface Proof {
  readonly operationId: Guid;
  readonly pointId: Guid;
  readonly testedAtMs: number;
  readonly isPassed: boolean;
}
