// The states of Hyper-V Replica and what they are here (hyperv.md § 4.2, failover.md § 2). Names are those of
// the PowerShell enum VMReplicationState: its numbers and those of WMI differ, so only names travel.

import type { ReplicaHealth, ReplicaMode, ReplicaPhase } from '../../replica.js';

export interface KnownState {
  readonly phase: ReplicaPhase;
  readonly isPaused?: boolean;
}

export const STATES = {
  Disabled: { phase: 'UNPROTECTED' },
  ReadyForInitialReplication: { phase: 'SEEDING' },
  InitialReplicationInProgress: { phase: 'SEEDING' },
  WaitingForInitialReplication: { phase: 'SEEDING' },
  Replicating: { phase: 'PROTECTED' },
  PreparedForFailover: { phase: 'FAILING_OVER' },
  FailedOverWaitingCompletion: { phase: 'FAILED_OVER' },
  FailedOver: { phase: 'COMMITTED' },
  Suspended: { phase: 'PROTECTED', isPaused: true },
  Error: { phase: 'PROTECTED', isPaused: true },
  WaitingForStartResynchronize: { phase: 'RESYNC', isPaused: true },
  Resynchronizing: { phase: 'RESYNC' },
  ResynchronizeSuspended: { phase: 'RESYNC', isPaused: true },
  WaitingForUpdateCompletion: { phase: 'PROTECTED', isPaused: true },
  UpdateError: { phase: 'PROTECTED', isPaused: true },
  // of relations that a provider of a cloud drives: nothing of ours leads there
  RecoveryInProgress: { phase: 'HALTED' },
  FailbackInProgress: { phase: 'HALTED' },
  FailbackComplete: { phase: 'HALTED' },
  WaitingForRepurposeCompletion: { phase: 'HALTED' },
  PreparedForSyncReplication: { phase: 'HALTED' },
  PreparedForGroupReverseReplication: { phase: 'HALTED' },
  FiredrillInProgress: { phase: 'HALTED' },
} as const satisfies Record<string, KnownState>;

export type StateName = keyof typeof STATES;

function isStateName(text: string): text is StateName {
  return Object.hasOwn(STATES, text);
}

export interface ReadState extends KnownState {
  readonly state: string;
}

/** Never throws: a later Windows may add states, whose numbers then stand for their names. */
export function readState(text: string): ReadState {
  return isStateName(text)
    ? { ...STATES[text], state: text }
    : { phase: 'HALTED', state: `unknown(${text})` };
}

const HEALTHS: Readonly<Record<string, ReplicaHealth>> = {
  NotApplicable: 'none',
  Normal: 'ok',
  Warning: 'warn',
  Critical: 'critical',
};

/** A health that nobody knows is looked at by a person. */
export function readHealth(text: string): ReplicaHealth {
  return HEALTHS[text] ?? 'critical';
}

const MODES: Readonly<Record<string, ReplicaMode>> = {
  Primary: 'primary',
  Replica: 'replica',
  TestReplica: 'test-replica',
  ExtendedReplica: 'extended-replica',
};

export function readMode(text: string): ReplicaMode {
  return MODES[text] ?? `unknown(${text})`;
}
