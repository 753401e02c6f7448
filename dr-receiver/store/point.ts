// A restore point as the record of its VM knows it.

import type { Guid } from '../../shared/bytes/index.js';
import type { DiskRecord } from './records.js';

/** A listed point. What a forgotten one brought stays in the layers (segments.ts) until reclaimed. */
export interface Point {
  readonly pointId: Guid;
  readonly parentPointId: Guid | undefined;
  readonly cycleId: Guid;
  readonly cycleKind: string;
  readonly committedAtMs: number;
  readonly consistentAtMs: number;
  readonly isApplicationConsistent: boolean;
  readonly disks: readonly DiskRecord[];
  /** VM definition as protobuf, base64. */
  readonly definition: string;
  /** Why it is pinned; undefined: it is not. */
  pinReason: string | undefined;
  /** A commit has pinned it, and no operator since. */
  isPinAutomatic: boolean;
  /** It came when the early warning had begun to see something, which has not come to nothing yet. */
  isDoubtful: boolean;
  /** A planned failover moved the VM with it: it has all that the primary had. */
  isFinal: boolean;
  /** 0: never. */
  verifiedAtMs: number;
  /** First finding of the last verification; undefined: nothing was found. */
  damage: string | undefined;
}

export interface CommitAnswer {
  readonly pointId: Guid;
  readonly committedAtMs: number;
  readonly pointCount: number;
  readonly warnings: readonly string[];
  /** The first of the warnings is about an alarm that this commit raised. */
  readonly hasRaisedAlarm: boolean;
}
