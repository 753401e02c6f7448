// What a cycle did, as data: for reports, the command line and jobs.

import type { Guid } from '../shared/bytes/index.js';
import type { Consistency } from '../shared/hypervisor/index.js';
import type { CycleKind } from './plan.js';

/** Names of warnings that make a run end with exit code 3. */
export type WarningCode =
  | 'W_CRASH_CONSISTENT'
  | 'W_RPO'
  | 'W_LEDGER'
  | 'W_CHECKPOINT'
  | 'W_RESYNC'
  | 'W_REPAIR'
  | 'W_ENCRYPTION';

export interface CycleWarning {
  readonly code: WarningCode;
  readonly text: string;
}

export interface CycleDisk {
  readonly diskId: Guid;
  readonly how: 'whole' | 'dirty' | 'compare';
  readonly because: string;
  readonly dataBytes: number;
  readonly reusedBytes: number;
  readonly repeatedBytes: number;
}

export interface CycleResult {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly kind: CycleKind;
  readonly pointId: Guid;
  readonly cycleId: Guid;
  /** Bytes of messages, before they were sealed. */
  readonly bytesSent: number;
  readonly disks: readonly CycleDisk[];
  readonly consistency: Consistency;
  readonly consistentAtMs: number;
  /** How old the newest point had become when this one was committed. */
  readonly ageSeconds: number;
  readonly durationMs: number;
  readonly warnings: readonly CycleWarning[];
  /** What else people may want to know. */
  readonly notes: readonly string[];
}

/** The stop that was asked for through the signal. */
export class CycleStopped extends Error {
  override readonly name = 'CycleStopped';
}

/** Takes a warning of a cycle. */
export type Warn = (code: WarningCode, text: string) => void;
